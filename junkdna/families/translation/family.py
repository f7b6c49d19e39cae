"""Translation as a family of experiments: what its flags say together, and what its grid is made of."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator

from junkdna.errors import Fault, Faults, UserError
from junkdna.families.finding import find, find_model
from junkdna.families.translation import opus, pairs, parallel
from junkdna.families.translation.cell import Command, TranslationCell
from junkdna.families.translation.parallel import Parallel
from junkdna.models import languages, translator_files
from junkdna.runs import groups, pruning, settings
from junkdna.runs.journal import Journal
from junkdna.runs.shared import Shared

OF_TRAINING = (
    "train_pairs",
    "mix",
    "temperature",
    "max_length",
    "label_smoothing",
    "dropout",
    "attention_dropout",
    "per_device_train_batch_size",
    "learning_rate",
    "weight_decay",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "num_warmup_steps",
    "checkpointing_steps",
    "resume_from_checkpoint",
    "with_tracking",
    "prune_after_training",
    "freeze_weights",
    "freeze_weights_frompretrain",
)
"""Flags that have no effect in a zero-shot run."""

ROWS = 2000
"""Rows of a test set whose size is not known before it is read: that of OPUS-100."""


class Translation:
    """Translate with a pruned model, as it is or fine-tuned (Setting 2 of the paper)."""

    entry = "Translation_tasks.Translation_prune_oneshot"
    description = (
        "Prune a translation model once, have it translate both ways without any update (zero-shot) or fine-tuned "
        "(few-shot, with --num_train_epochs or --max_train_steps), score, and record. --pair, --train_pairs, "
        "--sparsity, --nm_ratio and --seed take several values. The program runs every combination."
    )
    cell = TranslationCell
    command = Command
    gone = {  # noqa: RUF012 -- read only, as all of the contract
        "--source_lang": "--pair names both languages, source-target",
        "--target_lang": "--pair names both languages, source-target",
        "--max_tokens": "a step's size is counted in examples, a sentence pair in one direction each: "
        "--per_device_train_batch_size",
        "--update_freq": "--gradient_accumulation_steps is its name here",
        "--task_name": "--pair names what is translated",
        "--cuda_graphs": "is for encoders; leave it out",
    }

    def __init__(self, run: Callable[[TranslationCell, Shared, Journal], None]):
        """``run`` is the method, from data to results."""
        self._run = run

    def run(self, cell: TranslationCell, shared: Shared, journal: Journal) -> None:
        """Find what comes from the Hub before the method imports the libraries."""
        find(cell, shared, find_model, read)
        self._run(cell, shared, journal)

    def check(self, given: dict, faults: Faults) -> None:
        if not given["pair"]:
            faults.append("no language pair: give --pair, source-target (en-de)")
        if given["data_dir"] and not os.path.isdir(given["data_dir"]):
            faults.append(f"--data_dir {given['data_dir']}: no such folder")
        if given["num_beams"] == 1 and (power := given["length_penalty"]) != TranslationCell.length_penalty:
            faults.append(f"--length_penalty {power:g}: has no effect with --num_beams 1, which compares no lengths")
        if given["max_train_steps"] or given["num_train_epochs"]:
            _check_mix(given, faults)
            _check_after(given, faults)
        else:
            _check_zero_shot(given, faults)
        groups.check_holding(given, faults)
        groups.check_training(given, faults)

    def patterns(self, given: dict, faults: Faults) -> list[dict]:
        return pruning.settings(given, faults)

    def variants(self, given: dict) -> Iterator[dict]:
        for pair, count in itertools.product(given["pair"], given["train_pairs"] or [None]):
            yield {"pair": pair, "train_pairs": count}

    def preflight(self, cell: TranslationCell, shared: Shared, faults: Faults) -> None:
        if cell.data_dir:
            faults.collect(read, cell, shared)
        asked = dict.fromkeys((cell.pair, *cell.trained_on))
        for pair in asked if not cell.data_dir else ():
            faults.collect(opus.config, pair)
        name = cell.model_name_or_path
        config = faults.collect(translator_files.check, name)
        known = config and shared.keep("languages", name, lambda: translator_files.known(name, config))
        for pair in asked if known else ():
            faults.collect(languages.check_ways, known, cell.ways(pair), pair in cell.trained_on)

    def check_done(self, cell: TranslationCell, shared: Shared) -> None:
        """All that a run reads on this machine is among the files whose digests are compared for every family."""

    def work(self, cell: TranslationCell, shared: Shared) -> int:
        """Sentences to write, each of which takes as long as some tens of them in training, and those to train on."""
        ways = 1 if cell.directions != "both" else 2
        asked = (cell.max_eval_samples or ROWS) * ways * 4 * cell.num_beams
        if cell.max_train_steps:
            return asked + cell.max_train_steps * cell.per_device_train_batch_size * cell.gradient_accumulation_steps
        return asked + cell.num_train_epochs * ways * (cell.train_pairs or ROWS) * len(cell.trained_on)

    def loads(self, cell: TranslationCell) -> tuple:
        return cell.trained if cell.trains else cell.pruned  # a mask is made sooner than a training


@dataclasses.dataclass(frozen=True)
class Text:
    """A cell's text: ``test`` of what is asked; by language pair ``train`` and, where there is some, ``validation`` of
    what is trained on.
    """

    test: Parallel
    train: dict[str, Parallel]
    validation: dict[str, Parallel]


def read(cell: TranslationCell, shared: Shared) -> Text:
    """Read a cell's text, each split once for the cells that need it. Raises UserError with every fault."""
    faults = Faults()
    source, most = cell.data_dir, cell.max_eval_samples
    test = faults.collect(
        shared.keep, "test rows", (source, cell.pair, most), lambda: _split(source, cell.pair, "test", most)
    )
    key = (source, cell.trained_on, cell.train_pairs, most)
    trained = faults.collect(shared.keep, "training rows", key, lambda: _trained(cell))
    faults.raise_any()
    train, validation = trained
    if (wanted := cell.train_pairs) and (pair := _shortest(train, wanted)):
        reason = f"{pair} has {len(train[pair]):,} sentence pairs to train on; give less"
        raise UserError(Fault("train_pairs", wanted, reason))
    return Text(test, train, validation)


