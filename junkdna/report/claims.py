"""The paper's statements as numbers with their uncertainty.

Of every curve: does it fall monotonically with sparsity, and at which sparsity has it lost 5 % of its base? Of every
pair of curves that differ in one thing only, an axis, the treatment or the method: how far apart are they? Nothing
here knows which task is hard: a gap is the first minus the second, and its sign is the answer.

A claim rests on complete cases: seeds that have every pattern it speaks of. A mean of other seeds at each sparsity
would show differences between seeds as a fall or a gap. What is left out for that is counted in the claim's remark.
A curve whose base is not clearly better than chance makes no claim: it is named, with the reason. Of a curve that has
such a base and clear ones, the runs of the clear ones count.

Intervals are percentile bootstraps over seeds, 95 %; of curves of one seed whose runs scored each question by itself,
over those questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from junkdna.report import collapsed, questions
from junkdna.report.collect import axes_of
from junkdna.report.lines import Line, about, lines, said_nothing
from junkdna.report.pairs import gaps, pairs
from junkdna.report.resampling import average, complete, interval, resamples
from junkdna.report.summary import MEASURES

if TYPE_CHECKING:
    from pandas import DataFrame

LEVEL = 0.95
"""A curve has lost 5 % where it first falls below this fraction of its base."""

TOLERANCE = 0.01
"""A rise of up to one hundredth of the base between neighbouring sparsities counts as noise, not as a rise."""


def columns(axes: list[str]) -> list[str]:
    """The columns of the claims: a and b are the two curves' places in words, and on each axis; ``kept`` of a mean gap
    is what each keeps of its base.
    """
    return [
        *("claim", "measure", "family", "model", "curve", "a", "b"),
        *(f"{axis}_{side}" for axis in axes for side in "ab"),
        *("pattern", "sparsity", "estimate", "low", "high", "t_low", "t_high", "share"),
        *("kept_a", "kept_b", "seeds_a", "seeds_b", "paired", "remark", "questions", "unit"),
    ]


def claims(cells: DataFrame, measure: str = "normalised", first: bool = False) -> DataFrame:
    """Return every claim as a row of a DataFrame; see ``columns``. ``first``: the base is a curve's own first point."""
    import pandas as pd

    found = lines(cells, measure)
    curves = [line for line in found if not line.silent]
    rows = [row for line in curves for row in alone(line, first)]
    rows += [said_nothing(line, line.silent) for line in found if line.silent]
    for a, b in pairs(curves):
        rows += gaps(a, b, first)
    table = pd.DataFrame(rows, columns=columns(axes_of(cells)))
    table["measure"] = measure
    return table


def both(cells: DataFrame, first: bool = False) -> DataFrame:
    """Return the claims about the values as they are and above chance, in one table."""
    import pandas as pd

    return pd.concat([claims(cells, measure, first) for measure in MEASURES], ignore_index=True)


# --- one curve -------------------------------------------------------------------------------------------------------


def alone(line: Line, first: bool) -> list[dict]:
    """The claims about one curve, of its complete cases of at least two patterns."""
    part = line.part(*complete(line.values, least=2))
    if not part.seeds:
        return [said_nothing(line, "no seed has two of its sparsities")]
    beside = [left_out(part, line), *collapsed.words(part)]
    asked = (
        {}
        if part.draws is None or questions.defined(part.draws) is None
        else {"questions": part.asked, "unit": part.unit}
    )
    levels = part.by_level()
    if len(levels.patterns) < 2:
        return [said_nothing(line, "all of its patterns have one sparsity")]
    rows = [falls(levels) | asked, loses(levels, first) | asked]
    return [row | {"remark": "; ".join(filter(None, [row["remark"], *beside]))} for row in rows]


def left_out(part: Line, line: Line) -> str:
    """What of a curve a claim rests on, if not on all of it."""
    if part.values.shape == line.values.shape:
        return ""
    patterns, seeds = len(part.patterns), len(part.seeds)
    return f"on {patterns} of {len(line.patterns)} sparsities, {seeds} of {len(line.seeds)} seeds"


