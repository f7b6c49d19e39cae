"""An encoder's run around the method: what is loaded before it, how its steps are taken, and what is written of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from junkdna.errors import Faults
from junkdna.families import metrics, tuning
from junkdna.families.encoder import data as rows
from junkdna.families.encoder import identity
from junkdna.families.encoder.data import Data
from junkdna.families.encoder.layout import Layout, choose
from junkdna.families.encoder.model import Classifier
from junkdna.families.encoder.settings import EncoderCell
from junkdna.runs.journal import Journal, metric_words
from junkdna.runs.shared import Shared
from junkdna.sparsity.census import Census
from junkdna.sparsity.hold import Held
from junkdna.sparsity.masks import Masks
from junkdna.sparsity.patterns import decimal_text
from junkdna.training import predict
from junkdna.training.finetune import Epoch, FineTuning
from junkdna.training.tokens import Collated, Features


@dataclass(frozen=True)
class Inputs:
    """What a run starts from: its rows, their tokens by split, the pre-trained model, the device, and how the rows are
    laid out in batches.
    """

    data: Data
    features: dict[str, Features]
    pretrained: Classifier
    accelerator: object
    layout: Layout


# --- before the method -----------------------------------------------------------------------------------------------


def load(cell: EncoderCell, shared: Shared, journal: Journal, read: rows.Read) -> Inputs:
    """Load what cells have in common, each part once: rows, model, tokens. Raises UserError with every fault."""
    faults = Faults()
    faults.collect(tuning.find_model, cell, shared)
    data = faults.collect(rows.load, cell, shared, read)
    faults.raise_any()
    journal.lap("data")
    accelerator = tuning.accelerator(cell, shared)
    names = data.whole.label_names
    key = (cell.model_name_or_path, cell.model_revision, cell.ignore_mismatched_sizes, names)
    make = partial(Classifier, *key[:2], names, cell.ignore_mismatched_sizes, cell.max_length)
    pretrained = shared.keep("model", key, make)
    features = rows.tokenise(cell, shared, data, pretrained)
    sizes = (cell.percentage, cell.max_train_samples, cell.max_eval_samples, cell.max_length)
    layouts, looked_at = pretrained.layouts, (*cell.source, *sizes, cell.pad_to_max_length)
    if looked_at not in layouts:
        layouts[looked_at] = choose(cell, pretrained, features, accelerator.device)
    return Inputs(data, features, pretrained, accelerator, layouts[looked_at])


# --- the method's last part ------------------------------------------------------------------------------------------


@contextmanager
def fine_tuning(
    cell: EncoderCell,
    journal: Journal,
    inputs: Inputs,
    masks: Masks,
    census: Census | None,
    held: Held | None,
) -> Iterator[Tuning]:
    """Get ready to train, from the run's checkpoint if there is one, and claim its folder."""
    loop = make_loop(cell, inputs, held)
    describing = partial(describe, cell, journal, inputs, census, loop)
    with tuning.under_way(cell, journal, loop, identity.parts(inputs, census), masks, describing) as saved:
        yield Tuning(cell, journal, inputs, masks, census, loop, saved)


def make_loop(cell: EncoderCell, inputs: Inputs, held: Held | None) -> FineTuning:
    """The training loop, with batches as the model and the device take them best."""
    pretrained, accelerator = inputs.pretrained, inputs.accelerator
    train = predict.with_model_labels(inputs.features["train"], pretrained.label_order)
    make_step = None
    if cell.cuda_graphs and accelerator.device.type == "cuda" and inputs.layout.packed:
        make_step = partial(make_graphs, inputs, train)
    batches = Collated(train, inputs.layout.collate)
    return FineTuning(pretrained.model, batches, tuning.recipe(cell), accelerator, held, make_step)


def make_graphs(inputs: Inputs, train: Features, model, plan):
    """Steps as CUDA graphs, of examples that stay on the GPU."""
    from junkdna.training.fast.cuda_graphs import Graphs
    from junkdna.training.fast.resident import Resident

    pretrained, accelerator = inputs.pretrained, inputs.accelerator
    heads, padding = pretrained.config.num_attention_heads, pretrained.tokenizer.pad_token_id
    resident = Resident(train, pretrained.first_position, heads, padding, accelerator.device)
    return Graphs(model, resident, accelerator, plan.steps)


