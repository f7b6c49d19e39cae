"""An encoder's run around the method: what is loaded before it, how its steps are taken, and what is written of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from junkdna.families import tuning
from junkdna.families.encoder import data as rows
from junkdna.families.encoder import identity
from junkdna.families.encoder.data import Data
from junkdna.families.encoder.layout import Layout, choose
from junkdna.families.encoder.model import Encoder
from junkdna.families.encoder.objective import Objective
from junkdna.families.encoder.settings import EncoderCell
from junkdna.families.removed import Removed
from junkdna.runs.checkpoints import Checkpoints
from junkdna.runs.collapse import MARGIN, collapsed
from junkdna.runs.journal import Journal, metric_words
from junkdna.runs.shared import Shared
from junkdna.sparsity.census import Census
from junkdna.sparsity.hold import Held
from junkdna.sparsity.patterns import decimal_text
from junkdna.training.fast import vocabulary
from junkdna.training.finetune import Epoch, FineTuning
from junkdna.training.tokens import Features

MakeObjective = Callable[[EncoderCell, Data], Objective]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a run starts from: its rows, what is to be learned of them, their tokens by split, the pre-trained model,
    the device, and how the rows are laid out in batches.
    """

    data: Data
    objective: Objective
    features: dict[str, Features]
    pretrained: Encoder
    accelerator: object
    layout: Layout

    @property
    def training_words(self) -> np.ndarray:
        """The tokens of all training rows, and those that fill a batch: the tokenizer's, and what a model pads with."""
        filling = {self.pretrained.tokenizer.pad_token_id, self.pretrained.config.pad_token_id} - {None}
        return np.append(self.features["train"].columns["input_ids"], list(filling))


# --- before the method -----------------------------------------------------------------------------------------------


def load(cell: EncoderCell, shared: Shared, journal: Journal, read: rows.Read, make_objective: MakeObjective) -> Inputs:
    """Load what cells have in common, each part once: rows, model, tokens. Raises UserError with every fault."""
    data = rows.load(cell, shared, read)
    journal.lap("data")
    accelerator = tuning.accelerator(cell, shared)
    objective = make_objective(cell, data)
    pretrained = shared.keep("model", objective.loads, objective.load)
    features = rows.tokenise(cell, shared, data, pretrained.tokenizer, objective)
    sizes = (cell.percentage, cell.max_train_samples, cell.max_eval_samples, cell.max_length, objective.reads)
    layouts, looked_at = pretrained.layouts, (*cell.source, *sizes, cell.pad_to_max_length)
    if looked_at not in layouts:
        layouts[looked_at] = choose(cell, pretrained, features, accelerator)
    return Inputs(
        data=data,
        objective=objective,
        features=features,
        pretrained=pretrained,
        accelerator=accelerator,
        layout=layouts[looked_at],
    )


# --- the method's last part ------------------------------------------------------------------------------------------


@contextmanager
def fine_tuning(
    cell: EncoderCell,
    journal: Journal,
    inputs: Inputs,
    removed: Removed,
) -> Iterator[Tuning]:
    """Get ready to train, from the run's checkpoint if there is one, and claim its folder."""
    loop = make_loop(cell, inputs, removed.held)
    describing = partial(describe, cell, journal, inputs, removed.census, loop)
    reads = identity.parts(inputs, removed.census)
    with tuning.under_way(cell, journal, loop, reads, removed.masks, describing) as saved:
        yield Tuning(cell, journal, inputs, removed, loop, saved)


def make_loop(cell: EncoderCell, inputs: Inputs, held: Held | None) -> FineTuning:
    """The training loop, with batches as the model and the device take them best."""
    objective = inputs.objective
    recipe = replace(tuning.recipe(cell), rates=objective.rates())
    return FineTuning(
        inputs.pretrained.model,
        objective.batches(inputs),
        recipe,
        inputs.accelerator,
        held=held,
        make_step=objective.make_step(inputs),
        divide=partial(vocabulary.divide, ids=inputs.training_words),
    )


