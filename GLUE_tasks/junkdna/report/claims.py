"""The paper's statements as numbers with their uncertainty.

Of every curve: does it fall monotonically with sparsity, and at which sparsity has it lost 5 % of its base? Of every pair of
tasks (on the same share of data) and of every pair of shares (of the same task): how far apart are the two curves?
Nothing here knows which task is hard: a gap is the first minus the second, and its sign is the answer.

Intervals are percentile bootstraps over seeds, 95 %. With few seeds every resample is counted with its exact probability
instead of drawing some; the interval is then as exact as a bootstrap can be, and still too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from math import factorial, prod

import numpy as np

from junkdna.report.collect import DONE
from junkdna.report.summary import LINE, MEASURES

LEVEL = 0.95
"""A curve has lost 5 % where it first falls below this fraction of its base."""

TOLERANCE = 0.01
"""A rise of up to one hundredth of the base between neighbouring sparsities counts as noise, not as a rise."""

EXACT = 6
"""Up to this many seeds all resamples are enumerated (6 seeds: 462); above, DRAWS are drawn from SEED."""

DRAWS, SEED, COVERAGE = 9_999, 0, 0.95
COLUMNS = [
    *("claim", "measure", "model", "curve", "task_a", "percentage_a", "task_b", "percentage_b", "pattern", "sparsity"),
    *("estimate", "low", "high", "t_low", "t_high", "share", "seeds_a", "seeds_b", "paired", "remark"),
]


@dataclass(frozen=True, eq=False)
class Line:
    """One curve: ``values`` is seeds x patterns, as fractions of the base, NaN where no run is."""

    model: str
    task: str
    percentage: float
    curve: str
    patterns: tuple[str, ...]
    sparsities: np.ndarray
    seeds: tuple
    values: np.ndarray


def claims(cells, measure: str = "normalised", first: bool = False):
    """Return every claim as one row of a DataFrame; see COLUMNS. ``first``: the base is each curve's own first point."""
    import pandas as pd

    curves = lines(cells, measure)
    rows = [row for line in curves for row in (falls(line), loses(line, first))]
    for a, b in pairs(curves):
        rows += gaps(a, b)
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["measure"] = measure
    return table


def both(cells, first: bool = False):
    """Return the claims about the values as they are and above chance, in one table."""
    import pandas as pd

    return pd.concat([claims(cells, measure, first) for measure in MEASURES], ignore_index=True)


def lines(cells, measure: str) -> list[Line]:
    """Return the curves that have at least two patterns with a value."""
    pruned = cells[(cells["status"] == DONE) & (cells["kind"] != "dense") & cells[measure].notna()]
    found = []
    for key, mine in pruned.groupby(LINE, sort=False):
        sparsity = mine.groupby("pattern")["sparsity"].mean().sort_values(kind="stable")
        values = mine.pivot_table(index="seed", columns="pattern", values=measure, aggfunc="mean")[list(sparsity.index)]
        if len(sparsity) > 1:
            seeds = tuple(values.index)
            found.append(Line(*key, tuple(sparsity.index), sparsity.to_numpy(), seeds, values.to_numpy(float)))
    return found


def pairs(curves: list[Line]) -> list[tuple[Line, Line]]:
    """Pair the curves of one model and kind: tasks on the same share of the data, and shares of the same task.

    Two tasks that were run on different shares only are paired all the same; the shares stand beside their names.
    """

    def comparable(a: Line, b: Line) -> bool:
        if (a.model, a.curve) != (b.model, b.curve):
            return False
        if a.task == b.task or a.percentage == b.percentage:
            return True
        shares = [
            {c.percentage for c in curves if (c.model, c.curve, c.task) == (a.model, a.curve, x.task)} for x in (a, b)
        ]
        return not shares[0] & shares[1]

    return [(a, b) for a, b in combinations(curves, 2) if comparable(a, b)]


# --- one curve -------------------------------------------------------------------------------------------------------


