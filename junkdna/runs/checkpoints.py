"""Checkpoints of a run that is under way: written whole or not at all, only the newest kept, removed when it is done.

A checkpoint is a folder ``checkpoint-<step>`` in the run's own: ``training.pt`` (weights, optimizer, schedule, random
states, position in the data, the epochs so far), ``mask.safetensors`` and ``checkpoint.json``: what the run is made of
(a checkpoint of another one is refused) and the digests of the other two, under a seal. One that cannot be used is
passed over: the run says so, and starts again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from junkdna.errors import Fault, UserError, one_line
from junkdna.runs import disk, identity, records, schema, seals
from junkdna.runs.cell import Cell
from junkdna.runs.speech import in_one_line, say

ABOUT, TRAINING = schema.CHECKPOINT, "training.pt"
SCHEMA = 2
"""Of ``checkpoint.json``; those of schema 1, from before there were families, are read too."""

NAME = re.compile(r"checkpoint-(\d+)")
HIDDEN = re.compile(r"\.checkpoint-\d+\.(partial|gone)")
"""What is being written, and what is being deleted."""

_passed_over: set[str] = set()
_replaced: set[str] = set()
"""Checkpoints that this process does not go on from: tried in vain, or of runs that its command replaces."""


class Unusable(UserError):
    """A checkpoint turned out to be of no use after the training had begun to take it over: start from the start."""


# --- without torch ---------------------------------------------------------------------------------------------------


def latest(folder: str | Path) -> Path | None:
    """The newest checkpoint in a run's folder, or None."""
    return max(_all(Path(folder)), key=step_of, default=None)


def step_of(path: Path) -> int:
    """The optimizer step of a checkpoint, from its name."""
    return int(NAME.fullmatch(path.name)[1])


