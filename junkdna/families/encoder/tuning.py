"""An encoder's run around the method: what is loaded before it, how its steps are taken, and what is written of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from junkdna.errors import Faults
from junkdna.families import metrics
from junkdna.families.encoder import data as rows
from junkdna.families.encoder import identity
from junkdna.families.encoder.data import Data
from junkdna.families.encoder.layout import Layout, choose
from junkdna.families.encoder.model import Classifier
from junkdna.families.encoder.settings import EncoderCell
from junkdna.models import folder, hub
from junkdna.runs import records, stopping
from junkdna.runs.checkpoints import Checkpoints
from junkdna.runs.journal import Journal, metric_words
from junkdna.runs.shared import Shared
from junkdna.runs.speech import say
from junkdna.sparsity.census import Census, zero_count
from junkdna.sparsity.hold import Held, check_same_on_all
from junkdna.sparsity.masks import Masks
from junkdna.sparsity.patterns import decimal_text
from junkdna.training import device, predict
from junkdna.training.finetune import Epoch, FineTuning
from junkdna.training.recipe import Recipe
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
    faults.collect(find_model, cell, shared)
    data = faults.collect(rows.load, cell, shared, read)
    faults.raise_any()
    journal.lap("data")
    accelerator = shared.keep("accelerator", (), partial(make_accelerator, cell))
    device.settle(accelerator, cell.deterministic)
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


def find_model(cell: EncoderCell, shared: Shared) -> None:
    """Ask the Hub once for a model that is called by its name there; raises UserError if it cannot be had."""
    key = (cell.model_name_or_path, cell.model_revision)
    if not folder.is_folder(cell.model_name_or_path):
        shared.keep("model's name", key, partial(hub.find_model, *key))


def make_accelerator(cell: EncoderCell):
    """The device, or this process's part of several; the same for all cells."""
    tracking = (cell.report_to, cell.output_dir) if cell.with_tracking else (None, None)
    return device.make_accelerator(cell.mixed_precision, cell.num_processes, *tracking)


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
    accelerator = inputs.accelerator
    loop = make_loop(cell, inputs, held)
    reads = identity.parts(inputs, census)
    records.check_mask(cell.mask_file, reads["mask"])
    journal.made_of(reads)
    saved = Checkpoints(cell, reads, masks, loop)
    try:
        check_same_on_all(masks)
        saved.go_on()
        describe(cell, journal, inputs, census, loop)
        # a signal waits until a step is whole; of several processes, each would stop at another step
        waits = stopping.held_back() if accelerator.num_processes == 1 else nullcontext()
        with journal.open(device.describe(accelerator), saved.resumed, accelerator), waits:
            yield Tuning(cell, journal, inputs, masks, census, loop, saved)
    finally:  # a cell that fails must not leave its optimiser to the next
        loop.close()
        device.give_back_freed_memory()


def make_loop(cell: EncoderCell, inputs: Inputs, held: Held | None) -> FineTuning:
    """The training loop, with batches as the model and the device take them best."""
    pretrained, accelerator = inputs.pretrained, inputs.accelerator
    recipe = Recipe(
        batch_size=cell.per_device_train_batch_size,
        epochs=cell.num_train_epochs,
        learning_rate=cell.learning_rate,
        weight_decay=cell.weight_decay,
        schedule=cell.lr_scheduler_type,
        seed=cell.seed,
        max_steps=cell.max_train_steps,
        warmup_steps=cell.num_warmup_steps,
        accumulation=cell.gradient_accumulation_steps,
    )
    train = predict.with_model_labels(inputs.features["train"], pretrained.label_order)
    make_step = None
    if cell.cuda_graphs and accelerator.device.type == "cuda" and inputs.layout.packed:
        make_step = partial(make_graphs, inputs, train)
    batches = Collated(train, inputs.layout.collate)
    return FineTuning(pretrained.model, batches, recipe, accelerator, held, make_step)


def make_graphs(inputs: Inputs, train: Features, model, plan):
    """Steps as CUDA graphs, of examples that stay on the GPU."""
    from junkdna.training.fast.cuda_graphs import Graphs
    from junkdna.training.fast.resident import Resident

    pretrained, accelerator = inputs.pretrained, inputs.accelerator
    heads, padding = pretrained.config.num_attention_heads, pretrained.tokenizer.pad_token_id
    resident = Resident(train, pretrained.first_position, heads, padding, accelerator.device)
    return Graphs(model, resident, accelerator, plan.steps)