def falls(line: Line) -> dict:
    """Spearman's rank correlation of the mean curve with sparsity, and the share of resamples that never rise."""
    from scipy.stats import spearmanr

    mean = average(line.values, np.ones((1, len(line.seeds))))[0]
    steps = np.diff(mean)
    constant = np.ptp(mean) == 0
    rank = float("nan") if constant or len(mean) < 3 else float(spearmanr(line.sparsities, mean).statistic)
    weights, chances = resamples(len(line.seeds))
    steady = (np.diff(average(line.values, weights), axis=1) <= TOLERANCE).all(axis=1)
    rise = max(float(steps.max()), 0.0)
    remark = f"{100 * (mean[-1] - mean[0]):+.1f} points from first to last, largest rise {100 * rise:.1f}"
    share = float(chances[steady].sum()) if len(line.seeds) > 1 else None
    return about(line) | {"claim": "monotone fall", "estimate": rank, "share": share, "remark": remark}


def loses(line: Line, first: bool) -> dict:
    """The sparsity at which the mean curve first falls below LEVEL, between neighbours by a straight line; inf: never."""
    start = None if first else (0.0, 1.0)
    mean = average(line.values, np.ones((1, len(line.seeds))))
    estimate = float(crossing(mean, line.sparsities, start)[0])
    weights, chances = resamples(len(line.seeds))
    low, high = interval(crossing(average(line.values, weights), line.sparsities, start), chances, len(line.seeds))
    never = f"never up to sparsity {line.sparsities.max():.4g}" if np.isinf(estimate) else ""
    return about(line) | {"claim": "loses 5 %", "estimate": estimate, "low": low, "high": high, "remark": never}


def about(line: Line) -> dict:
    """Which curve a claim is about."""
    return {
        "model": line.model,
        "curve": line.curve,
        "task_a": line.task,
        "percentage_a": line.percentage,
        "seeds_a": len(line.seeds),
        "remark": "",
    }


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


# --- two curves ------------------------------------------------------------------------------------------------------


def gaps(a: Line, b: Line) -> list[dict]:
    """The difference of two curves (a - b) at every pattern they share, and its mean over them.

    Where the two share seeds, only those count and are resampled together; otherwise each curve is resampled by itself.
    """
    shared = [pattern for pattern in a.patterns if pattern in b.patterns]
    if not shared:
        return []
    left = a.values[:, [a.patterns.index(pattern) for pattern in shared]]
    right = b.values[:, [b.patterns.index(pattern) for pattern in shared]]
    common = [seed for seed in a.seeds if seed in b.seeds]
    paired = bool(common)
    if paired:
        left = left[[a.seeds.index(seed) for seed in common]]
        right = right[[b.seeds.index(seed) for seed in common]]
        weights, chances = resamples(len(common))
        spread = average(left - right, weights, fill=False)
        centre = average(left - right, np.ones((1, len(common))), fill=False)[0]
        n_a = n_b = len(common)
    else:
        n_a, n_b = len(a.seeds), len(b.seeds)
        one, other, chances = resample_both(n_a, n_b)
        spread = average(left, one, fill=False) - average(right, other, fill=False)
        centre = (average(left, np.ones((1, n_a)), False) - average(right, np.ones((1, n_b)), False))[0]
    named = about(a) | {
        "task_b": b.task,
        "percentage_b": b.percentage,
        "seeds_a": n_a,
        "seeds_b": n_b,
        "paired": paired,
    }
    seeds = n_a if paired else min(n_a, n_b)
    rows = []
    for i, pattern in enumerate(shared):
        if not np.isnan(centre[i]):
            low, high = interval(spread[:, i], chances, seeds)
            place = {"pattern": pattern, "sparsity": float(a.sparsities[a.patterns.index(pattern)])}
            rows.append(named | place | {"claim": "gap", "estimate": float(centre[i]), "low": low, "high": high})
    if not rows:
        return []
    low, high = interval(row_means(spread), chances, seeds)
    mean = {"claim": "mean gap", "estimate": float(np.nanmean(centre)), "low": low, "high": high}
    t_low, t_high = student(row_means(left - right)) if paired else (None, None)
    return [named | mean | {"t_low": t_low, "t_high": t_high, "remark": f"over {len(rows)} sparsities"}, *rows]


