"""What a run of translation starts from, each part loaded once for the cells that need it: text, model, tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from junkdna.errors import Fault, Faults, UserError
from junkdna.families import tuning
from junkdna.families.translation import family, parallel, scores
from junkdna.families.translation.batches import Rows, Sentences
from junkdna.families.translation.cell import TranslationCell
from junkdna.families.translation.family import Text
from junkdna.families.translation.parallel import Parallel
from junkdna.families.translation.translate import fit
from junkdna.models.languages import Direction
from junkdna.models.translator import Translator
from junkdna.runs.journal import Journal
from junkdna.runs.shared import Shared
from junkdna.training.bucketing import Grain, grain_on

AT_ONCE = 10_000
"""Texts that are tokenised at a time: lists of numbers take some ten times the memory of arrays."""


@dataclass(frozen=True)
class Asked:
    """One direction of the test text: token ids without special ones, cut to what the model has positions for."""

    direction: Direction
    sources: tuple[str, ...]
    references: tuple[str, ...]
    ids: list[list[int]]
    cut: int

    @property
    def name(self) -> str:
        return self.direction.name

    @cached_property
    def floor(self) -> dict[str, float]:
        """What copying the sources gets, by the measures' names."""
        return scores.copy_floor(self.sources, self.references, self.direction.target)


@dataclass(frozen=True)
class Taught:
    """The examples of a split of what is trained on; by language pair how many sentence pairs are used, and how many
    are left out for their length.
    """

    sentences: Sentences
    used: dict[str, int]
    dropped: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a run starts from; ``train`` is None and ``validation`` empty in a zero-shot run."""

    text: Text
    translator: Translator
    accelerator: object
    asked: tuple[Asked, ...]
    train: Taught | None
    validation: dict[str, Taught]
    limit: int
    """Tokens of the longest side of a sentence pair that is trained on."""


def load(cell: TranslationCell, shared: Shared, journal: Journal) -> Inputs:
    """Load what cells have in common, each part once: text, model, tokens. Raises UserError with every fault."""
    text = family.read(cell, shared)
    journal.lap("data")
    accelerator = tuning.accelerator(cell, shared)
    translator = shared.keep("model", cell.model_key, partial(Translator, *cell.model_key))
    ways = _directions(cell, translator)
    key = (cell.data_dir, cell.directions, cell.max_eval_samples, cell.model_key)
    asked = shared.keep("asked", (cell.pair, *key), lambda: _asked(cell.pair, text.test, translator, ways[cell.pair]))
    limit = min(cell.max_length, translator.positions or cell.max_length)
    grain = replace(grain_on(accelerator, translator.model), most=limit)
    teach = partial(_taught, cell, translator, ways, limit, grain)

    def taught() -> tuple[Taught | None, dict[str, Taught]]:
        validation = {pair: teach({pair: rows}) for pair, rows in text.validation.items()}
        return (teach(text.train) if text.train else None), validation

    key = (*key, cell.trained_on, cell.train_pairs, limit, cell.temperature, cell.label_smoothing)
    train, validation = shared.keep("taught", key, taught)
    return Inputs(
        text=text,
        translator=translator,
        accelerator=accelerator,
        asked=asked,
        train=train,
        validation=validation,
        limit=limit,
    )


def _directions(cell: TranslationCell, translator: Translator) -> dict[str, list[Direction]]:
    """How the model is told each direction of each language pair; raises UserError with all that it does not know."""
    faults, found = Faults(), {}
    for pair in dict.fromkeys((cell.pair, *cell.trained_on)):
        tell = partial(translator.direction, trained=pair in cell.trained_on)
        found[pair] = [faults.collect(tell, *way) for way in cell.ways(pair)]
    faults.raise_any()
    return found


def _asked(pair: str, rows: Parallel, translator: Translator, ways: list[Direction]) -> tuple[Asked, ...]:
    """Every direction of the test text; a source that is too long for the model loses its end."""
    found = []
    for direction in ways:
        sources, references = _sides(pair, rows, direction)
        ids, cut = fit(translator, direction, translator.encode(sources))
        found.append(Asked(direction, sources, references, ids, cut))
    return tuple(found)


def _sides(pair: str, rows: Parallel, direction: Direction) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A pair's texts as sources and targets of one of its directions."""
    forward = direction.source == parallel.languages(pair)[0]
    return (rows.source, rows.target) if forward else (rows.target, rows.source)


def _taught(
    cell: TranslationCell,
    translator: Translator,
    ways: dict[str, list[Direction]],
    limit: int,
    grain: Grain,
    text: dict[str, Parallel],
) -> Taught:
    """Examples of some language pairs: one for each direction of every sentence pair that is not too long."""
    sources, labels, first, sizes, used, dropped = [], [], [], [], {}, {}
    for pair, rows in text.items():
        made = [_examples(translator, direction, *_sides(pair, rows, direction)) for direction in ways[pair]]
        fits = np.all([side.lengths <= limit for sides in made for side in sides], axis=0)
        used[pair], dropped[pair] = int(fits.sum()), int((~fits).sum())
        if not used[pair]:
            reason = f"all {len(rows):,} sentence pairs of {pair} have a side with more tokens; give more"
            raise UserError(Fault("max_length", limit, reason))
        sources += [source.where(fits) for source, _ in made]
        labels += [label.where(fits) for _, label in made]
        first += [np.full(used[pair], direction.start) for direction in ways[pair]]
        sizes.append(used[pair] * len(made))
    sentences = Sentences(
        source=Rows.joined(sources),
        labels=Rows.joined(labels),
        first=np.concatenate(first),
        sizes=tuple(sizes),
        padding=translator.config.pad_token_id,
        temperature=cell.temperature,
        smoothing=cell.label_smoothing,
        grain=grain,
    )
    return Taught(sentences, used, dropped)


def _examples(
    translator: Translator, direction: Direction, sources: tuple[str, ...], targets: tuple[str, ...]
) -> tuple[Rows, Rows]:
    """The encoder's inputs and the labels of all sentence pairs, in one direction."""
    made = []
    for texts, target, around in ((sources, False, direction.inputs), (targets, True, direction.labels)):
        chunks = (texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE))
        encoded = (translator.encode(chunk, target=target) for chunk in chunks)
        made.append(Rows.joined([Rows.of([around(row) for row in rows]) for rows in encoded]))
    return made[0], made[1]
