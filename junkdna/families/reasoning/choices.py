"""Multiple choice: pairs of texts, one for each choice, of which one is right.

A pair is what the model reads as its two texts: ``<s> first </s></s> second </s>`` in RoBERTa. CommonsenseQA and
WinoGrande are written as in the runs that the paper's numbers stand beside (fairseq's, and that of the authors of
WinoGrande); files of your own are read as they are.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from junkdna.errors import Fault, UserError
from junkdna.families import textfiles
from junkdna.families.reasoning.rows import Row, cell, text

Pair = tuple[str, str]
"""First and second text."""

LETTERS = string.ascii_uppercase
BLANK = "_"


@dataclass(frozen=True)
class Choice:
    """One question: a pair of texts for each of its choices, in their order, and the index of the right one."""

    id: str
    texts: tuple[Pair, ...]
    label: int

    @property
    def doubled(self) -> bool:
        """Whether a wrong choice reads like the right one: nobody can tell them apart."""
        return self.texts.count(self.texts[self.label]) > 1


@dataclass(frozen=True)
class Choices:
    """Questions in the order of their file, all with equally many choices, and where they are from.

    Made by ``of``, which checks that. ``texts`` and ``labels`` are what a model is given.
    """

    rows: tuple[Choice, ...]
    origin: str

    @classmethod
    def of(cls, rows: Sequence[Choice], origin: str) -> Choices:
        """Raises UserError: no rows, a row with another number of choices than the first, an id that occurs twice."""
        if not rows:
            raise UserError(f"{origin}: has no rows")
        expected, first = len(rows[0].texts), {}
        for number, row in enumerate(rows, start=1):
            if len(row.texts) != expected:
                reason = f"row {number} has {len(row.texts)} choices, row 1 has {expected}; all rows must have as many"
                raise UserError(f"{origin}: {reason}")
            if first.setdefault(row.id, number) != number:
                raise UserError(f"{origin}: row {number} has the id {row.id!r}, as row {first[row.id]} has")
        return cls(tuple(rows), origin)

    def __len__(self) -> int:
        return len(self.rows)

    skipped = 0
    """No row is passed over: one that cannot be read is an error."""

    @property
    def num_choices(self) -> int:
        return len(self.rows[0].texts)

    @property
    def texts(self) -> list[tuple[Pair, ...]]:
        """For each question the pairs of its choices."""
        return [row.texts for row in self.rows]

    @property
    def labels(self) -> list[int]:
        """For each question the index of the right choice."""
        return [row.label for row in self.rows]

    def first(self, count: int | None) -> Choices:
        """The first ``count`` questions; all of them for None."""
        return replace(self, rows=self.rows[:count])

    def since(self, start: int) -> Choices:
        """All questions from number ``start`` on, counted from 0."""
        return replace(self, rows=self.rows[start:])

    @property
    def majority(self) -> float:
        """Share of the most frequent label: the accuracy of a model that always takes the same place."""
        return Counter(self.labels).most_common(1)[0][1] / len(self)

    @property
    def doubled(self) -> int:
        """Number of questions in which a wrong choice reads like the right one."""
        return sum(row.doubled for row in self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of texts and labels, so that two runs can be seen to have used the same data."""
        return hashlib.sha256(json.dumps([self.texts, self.labels]).encode()).hexdigest()


def keep_choices(choices: Choices, count: int, seed: int) -> Choices:
    """Keep the right choice of every question and ``count - 1`` others, in their order.

    Which others depends on the seed and the question's id alone, not on the rows around it. What a smaller ``count``
    keeps, a larger one keeps too. Raises UserError if a question has fewer choices, or if fewer than two are asked for.
    """
    if not 2 <= count <= choices.num_choices:
        raise UserError(not_so_many(count, choices.origin, choices.num_choices))
    if count == choices.num_choices:
        return choices

    def drawn(row: Choice, index: int) -> bytes:
        return hashlib.sha256(json.dumps([seed, row.id, index]).encode()).digest()

    def kept(row: Choice) -> Choice:
        others = sorted((i for i in range(len(row.texts)) if i != row.label), key=lambda i: drawn(row, i))
        places = sorted([row.label, *others[: count - 1]])
        return replace(row, texts=tuple(row.texts[i] for i in places), label=places.index(row.label))

    return replace(choices, rows=tuple(map(kept, choices.rows)))


def not_so_many(count: int, name: str, most: int) -> Fault:
    """The fault of a number of choices that a task does not have."""
    return Fault("num_choices", count, f"{name} has {most} choices; allowed: {2 if most == 2 else f'2 to {most}'}")


# --- the tasks -------------------------------------------------------------------------------------------------------


