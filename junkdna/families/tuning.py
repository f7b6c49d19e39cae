"""A run that fine-tunes, around the method: its accelerator and recipe, its checkpoints and signals, its epochs as they
come, and what every such run says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import NoReturn

from torch import nn

from junkdna.runs import records, stopping
from junkdna.runs.checkpoints import Checkpoints
from junkdna.runs.groups import Training
from junkdna.runs.journal import Journal, metric_words
from junkdna.runs.shared import Shared
from junkdna.runs.speech import say
from junkdna.sparsity.hold import check_same_on_all
from junkdna.sparsity.masks import Masks
from junkdna.training import device
from junkdna.training.finetune import Epoch, Evaluate, FineTuning
from junkdna.training.recipe import Plan, Recipe

# --- before the method -----------------------------------------------------------------------------------------------


def accelerator(cell: Training, shared: Shared):
    """The device, or this process's part of several, set as the cell wants it; the same for all cells."""
    tracking = (cell.report_to, cell.output_dir) if cell.with_tracking else (None, None)
    make = partial(device.make_accelerator, cell.mixed_precision, cell.num_processes, *tracking)
    made = shared.keep("accelerator", (), make)
    device.configure(made, cell.deterministic)
    return made


def recipe(cell: Training) -> Recipe:
    """How the cell's model is trained."""
    return Recipe(
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


# --- the training under way ------------------------------------------------------------------------------------------


@contextmanager
def under_way(
    cell: Training,
    journal: Journal,
    loop: FineTuning,
    reads: dict[str, str | None],
    masks: Masks,
    describe: Callable[[], None],
) -> Iterator[Checkpoints]:
    """Go on from the run's checkpoint if there is one, and claim its folder; let go of the loop in the end.

    ``reads`` are the digests of what the run is made of, ``describe`` puts its sections into the journal.
    """
    accelerator = loop.accelerator
    if "mask" in reads:
        records.check_mask(cell.mask_file, reads["mask"])
    journal.made_of(reads)
    saved = Checkpoints(cell, reads, masks, loop)
    try:
        check_same_on_all(masks)
        if not loop.ended:
            saved.go_on()
        describe()
        # a signal waits until a step is whole; of several processes, each would stop at another step
        waits = stopping.held_back() if accelerator.num_processes == 1 else nullcontext()
        with journal.open(device.describe(accelerator), saved.resumed, accelerator), waits:
            yield saved
    finally:  # a cell that fails must not leave its optimizer to the next
        loop.close()
        device.give_back_freed_memory()


class Tuning:
    """A training under way: its epochs, noted as they come."""

    def __init__(self, cell: Training, journal: Journal, loop: FineTuning, saved: Checkpoints):
        self.cell, self.journal, self.loop, self.saved = cell, journal, loop, saved

    def train(self, evaluate: Evaluate) -> Iterator[Epoch]:
        """Train and evaluate what is left, epoch by epoch; the held weights are checked exactly before each
        evaluation.
        """
        for epoch in self.loop.epochs:  # of before the checkpoint
            self.journal.history(history(epoch))
        with self.journal.progress(self.loop.plan.steps, self.loop.at.step) as progress:

            def on_step(*step) -> None:
                progress.step(*step)
                if stopping.received():
                    self.stop()

            def evaluate_or_stop(model: nn.Module) -> dict[str, float]:
                try:
                    with stopping.at_once():
                        return evaluate(model)
                except stopping.Stopped:
                    self.stop()

            yield from self.loop.run(evaluate_or_stop, on_step, self.saved.save, self.cell.checkpointing_steps)

    def stop(self) -> NoReturn:
        """End the run where it is, between two steps, with a checkpoint."""
        self.loop.verify()
        path = self.saved.save()
        raise stopping.Stopped(stopping.received(), f"a checkpoint of step {self.loop.at.step:,}" if path else "")

    def note(self, epoch: Epoch) -> None:
        """Write an epoch's results as they come."""
        self.journal.track({"train_loss": epoch.train_loss, **epoch.metrics}, step=epoch.step)
        self.journal.history(history(epoch))
        speed = epoch.tokens / epoch.train_seconds
        say(
            f"epoch {epoch.number}/{self.loop.plan.epochs}  loss {epoch.train_loss:.4f}  "
            f"{self.words(epoch.metrics)}  "
            f"({epoch.train_seconds:.1f} s, {speed:,.0f} tokens/s; evaluation {epoch.eval_seconds:.1f} s)"
        )

    def words(self, metrics: dict[str, float]) -> str:
        """What an epoch's evaluation gave, in words."""
        return metric_words(metrics)


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


def plan_section(plan: Plan) -> dict:
    """The plan's part of a record."""
    return {
        "per_step": plan.per_step,
        "steps_per_epoch": plan.steps_per_epoch,
        "steps": plan.steps,
        "epochs": plan.epochs,
        "warmup_steps": plan.warmup_steps,
    }


def plan_words(cell: Training, plan: Plan, device_type: str, batches: str) -> str:
    """The plan in a line; ``batches`` says how examples are put into batches."""
    precision = "" if cell.mixed_precision == "no" else f", {cell.mixed_precision}"
    cold = " (the rate does not reach its peak)" if plan.warmup_steps > plan.steps else ""
    return (
        f"{plan.steps:,} steps of {plan.per_step} examples on {device_type}{precision}, {batches}, "
        f"warm-up {plan.warmup_steps:,}{cold}"
    )


def timings(epochs: list[Epoch]) -> dict[str, float]:
    """What training and the evaluations took, in seconds."""
    return {
        "train": round(sum(epoch.train_seconds for epoch in epochs), 3),
        "evaluate": round(sum(epoch.eval_seconds for epoch in epochs), 3),
    }
