"""What a run's ``predictions.jsonl`` says of one metric: what every question, example or sentence adds to it.

The file has a line per answer: an object with ``id`` and ``scores`` (metric: number). An example's line has its
``prediction`` and its ``label`` (numbers) instead, which ``predicted`` makes metrics of. A translation's line has the
``direction`` too, which its id begins with, and ``statistics`` (metric: whole numbers): BLEU and chrF++ are not means
over sentences, but follow exactly from the sums of these numbers. The directions of a language pair translate the same
sentences, so a sentence is drawn with all of its directions, and the value is the mean over the directions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from junkdna.errors import one_line, visible
from junkdna.report import predicted
from junkdna.report.corpus_scores import SCORES
from junkdna.report.reading import Odd, regular_file
from junkdna.runs import records, seals

FILE = records.PREDICTIONS

ROUNDING = 1e-5
"""By how much the value that a file gives may differ from the run's result, as a fraction of it or by itself."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What each of the things asked adds to a metric.

    ``counts`` is float64 (asked, directions, numbers), in the order of ``names``: one number, the score, whose mean is
    the metric; or those of whose sums ``value`` makes the metric. What is not translated has one direction. ``unit``
    says what is asked, in the plural.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    value: Callable[[np.ndarray], np.ndarray] | None
    unit: str

    def values(self, sums: np.ndarray) -> np.ndarray:
        """The metric, float64 (...), of as many things as there are, from sums over them (..., directions, numbers)."""
        values = sums[..., 0] / len(self.names) if self.value is None else self.value(sums)
        return values.mean(axis=-1)


@dataclass(frozen=True)
class Line:
    """One line of the file: ``numbers`` is None where it has none of the metric; ``kind`` says where they stand."""

    name: str
    direction: str
    source: str
    numbers: tuple[float, ...] | None
    kind: str


def read(folder: Path, metric: str, value: float, digest: str | None = None, *, data: str = "") -> Answers | None:
    """Return what every question adds to a metric; None if the file scores no question by it.

    ``data`` names what was asked about: numbers alone, which are the ids of rows without any, do not tell one
    data set's questions from another's.

    Raises Odd, in one line, if the file is missing or damaged (it has another ``digest`` than the record says), or if
    the value that it gives is not the run's ``value``.
    """
    content = regular_file(folder / FILE)
    if digest and seals.digest(content) != digest:
        raise Odd(f"{FILE} is damaged or was changed")
    directions: dict[str, dict[str, Line]] = {}
    lacking, lines = 0, 0
    for number, text in enumerate(content.split(b"\n"), 1):
        if not text.strip():
            continue
        line = read_line(text, metric, number)
        there = directions.setdefault(line.direction, {})
        if line.name in there:
            raise Odd(f"{FILE}, line {number}: id {visible(line.name)[:40]} occurs twice")
        there[line.name] = line
        lines += 1
        if line.numbers is None:
            lacking = lacking or number
    if not directions:
        raise Odd(f"{FILE} is empty")
    if all(line.numbers is None for there in directions.values() for line in there.values()):
        return None
    if lacking:
        raise Odd(f"{FILE}, line {lacking}: {where(metric, directions)}.{metric} is missing")
    answers = put_together(directions, metric, data)
    try:
        found = float(answers.values(answers.counts.sum(axis=0)))
    except (ArithmeticError, ValueError) as error:
        raise Odd(f"{FILE}: {one_line(error)}") from None
    if not abs(found - value) <= ROUNDING * max(1, abs(value)):
        what = "a mean" if answers.value is None else metric.upper() if metric in SCORES else metric
        raise Odd(f"{FILE}: {lines} {answers.unit} with {what} of {found:.6g}, and the run's result is {value:.6g}")
    return answers


def put_together(directions: dict[str, dict[str, Line]], metric: str, data: str = "") -> Answers:
    """The lines of all directions as one table; raises Odd if they are not about the same things.

    A sentence is called by its number and by the text that the first direction translates: so two language pairs with
    the same sentences on that side are resampled together.
    """
    first, *others = directions.values()
    if any(there.keys() != first.keys() for there in others):
        names = ", ".join(visible(direction or "no direction")[:40] for direction in directions)
        raise Odd(f"{FILE}: not the same sentences in each of {names}")
    kinds = {line.kind for there in directions.values() for line in there.values()}
    if len(kinds) > 1:
        raise Odd(f"{FILE}: some lines have a prediction, and some have none")
    try:
        counts = np.array([[there[name].numbers for there in directions.values()] for name in first], "float64")
    except ValueError:
        raise Odd(f"{FILE}: statistics.{metric} has not as many numbers in every line") from None
    suffixes = {name: line.source or (data if name.isdecimal() else "") for name, line in first.items()}
    names = tuple(f"{name} {suffix}" if suffix else name for name, suffix in suffixes.items())
    if kinds == {PREDICTION}:
        score = predicted.SCORES[metric]
        return Answers(names, score.counts(*counts[:, 0].T)[:, None], score.value, "examples")
    if directions.keys() != {""}:
        return Answers(names, counts, SCORES.get(metric), "sentences")
    return Answers(names, counts, None, "questions")


def read_line(text: bytes, metric: str, number: int) -> Line:
    """One line of the file; raises Odd if it is damaged."""
    place = f"{FILE}, line {number}"
    try:
        said = json.loads(text)
    except RecursionError:
        raise Odd(f"{place}: is nested too deeply") from None
    except ValueError as error:  # of the text or of its encoding
        raise Odd(f"{place}: is not JSON: {one_line(error)}") from None
    name = said.get("id") if isinstance(said, dict) else None
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise Odd(f"{place}: id is missing")
    direction, source = (said.get(key, "") for key in ("direction", "source_sha256"))
    if not isinstance(direction, str) or not isinstance(source, str):
        raise Odd(f"{place}: direction is not a text")
    if PREDICTION in said:
        return Line(str(name), "", "", _predicted(said, metric, place), PREDICTION)
    kind = where(metric, [direction])
    if not isinstance(said.get(kind), dict):
        raise Odd(f"{place}: {kind} is missing")
    given = said[kind].get(metric)
    if given is None:
        numbers = None
    else:
        numbers = tuple(given) if isinstance(given, list) and kind == STATISTICS else (given,)
        if not numbers or not all(map(is_number, numbers)):
            raise Odd(f"{place}: {kind}.{metric} is not {'a list of numbers' if kind == STATISTICS else 'a number'}")
    name = str(name).removeprefix(f"{direction}/") if direction else str(name)
    return Line(name, direction, source if direction else "", numbers, kind)


def _predicted(said: dict, metric: str, place: str) -> tuple[float, ...] | None:
    """Prediction and label, if the metric can be made of them."""
    for key in (PREDICTION, "label"):
        if not is_number(said.get(key)):
            raise Odd(f"{place}: {key} is not a number")
    return (said[PREDICTION], said["label"]) if metric in predicted.SCORES else None


PREDICTION = "prediction"
STATISTICS = "statistics"


def where(metric: str, directions) -> str:
    """The part of a line that holds a metric."""
    return STATISTICS if metric in SCORES and any(directions) else "scores"


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e300
