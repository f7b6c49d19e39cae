"""Single files: read without taking an error for absence, written whole or not at all, links never followed.

What reads and writes fails with a ``DiskError`` of one line that names the path and the reason. ``move`` raises the
system's own error, and ``remove`` says nothing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from junkdna.errors import UserError
from junkdna.runs.speech import in_one_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk answers that has no room left for this user."""

ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
"""What a disk answers when there is no such file, and cannot be."""

_digests: dict[tuple, str] = {}
"""Of files that this process has read: (path, device, inode, size, time of change) -> SHA-256."""


class DiskError(UserError):
    """A file cannot be read or written; ``reason`` says why, ``full``: for want of room."""

    def __init__(self, path: str | os.PathLike, what: str, error: BaseException):
        self.reason = reason(error)
        super().__init__(f"{os.fspath(path)}: {what}: {self.reason}")
        self.full = any(isinstance(one, OSError) and one.errno in FULL for one in _chain(error))


def reason(error: BaseException) -> str:
    """Why something failed, in a few words: the system's own where they can be found."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
    said = re.search(r"([^:(]+) \(os error \d+\)", str(error))  # of a library that is written in Rust
    return said[1].strip() if said else in_one_line(error)


def _chain(error: BaseException | None):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# --- reading ---------------------------------------------------------------------------------------------------------


def read_bytes(path: Path) -> bytes | None:
    """Return a file's content, or None if there is no such file. Raises DiskError for all else, a fifo among it."""
    try:
        with _opened(path) as file:
            return file.read()
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise DiskError(path, "cannot be read", error) from None


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a file's content, or None if there is no such file. Raises DiskError.

    A file is read again only when its size or its time has changed.
    """
    try:
        with _opened(path) as file:
            about = os.fstat(file.fileno())
            key = (os.path.abspath(path), about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
            if key not in _digests:
                _digests[key] = _digest(file)
            return _digests[key]
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise DiskError(path, "cannot be read", error) from None


def _digest(file) -> str:
    made = hashlib.sha256()
    while part := file.read(1 << 20):
        made.update(part)
    return made.hexdigest()


def _opened(path: Path):
    """Open a regular file for reading; opening never waits, as it would for a fifo's other end."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    file = os.fdopen(handle, "rb", closefd=True) if stat.S_ISREG(os.fstat(handle).st_mode) else None
    if file is None:
        os.close(handle)
        raise OSError(errno.EINVAL, "is not a file")
    return file


# --- writing ---------------------------------------------------------------------------------------------------------


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; a link in its place is replaced. Raises DiskError."""
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~umask())
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise DiskError(path, "cannot be written", error) from None
        raise


def json_bytes(content: dict) -> bytes:
    """A record as it stands in its file."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def write_json(path: Path, content: dict) -> None:
    """Write a record whole or not at all. Raises DiskError."""
    write_bytes(path, json_bytes(content))


def append(path: Path, content: bytes) -> None:
    """Add to a file and have it on disk before going on; all of it or nothing. Raises DiskError."""
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        with os.fdopen(os.open(path, flags, 0o666), "ab", buffering=0) as file:
            before = os.fstat(file.fileno()).st_size
            try:
                if file.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        raise DiskError(path, "cannot be written", error) from None


def move(made: Path, path: Path) -> None:
    """Move a file, or all of a folder, to its place, with the permissions that new files have. Raises OSError.

    A folder that is there is never taken away: each of its files is replaced whole, and what the new one lacks goes
    last. So there is at every moment either the old or the new file. A link in its place is replaced.
    """
    if made.is_symlink() or not made.is_dir():
        if not made.is_symlink():
            os.chmod(made, 0o666 & ~umask())
        os.replace(made, path)
        return
    if path.is_symlink():
        path.unlink()
    path.mkdir(exist_ok=True)
    names = {file.name for file in made.iterdir()}
    for name in sorted(names):
        move(made / name, path / name)
    for old in [file for file in path.iterdir() if file.name not in names]:
        remove(old)


def umask() -> int:
    """The permissions that new files must not have."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def remove(path: Path) -> None:
    """Delete a file, a link (not what it leads to) or a folder, as far as that can be done."""
    with suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
