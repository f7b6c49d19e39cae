"""A run that is interrupted, even by kill -9, goes on from its checkpoint and ends with the bits it would have had."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import conftest
import Glue_prune_oneshot
from conftest import SCRIPT
from junkdna.runs import checkpoints as resume
from junkdna.runs import lock, records, stopping
from junkdna.runs.jobs.job import JobSpec
from junkdna.runs.journal import Journal
from junkdna.runs.records import started
from junkdna.runs.shared import Shared
from junkdna.training.finetune import FineTuning
from warm import Warm

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
OVERWRITE = "--overwrite_output_dir"
RESULTS = ("all_results.json", "predictions.jsonl", "mask.safetensors", "model.safetensors")


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
    save = resume.Checkpoints.save

    def at(step):
        def interrupted(keeper):
            save(keeper)
            if keeper.tuning.at.step == step:
                raise KeyboardInterrupt

        monkeypatch.setattr(resume.Checkpoints, "save", interrupted)

    at.never = lambda: monkeypatch.setattr(resume.Checkpoints, "save", save)
    return at


@pytest.fixture
def stop_at_5(start, interrupt):
    """Start the run and have it interrupted at step 5; the next start goes on undisturbed."""

    def go():
        interrupt(5)
        start("--freeze_weights", "--checkpointing_steps", 5)
        interrupt.never()

    return go


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


def test_how_to_go_on_is_said_as_it_is(monkeypatch, start):
    """With --overwrite_output_dir the same command would start again."""
    monkeypatch.setattr(stopping, "AGAIN_AFTER", 1000)  # the second of the two signals below is that of the same stop
    step = FineTuning.train_step

    def then_stop(loop, examples):
        found = step(loop, examples)
        os.kill(os.getpid(), signal.SIGTERM)
        return found

    for more, again in (([], ""), ([OVERWRITE], f" without {OVERWRITE}")):
        monkeypatch.setattr(FineTuning, "train_step", then_stop)
        code, _, err = start("--freeze_weights", *more)
        kept = "finished runs and a checkpoint of step 1 are kept"
        said = f"terminated; {kept}; the same command{again} continues from there"
        assert (code, err.splitlines()[-1]) == (143, said)
        monkeypatch.setattr(FineTuning, "train_step", step)
    code, out, _ = start("--freeze_weights")
    assert code == 0 and "resumed   from the checkpoint of step 1" in out


def test_a_replaced_run_keeps_its_checkpoint_until_the_new_one_has_begun(start, stop_at_5, tmp_path):
    stop_at_5()
    code, _, err = start("--freeze_weights", "--prune_exclude", "nothing", OVERWRITE)  # seen once it is loaded
    assert code == 2 and "matches no matrix" in err and (tmp_path / "run/checkpoint-5/training.pt").exists()
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    code, out, _ = start("--freeze_weights")  # without the flag it goes on
    assert code == 0 and "resumed   from the checkpoint of step 5" in out
    code, out, _ = start("--freeze_weights", OVERWRITE, out="other")
    assert code == 0 and "resumed" not in out and not list((tmp_path / "other").glob("checkpoint-*"))


def test_what_other_programs_have_left_is_neither_deleted_nor_replaced(start, tmp_path):
    theirs = ["hf/checkpoint-500/model.safetensors", "own/predictions.jsonl", "saved/model.safetensors"]
    for name in theirs:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("theirs")
    for out, named in (("hf", "checkpoint-500"), ("own", "predictions.jsonl"), ("saved", "model.safetensors")):
        code, _, err = start("--freeze_weights", out=out)
        assert code == 2 and f"holds {named} but no readable run.json, so it is not a run of this program" in err
    assert all((tmp_path / name).read_text() == "theirs" for name in theirs)
    # in the folder of a run: when it has finished, and while another is in its place, at the same step too
    assert start("--freeze_weights")[0] == 0
    others = [tmp_path / f"run/checkpoint-{step}/model.safetensors" for step in (2, 700)]
    for other in others:
        other.parent.mkdir()
        other.write_text("theirs")
    for more in ([], [OVERWRITE, "--checkpointing_steps", 2]):
        code, _, err = start("--freeze_weights", *more)
        assert code == 0 and all(other.read_text() == "theirs" for other in others)
    assert f"warning: {tmp_path / 'run/checkpoint-2'}: cannot be written: it is of another program" in err


def test_a_model_that_is_set_aside_is_whole(start, interrupt, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    assert start("--freeze_weights")[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    interrupt(2)
    assert start("--freeze_weights", "--checkpointing_steps", 2, OVERWRITE)[0] == 130
    aside = tmp_path / "run/.previous"
    assert AutoModelForSequenceClassification.from_pretrained(aside) and AutoTokenizer.from_pretrained(aside)
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    assert not (tmp_path / "run/config.json").exists()  # the old model's would stand beside the new run's records


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


def test_a_checkpoint_can_be_named_and_go_on_in_another_folder(start, stop_at_5, tmp_path):
    start("--freeze_weights", out="whole")
    stop_at_5()
    path = tmp_path / "run/checkpoint-5"
    assert start("--freeze_weights", "--resume_from_checkpoint", path, out="other")[0] == 0
    assert content(tmp_path / "other") == content(tmp_path / "whole") and path.is_dir()

    code, _, err = start("--freeze_weights", "--seed", 7, "--resume_from_checkpoint", path, out="third")
    assert code == 2 and "belongs to a different run (seed: 42, now 7)" in err and not (tmp_path / "third").exists()
    code, out, _ = start("--freeze_weights", "--dry_run")
    assert code == 0 and "from checkpoint-5" in out


def test_checkpoints_that_cannot_be_used(start, tmp_path):
    code, _, err = start("--freeze_weights", "--resume_from_checkpoint", tmp_path / "nowhere")
    assert code == 2 and "nowhere: no such folder" in err
    code, _, err = start("--resume_from_checkpoint", tmp_path)
    assert code == 2 and "holds no checkpoint of this program" in err
    code, _, err = start("--resume_from_checkpoint", tmp_path, "--seed", 1, 2, out="{seed}")
    assert code == 2 and "belongs to one run, but the command asks for 2" in err
    code, _, err = start("--resume_from_checkpoint", "latest", "--overwrite_output_dir")
    assert code == 2 and "give one of them" in err
    for value in ("0", "1.5", "epochs"):
        code, _, err = start("--checkpointing_steps", value)
        assert code == 2 and f"--checkpointing_steps {value}" in err


def test_a_damaged_checkpoint_is_passed_over_unless_it_was_named(start, stop_at_5, tmp_path):
    start("--freeze_weights", out="whole")
    stop_at_5()
    training = tmp_path / "run/checkpoint-5/training.pt"
    training.write_bytes(training.read_bytes()[:1000])
    code, _, err = start("--freeze_weights", "--resume_from_checkpoint", training.parent, out="other")
    assert code == 2 and "cannot be read" in err
    code, out, err = start("--freeze_weights")
    assert code == 0 and "cannot be read" in err and "starting again" in err and "resumed" not in out
    assert content(tmp_path / "run") == content(tmp_path / "whole") and not training.exists()


def test_a_checkpoint_of_another_mask_is_passed_over(start, stop_at_5, tmp_path):
    stop_at_5()
    identity = tmp_path / "run/checkpoint-5/checkpoint.json"
    said = json.loads(identity.read_text())
    said["identity"]["mask"] = "0"
    records.write_record(identity, said)
    code, _, err = start("--freeze_weights")
    assert code == 0 and "belongs to a run with other mask; starting again" in err


def test_a_named_checkpoint_is_left_behind_once_the_run_has_its_own(start, interrupt, tmp_path):
    start("--freeze_weights", out="whole")
    interrupt(3)
    start("--freeze_weights", "--checkpointing_steps", 1, out="first")
    path = tmp_path / "first/checkpoint-3"
    again = ("--freeze_weights", "--checkpointing_steps", 1, "--resume_from_checkpoint", path)
    interrupt(8)
    assert start(*again)[0] == 130
    interrupt.never()
    shutil.rmtree(path)
    code, out, err = start(*again)
    assert code == 0 and "from the checkpoint of step 8" in out, err
    assert content(tmp_path / "run") == content(tmp_path / "whole")
    assert "already done" in start(*again)[1]


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


def test_overwriting_starts_again(start, stop_at_5, tmp_path):
    stop_at_5()
    code, out, _ = start("--freeze_weights", "--overwrite_output_dir")
    assert code == 0 and "resumed" not in out
    assert json.loads((tmp_path / "run/run.json").read_text())["resumed"] == []


def test_dropout_goes_on_where_it_stopped(start, stop_at_5, tmp_path):
    """The tiny model has dropout; with its random state left out, the bits would differ."""
    from junkdna.training import finetune

    start("--freeze_weights", out="whole")
    stop_at_5()
    original, finetune.set_random_state = finetune.set_random_state, lambda *_: None
    try:
        assert start("--freeze_weights")[0] == 0
    finally:
        finetune.set_random_state = original
    assert content(tmp_path / "run") != content(tmp_path / "whole")


@pytest.fixture
def grid_command(tiny_model, csv_task, tmp_path):
    """Start a grid of six cells in a process of its own."""

    def start(out):
        flags = ["--model_name_or_path", tiny_model, *csv_task.flags, *TRAIN, "--freeze_weights",
                 "--checkpointing_steps", 2, "--num_train_epochs", 12, "--sparsity", 0.3, 0.6, "--with_dense",
                 "--seed", 1, 2, "--output_dir", tmp_path / out / "{pattern}-{seed}"]  # fmt: skip
        return Warm(Glue_prune_oneshot.main, flags, tmp_path)

    return start


def test_a_grid_that_is_killed_goes_on_when_repeated(grid_command, tmp_path):
    assert grid_command("whole").wait().returncode == 0
    process = grid_command("grid")
    wait_for(lambda: any((tmp_path / "grid/0.3-2").glob("checkpoint-*")), process)
    process.send_signal(signal.SIGKILL)
    assert process.wait().returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "grid").rglob("*.*") if "0.3-2" not in str(path)}
    finished = [folder.name for folder in (tmp_path / "grid").iterdir() if records.finished(folder)]
    assert sorted(finished) == ["0.3-1", "dense-1", "dense-2"]

    done = grid_command("grid").wait()
    assert done.returncode == 0 and "3 done, 3 were done before, 0 failed" in done.stdout, done.stderr
    assert "resumed   from" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    folders = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert len(folders) == 6
    for name in folders:
        assert content(tmp_path / "grid" / name) == content(tmp_path / "whole" / name), name


def test_two_processes_share_a_grid_and_run_nothing_twice(grid_command, tmp_path):
    processes = [grid_command("shared") for _ in range(2)]
    outputs = [process.wait().stdout for process in processes]
    assert grid_command("shared").wait().returncode == 0
    done = [int(line.split()[0]) for out in outputs for line in out.splitlines() if "were done before" in line]
    assert sum(done) == 6 and min(done) > 0


def test_a_folder_is_left_to_the_process_that_works_in_it(start, tmp_path):
    code = f"import sys, time; sys.path.insert(0, {str(SCRIPT.parents[1])!r}); from junkdna.runs import lock\n"
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


def cut_short(patch, where, name, files, stop_at) -> list:
    """Have the user press Ctrl-C after a function was called on so many of the files; returns those."""
    original, calls = getattr(where, name), []

    def call(path, *rest, **options):
        original(path, *rest, **options)
        if Path(path) in files:
            calls.append(path)
            if len(calls) == stop_at:
                raise KeyboardInterrupt

    patch.setattr(where, name, call)
    return calls


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)


def test_a_folder_that_became_another_run_s_is_not_taken_for_this_one(
    command, tiny_model, csv_task, tmp_path, monkeypatch
):
    argv = ["--model_name_or_path", tiny_model, *csv_task.flags, *TRAIN, "--freeze_weights", "--seed", 1, 2,
            "--output_dir", tmp_path / "{seed}"]  # fmt: skip
    run = Glue_prune_oneshot.run

    def and_someone_else(cell, *rest):
        run(cell, *rest)
        other = replace(cell, seed=2, learning_rate=0.05, output_dir=str(tmp_path / "2"))
        run(other, Shared(), Journal(other, ()))

    monkeypatch.setattr(Glue_prune_oneshot.FAMILY, "run", and_someone_else)
    code, out, _ = command(argv)
    assert code == 1 and "1 done, 0 were done before, 1 failed" in out
    assert "holds a different run (learning_rate: 0.05, now 0.005)" in out
    assert records.finished(tmp_path / "2") and not (tmp_path / "2/error.json").exists()


@pytest.mark.parametrize("finished", [True, False])
def test_a_cut_while_the_folder_is_made_ready_can_be_repeated(finished, start, stop_at_5, monkeypatch, tmp_path):
    start("--freeze_weights", out="whole")
    if finished:
        start("--freeze_weights")
    else:
        stop_at_5()
    flags = ["--freeze_weights", *(["--overwrite_output_dir"] if finished else [])]
    files = sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_file() and path.name != "run.json")
    names = [
        name
        for name in ("all_results.json", "history.jsonl", "mask.safetensors", "predictions.jsonl", "model.safetensors")
        if name in files
    ]
    # what was moved is brought back, what is deleted is deleted from the start again
    for stop_at in range(1, len(names) + 1):
        with monkeypatch.context() as patch:
            where, name = (os, "replace") if finished else (Path, "unlink")
            moves = cut_short(patch, where, name, [tmp_path / "run" / file for file in names], stop_at)
            assert start(*flags)[0] == 130
        assert len(moves) == stop_at
        if finished:
            kept = {path.name for path in (tmp_path / "run/.previous").iterdir()}
            assert kept == {"run.json", *names[:stop_at]} and not records.finished(tmp_path / "run")
    assert start(*flags)[0] == 0
    assert content(tmp_path / "run") == content(tmp_path / "whole") and not (tmp_path / "run/.previous").exists()


def test_a_job_that_is_queued_again_goes_on_though_it_overwrites(
    start, interrupt, tiny_model, csv_task, tmp_path, monkeypatch, capsys
):
    start("--freeze_weights", out="whole")
    start("--freeze_weights")
    argv = ["--model_name_or_path", tiny_model, *csv_task.flags, *TRAIN, "--sparsity", "0.5", "--freeze_weights",
            "--checkpointing_steps", 5, "--overwrite_output_dir", "--output_dir", tmp_path / "run"]  # fmt: skip
    asked = conftest.parse(argv)
    share = JobSpec(
        asked,
        Glue_prune_oneshot.FAMILY.entry,
        str(tmp_path),
        {},
        {cell.output_dir: started(cell) for cell in asked.cells},
    )
    monkeypatch.chdir(tmp_path)
    interrupt(5)
    with pytest.raises(SystemExit):
        share()
    interrupt.never()
    assert share._reached() == (0, 5)
    capsys.readouterr()
    (ended,) = share()
    assert ended.state == "done" and "resumed   from the checkpoint of step 5" in capsys.readouterr().out
    assert content(tmp_path / "run") == content(tmp_path / "whole")
