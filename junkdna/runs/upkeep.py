"""What killed processes leave in a run's folder, and its removal by the next one that holds the folder's lock."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from junkdna.errors import UserError
from junkdna.runs import checkpoints, disk, lock, records, schema

NAMES = (schema.RUN, schema.ERROR, records.RESULTS, records.MASK, records.PREDICTIONS)
TEMPORARY = re.compile(
    rf"\.({'|'.join(map(re.escape, NAMES))}|model)\.[a-z0-9_]{{8}}|{checkpoints.HIDDEN.pattern}",
)
"""What is written before it is renamed."""

OBSOLETE = re.compile(rf"{re.escape(records.PREVIOUS)}|{re.escape(lock.LOCK)}")
"""What a finished run needs no more, beside its checkpoints."""


def tidy(folder: str | Path) -> None:
    """Remove leftovers, and undo what was cut off while a finished run was set aside. To be called under the lock."""
    folder = Path(folder)
    with suppress(OSError):
        records.restore(folder)
        for path in _matching(folder, TEMPORARY):
            disk.remove(path)
        if records.is_whole(folder):
            records.drop_previous(folder)
            checkpoints.drop(folder)


def tidy_finished(folder: str | Path) -> None:
    """The same for a finished run, if there is anything to remove, nobody is at work there, and it can be done."""
    folder = Path(folder)
    with suppress(OSError, UserError):
        if (_matching(folder, TEMPORARY) or _obsolete(folder)) and os.access(folder, os.W_OK):
            with lock.held(folder):
                tidy(folder)


def _obsolete(folder: Path) -> bool:
    return bool(_matching(folder, OBSOLETE)) or checkpoints.latest(folder) is not None


def _matching(folder: Path, names: re.Pattern) -> list[Path]:
    found = os.listdir(folder) if folder.is_dir() else ()
    return [folder / name for name in found if names.fullmatch(name)]
