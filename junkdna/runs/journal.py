"""A run's journal: what it prints, what it hands to trackers and what it writes, from start to finish.

A family adds sections, each a part of ``run.json`` with the lines that say it; the rest is the same for all. Only the
main process writes; ``junkdna.runs.records`` documents every key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from junkdna.runs import checkpoints, processes, provenance, records
from junkdna.runs.cell import Cell
from junkdna.runs.progress import Progress
from junkdna.runs.schema import RUN, SCHEMA
from junkdna.runs.speech import say

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
            "command": list(argv),
            **cell.identity(),
            "options": cell.options(),
        }
        self.timings: dict[str, float] = {}
        self._lines: list[str] = []
        self._metrics: list[dict] = []
        self._last = time.perf_counter()
        self._accelerator = None

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
        """Put a part into ``run.json``; ``lines`` are printed when the run opens, the first one under ``title`` or
        ``name``.
        """
        self.record[name] = content
        self._lines += [f"{'' if i else title or name:<10}{line}" for i, line in enumerate(lines)]

    def pruned(self, census: Census | None) -> None:
        """Say what was removed; None for a dense run."""
        if census is None:
            self.section("pruning", {}, f"none ({self.cell.treatment})")
            return
        counts = census.as_dict()
        head, threshold = counts["head"], counts["threshold"]
        lines = [
            f"{counts['removed']:,} of {counts['scope']['weights']:,} weights in {counts['scope']['matrices']} "
            "matrices "
            f"({counts['sparsity']:.4%}); {self.cell.treatment}",
            counts["pattern"] + ("" if threshold is None else f"; largest magnitude removed {threshold:.6g}"),
        ]
        if head["weights"]:
            lines.append(
                f"the fresh head is in scope: {head['removed']:,} of its {head['weights']:,} weights "
                f"({head['removed'] / head['weights']:.2%}) are among them"
            )
        self.section("pruning", counts, *lines)

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
        self._accelerator = accelerator
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
            }
            records.open_folder(self.cell, self.record)
            if not resumed:
                checkpoints.drop(self.folder)
        try:
            self._start_trackers()
            yield self
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
            records.append_line(self.folder / records.HISTORY, content)

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
        save: Callable[[Path], None] | None = None,
        timings: Mapping[str, float] | None = None,
        record: Mapping | None = None,
        lines: Iterable[str] = (),
    ) -> None:
        """Write the masks, the model if wanted, the full ``run.json``, and the results last.

        ``save`` writes the model into a folder; ``record`` is added to ``run.json``; ``lines`` are printed before the
        last.
        """
        if not self.writes:
            return
        if masks:
            from junkdna.sparsity import files

            records.write_bytes(self.folder / records.MASK, files.to_bytes(masks))
        if self.cell.save_model and save is not None:
            records.write_model(self.folder, save)
        ended = datetime.now(timezone.utc)
        total = round((ended - self.started).total_seconds(), 3)
        self.timings |= dict(timings or {}) | {"total": total}
        self.record |= {"status": "done", "ended": ended.isoformat(), "timings": self.timings} | dict(record or {})
        records.write_json(self.folder / RUN, self.record)
        records.write_json(self.folder / records.RESULTS, values)
        records.drop_previous(self.folder)
        checkpoints.drop(self.folder)
        for line in (*lines, f"records   {self.cell.output_dir}  ({total:.1f} s in all)"):
            say(line)

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
