"""Checkpoints of a run that is under way: written whole or not at all, only the newest kept, removed when it is done.

A checkpoint is a folder ``checkpoint-<step>`` in the run's own: ``training.pt`` (weights, optimiser, schedule, random
states, position in the data, the epochs so far), ``mask.safetensors`` and ``checkpoint.json`` (what the run is: a
checkpoint of another one is refused).
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from junkdna.errors import Fault, UserError
from junkdna.runs import records, schema
from junkdna.runs.cell import Cell
from junkdna.runs.speech import in_one_line, say

IDENTITY, TRAINING = "checkpoint.json", "training.pt"
SCHEMA = 2
"""Of ``checkpoint.json``; those of schema 1, from before there were families, are read too."""

NAME = re.compile(r"checkpoint-(\d+)")


# --- without torch ---------------------------------------------------------------------------------------------------


def latest(folder: str | Path) -> Path | None:
    """The newest checkpoint in a run's folder, or None."""
    return max(_all(Path(folder)), key=step_of, default=None)


def step_of(path: Path) -> int:
    """The optimiser step of a checkpoint, from its name."""
    return int(NAME.fullmatch(path.name)[1])


def _all(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if NAME.fullmatch(path.name) and (path / IDENTITY).is_file()]


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
    identity = read_identity(path)
    if identity is None or not (path / TRAINING).is_file():
        refuse(f"holds no checkpoint of this program ({IDENTITY}, {TRAINING})")
    if differences := records.difference(identity, cell):
        refuse(f"belongs to a different run ({'; '.join(differences)})")


def read_identity(path: Path) -> dict | None:
    """Return what a checkpoint says of its run, in today's schema, or None if it cannot be read."""
    found = records.read(path / IDENTITY)
    try:
        return schema.upgrade(found) if found and isinstance(found.get("settings"), dict) else None
    except (AttributeError, KeyError, TypeError):
        return None


def drop(folder: Path) -> None:
    """Delete all checkpoints of a run, also what an interrupted save left."""
    for path in folder.glob("*checkpoint-*"):
        if NAME.fullmatch(path.name.removeprefix(".").removesuffix(".partial")):
            shutil.rmtree(path, ignore_errors=True)


# --- saving and loading ----------------------------------------------------------------------------------------------


@dataclass
class Checkpoints:
    """Saves and loads one run's checkpoints.

    ``reads`` holds hashes of what the run reads (data, weights, mask): a checkpoint that differs in one is of another
    run. ``tuning`` has ``state()`` and ``load_state(state)``; ``masks`` is written beside them.
    """

    cell: Cell
    reads: dict
    masks: dict
    tuning: object
    resumed: list[dict] = field(default_factory=list)

    def go_on(self) -> None:
        """Bring the tuning to where the run's checkpoint was, if there is one.

        One that cannot be used is passed over, and the run starts again; raises UserError if the user has named it.
        """
        found = [find(self.cell)]
        if self.tuning.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(found)  # the main process's answer
        if found[0] is None:
            return
        try:
            self._load(found[0])
        except UserError as error:
            if found[0] == named(self.cell):
                raise
            say(f"warning: {in_one_line(error)}; starting again", sys.stderr)

    def save(self) -> None:
        """Write a checkpoint, then delete the one before. All processes take part, the first one writes."""
        state = self.tuning.state()
        if self.tuning.accelerator.is_main_process:
            self._write(state)
        self.tuning.accelerator.wait_for_everyone()

    def _write(self, state: dict) -> None:
        import torch

        from junkdna.sparsity import files

        folder = Path(self.cell.output_dir)
        target = folder / f"checkpoint-{state['at']['step']}"
        partial = folder / f".{target.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        run = records.read(folder / schema.RUN)
        about = {
            "written": datetime.now(timezone.utc).isoformat(),
            "resumed": self.resumed,
            "made_with": {name: run[name] for name in ("code", "versions", "hardware")},
        }
        try:
            with open(partial / TRAINING, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            if self.masks:
                records.write_bytes(partial / records.MASK, files.to_bytes(self.masks))
            identity = {"schema": SCHEMA, **self.cell.identity(), **self.reads}
            records.write_json(partial / IDENTITY, identity | about)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        before = [path for path in _all(folder) if path != target]
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
        for path in before:
            shutil.rmtree(path, ignore_errors=True)

    def _load(self, path: Path) -> None:
        """Load a checkpoint; raises UserError, with the tuning as it was, if it cannot be read or is of another run."""
        import torch

        identity = read_identity(path)
        if identity is None:
            raise UserError(f"checkpoint {path}: cannot be read ({IDENTITY})")
        if differences := records.difference(identity, self.cell):
            raise UserError(f"checkpoint {path}: belongs to a run with other settings ({'; '.join(differences)})")
        for name, value in self.reads.items():
            if identity.get(name) != value:
                raise UserError(f"checkpoint {path}: belongs to a run with other {name.replace('_', ' ')}")
        try:
            state = torch.load(path / TRAINING, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(f"checkpoint {path}: cannot be read ({error})") from None
        self.tuning.load_state(state)
        now = datetime.now(timezone.utc).isoformat()
        self.resumed = [
            *identity["resumed"],
            {"step": state["at"]["step"], "at": now, "made_with": identity["made_with"]},
        ]