class Tuning(tuning.Tuning):
    """A run under way: its epochs, noted as they come, and its results."""

    def __init__(
        self,
        cell: EncoderCell,
        journal: Journal,
        inputs: Inputs,
        removed: Removed,
        loop: FineTuning,
        saved: Checkpoints,
    ):
        super().__init__(cell, journal, loop, saved)
        self.inputs, self.removed = inputs, removed

    def epochs(self) -> Iterator[Epoch]:
        """Train and evaluate what is left, epoch by epoch."""
        yield from self.train(self.inputs.objective.evaluator(self.inputs))

    def record(self) -> None:
        """Write mask, model and results: those of the last epoch, on weights that are checked once more."""
        self.loop.verify()
        last, key = self.loop.epochs[-1], self.journal.main_metric["key"]
        best = max(self.loop.epochs, key=lambda epoch: epoch.metrics[key])
        shares, zeros = self.removed.zeros(self.loop.bare)
        floor = self.inputs.objective.floor()
        fell = collapsed(last.metrics[key], floor)
        lines = [
            f"result    {metric_words(last.metrics)} after epoch {last.number}; best {best.metrics[key]:.4f} after "
            f"epoch {best.number}",
            *self.inputs.objective.lines(),
            *zeros,
        ]
        if fell:
            lines.append(f"collapsed within {MARGIN:g} of {floor:.4f}, what one answer to all examples reaches")
        try:
            self._write(self._results(last) | shares, best, fell, lines)
        finally:
            self.inputs.accelerator.wait_for_everyone()

    def _results(self, last: Epoch) -> dict:
        task = self.inputs.data.task
        return last.metrics | {
            "eval_samples": sum(len(split) for split in task.evals.values()),
            "train_loss": last.train_loss,
            "train_samples": len(task.train),
            "epoch": last.number,
            "step": last.step,
        }

    def _write(self, results: dict, best: Epoch, fell: bool, lines: list[str]) -> None:
        taken = self.loop.step.describe()
        if self.inputs.accelerator.device.type == "cuda":
            lines.append(f"steps     taken {taken}")
        self.journal.results(
            results,
            masks=self.removed.masks,
            predictions=self.inputs.objective.predictions(),
            save=self.inputs.pretrained.save,
            timings=tuning.timings(self.loop.epochs),
            record={
                "best": {"epoch": best.number, **best.metrics},
                "collapsed": fell,
                "plan": self.journal.record["plan"] | {"taken": taken},
            },
            lines=lines,
        )


# --- what is said of a run -------------------------------------------------------------------------------------------


def describe(cell: EncoderCell, journal: Journal, inputs: Inputs, census: Census | None, loop: FineTuning) -> None:
    """Put the sections of the record together, with the lines that say them."""
    pretrained, plan, objective = inputs.pretrained, loop.plan, inputs.objective
    journal.section(
        "model",
        pretrained.about(),
        f"{cell.model_name_or_path}: {pretrained.size:,} parameters, drawn fresh with seed {cell.seed}: "
        f"{pretrained.drawn_words}",
        *pretrained.notes,
    )
    journal.section(
        "data",
        rows.about(inputs.data, inputs.features, objective) | objective.about(inputs),
        _rows_in_words(cell, inputs),
    )
    journal.measures(objective.measures())
    journal.pruned(census)
    layout = inputs.layout
    journal.section(
        "plan",
        tuning.plan_section(plan)
        | {"batches": layout.words, "probe": {"rows": layout.rows, "difference": layout.difference}},
        tuning.plan_words(cell, plan, inputs.accelerator.device.type, layout.words),
        title="training",
    )


def _rows_in_words(cell: EncoderCell, inputs: Inputs) -> str:
    whole, task, objective = inputs.data.whole, inputs.data.task, inputs.objective
    at_limit = {key: rows.truncated(features, objective.each) for key, features in inputs.features.items()}
    of_eval = sum(at_limit[key] for key in task.evals)
    skipped = whole.train.skipped + sum(split.skipped for split in whole.evals.values())
    parts = [
        f"{len(task.train):,} of {len(whole.train):,} training rows ({decimal_text(cell.percentage)} %), "
        f"{at_limit['train']:,} of them at the limit of {cell.max_length} tokens",
        f"{sum(map(len, task.evals.values())):,} validation rows" + f", {of_eval:,} at that limit" * bool(of_eval),
        *([f"{skipped:,} rows of the files lack columns and are left out"] if skipped else []),
        objective.words(),
    ]
    return f"{cell.label}: {'; '.join(parts)}"
