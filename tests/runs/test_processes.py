"""Two processes make one run: the same mask, the same steps, every validation row once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from conftest import SCRIPT, labelled_sentences, save_tiny_model, write_rows


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Odd numbers of rows, so that the last batches are uneven; no dropout, which differs between processes."""
    folder = tmp_path_factory.mktemp("processes")
    save_tiny_model(folder / "model", head=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    for name, rows, seed in (("train", 61, 1), ("validation", 33, 2)):
        write_rows(folder / f"{name}.csv", [("sentence1", "label"), *labelled_sentences(rows, seed)])
    return folder


FLAGS = [
    *(
        "--train_file",
        "train.csv",
        "--validation_file",
        "validation.csv",
        "--sparsity",
        "0.5",
        "--freeze_weights",
        "--noembed",
    ),
    *("--learning_rate", "1e-3", "--save_model"),
]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def launch(command, folder, out, batch, *more, model="model"):
    argv = [*command, str(SCRIPT), "--model_name_or_path", model, *FLAGS, "--per_device_train_batch_size", str(batch)]
    argv += ["--output_dir", out, *more]
    done = subprocess.run(
        argv, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / out / "all_results.json").read_text())


@pytest.mark.parametrize(
    "launcher",
    [
        ["accelerate.commands.launch", "--cpu", "--num_processes", "2"],
        TORCHRUN,
    ],
    ids=["accelerate launch --cpu", "torchrun"],
)
def test_two_processes_equal_one(launcher, task, tmp_path_factory):
    out = launcher[0].split(".")[0]
    _, one = launch([sys.executable], task, f"one-{out}", 8)
    printed, two = launch([sys.executable, "-m", *launcher], task, f"two-{out}", 4)
    files = [Path(task, f"{n}-{out}", "mask.safetensors").read_bytes() for n in ("one", "two")]
    assert files[0] == files[1]
    assert two.pop("train_loss") == pytest.approx(one.pop("train_loss"), abs=1e-5)
    assert one == two and two["eval_samples"] == 33 and two["step"] == 24
    record = json.loads(Path(task, f"two-{out}", "run.json").read_text())
    assert record["hardware"]["num_processes"] == 2 and record["plan"]["per_step"] == 8
    assert printed.count("result ") == 1  # one process prints


def test_two_processes_that_are_killed_go_on_with_the_same_bits(task):
    """Dropout draws from one generator in each process, and each goes on where it was."""
    save_tiny_model(task / "dropout", head=2)
    command = [sys.executable, "-m", *TORCHRUN]
    launch(command, task, "whole", 4, model="dropout")
    argv = [*command, str(SCRIPT), "--model_name_or_path", "dropout", *FLAGS, "--per_device_train_batch_size", "4"]
    argv += ["--output_dir", "killed", "--checkpointing_steps", "5"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        argv, cwd=task, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    end = time.monotonic() + 240
    while not list((task / "killed").glob("checkpoint-*")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait()
    assert not (task / "killed/all_results.json").exists()
    printed, _ = launch(command, task, "killed", 4, model="dropout")
    assert "resumed   from the checkpoint of step" in printed
    for name in ("all_results.json", "mask.safetensors", "model.safetensors"):
        assert (task / "killed" / name).read_bytes() == (task / "whole" / name).read_bytes(), name
