"""Word problems: a text with slots in the place of its numbers, the numbers, an equation and an answer."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property

from junkdna.errors import UserError
from junkdna.families import textfiles
from junkdna.families.reasoning.equations import parse, same, slot_of, value
from junkdna.families.reasoning.rows import Row, cell, text

IN_TEXT = re.compile(r"\bnumber[0-9]+\b")
"""What is a slot within a text."""


@dataclass(frozen=True)
class Problem:
    """One problem. ``text`` has ``number0``, ``number1``, ... in the place of ``numbers``; ``equation`` has their
    names too. The equation may fail to give the answer: some of the data is wrong.
    """

    id: str
    text: str
    numbers: tuple[float, ...]
    equation: tuple[str, ...]
    answer: float

    def solved_by(self, tokens: Sequence[str]) -> bool:
        """Whether an equation, in whatever form, gives the answer; one that is malformed or divides by zero does
        not.
        """
        return same(value(tokens, self.numbers), self.answer)

    @property
    def noisy(self) -> bool:
        """Whether its own equation does not give its answer."""
        return not self.solved_by(self.equation)

    def shown(self, values: bool = False) -> str:
        """The text that a model reads: with the slots' names, or with the numbers put back (``values``)."""
        if not values:
            return self.text
        return IN_TEXT.sub(lambda found: number_text(self.numbers[slot_of(found[0])]), self.text)


@dataclass(frozen=True)
class Problems:
    """Problems in the order of their file, and where they are from."""

    rows: tuple[Problem, ...]
    origin: str

    @classmethod
    def of(cls, rows: Sequence[Problem], origin: str) -> Problems:
        """Raises UserError: no rows, or an id that occurs twice."""
        if not rows:
            raise UserError(f"{origin}: has no rows")
        first = {}
        for number, row in enumerate(rows, start=1):
            if first.setdefault(row.id, number) != number:
                raise UserError(f"{origin}: row {number} has the id {row.id!r}, as row {first[row.id]} has")
        return cls(tuple(rows), origin)

    def __len__(self) -> int:
        return len(self.rows)

    skipped = 0
    """No row is passed over: one that cannot be read is an error."""

    def first(self, count: int | None) -> Problems:
        """The first ``count`` problems; all of them for None."""
        return replace(self, rows=self.rows[:count])

    def since(self, start: int) -> Problems:
        """All problems from number ``start`` on, counted from 0."""
        return replace(self, rows=self.rows[start:])

    @property
    def noisy(self) -> int:
        """Number of problems whose equation does not give their answer. They stay, as noise."""
        return sum(row.noisy for row in self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all but the ids, so that two runs can be seen to have used the same data."""
        return hashlib.sha256(json.dumps([astuple(row)[1:] for row in self.rows]).encode()).hexdigest()


@dataclass(frozen=True)
class Recurring:
    """Which problems of one split are in the training split already, one entry for each in its order.

    ``exact``: with the same text and numbers. ``masked``: with the same text, where numbers are slots; all that are
    exact are among them. The case of a text's first letter counts for nothing.
    """

    exact: tuple[bool, ...]
    masked: tuple[bool, ...]


def recurring(train: Problems, others: Problems) -> Recurring:
    """Find the problems of ``others`` that occur in ``train``."""
    known = {(_plain(row.text), row.numbers) for row in train.rows}
    texts = {words for words, _ in known}
    exact = tuple((_plain(row.text), row.numbers) in known for row in others.rows)
    return Recurring(exact, tuple(_plain(row.text) in texts for row in others.rows))


def key(problem: Problem) -> tuple:
    """What two copies of a problem have in common."""
    return _plain(problem.text), problem.numbers, problem.equation, problem.answer


def _plain(words: str) -> str:
    return words[:1].lower() + words[1:]


def number_text(number: float) -> str:
    """A number as one writes it: 8 and not 8.0."""
    return str(int(number)) if number.is_integer() else repr(number)


# --- rows ------------------------------------------------------------------------------------------------------------


def problem(row: Row) -> Problem:
    """Read a row of the original csv files, or of one's own: ``text``, ``numbers``, ``equation``, ``answer``.

    ``numbers`` is a list, or a text with spaces between them. The text must name the slot of every number, and no
    other. Raises ValueError with the reason.
    """
    words = text(cell(row, "text", "Question"), "text")
    numbers = _numbers(cell(row, "numbers", "Numbers"))
    _check_slots(words, len(numbers))
    written = text(cell(row, "equation", "Equation"), "equation")
    try:
        equation = parse(written, len(numbers))
    except ValueError as error:
        raise ValueError(f"has the equation {written!r}, which cannot be parsed: {error}") from None
    answer = _number(cell(row, "answer", "Answer"), "answer")
    return Problem(textfiles.row_id(row.cells, row.number), words, numbers, equation, answer)


def _numbers(given: object) -> tuple[float, ...]:
    if not isinstance(given, (str, list)):
        raise ValueError(f"has in 'numbers' {textfiles.kind_of(given)} where a list of numbers should be")
    return tuple(_number(one, "numbers") for one in (given.split() if isinstance(given, str) else given))


WRITTEN = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""A number as files have it; Python itself reads 1_000 too, and digits of other scripts."""


def _number(given: object, name: str) -> float:
    """A finite number, also one that is written as text; raises ValueError."""
    wrong = ValueError(f"has in {name!r} {given!r}, which is not a finite number")
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        raise wrong
    if isinstance(given, str) and not WRITTEN.fullmatch(given.strip()):
        raise wrong
    try:
        made = float(given)
    except (ValueError, OverflowError):
        raise wrong from None
    if not math.isfinite(made):
        raise wrong
    return made


def _check_slots(words: str, count: int) -> None:
    """A model sees the names of the slots alone: a number without one could not be used but by guessing."""
    named, expected = set(IN_TEXT.findall(words)), {f"number{index}" for index in range(count)}
    if lacking := sorted(expected - named):
        raise ValueError(f"has {count} number(s), but its text does not name the slot {lacking[0]!r}")
    if extra := sorted(named - expected):
        raise ValueError(f"has {count} number(s), none for the slot {extra[0]!r} in its text (the first is number0)")
