"""How the libraries are set."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import mock_open

import pytest
import torch

from junkdna.training import device as hardware

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def as_before(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "so that it is put back")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    benchmark, reduced = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    attention, precision = torch.backends.cuda.cudnn_sdp_enabled(), torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = reduced
    torch.backends.cuda.enable_cudnn_sdp(attention)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.backends.cudnn.benchmark = benchmark


def test_determinism_is_settled_either_way(as_before):
    hardware.configure_determinism(True)
    assert torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    hardware.configure_determinism(False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_gpu_computes_in_full_and_its_attention_without_cudnn(as_before):
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.enable_cudnn_sdp(True)
    hardware.configure(SimpleNamespace(device=torch.device("cuda")), False)
    assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_command_gives_the_same_bits_on_a_gpu(tmp_path):
    """Each in a process of its own: the libraries look at what determinism needs once per process."""
    demo = ROOT / "GLUE_tasks" / "demo"
    files = ["--train_file", demo / "hard/train.csv", "--validation_file", demo / "hard/validation.csv"]
    words = ["--model_name_or_path", demo / "model", *files, "--sparsity", "0.5", "--freeze_weights", "--noembed"]
    words += ["--max_train_steps", "20", "--save_model", "--deterministic", "--mixed_precision", "bf16", "--output_dir"]
    for name in ("one", "two"):
        command = [sys.executable, ROOT / "GLUE_tasks" / "Glue_prune_oneshot.py", *words, tmp_path / name]
        subprocess.run([str(word) for word in command], check=True)
        assert json.loads((tmp_path / name / "run.json").read_text())["hardware"]["deterministic"] is True
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_the_processor_is_told_with_its_generation(monkeypatch):
    said = "processor\t: 0\nmodel name\t: ACME Cloud\ncpu family\t: 25\nmodel\t\t: 17\n\nprocessor\t: 1\nmodel\t: 99\n"
    monkeypatch.setattr("builtins.open", mock_open(read_data=said))
    assert hardware.cpu_name() == "ACME Cloud (family 25, model 17)"
    monkeypatch.setattr("builtins.open", mock_open(read_data="processor : 0\nBogoMIPS : 50\n"))
    monkeypatch.setattr(hardware.platform, "processor", lambda: "aarch64")
    assert hardware.cpu_name() == "aarch64"


GROWTH = """
import torch
from types import SimpleNamespace
from junkdna.training import device
device.configure(SimpleNamespace(device=torch.device("cpu")), False)
weight = torch.randn(256, 256).bfloat16()
def held():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
for i in range(600):
    torch.randn(100 + i, 256).bfloat16() @ weight
    if i == 200:
        before = held()
print(held() - before)
"""


@pytest.mark.skipif(
    not (sys.platform.startswith("linux") and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    reason="products in bf16 are not oneDNN's here",
)
def test_products_of_ever_new_shapes_do_not_fill_the_memory():
    kilobytes = {}
    for capacity in ("", "1024"):
        own = {name: capacity for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY") if capacity}
        unset = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
        call = [sys.executable, "-c", GROWTH]
        done = subprocess.run(call, capture_output=True, text=True, check=True, env=unset | own, cwd=ROOT)
        kilobytes[capacity] = int(done.stdout)
    assert kilobytes[""] < kilobytes["1024"] / 2
