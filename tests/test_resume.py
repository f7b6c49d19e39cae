"""A run that is interrupted, even by kill -9, goes on from its checkpoint and ends with the bits it would have had."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from conftest import SCRIPT
from junkdna import lock, records, resume

TRAIN = [
    "--num_train_epochs",
    3,
    "--per_device_train_batch_size",
    16,
    "--learning_rate",
    5e-3,
    "--noembed",
    "--save_model",
]
RESULTS = ("all_results.json", "mask.safetensors", "model.safetensors")


@pytest.fixture
def start(command, tiny_model, csv_task, tmp_path):
    """Run with small defaults; returns (exit code, output, errors). ``tmp_path / out`` is the folder."""

    def go(*flags, out="run"):
        argv = ["--model_name_or_path", tiny_model, *csv_task.flags, *TRAIN, "--sparsity", "0.5", *flags]
        return command([*argv, "--output_dir", tmp_path / out])

    return go


@pytest.fixture
def interrupt(monkeypatch):
    """Have the user press Ctrl-C right after the checkpoint of a step."""
    save = resume.Keeper.save

    def at(step):
        def interrupted(keeper):
            save(keeper)
            if keeper.tuning.at.step == step:
                raise KeyboardInterrupt

        monkeypatch.setattr(resume.Keeper, "save", interrupted)

    at.never = lambda: monkeypatch.setattr(resume.Keeper, "save", save)
    return at


def content(folder):
    return {name: (folder / name).read_bytes() for name in RESULTS if (folder / name).exists()}


def history(folder):
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if "seconds" not in name} for line in lines]


REGIMES = {
    "sparse": ["--freeze_weights"],
    "sparse with decay": ["--freeze_weights", "--weight_decay", "0.1"],
    "freezing with decay": ["--freeze_weights_frompretrain", "--weight_decay", "0.1"],
    "sparse to dense": ["--lr_scheduler_type", "cosine", "--gradient_accumulation_steps", "2"],
}


@pytest.mark.parametrize("regime", REGIMES)
def test_what_is_resumed_ends_with_the_same_bits(regime, start, interrupt, tmp_path):
    assert start(*REGIMES[regime], out="whole")[0] == 0
    steps = json.loads((tmp_path / "whole/all_results.json").read_text())["step"]
    for step, every in ((1, 1), (steps // 3, "epoch"), (steps - 1, 1)):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        interrupt(step)
        code, _, err = start(*REGIMES[regime], "--checkpointing_steps", every)
        assert code == 130 and "kept" in err and not (tmp_path / "run/all_results.json").exists()
        assert [path.name for path in (tmp_path / "run").glob("*checkpoint*")] == [f"checkpoint-{step}"]
        interrupt.never()
        code, out, err = start(*REGIMES[regime])
        assert code == 0, err
        assert f"resumed   from the checkpoint of step {step}" in out
        assert content(tmp_path / "run") == content(tmp_path / "whole")
        assert history(tmp_path / "run") == history(tmp_path / "whole")
        assert not list((tmp_path / "run").glob("*checkpoint*")) and not (tmp_path / "run" / lock.LOCK).exists()
        assert [entry["step"] for entry in json.loads((tmp_path / "run/run.json").read_text())["resumed"]] == [step]


def test_a_run_that_is_interrupted_twice(start, interrupt, tmp_path):
    start("--freeze_weights", out="whole")
    for step in (2, 7):
        interrupt(step)
        assert start("--freeze_weights", "--checkpointing_steps", 1)[0] == 130
    interrupt.never()
    assert start("--freeze_weights", "--resume_from_checkpoint", "latest")[0] == 0
    assert content(tmp_path / "run") == content(tmp_path / "whole")
    assert [entry["step"] for entry in json.loads((tmp_path / "run/run.json").read_text())["resumed"]] == [2, 7]


def test_a_checkpoint_can_be_named_and_go_on_in_another_folder(start, interrupt, tmp_path):
    start("--freeze_weights", out="whole")
    interrupt(5)
    start("--freeze_weights", "--checkpointing_steps", 1)
    interrupt.never()
    path = tmp_path / "run/checkpoint-5"
    assert start("--freeze_weights", "--resume_from_checkpoint", path, out="other")[0] == 0
    assert content(tmp_path / "other") == content(tmp_path / "whole") and path.is_dir()

    code, _, err = start("--freeze_weights", "--seed", 7, "--resume_from_checkpoint", path, out="third")
    assert code == 2 and "is of a different run (seed: 42, now 7)" in err and not (tmp_path / "third").exists()
    code, out, _ = start("--freeze_weights", "--dry_run")
    assert code == 0 and "from checkpoint-5" in out


def test_checkpoints_that_cannot_be_used(start, interrupt, tmp_path):
    code, _, err = start("--resume_from_checkpoint", tmp_path / "nowhere")
    assert code == 2 and "nowhere: no such folder" in err
    code, _, err = start("--resume_from_checkpoint", tmp_path)
    assert code == 2 and "holds no checkpoint of this program" in err
    code, _, err = start("--resume_from_checkpoint", tmp_path, "--seed", 1, 2, out="{seed}")
    assert code == 2 and "is one run's, 2 are asked for" in err
    code, _, err = start("--resume_from_checkpoint", "latest", "--overwrite_output_dir")
    assert code == 2 and "give one of them" in err
    for value in ("0", "1.5", "epochs"):
        code, _, err = start("--checkpointing_steps", value)
        assert code == 2 and f"--checkpointing_steps {value}" in err

    interrupt(5)
    start("--freeze_weights", "--checkpointing_steps", 5)
    interrupt.never()
    training = tmp_path / "run/checkpoint-5/training.pt"
    whole = training.read_bytes()
    training.write_bytes(whole[: len(whole) // 2])
    code, _, err = start("--freeze_weights")
    assert code == 2 and "cannot be read" in err and "delete it to start again" in err
    training.write_bytes(whole)
    identity = training.with_name("checkpoint.json")
    identity.write_text(identity.read_text().replace('"mask": "', '"mask": "0'))
    code, _, err = start("--freeze_weights")
    assert code == 2 and "is of a run with another mask" in err


def test_a_save_that_is_interrupted_leaves_the_one_before(start, interrupt, monkeypatch, tmp_path):
    start("--freeze_weights", out="whole")
    save, calls = torch.save, []

    def dies(state, file):
        calls.append(state["at"]["step"])
        if len(calls) == 3:
            file.write(b"half of it")
            raise KeyboardInterrupt
        save(state, file)

    monkeypatch.setattr(torch, "save", dies)
    assert start("--freeze_weights", "--checkpointing_steps", 2)[0] == 130
    assert calls == [2, 4, 6] and resume.latest(tmp_path / "run").name == "checkpoint-4"
    assert start("--freeze_weights")[0] == 0
    assert content(tmp_path / "run") == content(tmp_path / "whole") and not list((tmp_path / "run").glob(".*partial"))


def test_overwriting_starts_again(start, interrupt, tmp_path):
    interrupt(5)
    start("--freeze_weights", "--checkpointing_steps", 5)
    interrupt.never()
    code, out, _ = start("--freeze_weights", "--overwrite_output_dir")
    assert code == 0 and "resumed" not in out
    assert json.loads((tmp_path / "run/run.json").read_text())["resumed"] == []


def test_dropout_goes_on_where_it_stopped(start, interrupt, tmp_path):
    """The tiny model has dropout; with its random state left out, the bits would differ."""
    from junkdna import finetune

    start("--freeze_weights", out="whole")
    interrupt(5)
    start("--freeze_weights", "--checkpointing_steps", 5)
    interrupt.never()
    original, finetune.set_random_state = finetune.set_random_state, lambda *_: None
    try:
        assert start("--freeze_weights")[0] == 0
    finally:
        finetune.set_random_state = original
    assert content(tmp_path / "run") != content(tmp_path / "whole")


@pytest.fixture
def grid(tiny_model, csv_task, tmp_path):
    """The command line of a grid of six cells in a process of its own."""

    def argv(out):
        flags = ["--model_name_or_path", tiny_model, *csv_task.flags, *TRAIN, "--freeze_weights", "--checkpointing_steps", 2,
                 "--sparsity", 0.3, 0.6, "--with_dense", "--seed", 1, 2, "--output_dir", tmp_path / out / "{pattern}-{seed}"]  # fmt: skip
        return [sys.executable, str(SCRIPT), *map(str, flags)]

    return argv


def test_a_grid_that_is_killed_goes_on_when_repeated(grid, tmp_path):
    assert subprocess.run(grid("whole"), capture_output=True).returncode == 0
    process = subprocess.Popen(grid("grid"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: any((tmp_path / "grid/0.3-2").glob("checkpoint-*")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "grid").rglob("*.*") if "0.3-2" not in str(path)}
    finished = [folder.name for folder in (tmp_path / "grid").iterdir() if records.finished(folder)]
    assert sorted(finished) == ["0.3-1", "dense-1", "dense-2"]

    done = subprocess.run(grid("grid"), capture_output=True, text=True)
    assert done.returncode == 0 and "3 done, 3 were done before, 0 failed" in done.stdout, done.stderr
    assert "resumed   from" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    folders = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert len(folders) == 6
    for name in folders:
        assert content(tmp_path / "grid" / name) == content(tmp_path / "whole" / name), name


def test_two_processes_share_a_grid_and_run_nothing_twice(grid, tmp_path):
    processes = [subprocess.Popen(grid("shared"), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert subprocess.run(grid("shared"), capture_output=True).returncode == 0
    done = [int(line.split()[0]) for out in outputs for line in out.splitlines() if "were done before" in line]
    assert sum(done) == 6 and min(done) > 0


def test_a_folder_is_left_to_the_process_that_works_in_it(start, tmp_path):
    code = f"import sys, time; sys.path.insert(0, {str(SCRIPT.parent)!r}); from junkdna import lock\n"
    code += f"with lock.held({str(tmp_path / 'run')!r}): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        code, _, err = start("--freeze_weights")
        assert code == 2 and f"process {holder.pid} on " in err and "is running this" in err
        assert not (tmp_path / "run/error.json").exists()
    finally:
        holder.kill()
        holder.wait()
    assert start("--freeze_weights")[0] == 0  # whoever is dead holds nothing


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
