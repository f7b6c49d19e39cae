"""One job's part of a grid, as it is handed to another process, here or on a node of a cluster.

Imports nothing heavy: unpickling a job imports this module before the job's environment is set.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from junkdna.errors import UserError
from junkdna.runs import checkpoints, grid, lock, records, schema, seals, stopping
from junkdna.runs.cell import Cell
from junkdna.runs.records import started
from junkdna.runs.request import Request
from junkdna.runs.shared import Shared
from junkdna.runs.speech import in_one_line, say, set_up_output

MOST_IN_VAIN = 10
"""So often may a job be cut off in a row without a finished cell or a new checkpoint; then it would go on like that."""


@dataclass
class JobSpec:
    """A picklable callable: runs the cells of ``request`` in a job, one after the other.

    ``entry`` is the module that has ``FAMILY``, ``environment`` what to set (None: to take away) before the heavy
    libraries are imported, ``before`` when each finished run that is to be replaced had started.
    """

    request: Request
    entry: str
    folder: str
    environment: dict[str, str | None]
    before: dict[str, str | None]
    in_vain: int = 0
    reached: tuple[int, int] = (0, 0)

    def __call__(self) -> dict:
        """Run what is not finished; return the exit code, the folders that were finished, and why others failed."""
        for name, value in self.environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        os.chdir(self.folder)
        begun = datetime.now(timezone.utc).isoformat()
        set_up_output()
        family = importlib.import_module(self.entry).FAMILY
        # a job that was cut off while it replaced finished runs must not replace its own
        cells = [c for c in self.request.cells if not (self.request.overwrite_output_dir and self.is_done(c))]
        try:
            with stopping.listening((signal.SIGINT,)):  # the others mean something to the cluster
                if self.request.launcher == "local":
                    os.setpgid(0, 0)  # a terminal's Ctrl-C is for the command, which passes it on once
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                code = grid.run(family, replace(self.request, cells=tuple(cells)), Shared())
        except KeyboardInterrupt as error:
            stop = error if isinstance(error, stopping.Stopped) else stopping.Stopped(signal.SIGINT)
            say(stop.words(self.request.overwrite_output_dir, len(self.request.cells) > 1), sys.stderr)
            raise SystemExit(stop.code) from None
        except Exception as error:  # a grid of one cell raises
            mistake = isinstance(error, UserError)
            say(f"error: {in_one_line(error)}" if mistake else traceback.format_exc(), sys.stderr)
            if not isinstance(error, lock.Taken):
                records.write_error(cells[0], self.request.argv, error)
            code = 1
        errors = {cell.output_dir: records.glance(Path(cell.output_dir) / schema.ERROR) for cell in cells}
        failures = {name: e["error"] for name, e in errors.items() if e and e["failed_at"] >= begun}
        done = [cell.output_dir for cell in self.request.cells if self.is_done(cell)]
        damages = {cell.output_dir: records.damage(cell.output_dir) for cell in cells if cell.output_dir not in done}
        return {
            "code": code,
            "done": done,
            "failures": failures | {name: said for name, said in damages.items() if said},
        }

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell is finished, and not by the run that is to be replaced."""
        return is_done_since(cell, self.before.get(cell.output_dir))

    def checkpoint(self):
        """Called when the job is about to be cut off, by its time limit or by a job that takes precedence.

        Returns what is to be run when the job is started again. Ends the job for good if that would lead nowhere.
        """
        from submitit.helpers import DelayedSubmission

        reached = self._reached()
        self.in_vain = 0 if reached > self.reached else self.in_vain + 1
        self.reached = reached
        if self.in_vain >= MOST_IN_VAIN:
            told = f"cut off {MOST_IN_VAIN} times without a finished run or a new checkpoint"
            say(f"error: {told}; give more time, or more checkpoints", sys.stderr)
            raise SystemExit(1)
        return DelayedSubmission(self)

    def _reached(self) -> tuple[int, int]:
        """How far the job has come: finished cells, and the steps behind the checkpoints of the others."""
        saved = [checkpoints.latest(cell.output_dir) for cell in self.request.cells]
        return sum(map(self.is_done, self.request.cells)), sum(checkpoints.step_of(path) for path in saved if path)


def is_done_since(cell: Cell, before: str | None) -> bool:
    """Whether a cell is finished, and not damaged, by a run that did not start at ``before``."""
    with suppress(seals.Damaged):
        return records.finished(cell.output_dir) is not None and started(cell) != before
    return False