def falls(line: Line) -> dict:
    """Spearman's rank correlation of the mean curve with sparsity, and the share of resamples that never rise."""
    from scipy.stats import spearmanr

    mean = line.values.mean(axis=0)
    steps = np.diff(mean)
    constant = np.ptp(mean) == 0
    rank = float("nan") if constant or len(mean) < 3 else float(spearmanr(line.sparsities, mean).statistic)
    curves, chances, several = resampled(line)
    steady = (np.diff(curves, axis=1) <= TOLERANCE).all(axis=1)
    rise = max(float(steps.max()), 0.0)
    change = 100 * (mean[-1] - mean[0])
    word = "falls" if change < 0 else "rises"  # in place of a sign: a spreadsheet takes "-8 points" for a formula
    moved = f"{word} by {abs(change):.1f} points" if abs(change) >= 0.05 else "changes by less than 0.1 points"
    remark = f"{moved} from first to last, largest rise {100 * rise:.1f}"
    share = float(chances[steady].sum()) if several > 1 else None
    return about(line) | {"claim": "monotone fall", "estimate": rank, "share": share, "remark": remark}


def loses(line: Line, first: bool) -> dict:
    """The sparsity at which the mean curve first falls below LEVEL, between neighbours by a straight line; inf: never.

    Only the two neighbours are measured: the remark names them, and that the number is the line's.
    """
    start = None if first else (0.0, 1.0)
    mean = line.values.mean(axis=0)
    estimate = float(crossing(mean[None], line.sparsities, start)[0])
    curves, chances, several = resampled(line)
    low, high = interval(crossing(curves, line.sparsities, start), chances, several)
    remark = bracket(mean, line, estimate, first)
    return about(line) | {"claim": "loses 5 %", "estimate": estimate, "low": low, "high": high, "remark": remark}


def resampled(line: Line) -> tuple[np.ndarray, np.ndarray, int]:
    """Return resamples of a curve (resamples x patterns), the probability of each, and of how many things they are.

    Those are seeds, or questions where the curve has one seed and every one of its runs scored them.
    """
    known = None if line.draws is None else questions.defined(line.draws)
    if known is not None:
        return known, np.full(len(known), 1 / len(known)), line.asked
    weights, chances = resamples(len(line.seeds))
    return average(line.values, weights), chances, len(line.seeds)


def bracket(mean: np.ndarray, line: Line, estimate: float, first: bool) -> str:
    """Between which measured points a mean curve falls below LEVEL, in words."""
    if np.isinf(estimate):
        return f"never up to sparsity {line.sparsities.max():.4g}"
    at = int((mean < LEVEL).argmax())
    if at == 0 and first:
        return f"at {line.patterns[0]} or before"
    before = "dense" if at == 0 else line.patterns[at - 1]
    return f"between {before} and {line.patterns[at]} (line: {estimate:.3f})"


def crossing(curves: np.ndarray, sparsities: np.ndarray, start: tuple[float, float] | None) -> np.ndarray:
    """Return for each curve (row) the sparsity at which it first falls below LEVEL; inf where it does not.

    ``start`` is a point before the first one: the dense run, at sparsity 0 and 1 of itself.
    """
    if start is not None:
        sparsities = np.concatenate([[start[0]], sparsities])
        curves = np.column_stack([np.full(len(curves), start[1]), curves])
    below = curves < LEVEL
    at = below.argmax(axis=1)
    before = np.maximum(at - 1, 0)
    rows = np.arange(len(curves))
    y0, y1, x0, x1 = curves[rows, before], curves[rows, at], sparsities[before], sparsities[at]
    with np.errstate(divide="ignore", invalid="ignore"):
        where = np.where(at > 0, x0 + (x1 - x0) * (y0 - LEVEL) / (y0 - y1), x1)
    return np.where(below.any(axis=1), where, np.inf)