def _trained(cell: TranslationCell) -> tuple[dict[str, Parallel], dict[str, Parallel]]:
    """The training rows of every pair that is trained on, and the validation rows of those that have some."""
    faults = Faults()
    train, validation = (
        {pair: faults.collect(_split, cell.data_dir, pair, name, most) for pair in cell.trained_on}
        for name, most in (("train", cell.train_pairs), ("validation", cell.max_eval_samples))
    )
    faults.raise_any()
    return train, {pair: rows for pair, rows in validation.items() if rows is not None}


def _split(data_dir: str | None, pair: str, name: str, most: int | None) -> Parallel | None:
    """Read the first ``most`` rows of a split of a pair; None for a validation split that there is not."""
    if data_dir is None:
        return opus.read(pair, name, most)
    look = pairs.find if name == "validation" else pairs.require
    files = look(data_dir, pair, name)
    return None if files is None else pairs.read(files).first(most)


def _shortest(train: dict[str, Parallel], wanted: int) -> str | None:
    """The pair with the fewest training rows if those are fewer than wanted."""
    pair = min(train, key=lambda pair: len(train[pair]), default=None)
    return pair if pair and len(train[pair]) < wanted else None


# --- what flags say together -----------------------------------------------------------------------------------------


def _check_zero_shot(given: dict, faults: Faults) -> None:
    """Refuse flags of training where nothing is trained."""
    for said in settings.changed(given, TranslationCell, OF_TRAINING):
        faults.append(f"{said}: has no effect without training; give --num_train_epochs or --max_train_steps")


def _check_mix(given: dict, faults: Faults) -> None:
    """Refuse a mix that names two languages twice, or the other way round than the pair; and its temperature alone."""
    if not given["mix"]:
        if given["temperature"] != TranslationCell.temperature:
            faults.append(f"--temperature {given['temperature']:g}: has no effect without --mix")
        return
    seen: dict[frozenset, str] = {}
    for pair in filter(None, given["mix"]):
        both = frozenset(parallel.languages(pair))
        if both in seen:
            faults.append(f"--mix {pair}: {seen[both]} names the same two languages; --directions says which ways")
        seen.setdefault(both, pair)
    for pair in filter(None, given["pair"] or []):
        mixed = seen.get(frozenset(parallel.languages(pair)), pair)
        if mixed != pair:  # forward would be trained one way and asked the other
            faults.append(f"--pair {pair}: --mix names it {mixed}; give both in the same order")


def _check_after(given: dict, faults: Faults) -> None:
    """Refuse to hold what is pruned when training is over, and to prune nothing then."""
    if not given["prune_after_training"]:
        return
    for name in ("freeze_weights", "freeze_weights_frompretrain"):
        if given[name]:
            faults.append(
                f"--prune_after_training --{name}: one prunes when training is over, the other holds a mask while "
                "the model trains; give one of them"
            )
    if given["sparsity_pattern"] == "dense" or given.get("sparse_init") == "dense":
        faults.append("--prune_after_training: a dense run prunes nothing; leave it out, or give --with_dense")
