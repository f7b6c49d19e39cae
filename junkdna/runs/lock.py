"""One process at a time in a run's folder, also across machines that share the disk."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from junkdna.errors import UserError

LOCK = ".lock"
MARKER = ".lock-marker"
"""On a file system without locks, the file whose existence is the lock."""
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What a file system without locks answers."""
PATIENCE = {"timeout": 0.2, "poll_interval": 0.02}
"""Seconds. A process that is just leaving deletes the file that this one has opened: that is worth a second try."""


class Taken(UserError):
    """Another process is at work in the folder."""


@contextmanager
def held(folder: str | Path) -> Iterator[None]:
    """Hold a folder's lock. Raises Taken, naming the holder, and UserError if the folder cannot be locked at all.

    The folder is made for the lock, and taken away again if nothing was written to it. The operating system releases
    the lock when the process exits, even after a crash. On a file system without locks a marker file stands for the
    lock. A crash leaves it behind; the next process on the same machine sees that its owner is dead and takes it over.
    """
    from filelock import Timeout  # 60 ms, which --help need not wait for

    path = Path(folder) / LOCK
    made = [place for place in path.parents if not place.exists()]
    try:
        lock = _acquire(path)
    except Timeout:
        raise Taken(f"--output_dir {folder}: {_holder(path)}") from None
    except OSError as error:
        raise UserError(f"--output_dir {folder}: cannot be written to or locked: {error.strerror or error}") from None
    try:
        yield
    finally:
        with suppress(OSError):  # filelock leaves it; Windows deletes no open file, but filelock does so there
            path.unlink()  # before the release: whoever has opened it sees that it is gone
        lock.release()
        with suppress(OSError):  # not empty
            for place in made:
                place.rmdir()


def _acquire(path: Path, tries: int = 10):
    """Make the folder, acquire its lock and return it. Raises filelock's Timeout, an OSError, if it is held."""
    from filelock import FileLock, SoftFileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, fallback_to_soft=False, **PATIENCE)
        lock.acquire()
        with suppress(OSError):  # a full disk keeps no one from locking
            _sign(path)
    except (FileNotFoundError, FileExistsError):  # whoever had made the folder has just taken it away again
        if tries == 0:
            raise
        return _acquire(path, tries - 1)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        lock = SoftFileLock(path.with_name(MARKER), **PATIENCE)
        lock.acquire()
    return lock


def _sign(path: Path) -> None:
    """Write into the lock who holds it; a link that has taken its place is not followed."""
    handle = os.open(path, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(handle, "w") as file:
        file.write(f"process {os.getpid()} on {socket.gethostname()}")


def _holder(path: Path) -> str:
    """Say who holds the lock, as far as that can be read."""
    marker, name, advice = path.with_name(MARKER), "another process", ""
    with suppress(OSError):  # gone this very moment, or locked against reading
        name = path.read_text().strip() or name
    with suppress(OSError):
        process, host, *_ = [*marker.read_text().split(), "?", "?"]
        name, advice = f"process {process} on {host}", f" (if it crashed, delete {marker})"
    return f"{name} is running this{advice}"
