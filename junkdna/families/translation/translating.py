"""The parts of a run of translation around the method: training or none, what is translated, the record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from junkdna.families import tuning
from junkdna.families.removed import Removed
from junkdna.families.translation import about, batches, scoring
from junkdna.families.translation.cell import TranslationCell
from junkdna.families.translation.inputs import Asked, Inputs, load
from junkdna.families.translation.translate import Output, translate
from junkdna.runs import checkpoints, records, stopping
from junkdna.runs.checkpoints import Checkpoints
from junkdna.runs.journal import Journal
from junkdna.runs.shared import Shared
from junkdna.runs.speech import say
from junkdna.sparsity.hold import check_same_on_all
from junkdna.training import device
from junkdna.training.finetune import Epoch, FineTuning

__all__ = ["load", "under_way"]

MADE_BY = ("started", "code", "versions", "hardware", "resumed")
"""What a run's record says of how it was made, for the runs that take its training over."""


@dataclass
class Trained:
    """What training has made of a model, for other cells that train it in the same way; None before it has ended."""

    outcome: dict | None = None


@contextmanager
def under_way(
    cell: TranslationCell, shared: Shared, journal: Journal, inputs: Inputs, removed: Removed
) -> Iterator[Translating]:
    """Get ready to train, if that is asked for: from what another cell has trained or from the run's checkpoint, if
    there is one. Claim the run's folder.
    """
    reads = about.parts(cell, inputs, removed.census)
    describe = partial(about.describe, cell, journal, inputs, removed.census)
    if not cell.trains:
        records.check_mask(cell.mask_file, reads["mask"])
        check_same_on_all(removed.masks)
        journal.made_of(reads)
        describe(None)
        try:
            with journal.open(device.describe(inputs.accelerator), accelerator=inputs.accelerator):
                yield Translating(cell, journal, inputs, removed)
        finally:
            device.give_back_freed_memory()
        return
    trained = shared.keep("trained", cell.trained, Trained)
    sentences = inputs.train.sentences
    loop = FineTuning(inputs.translator.model, sentences, tuning.recipe(cell), inputs.accelerator, removed.held)
    if trained.outcome:
        loop.take_over(trained.outcome)
        say(f"training  taken over from {loop.taken_from['folder']}")
    with tuning.under_way(cell, journal, loop, reads, removed.masks, partial(describe, loop)) as saved:
        yield Translating(cell, journal, inputs, removed, loop, saved, trained)


