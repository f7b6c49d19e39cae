"""A folder's lock: one process at a time, whatever becomes of the others, and nothing left behind."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from junkdna.errors import UserError
from junkdna.runs import lock

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from junkdna.runs import lock
with lock.held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
NO_FLOCK = """
import errno, fcntl
def missing(*_):
    raise OSError(errno.{code}, "no locks here")
fcntl.flock = missing
"""
SHARE = """
import os, sys, time
from pathlib import Path
from junkdna.runs import lock
folder, turns, overlaps = Path(sys.argv[1]), 0, 0
end = time.monotonic() + 3
print("ready", flush=True)
sys.stdin.readline()
while time.monotonic() < end:
    try:
        with lock.held(folder / "run"):
            try:
                os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                overlaps += 1
            else:
                os.unlink(folder / "inside")
            turns += 1
    except lock.Taken:
        pass
print(turns, overlaps)
"""


def python(code, *argv, **options):
    """A process that runs some code."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, argv)], cwd=ROOT, text=True, **pipes, **options)


@pytest.fixture
def holder():
    """Start a process that holds a folder's lock; it is killed at the end."""
    started = []

    def start(folder, before=""):
        process = python(before + HOLD, folder)
        started.append(process)
        assert process.stdout.readline() == "held\n", process.stderr.read()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_nothing_stays_of_a_lock(tmp_path):
    with lock.held(tmp_path / "a/b"):
        assert (tmp_path / "a/b" / lock.LOCK).read_text() == f"process {os.getpid()} on {socket.gethostname()}"
    assert not list(tmp_path.iterdir())  # the folders were made for it
    with lock.held(tmp_path / "a/b"):
        (tmp_path / "a/b/result").touch()
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["result"]
    (tmp_path / "old").mkdir()
    with pytest.raises(KeyError), lock.held(tmp_path / "old"):
        raise KeyError
    assert not list((tmp_path / "old").iterdir())


def test_the_holder_is_named_and_kill_9_releases(holder, tmp_path):
    process = holder(tmp_path / "run")
    begun = time.monotonic()
    with pytest.raises(lock.Taken) as error, lock.held(tmp_path / "run"):
        pass
    assert time.monotonic() - begun < 2
    expected = f"--output_dir {tmp_path / 'run'}: process {process.pid} on {socket.gethostname()} is running this"
    assert str(error.value) == expected
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "run" / lock.LOCK).exists()  # left by the dead process
    with lock.held(tmp_path / "run"):
        assert f"process {os.getpid()} on " in (tmp_path / "run" / lock.LOCK).read_text()
    assert not list((tmp_path / "run").iterdir())


def test_a_process_does_not_take_its_own_lock_twice(tmp_path):
    with lock.held(tmp_path / "run"):
        with pytest.raises(lock.Taken, match=f"process {os.getpid()} on "), lock.held(tmp_path / "run"):
            pass
        assert (tmp_path / "run" / lock.LOCK).exists()  # who was turned away deletes nothing
    assert not (tmp_path / "run").exists()


def test_a_child_process_does_not_keep_the_lock(tmp_path):
    with lock.held(tmp_path / "run"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    try:
        with lock.held(tmp_path / "run"):
            pass
    finally:
        child.communicate(b"\n")


@pytest.mark.parametrize("seen", [FileNotFoundError, FileExistsError])
def test_a_folder_that_another_process_takes_away_is_made_again(seen, tmp_path, monkeypatch):
    """mkdir says that it exists if it does not find it any more when it looks whether it is a folder."""
    mkdir, met = Path.mkdir, []

    def once(self, *args, **options):
        if not met:
            met.append(self)
            raise seen(errno.EEXIST, "gone by now")
        return mkdir(self, *args, **options)

    monkeypatch.setattr(Path, "mkdir", once)
    with lock.held(tmp_path / "run"):
        assert met and (tmp_path / "run" / lock.LOCK).exists()


def test_what_is_no_folder_cannot_be_locked(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written to or locked: File exists"), lock.held(tmp_path / "file"):
        pass


def test_three_processes_that_come_and_go_are_never_in_together(tmp_path):
    """Each deletes the file when it leaves, which the others may have opened."""
    team = [python(SHARE, tmp_path) for _ in range(3)]
    for process in team:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in team:
        process.stdin.write("\n")
        process.stdin.flush()
    counted = [list(map(int, process.communicate(timeout=60)[0].split())) for process in team]
    assert sum(turns for turns, _ in counted) > 100 and not any(overlaps for _, overlaps in counted)
    assert not list(tmp_path.rglob("*.lock*"))


def test_who_was_turned_away_by_a_file_that_is_just_being_deleted_tries_again(tmp_path, monkeypatch):
    path, tried = tmp_path / "run" / lock.LOCK, []
    flock = fcntl.flock

    def deleted_meanwhile(fd, operation):
        if not tried:
            path.unlink()
        tried.append(fd)
        return flock(fd, operation)

    monkeypatch.setattr("fcntl.flock", deleted_meanwhile)
    with lock.held(tmp_path / "run"):
        assert len(tried) > 1 and path.exists()


def test_a_folder_that_cannot_be_locked_is_the_users_mistake(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as error, lock.held(tmp_path / "file/run"):
        pass
    assert str(error.value) == f"--output_dir {tmp_path / 'file/run'}: cannot be written to or locked: Not a directory"

    def read_only(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("fcntl.flock", read_only)
    said = "run: cannot be written to or locked: Read-only file system"
    with pytest.raises(UserError, match=said) as error, lock.held(tmp_path / "run"):
        pass
    assert not isinstance(error.value, lock.Taken)


@pytest.mark.parametrize("code", [errno.errorcode[code] for code in lock.NO_LOCKS])
def test_a_marker_stands_for_the_lock_where_there_are_none(holder, code, tmp_path, monkeypatch):
    process = holder(tmp_path / "run", NO_FLOCK.format(code=code))

    def missing(*_):
        raise OSError(getattr(errno, code), "no locks here")

    monkeypatch.setattr("fcntl.flock", missing)
    with pytest.raises(lock.Taken) as error, lock.held(tmp_path / "run"):
        pass
    assert f": process {process.pid} on {socket.gethostname()} is running this (if it crashed, delete " in str(
        error.value
    )
    process.kill()
    process.wait()
    with lock.held(tmp_path / "run"):  # its owner is dead
        assert (tmp_path / "run" / lock.MARKER).read_text().startswith(f"{os.getpid()}\n")
    assert not list((tmp_path / "run").iterdir())
    with lock.held(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()
