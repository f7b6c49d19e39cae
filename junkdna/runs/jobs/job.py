"""One job's part of a grid, as it is handed to another process, here or on a node of a cluster.

Imports nothing heavy: unpickling a job imports this module before the job's environment is set.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from dataclasses import dataclass, replace

from junkdna.errors import UserError
from junkdna.runs import checkpoints, grid, lock, records, stopping
from junkdna.runs.cell import Cell
from junkdna.runs.grid import ELSEWHERE, FAILED, Outcome
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

    def __call__(self) -> list[Outcome]:
        """Run what is not finished; return how each of these cells ended."""
        for name, value in self.environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        os.chdir(self.folder)
        set_up_output()
        family = importlib.import_module(self.entry).FAMILY
        # a job that was cut off while it replaced finished runs must not replace its own
        cells = [c for c in self.request.cells if not (self.request.overwrite_output_dir and self.is_done(c))]
        try:
            with stopping.listening((signal.SIGINT,)):  # the others mean something to the cluster
                if self.request.launcher == "local":
                    os.setpgid(0, 0)  # a terminal's Ctrl-C is for the command, which passes it on once
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                return grid.run(family, replace(self.request, cells=tuple(cells)), Shared(), self.before)
        except KeyboardInterrupt as error:
            stop = error if isinstance(error, stopping.Stopped) else stopping.Stopped(signal.SIGINT)
            say(stop.words(self.request.overwrite_output_dir, len(self.request.cells) > 1), sys.stderr)
            raise SystemExit(stop.code) from None
        except Exception as error:  # a grid of one cell raises
            return [self._ended_by(error, cells[0])]

    def _ended_by(self, error: Exception, cell: Cell) -> Outcome:
        """Say what ended the job's only cell, and note it in its folder."""
        if isinstance(error, lock.Taken):
            say(in_one_line(error), sys.stderr)
            return Outcome(cell.output_dir, ELSEWHERE, in_one_line(error))
        say(f"error: {in_one_line(error)}" if isinstance(error, UserError) else traceback.format_exc(), sys.stderr)
        records.write_error(cell, self.request.argv, error)
        return Outcome(cell.output_dir, FAILED, in_one_line(error))

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell is finished, and not by the run that is to be replaced."""
        return grid.is_done_since(cell, self.before)

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
