"""Checkpoints of a run that is under way: written whole or not at all, only the newest kept, removed when it is done.

A checkpoint is a folder ``checkpoint-<step>`` in the run's own: ``training.pt`` (weights, optimiser, schedule, random
states, position in the data, the epochs so far), ``mask.safetensors`` and ``checkpoint.json`` (what the run is: a checkpoint
of another one is refused).
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from junkdna import records
from junkdna.cell import Cell
from junkdna.errors import UserError

IDENTITY, TRAINING = "checkpoint.json", "training.pt"
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


def find(cell: Cell) -> Path | None:
    """The checkpoint from which a cell goes on: the one asked for, else the newest of its own, else None."""
    asked = cell.resume_from_checkpoint
    return Path(asked) if asked not in (None, "latest") else latest(cell.output_dir)


def check(cell: Cell) -> None:
    """Refuse a checkpoint that is none, or that belongs to another run."""
    path = find(cell)
    if path is None:
        return
    identity = records.read(path / IDENTITY)
    where = f"--resume_from_checkpoint {path}"
    if identity is None or not (path / TRAINING).is_file():
        raise UserError(f"{where}: holds no checkpoint of this program ({IDENTITY}, {TRAINING})")
    differences = records.difference(identity["settings"], cell.settings())
    if differences:
        raise UserError(f"{where}: is of a different run ({'; '.join(differences)})")


def drop(folder: Path) -> None:
    """Delete all checkpoints of a run, also what an interrupted save left."""
    for path in folder.glob("*checkpoint-*"):
        if NAME.fullmatch(path.name.removeprefix(".").removesuffix(".partial")):
            shutil.rmtree(path, ignore_errors=True)


# --- saving and loading ----------------------------------------------------------------------------------------------


@dataclass
class Keeper:
    """Saves and loads one run's checkpoints. ``identity`` says what the run is: settings and hashes of what it reads."""

    cell: Cell
    identity: dict
    mask: dict
    tuning: object
    resumed: list[dict] = field(default_factory=list)

    def find(self) -> Path | None:
        """The checkpoint to go on from, the same on every process."""
        found = [find(self.cell)]
        if self.tuning.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(found)
        return found[0]

    def save(self) -> None:
        """Write a checkpoint, then delete the one before. All processes take part, the first one writes."""
        state = self.tuning.state()
        if self.tuning.accelerator.is_main_process:
            self._write(state)
        self.tuning.accelerator.wait_for_everyone()

    def _write(self, state: dict) -> None:
        import torch

        from junkdna import masks

        folder = Path(self.cell.output_dir)
        target = folder / f"checkpoint-{state['at']['step']}"
        partial = folder / f".{target.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        with open(partial / TRAINING, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if self.mask:
            records.write_bytes(partial / records.MASK, masks.to_bytes(self.mask))
        now = datetime.now(timezone.utc).isoformat()
        records.write_json(partial / IDENTITY, self.identity | {"written": now, "resumed": self.resumed})
        before = [path for path in _all(folder) if path != target]
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
        for path in before:
            shutil.rmtree(path, ignore_errors=True)

    def load(self, path: Path) -> None:
        """Bring the tuning to where the checkpoint was; raises UserError if it cannot be read or is of another run."""
        import torch

        where = f"--resume_from_checkpoint {path}"
        identity = records.read(path / IDENTITY) or {}
        for name, value in self.identity.items():
            if identity.get(name) != value:
                raise UserError(f"{where}: is of a run with another {name.replace('_', ' ')}; delete it to start again")
        try:
            state = torch.load(path / TRAINING, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(f"{where}: cannot be read ({error}); delete it to start again") from None
        self.tuning.load_state(state)
        step = {"step": state["at"]["step"], "at": datetime.now(timezone.utc).isoformat()}
        self.resumed = [*identity["resumed"], step]
