"""A run's logbook: what it prints, what it hands to trackers and what it writes, from start to finish.

Only the main process writes; ``junkdna.records`` documents every key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from junkdna.training import device as hardware
from junkdna.sparsity import files, masks
from junkdna.sparsity.census import zero_count
from junkdna.runs import records
from junkdna.runs import checkpoints as resume
from junkdna.runs.cell import Cell
from junkdna.families.glue.reading import TaskData
from junkdna.training.tokens import Features
from junkdna.training.finetune import Epoch, FineTuning, Plan
from junkdna.sparsity.patterns import decimal_text
from junkdna.runs.progress import Progress, tell


@dataclass
class Logbook:
    """Everything known about a run before it trains; ``started`` is its first moment.

    ``tuning`` has the epochs so far: none, unless the run goes on from a checkpoint.
    """

    cell: Cell
    argv: tuple[str, ...]
    started: datetime
    checkpoint: object
    whole: TaskData
    task: TaskData
    features: dict[str, Features]
    pruned: dict
    tuning: FineTuning
    resumed: list[dict]
    accelerator: object
    record: dict = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        return self.tuning.plan

    @property
    def epochs(self) -> list[Epoch]:
        return self.tuning.epochs

    @property
    def folder(self) -> Path:
        return Path(self.cell.output_dir)

    @property
    def writes(self) -> bool:
        return self.accelerator.is_main_process

    @property
    def batches(self) -> str:
        """How examples are laid out for the model."""
        if self.cell.pad_to_max_length:
            return f"padded to {self.cell.max_length} tokens"
        return f"padded ({self.checkpoint.unpacked})" if self.checkpoint.unpacked else "packed"

    @property
    def first_metric(self) -> str:
        """The metric by which the best epoch is told."""
        return f"eval_{self.task.metrics[0]}"

    def start(self) -> None:
        """Print what is about to run, claim the folder, start the trackers."""
        if self.writes:
            for line in self._opening():
                print(line, flush=True)
            self.record = self._record()
            records.open_folder(self.cell, self.record)
            if not self.resumed:
                resume.drop(self.folder)
            for epoch in self.epochs:
                self._write_epoch(epoch)
        if self.cell.with_tracking:
            self.accelerator.project_configuration.logging_dir = self.cell.output_dir
            config = {
                name: value if isinstance(value, (int, float, str)) else str(value)
                for name, value in self.cell.settings().items()
            }
            self.accelerator.init_trackers("junk_dna", config)

    def progress(self, place: tuple[int, int]) -> Progress:
        """What to show while it runs; ``place`` is the cell's number (from 1) among how many."""
        label = f"{self.cell.task_label} {self.cell.pattern_slug} seed {self.cell.seed}"
        return Progress(self.plan.steps, label, self.writes, place=place, done=self.tuning.at.step)

    def epoch(self, epoch: Epoch) -> None:
        """Note an epoch's results as they come."""
        if self.cell.with_tracking:
            self.accelerator.log({"train_loss": epoch.train_loss, **epoch.metrics}, step=epoch.step)
        if not self.writes:
            return
        self._write_epoch(epoch)
        speed = epoch.tokens / epoch.train_seconds
        tell(
            f"epoch {epoch.number}/{self.plan.epochs}  loss {epoch.train_loss:.4f}  {words(epoch.metrics)}  "
            f"({epoch.train_seconds:.1f} s, {speed:,.0f} tokens/s; evaluation {epoch.eval_seconds:.1f} s)"
        )

    def _write_epoch(self, epoch: Epoch) -> None:
        records.append_line(
            self.folder / records.HISTORY,
            {
                "epoch": epoch.number,
                "step": epoch.step,
                "train_loss": epoch.train_loss,
                "learning_rate": epoch.learning_rate,
                **epoch.metrics,
                "train_seconds": round(epoch.train_seconds, 3),
                "eval_seconds": round(epoch.eval_seconds, 3),
                "tokens": epoch.tokens,
            },
        )

    def finish(self, mask: masks.Masks, laps: dict[str, float]) -> None:
        """Write the mask, the model if wanted, the full ``run.json``, and the results last. The weights are verified."""
        if self.writes:
            self._write(mask, laps)
        self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """Finish this run's trackers. (Accelerate's own ``end_training`` would end the process group of later cells too.)"""
        if self.cell.with_tracking:
            for tracker in self.accelerator.trackers:
                tracker.finish()
            self.accelerator.trackers = []

    def _write(self, mask: masks.Masks, laps: dict[str, float]) -> None:
        model = self.tuning.bare
        last = self.epochs[-1]
        zeros = zero_count(dict(model.named_parameters()), mask)
        size = self.pruned.get("scope", {}).get("weights", 0)
        results = last.metrics | {
            "eval_samples": sum(len(examples) for examples in self.task.evals.values()),
            "train_loss": last.train_loss,
            "train_samples": len(self.task.train),
            "epoch": last.number,
            "step": last.step,
            "sparsity": self.pruned.get("sparsity", 0.0),
            "zero_fraction": zeros / size if size else 0.0,
        }
        if mask:
            records.write_bytes(self.folder / records.MASK, files.to_bytes(mask))
        if self.cell.save_model:
            records.save_model(self.folder, model, self.checkpoint.tokenizer)
        seconds = {
            "train": round(sum(epoch.train_seconds for epoch in self.epochs), 3),
            "evaluate": round(sum(epoch.eval_seconds for epoch in self.epochs), 3),
        }
        ended = datetime.now(timezone.utc)
        timings = laps | seconds | {"total": round((ended - self.started).total_seconds(), 3)}
        best = max(self.epochs, key=lambda epoch: epoch.metrics[self.first_metric])
        best = {"epoch": best.number, **best.metrics}
        self.record |= {"status": "done", "ended": ended.isoformat(), "timings": timings, "best": best}
        self.record["plan"]["taken"] = self.tuning.gradient.describe()
        records.write_json(self.folder / records.RUN, self.record)
        records.write_json(self.folder / records.RESULTS, results)
        records.drop_previous(self.folder)
        resume.drop(self.folder)
        for line in self._closing(results, best, zeros, size, timings):
            print(line, flush=True)

    def _record(self) -> dict:
        """What ``run.json`` says from the start, taken once: the code that runs is the code as it was then."""
        checkpoint = self.checkpoint
        return {
            "schema": 1,
            "status": "running",
            "started": self.started.isoformat(),
            "command": list(self.argv),
            "settings": self.cell.settings(),
            "options": self.cell.options(),
            "code": records.code_version(),
            "versions": hardware.versions(),
            "hardware": hardware.describe(self.accelerator),
            "model": {
                "name": checkpoint.name,
                "revision": checkpoint.revision,
                "weight_hash": checkpoint.weight_hash,
                "drawn": checkpoint.drawn,
                "parameters": checkpoint.model.num_parameters(),
            },
            "data": self._data(),
            "plan": {
                "per_step": self.plan.per_step,
                "steps_per_epoch": self.plan.steps_per_epoch,
                "steps": self.plan.steps,
                "epochs": self.plan.epochs,
                "warmup_steps": self.plan.warmup_steps,
                "batches": self.batches,
            },
            "pruning": self.pruned,
            "resumed": self.resumed,
        }

    def _data(self) -> dict:
        def split(whole, used, features) -> dict:
            return {
                "rows": len(whole),
                "used": len(used),
                "sha256": used.fingerprint,
                "at_max_length": features.truncated,
                "skipped": whole.skipped,
                "majority": used.majority,
            }

        splits = {"train": split(self.whole.train, self.task.train, self.features["train"])}
        for key, used in self.task.evals.items():
            splits[key] = split(self.whole.evals[key], used, self.features[key])
        return {
            "source": self.task.source,
            **splits,
            "labels": list(self.task.label_names),
            "metrics": list(self.task.metrics),
        }

    def _opening(self) -> list[str]:
        cell, cut = self.cell, self.features["train"].truncated
        lines = [
            f"model     {cell.model_name_or_path}: {self.checkpoint.model.num_parameters():,} parameters, drawn fresh with "
            f"seed {cell.seed}: {', '.join(self.checkpoint.drawn) or 'none'}",
            f"data      {cell.task_label}: {len(self.task.train):,} of {len(self.whole.train):,} training rows "
            f"({decimal_text(cell.validation_split_percentage)} %), {cut:,} of them at the limit of {cell.max_length} tokens; "
            f"{sum(map(len, self.task.evals.values())):,} validation rows",
            *self._pruning_lines(),
            f"training  {self.plan.steps:,} steps of {self.plan.per_step} examples on {self.accelerator.device.type}"
            f"{'' if cell.mixed_precision == 'no' else ', ' + cell.mixed_precision}, {self.batches}, warm-up "
            f"{self.plan.warmup_steps:,}",
        ]
        if self.resumed:
            lines.append(f"resumed   from the checkpoint of step {self.resumed[-1]['step']:,}")
        return lines

    def _pruning_lines(self) -> list[str]:
        p = self.pruned
        if "scope" not in p:
            return ["pruning   none (dense transfer)"]
        head = p["head"]
        lines = [
            f"pruning   {p['removed']:,} of {p['scope']['weights']:,} weights in {p['scope']['matrices']} matrices "
            f"({p['sparsity']:.4%}); {p['transfer']}",
            f"          {p['pattern']}"
            + (f"; largest magnitude removed {p['threshold']:.6g}" if p["threshold"] is not None else ""),
        ]
        if head["weights"]:
            lines.append(
                f"          the fresh head is in scope: {head['removed']:,} of its {head['weights']:,} weights "
                f"({head['removed'] / head['weights']:.2%}) are among them"
            )
        return lines

    def _closing(self, results: dict, best: dict, zeros: int, size: int, timings: dict) -> list[str]:
        lines = [
            f"result    {words(results)} after epoch {results['epoch']}; best {best[self.first_metric]:.4f} after "
            f"epoch {best['epoch']}"
        ]
        if size:
            lines.append(f"zeros     {zeros:,} of {size:,} weights in scope are exactly 0 ({zeros / size:.4%})")
        if self.accelerator.device.type == "cuda":
            lines.append(f"steps     taken {self.tuning.gradient.describe()}")
        lines.append(f"records   {self.cell.output_dir}  ({timings['total']:.1f} s in all)")
        return lines


def words(metrics: dict) -> str:
    """Metrics as 'accuracy 0.9123, f1 0.88'."""
    named = {
        name.removeprefix("eval_"): value
        for name, value in metrics.items()
        if name.startswith("eval_") and name != "eval_samples"
    }
    return ", ".join(f"{name} {value:.4f}" for name, value in named.items())
