"""Complete cases, and intervals of means over few seeds: the exact bootstrap, and Student's t.

With few seeds every resample is counted with its exact probability instead of drawing some. The interval is then as
exact as a bootstrap can be, and still too narrow: two sets of three seeds from one normal distribution are told apart
by it in 18 of 100 draws, by Welch's t in 4.
"""

from __future__ import annotations

import warnings
from itertools import combinations_with_replacement
from math import factorial, prod

import numpy as np

EXACT = 6
"""Up to this many seeds all resamples are enumerated (6 seeds: 462); above, DRAWS are drawn from SEED."""

DRAWS, SEED = 9_999, 0
COVERAGE = 0.95
"""Probability of every interval."""


def complete(values: np.ndarray, least: int = 1) -> tuple[list[int], list[int]]:
    """Return the rows and columns of the largest block without NaN, as far as simple candidates find it.

    Candidates for the columns are those with at least k values, for every k, and those of each row; their rows are the
    ones that have them all. A block of one row, which has no interval, is taken only if there is no other. Of
    equally large blocks the one with more rows is taken: more seeds. A block of fewer than ``least`` columns is none.
    """
    there = ~np.isnan(values)
    columns = [there.sum(axis=0) >= k for k in range(1, len(there) + 1)] + list(there)
    blocks = [(there[:, wanted].all(axis=1), wanted) for wanted in columns if wanted.sum() >= least]
    if not blocks:
        return [], []
    sizes = [(rows.sum(), columns.sum()) for rows, columns in blocks]
    best = max(range(len(blocks)), key=lambda i: (min(sizes[i][0], 2), sizes[i][0] * sizes[i][1], sizes[i][0]))
    rows, columns = blocks[best]
    if not rows.any():
        return [], []
    return np.flatnonzero(rows).tolist(), np.flatnonzero(columns).tolist()


def resamples(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bootstrap resamples of ``n`` seeds as counts (resamples x seeds), and the probability of each."""
    if n <= EXACT:
        counts = np.array([np.bincount(draw, minlength=n) for draw in combinations_with_replacement(range(n), n)])
        chances = [factorial(n) / prod(factorial(int(k)) for k in row) / n**n for row in counts]
        return counts, np.array(chances)
    counts = np.random.default_rng(SEED).multinomial(n, [1 / n] * n, size=DRAWS)
    return counts, np.full(DRAWS, 1 / DRAWS)


def resample_both(n_a: int, n_b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return resamples of two independent sets of seeds: counts of one and of the other, probability of each pair."""
    (one, p), (other, q) = resamples(n_a), resamples(n_b)
    if len(one) * len(other) <= 2 * DRAWS:
        i, j = np.divmod(np.arange(len(one) * len(other)), len(other))
        return one[i], other[j], p[i] * q[j]
    draw = np.random.default_rng(SEED)
    i, j = draw.choice(len(one), DRAWS, p=p / p.sum()), draw.choice(len(other), DRAWS, p=q / q.sum())
    return one[i], other[j], np.full(DRAWS, 1 / DRAWS)


def average(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean curves (weights x patterns) of complete cases (seeds x patterns)."""
    return weights @ values / weights.sum(axis=1, keepdims=True)


def interval(statistics: np.ndarray, chances: np.ndarray, seeds: int) -> tuple[float | None, float | None]:
    """Return the percentile interval of a weighted sample; inf is a value. One seed has no interval."""
    if seeds < 2:
        return None, None
    order = np.argsort(statistics, kind="stable")
    values, cumulated = statistics[order], np.cumsum(chances[order])
    cumulated /= cumulated[-1]
    edges = np.searchsorted(cumulated, [(1 - COVERAGE) / 2 - 1e-12, (1 + COVERAGE) / 2 - 1e-12])
    return float(values[edges[0]]), float(values[min(edges[1], len(values) - 1)])


def caution(seeds: int) -> str:
    """What the number of seeds means for an interval, in words."""
    if seeds < 2:
        return "one seed: no interval"
    distinct = factorial(2 * seeds - 1) // (factorial(seeds) * factorial(seeds - 1))
    return f"{seeds} seeds: {distinct} distinct resamples" + (", too narrow" if seeds < 10 else "")


def welch(one: np.ndarray, other: np.ndarray) -> tuple[float | None, float | None]:
    """Welch's t interval of the difference of the means of two sets of seeds, one number per seed."""
    from scipy.stats import ttest_ind

    if min(len(one), len(other)) < 2:
        return None, None
    if np.ptp(one) == np.ptp(other) == 0:  # no spread, and nothing to divide by
        return float(one.mean() - other.mean()), float(one.mean() - other.mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # as in ``student``
        low, high = ttest_ind(one, other, equal_var=False).confidence_interval(COVERAGE)
    return float(low), float(high)


def student(differences: np.ndarray) -> tuple[float | None, float | None]:
    """Student's t interval of the mean of one difference per seed: wide with few seeds, as it should be."""
    from scipy.stats import ttest_1samp

    if len(differences) < 2:
        return None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # equal differences: the interval is their value, to rounding
        low, high = ttest_1samp(differences, 0).confidence_interval(COVERAGE)
    return float(low), float(high)
