"""A run's journal: what it prints, what it hands to trackers and what it writes, from start to finish.

A family adds sections, each a part of ``run.json`` with the lines that say it; the rest is the same for all. Only the
main process writes; ``junkdna.runs.keys`` documents every key.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from junkdna.errors import UserError
from junkdna.runs import checkpoints, disk, identity, processes, provenance, records, seals
from junkdna.runs.cell import Cell
from junkdna.runs.progress import Progress
from junkdna.runs.schema import RUN, SCHEMA
from junkdna.runs.speech import in_one_line, say

if TYPE_CHECKING:
    from junkdna.sparsity.census import Census


class Journal:
    """One run's journal, at its ``place`` (number from 1, how many) in a grid. Sections come first, then ``open``."""

    def __init__(self, cell: Cell, argv: tuple[str, ...], place: tuple[int, int] = (1, 1)):
        self.cell, self.place = cell, place
        self.started = datetime.now(timezone.utc)
        self.record = {
            "schema": SCHEMA,
            "status": "running",
            "started": self.started.isoformat(),
            "command": records.command(argv),
            **cell.header(),
            "options": cell.options(),
            "identity": identity.of(cell, {}),
        }
        self.timings: dict[str, float] = {}
        self._lines: list[str] = []
        self._metrics: list[dict] = []
        self._unwritten = b""  # lines of the history for which there was no room
        self._last = time.perf_counter()
        self._accelerator = None
        self._opened = False

    @property
    def folder(self) -> Path:
        return Path(self.cell.output_dir)

    @property
    def writes(self) -> bool:
        return processes.is_main_process()

    @property
    def main_metric(self) -> dict:
        """The metric by which the best epoch is told."""
        return next(metric for metric in self._metrics if metric["main"])

    # --- before the run ----------------------------------------------------------------------------------------------

    def lap(self, name: str) -> None:
        """Give the wall time since the last lap to ``name``, in seconds."""
        now = time.perf_counter()
        self.timings[name] = round(now - self._last, 3)
        self._last = now

    def section(self, name: str, content: dict, *lines: str, title: str | None = None) -> None:
        """Put a part into ``run.json``; ``lines`` are printed when the run opens, or at once if it is open, the first
        one under ``title`` or ``name``.
        """
        self.record[name] = content
        said = [f"{'' if i else title or name:<10}{line}" for i, line in enumerate(lines)]
        if not self._opened:
            self._lines += said
        elif self.writes:
            for line in said:
                say(line)

    def made_of(self, parts: Mapping[str, str | None]) -> None:
        """Say what the run is made of: digests by name (see ``identity``)."""
        self.record["identity"] = identity.of(self.cell, parts)

    def pruned(self, census: Census | None) -> None:
        """Say what was removed; None for a dense run."""
        if census is None:
            self.section("pruning", {}, f"none ({self.cell.treatment})")
        else:
            self.section("pruning", census.as_dict(), *census.lines(self.cell.treatment))

    def measures(self, metrics: Iterable[Mapping]) -> None:
        """Say what is measured: name, key in the results, which way is better, chance (or None), main or not."""
        self._metrics = [dict(metric) for metric in metrics]
        self.record["metrics"] = self._metrics

    @contextmanager
    def open(self, hardware: dict, resumed: list[dict] = (), accelerator=None):
        """Print what is about to run, claim the folder, write ``run.json``; on leaving, finish the trackers.

        ``hardware`` is what the run is computed on; ``resumed`` the checkpoints from which it went on; ``accelerator``
        an ``accelerate.Accelerator``, for trackers.
        """
        self._accelerator, self._opened = accelerator, True
        if self.writes:
            if resumed:
                self._lines.append(f"resumed   from the checkpoint of step {resumed[-1]['step']:,}")
            for line in self._lines:
                say(line)
            self.record |= {
                "code": provenance.code_version(),
                "versions": provenance.versions(),
                "hardware": hardware,
                "resumed": list(resumed),
                "read": identity.files(self.cell),
                "files": {},
                "unwritten": {},
            }
            records.open_folder(self.cell, self.record)
            if not resumed:
                checkpoints.drop(self.folder)
        try:
            self._start_trackers()
            yield self
        except UserError as error:
            error.code = 1  # not of the command: the run had begun
            raise
        finally:
            self._finish_trackers()

    # --- while it runs -----------------------------------------------------------------------------------------------

    def progress(self, steps: int, done: int = 0) -> Progress:
        """What to show while ``steps`` are taken, of which ``done`` were taken before."""
        label = f"{self.cell.label} {self.cell.pattern_slug} seed {self.cell.seed}"
        return Progress(steps, label, self.writes, place=self.place, done=done)

    def history(self, content: dict) -> None:
        """Add a line to ``history.jsonl``, as it happens."""
        if self.writes:
            self._unwritten += (json.dumps(content) + "\n").encode()
            try:
                self._write_history()
            except disk.DiskError as error:
                say(f"warning: {in_one_line(error)}; tried again later", sys.stderr)

    def _write_history(self) -> None:
        if self._unwritten:
            disk.append(self.folder / records.HISTORY, self._unwritten)
            self._unwritten = b""

    def track(self, values: dict, step: int) -> None:
        """Send values to the trackers."""
        if self._tracks:
            self._accelerator.log(values, step=step)

    # --- at its end --------------------------------------------------------------------------------------------------

    def results(
        self,
        values: dict,
        *,
        masks: Mapping | None = None,
        predictions: Iterable[Mapping] | None = None,
        save: Callable[[Path], None] | None = None,
        timings: Mapping[str, float] | None = None,
        record: Mapping | None = None,
        lines: Iterable[str] = (),
    ) -> None:
        """Write the predictions, the masks, the model if wanted, the full ``run.json``, and the results last.

        ``predictions`` are the lines of ``predictions.jsonl``; ``save`` writes the model into a folder; ``record`` is
        added to ``run.json``; ``lines`` are printed before the last. What cannot be written costs the results nothing:
        it is named in the record, and in the UserError that is raised at the end.
        """
        if not self.writes:
            return
        files, lost = {records.RESULTS: seals.digest(disk.json_bytes(values))}, {}
        for name, content in self._parts(masks, predictions):
            if self._try(lost, name, partial(disk.write_bytes, self.folder / name, content)):
                files[name] = seals.digest(content)
        if self.cell.save_model and save is not None:
            self._try(lost, "model", lambda: records.write_model(self.folder, save, self._note_model))
        self._try(lost, records.HISTORY, self._write_history)
        ended = datetime.now(timezone.utc)
        total = round(checkpoints.seconds_before(self.record["resumed"]) + (ended - self.started).total_seconds(), 3)
        self.timings |= dict(timings or {}) | {"total": total}
        self.record |= {"status": "done", "ended": ended.isoformat(), "timings": self.timings} | dict(record or {})
        self.record |= {"files": files, "unwritten": lost}
        self._write_last(values)
        for line in (*lines, f"records   {self.cell.output_dir}  ({total:.1f} s in all)"):
            say(line)
        where = f"--output_dir {self.cell.output_dir}"
        if lost:
            raise UserError(
                *(f"{where}: {name} cannot be written: {why}; the results are kept" for name, why in lost.items())
            )

    def _note_model(self, names: list[str]) -> None:
        """Say in the record which files are the model's, so that a later run in this folder leaves none of them."""
        self.record["model_files"] = names
        records.write_record(self.folder / RUN, self.record)

    @staticmethod
    def _parts(masks: Mapping | None, predictions: Iterable[Mapping] | None) -> Iterator[tuple[str, bytes]]:
        """The name and content of what is written beside the records, one after the other."""
        if predictions is not None:  # first: small, and it took hours; a disk without room for the mask may have some
            lines = (json.dumps(line, ensure_ascii=False) for line in predictions)
            yield records.PREDICTIONS, "".join(f"{line}\n" for line in lines).encode()
        if masks:
            from junkdna.sparsity.files import to_bytes

            yield records.MASK, to_bytes(masks)

    def _try(self, lost: dict[str, str], name: str, write: Callable[[], object]) -> bool:
        """Write a file that may fail; note why it did."""
        try:
            write()
        except Exception as error:  # a library's own error for a full disk, too
            lost[name] = error.reason if isinstance(error, disk.DiskError) else disk.reason(error)
            return False
        return True

    def _write_last(self, values: dict) -> None:
        """Write record and results, in the room that a checkpoint takes if there is no other."""

        def write() -> None:
            records.write_record(self.folder / RUN, self.record)
            disk.write_json(self.folder / records.RESULTS, values)

        try:
            write()
        except disk.DiskError as error:
            if not error.full:
                raise
            checkpoints.drop(self.folder)
            write()
        records.drop_previous(self.folder)
        checkpoints.drop(self.folder)

    # --- trackers ----------------------------------------------------------------------------------------------------

    @property
    def _tracks(self) -> bool:
        return self._accelerator is not None and getattr(self.cell, "with_tracking", False)

    def _start_trackers(self) -> None:
        if not self._tracks:
            return
        self._accelerator.project_configuration.logging_dir = self.cell.output_dir
        settings = self.cell.settings()
        config = {name: v if isinstance(v, (int, float, str)) else str(v) for name, v in settings.items()}
        self._accelerator.init_trackers("junk_dna", config)

    def _finish_trackers(self) -> None:
        """Finish this run's trackers. (Accelerate's ``end_training`` would end the process group of later cells
        too.)
        """
        if self._tracks:
            for tracker in self._accelerator.trackers:
                tracker.finish()
            self._accelerator.trackers = []


def metric_words(metrics: Mapping[str, float]) -> str:
    """Metrics as 'accuracy 0.9123, f1 0.88'."""
    named = {
        name.removeprefix("eval_"): value
        for name, value in metrics.items()
        if name.startswith("eval_") and name != "eval_samples"
    }
    return ", ".join(f"{name} {value:.4f}" for name, value in named.items())
