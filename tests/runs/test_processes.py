"""Two processes make one run: the same mask, the same steps, every validation row once."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import Glue_prune_oneshot
import warm
from conftest import SCRIPT, labelled_sentences, save_tiny_model, write_rows
from warm import Warm


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


def launch(command, folder, out, batch):
    argv = [*command, str(SCRIPT), "--model_name_or_path", "model", *FLAGS]
    argv += ["--per_device_train_batch_size", str(batch), "--output_dir", out]
    done = subprocess.run(
        argv, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, results(folder / out)


def results(folder):
    return json.loads((folder / "all_results.json").read_text())


def as_rank(rank, port, argv):
    """The command as one of two processes, as torchrun tells it."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
    return Glue_prune_oneshot.main(argv)


def start_pair(folder, argv):
    """Start the command as two processes that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [Warm(partial(as_rank, rank, port), argv, folder) for rank in range(2)]


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
    argv = ["--model_name_or_path", "model", *FLAGS, "--per_device_train_batch_size", "8"]
    done = warm.run(Glue_prune_oneshot.main, [*argv, "--output_dir", f"one-{out}"], task)
    assert done.returncode == 0, done.stderr
    one = results(task / f"one-{out}")
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
    argv = ["--model_name_or_path", "dropout", *FLAGS, "--per_device_train_batch_size", "4", "--output_dir"]
    for process in start_pair(task, [*argv, "whole"]):
        assert process.wait().returncode == 0
    pair = start_pair(task, [*argv, "killed", "--checkpointing_steps", "5"])
    end = time.monotonic() + 240
    while not list((task / "killed").glob("checkpoint-*")):
        assert pair[0].poll() is None and time.monotonic() < end
        time.sleep(0.01)
    for process in pair:
        process.send_signal(signal.SIGKILL)
    for process in pair:
        process.wait()
    assert not (task / "killed/all_results.json").exists()
    first, second = (process.wait() for process in start_pair(task, [*argv, "killed"]))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "resumed   from the checkpoint of step" in first.stdout and second.stdout == ""
    for name in ("all_results.json", "mask.safetensors", "model.safetensors"):
        assert (task / "killed" / name).read_bytes() == (task / "whole" / name).read_bytes(), name
