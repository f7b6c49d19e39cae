"""Uncertainty over questions: a run that scored every question by itself says how far its result can be trusted.

``answers`` reads what each question, or each sentence of a translation, adds to a metric. Resamples of one set of
questions use the same draws in every run, so that a run and its dense run, or two curves, are paired question by
question. Runs of different sets get draws of their own: they are independent. A file that is missing or damaged costs
its run the interval, nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from junkdna.report import answers
from junkdna.report.reading import Odd
from junkdna.report.resampling import DRAWS, interval

if TYPE_CHECKING:
    from pandas import DataFrame

CHUNK = 256
"""Resamples that are drawn at a time: 256 of 10,000 questions are 20 MB."""

UNDEFINED = 0.01
"""Largest share of resamples that may have no value, as where none of the drawn questions was answered by the base."""

OTHERS = "its {} are not those of the run that it is compared with"


@dataclass(frozen=True, eq=False)
class Draws:
    """The resampled results of one run: ``means`` is float64 (DRAWS,), ``questions`` names the set, of ``count``.

    ``unit`` says what is asked: questions, or sentences.
    """

    questions: str
    count: int
    means: np.ndarray
    unit: str = "questions"


# --- resampling ------------------------------------------------------------------------------------------------------


def add(cells: DataFrame, wanted) -> None:
    """Add to the cells ``draws`` (Draws or None) and ``draws_remark``: why a run that should have them has none.

    ``wanted`` is a boolean per cell: finished runs whose curve has one seed only, and the dense ones beside them.
    """
    found, remarks = {}, {}
    for i in cells.index[wanted]:
        cell = cells.loc[i]
        try:
            data = cell.get("data_eval_sha256")
            data = data if isinstance(data, str) else ""
            read = answers.read(cell["path"], cell["metric"], cell["value"], cell["predictions_digest"], data=data)
        except Odd as reason:
            remarks[i] = str(reason)
            continue
        if read is not None:
            found[i] = read
    with_scores = {cells.at[i, "family"] for i in found}
    made = resampled(found)
    cells["draws"] = [made.get(i) for i in cells.index]
    cells["draws_remark"] = [
        remarks.get(i, "") if digest or family in with_scores else ""  # a family that keeps no such files lacks none
        for i, family, digest in zip(cells.index, cells["family"], cells["predictions_digest"])
    ]


def resampled(found: dict) -> dict:
    """Return Draws for every run's Answers; runs of the same questions are resampled together."""
    sets: dict[tuple, list] = {}
    for i, mine in found.items():
        sets.setdefault(tuple(sorted(mine.names)), []).append(i)
    made = {}
    for names, runs in sets.items():
        digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest()
        tables = [in_order(found[i]).reshape(len(names), -1) for i in runs]
        ends = np.cumsum([table.shape[1] for table in tables])[:-1]
        means = np.split(bootstrap(np.concatenate(tables, axis=1), int(digest[:16], 16)), ends, axis=1)
        for i, mean in zip(runs, means):
            mine = found[i]
            sums = (len(names) * mean).reshape(len(mean), *mine.counts.shape[1:])
            made[i] = Draws(digest, len(names), mine.values(sums), mine.unit)
    return made


def in_order(mine: answers.Answers) -> np.ndarray:
    """What the questions add, sorted by their names: one set has one order."""
    return mine.counts[sorted(range(len(mine.names)), key=mine.names.__getitem__)]


def bootstrap(scores: np.ndarray, seed: int) -> np.ndarray:
    """Return the means (DRAWS x numbers) of resamples with replacement of the questions (questions x numbers)."""
    draw = np.random.default_rng(seed)
    n = len(scores)
    means = []
    for start in range(0, DRAWS, CHUNK):
        size = min(CHUNK, DRAWS - start)
        picked = draw.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(picked.ravel(), minlength=size * n).reshape(size, n)
        means.append(counts @ scores / n)
    return np.concatenate(means)


# --- intervals -------------------------------------------------------------------------------------------------------


def compared(cell: dict, measure: str) -> np.ndarray | None:
    """The resampled values of a measure of one run against its base; None if either has no draws, or other questions.

    ``measure`` is "ratio" (value / base), "normalised" (the same, or base / value where less is better) or
    "above_chance". A resample without a value is NaN.
    """
    mine, base = cell["draws"], cell["base_draws"]
    if not isinstance(mine, Draws) or not isinstance(base, Draws) or mine.questions != base.questions:
        return None
    top, bottom = mine.means, base.means
    less = cell["better"] == "lower"
    if measure == "above_chance":
        top, bottom = top - cell["chance"], bottom - cell["chance"]
        bottom = np.where(bottom < 0 if less else bottom > 0, bottom, np.nan)
        return top / bottom
    if measure == "normalised" and less:
        top, bottom = np.where(bottom > 0, bottom, np.nan), top
    return top / np.where(bottom > 0, bottom, np.nan)


def remark(cell: dict) -> str:
    """Why a run's share has no interval over questions although questions were scored; empty if that is not so."""
    mine, base = cell["draws"], cell["base_draws"]
    if cell["draws_remark"]:
        return cell["draws_remark"]
    if not isinstance(mine, Draws) or cell["base_path"] != cell["base_path"]:
        return ""
    if not isinstance(base, Draws):
        return f"of the run that it is compared with: {cell['base_draws_remark']}" if cell["base_draws_remark"] else ""
    return "" if mine.questions == base.questions else OTHERS.format(mine.unit)


def bounds(statistics: np.ndarray | None) -> tuple[float | None, float | None]:
    """The percentile interval of resampled statistics; none if too many of them are undefined. inf is a value."""
    known = None if statistics is None else defined(statistics[:, None])
    if known is None:
        return None, None
    return interval(known[:, 0], np.full(len(known), 1 / len(known)), len(known))


def defined(draws: np.ndarray) -> np.ndarray | None:
    """The resamples (rows) that have every value; None if too many of them lack one."""
    known = draws[~np.isnan(draws).any(axis=1)]
    return known if len(known) >= (1 - UNDEFINED) * len(draws) else None
