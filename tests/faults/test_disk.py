"""A disk that is full, read-only or out of order costs what could not be written, in one line, and nothing else."""

import errno
import io
import json
import os
import subprocess
from pathlib import Path

import pytest
import toy_family

from conftest import run_command
from junkdna import UserError
from junkdna.runs import checkpoints, disk, lock, provenance, records, upkeep
from junkdna.runs import main as runs
from junkdna.runs.speech import say

WORDS = ["--model_name_or_path", "none", "--rounds", "3"]
CODES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@pytest.fixture
def toy(capfd, monkeypatch):
    monkeypatch.setattr(provenance, "code_version", lambda: {"version": "test", "commit": None, "changed": None})

    def go(folder, *flags):
        capfd.readouterr()
        code = runs.main(toy_family.FAMILY, [*WORDS, "--sparsity", "0.3", *flags, "--output_dir", str(folder)])
        return (code, *capfd.readouterr())

    return go


def failing(patch, code, files):
    """Have the system refuse to write files of these names."""
    original = os.replace

    def refuse(source, target, **how):
        if Path(target).name in files:
            raise OSError(code, os.strerror(code))
        return original(source, target, **how)

    patch.setattr(disk.os, "replace", refuse)


@pytest.mark.parametrize("code", CODES)
def test_a_model_that_cannot_be_written_costs_the_model(code, toy, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(records, "write_model", refuse)
        said = toy(tmp_path / "run", "--save_model")
    why = os.strerror(code)
    assert said[0] == 1 and said[2] == (
        f"error: --output_dir {tmp_path / 'run'}: model cannot be written: {why}; the results are kept\n"
    )
    assert records.finished(tmp_path / "run")["eval_total"] > 0
    assert json.loads((tmp_path / "run/run.json").read_text())["unwritten"] == {"model": why}
    assert f"already done: {tmp_path / 'run'} (without model, {why}; " in toy(tmp_path / "run", "--save_model")[1]


@pytest.mark.parametrize("name", ["checkpoint", "mask.safetensors", "run.json", "all_results.json"])
@pytest.mark.parametrize("code", CODES)
def test_every_file_that_cannot_be_written_is_one_line(code, name, toy, tmp_path, monkeypatch):
    files = ["checkpoint-1", "checkpoint-2", "checkpoint-3"] if name == "checkpoint" else [name]
    with monkeypatch.context() as patch:
        failing(patch, code, files)
        status, _, err = toy(tmp_path / "run")
    lines = err.splitlines()
    assert "Traceback" not in err and all(os.strerror(code) in line for line in lines) and lines, err
    if name == "checkpoint":
        assert status == 0 and len(lines) == 3 and "the run goes on without this checkpoint" in err
    elif name == "mask.safetensors":  # the checkpoints, too, hold a mask
        assert status == 1 and lines[-1].endswith("the results are kept") and records.finished(tmp_path / "run")
    else:
        assert status == (2 if name == "run.json" else 1) and len(lines) == 1 and name in err
    assert not [path for path in tmp_path.rglob(".*")]
    assert toy(tmp_path / "run")[0] == 0 and records.finished(tmp_path / "run")


def test_a_history_that_cannot_be_written_is_tried_again(tmp_path):
    path = tmp_path / "history.jsonl"
    disk.append(path, b"one\n")
    os.symlink(path, tmp_path / "link")
    with pytest.raises(disk.DiskError, match="link: cannot be written: Too many levels"):
        disk.append(tmp_path / "link", b"two\n")
    assert path.read_bytes() == b"one\n"


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("name", ["run.json", "all_results.json", "mask.safetensors"])
def test_an_error_of_the_disk_is_not_absence(code, name, toy, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    assert toy(folder)[0] == 0
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    open_, monkey = os.open, monkeypatch.context()

    def refuse(path, *rest, **how):
        if str(path) == str(folder / name):
            raise OSError(code, os.strerror(code))
        return open_(path, *rest, **how)

    disk._digests.clear()
    with monkey as patch:
        patch.setattr(disk.os, "open", refuse)
        status, _, err = toy(folder)
        with pytest.raises(UserError, match=name):
            records.finished(folder)
    assert status == 2 and f"{folder / name}: cannot be read: {os.strerror(code)}" in err
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before
    assert "already done" in toy(folder)[1]


def test_a_finished_run_counts_where_nothing_can_be_written(toy, tmp_path, monkeypatch):
    assert toy(tmp_path / "run")[0] == 0
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **how: not mode & os.W_OK and access(path, mode, **how))
    code, out, err = toy(tmp_path / "run")
    assert code == 0 and "already done" in out and not err
    code, _, err = toy(tmp_path / "new")
    assert code == 2 and "cannot be written to" in err


def test_leftovers_are_swept_by_whoever_comes_next(toy, tmp_path):
    folder = tmp_path / "run"
    assert toy(folder)[0] == 0
    kept = {path.name for path in folder.iterdir()}
    for name in (".run.json.abcdefgh", ".all_results.json.a_c4efgh", ".mask.safetensors.abcdefgh", ".lock"):
        (folder / name).write_text("half")
    for name in (".model.abcdefgh", ".checkpoint-2.partial", ".checkpoint-4.gone", "checkpoint-3", ".previous"):
        (folder / name).mkdir()
        (folder / name / "training.pt").write_text("half")
    (folder / "checkpoint-3/checkpoint.json").write_text("half")  # by which it is known to be the program's
    (folder / ".mine").write_text("the user's")
    assert "already done" in toy(folder)[1]
    assert {path.name for path in folder.iterdir()} == kept | {".mine"}
    (folder / ".run.json.abcdefgh").touch()
    with lock.held(folder):  # somebody is at work
        upkeep.tidy_finished(folder)
        assert (folder / ".run.json.abcdefgh").exists()


def test_links_are_not_followed_where_the_program_writes(toy, tmp_path):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "file").write_text("precious")
    for name in ("all_results.json", "history.jsonl", "mask.safetensors", "run.json"):
        (folder / name).symlink_to(outside / "file")
    for name in (".previous", ".checkpoint-1.partial", "checkpoint-1", "checkpoint-2"):
        (folder / name).symlink_to(outside, target_is_directory=True)
    assert toy(folder)[0] == 2
    assert toy(folder, "--overwrite_output_dir")[0] == 0 and records.finished(folder)
    assert (outside / "file").read_text() == "precious" and [path.name for path in outside.iterdir()] == ["file"]
    (folder / ".lock").symlink_to(outside / "file")
    code, _, err = toy(folder, "--overwrite_output_dir")
    assert code == 2 and "cannot be written to or locked" in err and len(err.splitlines()) == 1
    assert (outside / "file").read_text() == "precious"
    dangling = tmp_path / "dangling"
    dangling.mkdir()
    (dangling / "history.jsonl").symlink_to(tmp_path / "made")
    assert toy(dangling)[0] == 2 and not (tmp_path / "made").exists()