def _all(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    named = [path for path in found if NAME.fullmatch(path.name) and str(path) not in _passed_over | _replaced]
    return [path for path in named if (path / ABOUT).is_file()]


def named(cell: Cell) -> Path | None:
    """The checkpoint that the user has named, if any; not every family has a flag for it."""
    name = getattr(cell, "resume_from_checkpoint", None)
    return None if name in (None, "latest") else Path(name)


def find(cell: Cell) -> Path | None:
    """The checkpoint from which a cell goes on: the newest of its own, unless the one that was named is further."""
    own, other = latest(cell.output_dir), named(cell)
    if own is None or other is None:
        return own or other
    return own if not NAME.fullmatch(other.name) or step_of(own) >= step_of(other) else other


def check(cell: Cell) -> None:
    """Refuse a checkpoint that the user has named if it is none, or belongs to another run."""
    path = named(cell)
    if path is None or find(cell) != path or records.finished(cell.output_dir) is not None:
        return

    def refuse(reason: str) -> None:
        raise UserError(Fault("resume_from_checkpoint", path, reason))

    if not path.is_dir():
        refuse("no such folder; give a checkpoint-N folder, or latest")
    about = read_about(path)
    if about is None or not (path / TRAINING).is_file():
        refuse(f"holds no checkpoint of this program ({ABOUT}, {TRAINING})")
    if differences := records.difference(about, cell):
        refuse(f"belongs to a different run ({'; '.join(differences)})")


def read_about(path: Path) -> dict | None:
    """Return what a checkpoint says of its run, in today's schema, or None if it cannot be read."""
    found = records.glance(path / ABOUT)
    try:
        return schema.upgrade(found) if found and isinstance(found.get("settings"), dict) else None
    except (AttributeError, KeyError, TypeError):
        return None


def replace(folders: Iterable[str]) -> None:
    """Do not go on from what lies in these folders now; in each it is deleted when the new run has begun. It ends with
    the next call.
    """
    _replaced.clear()
    _replaced.update(str(path) for folder in folders for path in _all(Path(folder)))


def drop(folder: Path) -> None:
    """Delete all checkpoints of a run, also what an interrupted save left. Those of other programs stay."""
    for path in folder.glob("*checkpoint-*"):
        if NAME.fullmatch(path.name) and (path / ABOUT).is_file():
            _remove(path)
        elif HIDDEN.fullmatch(path.name):
            disk.remove(path)


def _remove(path: Path) -> None:
    """Delete a checkpoint under another name: what a killed process leaves of it must not look like another program's.
    As far as that can be done.
    """
    gone = path.with_name(f".{path.name}.gone")
    disk.remove(gone)
    try:
        os.replace(path, gone)
    except OSError:
        gone = path
    disk.remove(gone)


def seconds_before(resumed: list[dict]) -> float:
    """What a run had taken up to the last checkpoint from which it went on; 0 where a record does not say."""
    return resumed[-1].get("seconds", 0.0) if resumed else 0.0


# --- saving and loading ----------------------------------------------------------------------------------------------


@dataclass
class Checkpoints:
    """Saves and loads one run's checkpoints.

    ``reads`` holds digests of what the run is made of (see ``identity``): a checkpoint that differs in one is of
    another run. ``tuning`` is a ``FineTuning``, or has its ``state()``, ``load_state(state)`` and ``accelerator``, and
    may have ``verify()``; ``masks`` is written beside them.
    """

    cell: Cell
    reads: Mapping[str, str | None]
    masks: Mapping
    tuning: object
    resumed: list[dict] = field(default_factory=list)

    def go_on(self) -> None:
        """Bring the tuning to where the run's checkpoint was, if there is one.

        One that cannot be used is passed over, and the run starts again; raises UserError if the user has named it.
        Raises Unusable if the tuning is not what it was before.
        """
        (path,) = self._of_main_process([find(self.cell)])
        if path is None:
            return
        problem, found = self._attempt(self._read, path)
        if problem is None:
            problem, _ = self._attempt(self._take, path, *found)
            if problem is not None and path != named(self.cell):
                _passed_over.add(str(path))
                raise Unusable(problem)
        if problem is not None:
            if path == named(self.cell):
                raise UserError(problem)
            _passed_over.add(str(path))
            say(f"warning: {problem}; starting again", sys.stderr)

    def save(self) -> Path | None:
        """Write a checkpoint, then delete the one before. All processes take part, the first one writes.

        One that cannot be written costs the run nothing: it says so, and goes on; None is returned.
        """
        state, path = self.tuning.state(), None
        if self.tuning.accelerator.is_main_process:
            try:
                path = self._write(state)
            except disk.DiskError as error:
                say(f"warning: {in_one_line(error)}; the run goes on without this checkpoint", sys.stderr)
        self.tuning.accelerator.wait_for_everyone()
        return path

    def _write(self, state: dict) -> Path:
        from junkdna.sparsity import files

        folder = Path(self.cell.output_dir)
        target = folder / f"checkpoint-{state['at']['step']}"
        partial = folder / f".{target.name}.partial"
        disk.remove(partial)
        run, now = records.glance(folder / schema.RUN) or {}, datetime.now(timezone.utc)
        about = {
            "written": now.isoformat(),
            "seconds": self._seconds(run, now),
            "resumed": self.resumed,
            "made_with": {name: run.get(name) for name in ("code", "versions", "hardware")},
        }
        try:
            partial.mkdir()
            written = {TRAINING: _save(state, partial / TRAINING)}
            if self.masks:
                content = files.to_bytes(self.masks)
                disk.write_bytes(partial / records.MASK, content)
                written[records.MASK] = seals.digest(content)
            said = {"schema": SCHEMA, **self.cell.header(), "identity": self.reads, "files": written}
            records.write_record(partial / ABOUT, said | about)
            before = [path for path in _all(folder) if path != target]
            if target.exists() and not (target / ABOUT).is_file():
                raise FileExistsError(errno.EEXIST, "it is of another program")
            _remove(target)
            os.replace(partial, target)
            _passed_over.discard(str(target))
            _replaced.discard(str(target))
        except BaseException as error:
            disk.remove(partial)
            if isinstance(error, OSError):
                raise disk.DiskError(target, "cannot be written", error) from None
            raise
        for path in before:
            _remove(path)
        return target

    def _seconds(self, run: Mapping, now: datetime) -> float:
        """What the run has taken up to now, with that of before the checkpoint from which it went on."""
        begun = datetime.fromisoformat(run["started"]) if run.get("started") else now
        return round(seconds_before(self.resumed) + (now - begun).total_seconds(), 3)

    # --- going on ----------------------------------------------------------------------------------------------------

    def _read(self, path: Path) -> tuple[dict, dict]:
        """Return what a checkpoint says of its run, and its state.

        Raises UserError if it cannot be read or is of another run.
        """
        import torch

        said = read_about(path)
        if said is None:
            raise UserError(f"checkpoint {path}: cannot be read ({ABOUT} is missing, damaged or was changed)")
        if differences := records.difference(said, self.cell):
            raise UserError(f"checkpoint {path}: belongs to a run with other settings ({'; '.join(differences)})")
        stored = said.get("identity", said)  # those of before had the digests among the rest
        if differences := identity.differing(stored, self.reads):
            raise UserError(f"checkpoint {path}: belongs to a run with other {' and '.join(differences)}")
        for name, digest in said.get("files", {}).items():
            if disk.digest_of(path / name) != digest:
                raise UserError(f"checkpoint {path}: cannot be read ({name} is missing, damaged or was changed)")
        state = torch.load(path / TRAINING, map_location="cpu", weights_only=True)
        unknown = [name.replace("_", " ") for name in self.reads if name not in stored]
        if "files" not in said:
            say(
                f"warning: checkpoint {path}: is of an earlier version; not compared: "
                + ", ".join([*unknown, f"the content of {TRAINING}"]),
                sys.stderr,
            )
        return said, state

    def _take(self, path: Path, said: dict, state: dict) -> None:
        """Have the tuning take over a state; it is checked at once, as before an evaluation."""
        self.tuning.load_state(state)
        if hasattr(self.tuning, "verify"):
            self.tuning.verify()
        now = datetime.now(timezone.utc).isoformat()
        self.resumed = [
            *said["resumed"],
            {
                "step": state["at"]["step"],
                "at": now,
                "seconds": said.get("seconds", 0.0),
                "made_with": said["made_with"],
            },
        ]

    def _attempt(self, step, path: Path, *arguments) -> tuple[str | None, object]:
        """Take a step; return (what went wrong in any of the processes, or None; the result)."""
        problem, result = None, None
        try:
            result = step(path, *arguments)
        except UserError as error:
            problem = in_one_line(error)
        except Exception as error:  # whatever a file holds, and whatever the libraries make of it
            problem = one_line(f"checkpoint {path}: cannot be read ({in_one_line(error)})")
        if self.tuning.accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            problem = next(filter(None, gather_object([problem])), None)
        return problem, result

    def _of_main_process(self, values: list) -> list:
        """The main process's values, on all of them."""
        if self.tuning.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(values)
        return values


class _Hashing:
    """A file that is digested while it is written; ``error`` is the system's, which torch puts in words of its own."""

    def __init__(self, file):
        self.file, self.digest, self.error = file, hashlib.sha256(), None

    def write(self, content) -> int:
        self.digest.update(content)
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _save(state: dict, path: Path) -> str:
    """Write a state and return its digest. Raises OSError."""
    import torch

    with open(path, "xb", buffering=0) as file:
        sink = _Hashing(file)
        try:
            torch.save(state, sink)
        except Exception as error:
            raise (sink.error or error) from None
        os.fsync(file.fileno())
    return sink.digest.hexdigest()
