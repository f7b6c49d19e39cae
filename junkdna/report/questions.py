"""Uncertainty over questions: a run that scored every question by itself says how far its mean can be trusted.

``predictions.jsonl`` has a line per question: an object with ``id`` and ``scores`` (metric: number). Resamples of one
set of questions use the same draws in every run, so that a run and its dense run, or two curves, are paired question
by question. Runs of different sets get draws of their own: they are independent. A file that is missing or damaged
costs its run the interval, nothing else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from junkdna.errors import one_line, visible
from junkdna.report.reading import Odd, regular_file
from junkdna.report.resampling import DRAWS, interval
from junkdna.runs import records, seals

FILE = records.PREDICTIONS
CHUNK = 256
"""Resamples that are drawn at a time: 256 of 10,000 questions are 20 MB."""

UNDEFINED = 0.01
"""Largest share of resamples that may have no value, as where none of the drawn questions was answered by the base."""

ROUNDING = 1e-5
"""By how much the mean of a file's scores may differ from the run's result."""

OTHERS = "its questions are not those of the run that it is compared with"


@dataclass(frozen=True, eq=False)
class Draws:
    """The resampled means of one run: ``means`` is float64 (DRAWS,), ``questions`` names the set, of ``count``."""

    questions: str
    count: int
    means: np.ndarray


# --- reading ---------------------------------------------------------------------------------------------------------


def read(folder: Path, metric: str, value: float, digest: str | None = None) -> dict[str, float] | None:
    """Return the score of every question by its id; None if the file scores no question by this metric.

    Raises Odd, in one line, if the file is missing or damaged (it has another ``digest`` than the record says), or if
    its mean is not the run's ``value``.
    """
    scores: dict[str, float] = {}
    lacking = []
    content = regular_file(folder / FILE)
    if digest and seals.digest(content) != digest:
        raise Odd(f"{FILE} is damaged or was changed")
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        name, score = scored(line, metric, number)
        if name in scores:
            raise Odd(f"{FILE}, line {number}: id {name[:40]} occurs twice")
        scores[name] = score
        if score is None:
            lacking.append(number)
    if not scores:
        raise Odd(f"{FILE} is empty")
    if len(lacking) == len(scores):
        return None
    if lacking:
        raise Odd(f"{FILE}, line {lacking[0]}: scores.{metric} is missing")
    mean = sum(scores.values()) / len(scores)
    if not abs(mean - value) <= ROUNDING * max(1, abs(value)):
        raise Odd(f"{FILE}: {len(scores)} questions with a mean of {mean:.6g}, and the run's result is {value:.6g}")
    return scores


def scored(line: bytes, metric: str, number: int) -> tuple[str, float | None]:
    """One line's id and its score, None where it has none by this metric; raises Odd."""
    try:
        said = json.loads(line)
    except RecursionError:
        raise Odd(f"{FILE}, line {number}: is nested too deeply") from None
    except ValueError as error:  # of the text or of its encoding
        raise Odd(f"{FILE}, line {number}: is not JSON: {one_line(error)}") from None
    name = said.get("id") if isinstance(said, dict) else None
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise Odd(f"{FILE}, line {number}: id is missing")
    if not isinstance(said.get("scores"), dict):
        raise Odd(f"{FILE}, line {number}: scores is missing")
    score = said["scores"].get(metric)
    if score is None:
        return visible(str(name)), None
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not abs(score) <= 1e300 or score != score:
        raise Odd(f"{FILE}, line {number}: scores.{metric} is not a number")
    return visible(str(name)), float(score)


# --- resampling ------------------------------------------------------------------------------------------------------


def add(cells, wanted) -> None:
    """Add to the cells ``draws`` (Draws or None) and ``draws_remark``: why a run that should have them has none.

    ``wanted`` is a boolean per cell: finished runs whose curve has one seed only, and dense ones.
    """
    found, remarks = {}, {}
    for i in cells.index[wanted]:
        cell = cells.loc[i]
        try:
            scores = read(cell["path"], cell["metric"], cell["value"], cell["predictions_digest"])
        except Odd as reason:
            remarks[i] = str(reason)
            continue
        if scores is not None:
            found[i] = scores
    with_scores = {cells.at[i, "family"] for i in found}
    made = resampled(found)
    cells["draws"] = [made.get(i) for i in cells.index]
    cells["draws_remark"] = [
        remarks.get(i, "") if digest or family in with_scores else ""  # a family that keeps no such files lacks none
        for i, family, digest in zip(cells.index, cells["family"], cells["predictions_digest"])
    ]


def resampled(found: dict) -> dict:
    """Return Draws for every run's scores; runs of the same questions are resampled together."""
    sets: dict[tuple, list] = {}
    for i, scores in found.items():
        sets.setdefault(tuple(sorted(scores)), []).append(i)
    made = {}
    for names, runs in sets.items():
        digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest()
        scores = np.array([[found[i][name] for i in runs] for name in names])
        for i, means in zip(runs, bootstrap(scores, int(digest[:16], 16)).T):
            made[i] = Draws(digest, len(names), means)
    return made


def bootstrap(scores: np.ndarray, seed: int) -> np.ndarray:
    """Return the means (DRAWS x runs) of resamples with replacement of the questions (questions x runs)."""
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
    return "" if mine.questions == base.questions else OTHERS


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
