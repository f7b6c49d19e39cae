"""How the libraries are set."""

import os

import pytest
import torch

from junkdna import hardware, packing
from junkdna.layers import replace


@pytest.fixture
def as_before(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.backends.cudnn.benchmark = benchmark


def test_determinism_is_settled_either_way(as_before):
    hardware.settle_determinism(True)
    assert torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    hardware.settle_determinism(False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_no_operation_of_a_step_is_refused(as_before, tmp_path):
    """On a CPU, the way that other devices go: what it cannot show is whether CUDA's kernels of these are repeatable."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from conftest import save_tiny_model

    save_tiny_model(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    gradients = []
    for _ in range(2):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path).train()
        replace(model)
        assert packing.pack(model, tokenizer, 2) is None
        hardware.settle_determinism(True)
        inputs = [{"input_ids": torch.arange(4, 4 + n).numpy()} for n in (3, 7, 5)]
        batch = packing.collator(2, model.config.num_attention_heads, fused=True)(inputs)
        model(**batch, labels=torch.tensor([0, 1, 1])).loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    assert len(gradients[0]) > 10 and all(map(torch.equal, *gradients))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_command_gives_the_same_bits_on_a_gpu(tmp_path):
    from safetensors.torch import load_file

    import Glue_prune_oneshot
    from junkdna import records

    demo = os.path.join(os.path.dirname(Glue_prune_oneshot.__file__), "demo")
    files = ["--train_file", f"{demo}/hard/train.csv", "--validation_file", f"{demo}/hard/validation.csv"]
    words = ["--model_name_or_path", f"{demo}/model", *files, "--sparsity", "0.5", "--freeze_weights", "--noembed"]
    found = []
    for name in ("one", "two"):
        limits = ["--max_train_steps", "20", "--save_model", "--output_dir", str(tmp_path / name)]
        assert Glue_prune_oneshot.main([*words, *limits, "--deterministic", "--mixed_precision", "bf16"]) == 0
        assert records.read(tmp_path / name / "run.json")["hardware"]["deterministic"] is True
        found.append(load_file(tmp_path / name / "model.safetensors"))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