def student(differences: np.ndarray) -> tuple[float | None, float | None]:
    """Student's t interval of the mean of one difference per seed: wide with few seeds, as it should be."""
    from scipy.stats import t

    differences = differences[~np.isnan(differences)]
    n = len(differences)
    if n < 2:
        return None, None
    half = float(t.ppf(0.5 + COVERAGE / 2, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    centre = float(differences.mean())
    return centre - half, centre + half


# --- resampling ------------------------------------------------------------------------------------------------------


def resamples(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bootstrap resamples of ``n`` seeds as counts (resamples x seeds), and the probability of each."""
    if n <= EXACT:
        counts = np.array([np.bincount(draw, minlength=n) for draw in combinations_with_replacement(range(n), n)])
        chances = [factorial(n) / prod(factorial(int(k)) for k in row) / n**n for row in counts]
        return counts, np.array(chances)
    counts = np.random.default_rng(SEED).multinomial(n, [1 / n] * n, size=DRAWS)
    return counts, np.full(DRAWS, 1 / DRAWS)


def resample_both(n_a: int, n_b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return resamples of two independent sets of seeds: counts of one, counts of the other, probability of each pair."""
    (one, p), (other, q) = resamples(n_a), resamples(n_b)
    if len(one) * len(other) <= 2 * DRAWS:
        i, j = np.divmod(np.arange(len(one) * len(other)), len(other))
        return one[i], other[j], p[i] * q[j]
    draw = np.random.default_rng(SEED)
    i, j = draw.choice(len(one), DRAWS, p=p / p.sum()), draw.choice(len(other), DRAWS, p=q / q.sum())
    return one[i], other[j], np.full(DRAWS, 1 / DRAWS)


def average(values: np.ndarray, weights: np.ndarray, fill: bool = True) -> np.ndarray:
    """Return the weighted mean curves (weights x patterns) of the values that are there.

    A pattern that a resample has no value for is bridged by a straight line between its neighbours, or left NaN.
    """
    there = ~np.isnan(values)
    total = weights @ there
    with np.errstate(invalid="ignore"):
        curves = np.where(total > 0, weights @ np.where(there, values, 0.0) / np.maximum(total, 1e-300), np.nan)
    if fill:
        place = np.arange(values.shape[1])
        for i in np.flatnonzero(np.isnan(curves).any(axis=1)):
            known = ~np.isnan(curves[i])
            if known.any():
                curves[i] = np.interp(place, place[known], curves[i, known])
    return curves


def row_means(table: np.ndarray) -> np.ndarray:
    """Mean of each row over what is there; NaN for an empty row, without a warning."""
    there = ~np.isnan(table)
    count = there.sum(axis=1)
    return np.where(count > 0, np.where(there, table, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def interval(statistics: np.ndarray, chances: np.ndarray, seeds: int) -> tuple[float | None, float | None]:
    """Return the percentile interval of a weighted sample: inf is a value, NaN is none. One seed has no interval."""
    known = ~np.isnan(statistics)
    if seeds < 2 or not known.any():
        return None, None
    order = np.argsort(statistics[known], kind="stable")
    values, cumulated = statistics[known][order], np.cumsum(chances[known][order])
    cumulated /= cumulated[-1]
    edges = np.searchsorted(cumulated, [(1 - COVERAGE) / 2 - 1e-12, (1 + COVERAGE) / 2 - 1e-12])
    return float(values[edges[0]]), float(values[min(edges[1], len(values) - 1)])


def caution(seeds: int) -> str:
    """What the number of seeds means for an interval, in words."""
    if seeds < 2:
        return "one seed: no interval"
    distinct = factorial(2 * seeds - 1) // (factorial(seeds) * factorial(seeds - 1))
    return f"{seeds} seeds: {distinct} distinct resamples" + (", too narrow" if seeds < 10 else "")
