"""The files of a report, written all of them or none.

Each is written under a temporary name beside its place; once all are on the disk, all are renamed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from junkdna.errors import UserError
from junkdna.report import stored
from junkdna.runs.speech import in_one_line

UNTOUCHED = "nothing of an earlier report was changed"


def make_folder(folder: Path, flag: str) -> None:
    """Make a folder to write to; raises UserError if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be a folder to write to: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {folder}: cannot be written to")


def check_own(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder that has a file of a report's name, and no report; raises UserError."""
    there = next((name for name in names if (folder / name).is_file()), None)
    if there is None or (folder / stored.NAME).is_file():
        return
    try:
        known = (folder / "summary.md").read_bytes().startswith(b"# Summary\n")  # of before there were points
    except OSError:
        known = False
    if not known:
        raise UserError(f"--out {folder}: has a {there} that is not a report's; choose another folder, or move it away")


def write_all(files: dict[Path, bytes]) -> None:
    """Write every file whole, or none of them: what was there stays, or comes back. Raises UserError."""
    for path in files:
        if path.is_dir():
            raise UserError(f"{path}: is a folder, where the report has a file; {UNTOUCHED}")
    staged: dict[Path, Path] = {}
    rooms: dict[Path, Path] = {}
    path = next(iter(files))
    try:
        for path, content in files.items():
            if path.parent not in rooms:
                rooms[path.parent] = Path(tempfile.mkdtemp(dir=path.parent, prefix=".report."))
            staged[path] = rooms[path.parent] / f"new-{len(staged)}"
            _write(staged[path], content)
        _exchange(staged)
    except OSError as error:
        reason = error.strerror or in_one_line(error)
        raise UserError(f"{path}: cannot be written: {reason}; {UNTOUCHED}") from None
    finally:
        for room in rooms.values():
            shutil.rmtree(room, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _keep(path: Path, old: Path) -> None:
    """Give a file a second name, or a copy where the file system has no links."""
    try:
        os.link(path, old, follow_symlinks=False)
    except OSError:
        shutil.copy2(path, old, follow_symlinks=False)


def _exchange(staged: dict[Path, Path]) -> None:
    """Rename every new file to its place; if one cannot be, put back those that were there."""
    undo: list[Callable[[], object]] = []
    try:
        for path, new in staged.items():
            old = new.with_name(new.name.replace("new", "old"))
            if os.path.lexists(path):
                _keep(path, old)
                undo.append(lambda old=old, path=path: os.replace(old, path))
            else:
                undo.append(lambda path=path: path.unlink(missing_ok=True))
            os.replace(new, path)
    except BaseException:
        for step in reversed(undo):
            with suppress(OSError):
                step()
        raise