TEMPLATES = "additional_chat_templates"


def saved(words: dict[str, str]):
    """Something that saves a model of these files, with modes as temporary files have them."""

    def save(folder):
        for name, text in words.items():
            (folder / name).parent.mkdir(mode=0o700, exist_ok=True)
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)

    return save


def files(folder) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_saved_folder_can_be_entered_and_replaced(tmp_path):
    first = {"config.json": "1", f"{TEMPLATES}/tool.jinja": "1", f"{TEMPLATES}/rag.jinja": "1"}
    second = {"config.json": "2", f"{TEMPLATES}/tool.jinja": "2", f"{TEMPLATES}/plan.jinja": "2"}
    noted, usual = [], os.umask(0o027)
    try:
        for words in (first, second):
            records.write_model(tmp_path, saved(words), noted.append)
            assert files(tmp_path) == words and noted[-1] == [TEMPLATES, "config.json"]
    finally:
        os.umask(usual)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes.pop(TEMPLATES) == 0o750 and set(modes.values()) == {0o640}


def test_a_folder_whose_replacement_fails_keeps_its_old_files(tmp_path, monkeypatch):
    first = {f"{TEMPLATES}/{name}.jinja": "1" for name in "abc"}
    records.write_model(tmp_path, saved(first), lambda _: None)
    with monkeypatch.context() as patch:
        failing(patch, errno.ENOSPC, ["b.jinja"])
        with pytest.raises(OSError):
            records.write_model(tmp_path, saved(dict.fromkeys(first, "2")), lambda _: None)
    assert list(files(tmp_path).values()).count("1") == 2 and set(files(tmp_path)) == set(first)