class Translating(tuning.Tuning):
    """A run under way: its epochs, if it has any, then its translations and their scores."""

    def __init__(
        self,
        cell: TranslationCell,
        journal: Journal,
        inputs: Inputs,
        removed: Removed,
        loop: FineTuning | None = None,
        saved: Checkpoints | None = None,
        trained: Trained | None = None,
    ):
        super().__init__(cell, journal, loop, saved)
        self.inputs, self.removed, self.trained = inputs, removed, trained

    @property
    def model(self):
        return self.inputs.translator.model

    def epochs(self) -> Iterator[Epoch]:
        """Train what is left, epoch by epoch, and leave the outcome to the cells that can take it over."""
        if self.loop is None:
            return
        splits = {pair: taught.sentences for pair, taught in self.inputs.validation.items()}
        size = self.cell.per_device_eval_batch_size
        began = not self.loop.ended
        yield from self.train(batches.evaluator(splits, size, self.inputs.accelerator))
        if began and (self.cell.checkpointing_steps or self.cell.prune_after_training):
            self.saved.save()  # translating may take longer than training, and pruning changes what would be saved
        if self.trained.outcome is None and self.cell.shares_training:
            made = {name: self.journal.record.get(name) for name in MADE_BY}  # of several processes one has all
            self.trained.outcome = self.loop.outcome({"folder": self.cell.output_dir, **made})

    def words(self, metrics: dict[str, float]) -> str:
        each = [
            f"{name.removeprefix('eval_loss_')} {value:.4f}" for name, value in metrics.items() if name != "eval_loss"
        ]
        apart = f" ({', '.join(each)})" if each else ""
        return f"validation loss {metrics['eval_loss']:.4f}{apart}" if metrics else ""

    def prune(self, remove: Callable[[], Removed]) -> None:
        """Prune what was learned, on the CPU, where every mask is made."""
        self.model.to("cpu")
        self.removed = remove()
        reads = about.parts(self.cell, self.inputs, self.removed.census)
        records.check_mask(self.cell.mask_file, reads["mask"])
        check_same_on_all(self.removed.masks)
        self.journal.made_of(reads)
        self.journal.pruned(self.removed.census)

    def record(self) -> None:
        """Translate, score, and write everything; the weights are checked once more."""
        if self.removed.held is not None:
            self.removed.held.verify()
        if self.loop is not None:
            self.journal.lap("train")
        try:
            with stopping.at_once():
                outputs = self._translate()
        except stopping.Stopped as stopped:
            self._stop(stopped)
        self.journal.lap("translate")
        scored = [scoring.Way(asked, given) for asked, given in zip(self.inputs.asked, outputs)]
        values = scoring.results(scored)
        shares, zeros = self.removed.zeros(self.model)
        results = values | {"eval_samples": sum(len(way.outputs) for way in scored), **shares}
        extra = {"scores": {way.name: way.about() for way in scored}}
        times = {}
        if self.loop is not None:
            last = self.loop.epochs[-1]
            results |= {**last.metrics, "train_loss": last.train_loss, "epoch": last.number, "step": last.step}
            results["train_samples"] = sum(self.inputs.train.used.values())
            extra["plan"] = self.journal.record["plan"] | {"taken": self.loop.step.describe()}
            if self.loop.taken_from is None:
                times = tuning.timings(self.loop.epochs)
            else:
                extra["trained_by"] = self.loop.taken_from
            self.journal.track(values, step=last.step)
        self.journal.results(
            results,
            masks=self.removed.masks,
            predictions=(line for way in scored for line in way.predictions()),
            save=self.inputs.translator.save,
            timings=times,
            record=extra,
            lines=[*(line for way in scored for line in way.lines()), *scoring.lines(values), *zeros],
        )
        self.inputs.accelerator.wait_for_everyone()

    def _stop(self, stopped: stopping.Stopped) -> NoReturn:
        """End the run while it translates: what was trained is kept, unless it has been pruned since."""
        if self.loop is None:
            raise stopped
        if not self.cell.prune_after_training:
            self.stop()
        saved = checkpoints.latest(self.cell.output_dir)
        if saved is None and self.trained.outcome:  # it was taken over from another run, and has been pruned since
            self.loop.take_over(self.trained.outcome)
            self.stop()
        raise stopping.Stopped(stopped.number, saved.name if saved else "")

    def _translate(self) -> list[list[Output]]:
        """The translations of all directions, in the order of the test text; the same on every process."""
        accelerator, done = self.inputs.accelerator, 0
        self.model.to(accelerator.device).eval()
        found = []
        with self.journal.progress(sum(len(asked.ids) for asked in self.inputs.asked)) as progress:
            for asked in self.inputs.asked:

                def reach(there: int, _: int, before: int = done) -> None:
                    progress.reach(before + there, "sentences")

                with accelerator.autocast():
                    found.append(self._one_way(asked, reach))
                done += len(asked.ids)
        return found

    def _one_way(self, asked: Asked, on_batch: Callable[[int, int], None]) -> list[Output]:
        cell, accelerator = self.cell, self.inputs.accelerator
        given = translate(
            self.inputs.translator,
            self.model,
            asked.direction,
            asked.ids[accelerator.process_index :: accelerator.num_processes],
            beams=cell.num_beams,
            length_penalty=cell.length_penalty,
            max_new_tokens=cell.max_new_tokens,
            batch_size=cell.per_device_eval_batch_size,
            device=accelerator.device,
            on_batch=on_batch,
        )
        if accelerator.num_processes == 1:
            return given
        from accelerate.utils import gather_object

        shares = gather_object([given])
        whole: list[Output] = [None] * len(asked.ids)
        for rank, share in enumerate(shares):
            whole[rank :: accelerator.num_processes] = share
        return whole
