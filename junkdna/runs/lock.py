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
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What a file system without locks answers."""


class Taken(UserError):
    """Another process is at work in the folder."""


@contextmanager
def held(folder: str | Path) -> Iterator[None]:
    """Hold a folder's lock; raises Taken, naming who holds it, if another process does.

    The folder is made for it, and taken away again if nothing was written to it. The system lets go of it when the process ends, however it ends. Where the file system knows no locks, there is none.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = Path(folder) / LOCK
    made = [place for place in path.parents if not place.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open(path, fcntl)
    except BlockingIOError:
        holder = ""
        with suppress(OSError):  # it may be gone this very moment
            holder = path.read_text().strip()
        raise Taken(f"--output_dir {folder}: {holder or 'another process'} is running this") from None
    except OSError as error:
        raise UserError(f"--output_dir {folder}: cannot be written to or locked: {error.strerror}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)
        with suppress(OSError):  # not empty
            for place in made:
                place.rmdir()


def _open(path: Path, fcntl) -> int:
    """Return the locked file's number; raises BlockingIOError if another process has it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(file, path):
                os.truncate(file, 0)
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return file
        except OSError as error:
            if error.errno in NO_LOCKS:
                return file
            if error.errno != errno.ESTALE:
                os.close(file)
                raise
        os.close(file)  # whoever held it has deleted it meanwhile


def _is(file: int, path: Path) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