def test_a_folder_in_the_place_of_a_link_leaves_what_it_leads_to(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/mine.jinja").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / TEMPLATES).symlink_to(tmp_path / "outside", target_is_directory=True)
    records.write_model(tmp_path / "run", saved({f"{TEMPLATES}/tool.jinja": "1"}), lambda _: None)
    assert files(tmp_path / "outside") == {"mine.jinja": "precious"}
    assert not (tmp_path / "run" / TEMPLATES).is_symlink() and files(tmp_path / "run") == {
        f"{TEMPLATES}/tool.jinja": "1"
    }


def test_a_state_that_cannot_be_taken_over_is_given_up_at_once(toy, tmp_path, monkeypatch):
    """Not the file is wrong but what is in it: half of it may have been taken over."""
    save = checkpoints.Checkpoints.save

    def interrupted(self):
        save(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save", interrupted)
        assert toy(tmp_path / "run")[0] == 130
    load = toy_family.Sum.load_state

    def halfway(self, state):
        load(self, state)
        raise KeyError("optimizer")

    with monkeypatch.context() as patch:
        patch.setattr(toy_family.Sum, "load_state", halfway)
        code, out, err = toy(tmp_path / "run")
        named = toy(tmp_path / "named", "--dry_run")
    assert code == 0 and "checkpoint-1: cannot be read (KeyError: 'optimizer'); starting again" in err
    assert named[0] == 0 and toy(tmp_path / "whole")[0] == 0 and "resumed" not in out
    for name in ("all_results.json", "mask.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_nothing_outside_the_output_folder_is_needed(tiny_model, csv_task, tmp_path):
    nowhere = "/proc/nowhere"
    argv = ["--model_name_or_path", tiny_model, *csv_task.flags, "--max_train_steps", 2, "--output_dir", "run"]
    elsewhere = dict.fromkeys(("HOME", "HF_HOME", "XDG_CACHE_HOME", "TORCH_HOME", "TMPDIR", "MPLCONFIGDIR"), nowhere)
    done = run_command(argv, tmp_path, **elsewhere)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and records.finished(tmp_path / "run")


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of so many kilobytes; returns its folder."""
    mounted = []

    def mount(kilobytes: int) -> Path:
        place = tmp_path / f"disk-{kilobytes}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("needs the right to mount a tmpfs")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("kilobytes", [4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024])
def test_disks_of_many_sizes(kilobytes, small_disk, command, tiny_model, csv_task, tmp_path):
    folder = small_disk(kilobytes) / "run"
    argv = ["--model_name_or_path", tiny_model, *csv_task.flags, "--max_train_steps", 3, "--sparsity", "0.5",
            "--freeze_weights", "--checkpointing_steps", 1, "--save_model", "--output_dir", folder]  # fmt: skip
    code, _, err = command(argv)
    lines = err.splitlines()
    assert "Traceback" not in err and all("No space left on device" in line for line in lines), err
    assert code in (0, 1, 2) and bool(lines) == (code > 0 or kilobytes < 1024), err
    results = records.finished(folder)
    assert results is not None or kilobytes < 64
    whole = (folder / "model.safetensors").exists()
    assert whole == (code == 0 and results is not None) and not list(folder.glob(".*")) if folder.exists() else True


def test_a_log_on_a_full_disk_costs_its_lines_alone():
    class Full(io.StringIO):
        error = OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            raise self.error

    log = Full()
    say("one line", log)
    log.error = BrokenPipeError(errno.EPIPE, "nobody reads any more")
    with pytest.raises(BrokenPipeError):
        say("another", log)