def commonsense_qa(row: Row) -> Choice:
    """Read a row of the original files, or of the Hub's, which are flat: "Q: question" with "A: choice".

    fairseq's format; it puts one separator between the two where a model's own layout of pairs may have two. Raises
    ValueError.
    """
    asked = cell(row, "question")
    flat = not isinstance(asked, dict)
    question, options = (asked, cell(row, "choices")) if flat else (asked.get("stem"), asked.get("choices"))
    labels, texts = _options(options)
    first = f"Q: {text(question, 'question')}"
    pairs = tuple((first, f"A: {text(option, 'choices')}") for option in texts)
    return Choice(textfiles.row_id(row.cells, row.number), _some(pairs), _answer(row, "answerKey", labels))


def _options(given: object) -> tuple[list, list]:
    """Labels and texts of choices, from {"label": [...], "text": [...]} or [{"label", "text"}, ...]."""
    if isinstance(given, list) and all(isinstance(option, dict) for option in given):
        given = {name: [option.get(name) for option in given] for name in ("label", "text")}
    if not isinstance(given, dict) or not all(isinstance(given.get(name), list) for name in ("label", "text")):
        raise ValueError(f"has in 'choices' {textfiles.kind_of(given)} where labels and texts should be")
    labels, texts = given["label"], given["text"]
    if len(labels) != len(texts):
        raise ValueError(f"has in 'choices' {len(labels)} labels and {len(texts)} texts")
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise ValueError(f"has in 'choices' the label {twice[0]!r} twice")
    return labels, texts


def winogrande(row: Row) -> Choice:
    """Read a row: the sentence up to its ``_``, and each option with what follows.

    Its id is the row's number, as only some of the files have one. Raises ValueError.
    """
    sentence = text(cell(row, "sentence"), "sentence")
    if sentence.count(BLANK) != 1:
        raise ValueError(f"has {sentence.count(BLANK)} blanks ({BLANK}) in its 'sentence'; there must be one")
    before, after = sentence.split(BLANK)
    options = [text(cell(row, name), name) for name in ("option1", "option2")]
    pairs = tuple((before.rstrip(), f"{option}{after}") for option in options)
    return Choice(str(row.number), pairs, _answer(row, "answer", ["1", "2"]))


def _answer(row: Row, name: str, labels: Sequence[object]) -> int:
    """The index of a row's answer among its labels; raises ValueError, for test files too, which have no answers."""
    answer = row.cells.get(name)
    if answer in (None, ""):
        raise ValueError(f"has no {name!r}")
    if answer not in labels:
        raise ValueError(f"has the {name!r} {answer!r}; allowed: {' '.join(map(str, labels))}")
    return labels.index(answer)


# --- files of your own -----------------------------------------------------------------------------------------------


def own(row: Row) -> Choice:
    """Read a row of a file of json lines, in one of two forms; texts are taken as they are. Raises ValueError.

    - ``question``, a text, and ``choices``, a list of texts: the question is paired with each of them.
    - ``first`` and ``second``, two lists of texts, equally long: each first text with the second text in its place.

    ``label`` says which is right: a number, the index from 0; or a text, the letter (A for the first one) or the
    choice's own text. ``id`` is a text or a whole number; the row's number if there is none.
    """
    if "first" in row.cells or "second" in row.cells:
        if mixed := [name for name in ("question", "choices") if name in row.cells]:
            raise ValueError(f"has {mixed[0]!r} beside 'first' and 'second'; give one form")
        name, columns = "second", [_texts(cell(row, name), name) for name in ("first", "second")]
        if len(columns[0]) != len(columns[1]):
            raise ValueError(f"has {len(columns[0])} texts in 'first' and {len(columns[1])} in 'second'")
        pairs = tuple(zip(*columns))
    else:
        question, name = text(cell(row, "question"), "question"), "choices"
        pairs = tuple((question, option) for option in _texts(cell(row, name), name))
    names = [second for _, second in pairs]
    return Choice(textfiles.row_id(row.cells, row.number), _some(pairs), _own_label(cell(row, "label"), names, name))


def _texts(value: object, name: str) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"has in {name!r} {textfiles.kind_of(value)} where a list of texts should be")
    return [text(one, name) for one in value]


def _some(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    if len(pairs) < 2:
        raise ValueError(f"has {len(pairs)} choice(s); there must be two or more")
    return pairs


def _own_label(label: object, names: list[str], where: str) -> int:
    """The index that a label stands for; a text that can be read in two ways is refused."""
    if isinstance(label, int) and not isinstance(label, bool):
        if not 0 <= label < len(names):
            raise ValueError(f"has the label {label}; allowed: 0 to {len(names) - 1}, counted from 0")
        return label
    places = [index for index, name in enumerate(names) if name == label]
    places += [index for index in range(min(len(names), len(LETTERS))) if LETTERS[index] == label]
    if len(set(places)) == 1:
        return places[0]
    if places:
        raise ValueError(f"has the label {label!r}, which fits more than one choice; give its index, from 0")
    letters = f"{LETTERS[0]} to {LETTERS[min(len(names), len(LETTERS)) - 1]}"
    raise ValueError(
        f"has the label {label!r}; allowed: an index from 0 as a number without quotes, a letter ({letters}), or one "
        f"of the texts in {where!r}"
    )
