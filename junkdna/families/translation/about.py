"""What a run of translation says of itself: the digests of what it is made of, and the sections of its record."""

from __future__ import annotations

import hashlib

from junkdna.families import tuning
from junkdna.families.translation import scoring
from junkdna.families.translation.batches import Sentences
from junkdna.families.translation.cell import TranslationCell
from junkdna.families.translation.inputs import Inputs, Taught
from junkdna.families.translation.parallel import Parallel
from junkdna.models import digests
from junkdna.runs import seals
from junkdna.runs.journal import Journal
from junkdna.sparsity.census import Census
from junkdna.training.bucketing import DIVIDED
from junkdna.training.finetune import FineTuning


def parts(cell: TranslationCell, inputs: Inputs, census: Census | None) -> dict[str, str | None]:
    """Everything that a run's numbers are made of, beside its settings. The mask is left out while it is to come."""
    translator = inputs.translator
    told = [asked.direction.words for asked in inputs.asked]
    train = inputs.train and digest_of(inputs.train.sentences)
    validation = {pair: digest_of(taught.sentences) for pair, taught in inputs.validation.items()}
    found = {
        "test_text": inputs.text.test.fingerprint,
        "test_rows": seals.of([asked.ids for asked in inputs.asked]),
        "training_rows": train,
        "validation_rows": seals.of(validation) if validation else None,
        "model_weights": translator.weight_hash,
        "model_config": digests.of_config(translator.config, told=told),
        "tokenizer": digests.of_tokenizer(translator.tokenizer),
    }
    to_come = cell.prune_after_training and census is None
    return found if to_come else found | {"mask": census.mask_hash if census else None}


def digest_of(sentences: Sentences) -> str:
    """SHA-256 of examples as the model sees them."""
    made = hashlib.sha256()
    for rows in (sentences.source, sentences.labels):
        made.update(rows.ids)
        made.update(rows.starts.astype("int64"))
    made.update(sentences.first.astype("int64"))
    made.update(repr(sentences.sizes).encode())
    return made.hexdigest()


def describe(
    cell: TranslationCell, journal: Journal, inputs: Inputs, census: Census | None, loop: FineTuning | None
) -> None:
    """Put the sections of the record together, with the lines that say them."""
    about = inputs.translator.about()
    told = {asked.name: asked.direction.words for asked in inputs.asked}
    journal.section(
        "model",
        about | {"languages": told},
        f"{cell.model_name_or_path}: {about['parameters']:,} parameters, kind {inputs.translator.kind}",
        *(f"{name}: {words}" for name, words in told.items()),
        *about["notes"],
    )
    own = inputs.text.train.get(cell.pair)
    recurring = inputs.text.test.recurring(own) if own else 0
    journal.section("data", _data(inputs, recurring), *_data_lines(cell, inputs, recurring))
    journal.measures(scoring.measures(inputs.asked))
    if cell.prune_after_training:
        journal.section("pruning", {}, f"when training is over ({cell.treatment})")
    else:
        journal.pruned(census)
    if loop is not None:
        words = tuning.plan_words(cell, loop.plan, inputs.accelerator.device.type, DIVIDED)
        journal.section("plan", tuning.plan_section(loop.plan) | {"batches": DIVIDED}, words, title="training")


def _data(inputs: Inputs, recurring: int) -> dict:
    """What was read and what is used of it, by split and language pair."""
    text = inputs.text
    test = _split(text.test) | {"cut": {asked.name: asked.cut for asked in inputs.asked}, "recurring": recurring}
    train = inputs.train and {pair: _taught(rows, inputs.train, pair) for pair, rows in text.train.items()}
    validation = {pair: _taught(rows, inputs.validation[pair], pair) for pair, rows in text.validation.items()}
    return {"test": test, "train": train or {}, "validation": validation, "longest": inputs.limit}


def _split(rows: Parallel) -> dict:
    return {
        "source": rows.origin,
        "rows": rows.lines,
        "empty": rows.empty,
        "used": len(rows),
        "sha256": rows.fingerprint,
    }


def _taught(rows: Parallel, taught: Taught, pair: str) -> dict:
    return _split(rows) | {"used": taught.used[pair], "dropped": taught.dropped[pair]}


def _data_lines(cell: TranslationCell, inputs: Inputs, recurring: int) -> list[str]:
    text = inputs.text
    lines = [f"{cell.label}: {len(text.test):,} of {text.test.lines:,} rows of {text.test.origin}{_empty(text.test)}"]
    lines += [
        f"{asked.cut:,} sources of {asked.name} lose their ends: the model has no positions for them"
        for asked in inputs.asked
        if asked.cut
    ]
    for pair, rows in text.train.items():
        used, dropped = inputs.train.used[pair], inputs.train.dropped[pair]
        lines.append(
            f"trained on {used:,} sentence pairs of {pair} ({rows.origin}{_empty(rows)}); {dropped:,} with more than "
            f"{inputs.limit:,} tokens on a side are left out"
        )
    if recurring:
        lines.append(f"{recurring:,} of the test rows are rows of the training text too")
    return lines


def _empty(rows: Parallel) -> str:
    return f", {rows.empty:,} without text on a side are left out" if rows.empty else ""