class Tuning(tuning.Tuning):
    """A run under way: its epochs, noted as they come, and its results."""

    def __init__(self, cell, journal, inputs, masks, census, loop, saved):
        super().__init__(cell, journal, loop, saved)
        self.inputs, self.masks, self.census = inputs, masks, census

    def epochs(self) -> Iterator[Epoch]:
        """Train and evaluate what is left, epoch by epoch."""
        task, inputs = self.inputs.data.task, self.inputs
        evaluate = predict.evaluator(
            {key: inputs.features[key] for key in task.evals},
            partial(metrics.scores, task.metrics),
            inputs.pretrained.label_order,
            inputs.layout.collate,
            self.cell.per_device_eval_batch_size,
            inputs.accelerator,
        )
        yield from self.train(evaluate)

    def record(self) -> None:
        """Write mask, model and results: those of the last epoch, on weights that are checked once more."""
        self.loop.verify()
        epochs, task = self.loop.epochs, self.inputs.data.task
        last = epochs[-1]
        shares, zeros = tuning.zeros(self.census, self.loop.bare, self.masks)
        results = last.metrics | {
            "eval_samples": sum(len(split) for split in task.evals.values()),
            "train_loss": last.train_loss,
            "train_samples": len(task.train),
            "epoch": last.number,
            "step": last.step,
            **shares,
        }
        key = self.journal.main_metric["key"]
        best = max(epochs, key=lambda epoch: epoch.metrics[key])
        taken = self.loop.step.describe()
        lines = [
            f"result    {metric_words(last.metrics)} after epoch {last.number}; best {best.metrics[key]:.4f} after "
            f"epoch {best.number}",
            *zeros,
        ]
        if self.inputs.accelerator.device.type == "cuda":
            lines.append(f"steps     taken {taken}")
        try:
            self._write(results, best, taken, lines)
        finally:
            self.inputs.accelerator.wait_for_everyone()

    def _write(self, results: dict, best: Epoch, taken: str, lines: list[str]) -> None:
        self.journal.results(
            results,
            masks=self.masks,
            save=self.inputs.pretrained.save,
            timings=tuning.timings(self.loop.epochs),
            record={
                "best": {"epoch": best.number, **best.metrics},
                "plan": self.journal.record["plan"] | {"taken": taken},
            },
            lines=lines,
        )


# --- what is said of a run -------------------------------------------------------------------------------------------


def describe(cell: EncoderCell, journal: Journal, inputs: Inputs, census: Census | None, loop: FineTuning) -> None:
    """Put the sections of the record together, with the lines that say them."""
    pretrained, task, plan = inputs.pretrained, inputs.data.task, loop.plan
    drawn = ", ".join(pretrained.drawn) or "none"
    journal.section(
        "model",
        pretrained.about(),
        f"{cell.model_name_or_path}: {pretrained.model.num_parameters():,} parameters, drawn fresh with seed "
        f"{cell.seed}: "
        f"{drawn}",
        *pretrained.notes,
    )
    journal.section(
        "data",
        rows.about(inputs.data, inputs.features),
        f"{cell.label}: {len(task.train):,} of {len(inputs.data.whole.train):,} training rows "
        f"({decimal_text(cell.percentage)} %), {inputs.features['train'].truncated:,} of them at the limit of "
        f"{cell.max_length} tokens; {sum(map(len, task.evals.values())):,} validation rows; "
        f"{rows.columns_in_words(task)}",
    )
    journal.measures(rows.measures(task))
    journal.pruned(census)
    layout = inputs.layout
    journal.section(
        "plan",
        tuning.plan_section(plan)
        | {"batches": layout.words, "probe": {"rows": layout.rows, "difference": layout.difference}},
        tuning.plan_words(cell, plan, inputs.accelerator.device.type, layout.words),
        title="training",
    )