class Tuning:
    """A run under way: its epochs, noted as they come, and its results."""

    def __init__(self, cell, journal, inputs, masks, census, loop, saved):
        self.cell, self.journal, self.inputs, self.masks = cell, journal, inputs, masks
        self.census, self.loop, self.saved = census, loop, saved

    def epochs(self) -> Iterator[Epoch]:
        """Train and evaluate what is left, epoch by epoch; the held weights are checked exactly before each
        evaluation.
        """
        for epoch in self.loop.epochs:  # of before the checkpoint
            self.journal.history(history(epoch))
        task, inputs, cell = self.inputs.data.task, self.inputs, self.cell
        evaluate = predict.evaluator(
            {key: inputs.features[key] for key in task.evals},
            partial(metrics.scores, task.metrics),
            inputs.pretrained.label_order,
            inputs.layout.collate,
            cell.per_device_eval_batch_size,
            inputs.accelerator,
        )
        with self.journal.progress(self.loop.plan.steps, self.loop.at.step) as progress:

            def on_step(*step) -> None:
                progress.step(*step)
                if stopping.asked():
                    self.stop()

            def evaluate_or_stop(model) -> dict[str, float]:
                try:
                    with stopping.at_once():
                        return evaluate(model)
                except stopping.Stopped:
                    self.stop()

            yield from self.loop.run(evaluate_or_stop, on_step, self.saved.save, cell.checkpointing_steps)

    def stop(self) -> NoReturn:
        """End the run where it is, between two steps, with a checkpoint."""
        self.loop.verify()
        path = self.saved.save()
        kept = f", with a checkpoint of step {self.loop.at.step:,}; the same command goes on from it" if path else ""
        raise stopping.Stopped(stopping.asked(), kept)

    def note(self, epoch: Epoch) -> None:
        """Write an epoch's results as they come."""
        self.journal.track({"train_loss": epoch.train_loss, **epoch.metrics}, step=epoch.step)
        self.journal.history(history(epoch))
        speed = epoch.tokens / epoch.train_seconds
        say(
            f"epoch {epoch.number}/{self.loop.plan.epochs}  loss {epoch.train_loss:.4f}  "
            f"{metric_words(epoch.metrics)}  "
            f"({epoch.train_seconds:.1f} s, {speed:,.0f} tokens/s; evaluation {epoch.eval_seconds:.1f} s)"
        )

    def record(self) -> None:
        """Write mask, model and results: those of the last epoch, on weights that are checked once more."""
        self.loop.verify()
        epochs, task = self.loop.epochs, self.inputs.data.task
        last, census = epochs[-1], self.census
        zeros = zero_count(dict(self.loop.bare.named_parameters()), self.masks)
        size = census.size if census else 0
        results = last.metrics | {
            "eval_samples": sum(len(split) for split in task.evals.values()),
            "train_loss": last.train_loss,
            "train_samples": len(task.train),
            "epoch": last.number,
            "step": last.step,
            "sparsity": census.removed / size if size else 0.0,
            "zero_fraction": zeros / size if size else 0.0,
        }
        key = self.journal.main_metric["key"]
        best = max(epochs, key=lambda epoch: epoch.metrics[key])
        taken = self.loop.step.describe()
        lines = [
            f"result    {metric_words(last.metrics)} after epoch {last.number}; best {best.metrics[key]:.4f} after "
            f"epoch {best.number}"
        ]
        if size:
            lines.append(f"zeros     {zeros:,} of {size:,} weights in scope are exactly 0 ({zeros / size:.4%})")
        if self.inputs.accelerator.device.type == "cuda":
            lines.append(f"steps     taken {taken}")
        try:
            self._write(results, best, taken, lines)
        finally:
            self.inputs.accelerator.wait_for_everyone()

    def _write(self, results: dict, best: Epoch, taken: str, lines: list[str]) -> None:
        epochs = self.loop.epochs
        self.journal.results(
            results,
            masks=self.masks,
            save=self.inputs.pretrained.save,
            timings={
                "train": round(sum(epoch.train_seconds for epoch in epochs), 3),
                "evaluate": round(sum(epoch.eval_seconds for epoch in epochs), 3),
            },
            record={
                "best": {"epoch": best.number, **best.metrics},
                "plan": self.journal.record["plan"] | {"taken": taken},
            },
            lines=lines,
        )


# --- what is said of a run -------------------------------------------------------------------------------------------


def history(epoch: Epoch) -> dict:
    """An epoch's line in ``history.jsonl``."""
    return {
        "epoch": epoch.number,
        "step": epoch.step,
        "train_loss": epoch.train_loss,
        "learning_rate": epoch.learning_rate,
        **epoch.metrics,
        "train_seconds": round(epoch.train_seconds, 3),
        "eval_seconds": round(epoch.eval_seconds, 3),
        "tokens": epoch.tokens,
    }


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
    precision = "" if cell.mixed_precision == "no" else f", {cell.mixed_precision}"
    layout = inputs.layout
    journal.section(
        "plan",
        {
            "per_step": plan.per_step,
            "steps_per_epoch": plan.steps_per_epoch,
            "steps": plan.steps,
            "epochs": plan.epochs,
            "warmup_steps": plan.warmup_steps,
            "batches": layout.words,
            "probe": {"rows": layout.rows, "difference": layout.difference},
        },
        f"{plan.steps:,} steps of {plan.per_step} examples on {inputs.accelerator.device.type}{precision}, "
        f"{layout.words}, "
        f"warm-up {plan.warmup_steps:,}",
        title="training",
    )
