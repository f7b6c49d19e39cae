"""The paper's statements as numbers with their uncertainty.

Of every curve: does it fall monotonically with sparsity, and at which sparsity has it lost 5 % of its base? Of every
pair of curves of one family, model, treatment and kind that differ in one axis only: how far apart are they? Nothing
here knows which task is hard: a gap is the first minus the second, and its sign is the answer.

A claim rests on complete cases: seeds that have every pattern it speaks of. A mean of other seeds at each sparsity
would show differences between seeds as a fall or a gap. What is left out for that is counted in the claim's remark.

Intervals are percentile bootstraps over seeds, 95 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from junkdna.report.collect import DONE, axes_of
from junkdna.report.names import Place, place_words
from junkdna.report.resampling import average, complete, interval, resample_both, resamples, student
from junkdna.report.summary import LINE, MEASURES

LEVEL = 0.95
"""A curve has lost 5 % where it first falls below this fraction of its base."""

TOLERANCE = 0.01
"""A rise of up to one hundredth of the base between neighbouring sparsities counts as noise, not as a rise."""


def columns(axes: list[str]) -> list[str]:
    """The columns of the claims: a and b are the two curves' places in words, and on each axis."""
    return [
        *("claim", "measure", "family", "model", "curve", "a", "b"),
        *(f"{axis}_{side}" for axis in axes for side in "ab"),
        *("pattern", "sparsity", "estimate", "low", "high", "t_low", "t_high", "share"),
        *("seeds_a", "seeds_b", "paired", "remark"),
    ]


@dataclass(frozen=True, eq=False)
class Line:
    """One curve: ``values`` is seeds x patterns, as fractions of the base, NaN where no run is.

    ``settings`` is what its runs share in training and scope, as (name, text) pairs: curves at two places can differ.
    """

    family: str
    model: str
    place: Place
    curve: str
    patterns: tuple[str, ...]
    sparsities: np.ndarray
    seeds: tuple
    values: np.ndarray
    settings: tuple = ()

    def part(self, seeds, patterns) -> Line:
        """The curve of these seeds (positions) and patterns (positions) alone."""
        chosen = lambda names, at: tuple(names[i] for i in at)  # noqa: E731
        return replace(
            self,
            patterns=chosen(self.patterns, patterns),
            sparsities=self.sparsities[list(patterns)],
            seeds=chosen(self.seeds, seeds),
            values=self.values[np.ix_(seeds, patterns)],
        )


def claims(cells, measure: str = "normalised", first: bool = False):
    """Return every claim as a row of a DataFrame; see ``columns``. ``first``: the base is a curve's own first point."""
    import pandas as pd

    curves = lines(cells, measure)
    rows = [row for line in curves for row in alone(line, first)]
    for a, b in pairs(curves):
        rows += gaps(a, b, first)
    table = pd.DataFrame(rows, columns=columns(axes_of(cells)))
    table["measure"] = measure
    return table


def both(cells, first: bool = False):
    """Return the claims about the values as they are and above chance, in one table."""
    import pandas as pd

    return pd.concat([claims(cells, measure, first) for measure in MEASURES], ignore_index=True)


def lines(cells, measure: str) -> list[Line]:
    """Return the curves that have at least two patterns with a value; what no run has reached is NaN."""
    found = []
    for key, mine in cells[cells["kind"] != "dense"].groupby(LINE, sort=False):
        done = mine[(mine["status"] == DONE) & mine[measure].notna()]
        if done["pattern"].nunique() < 2:
            continue
        sparsity = mine.groupby("pattern")["sparsity"].mean().sort_values(kind="stable")
        values = done.pivot_table(index="seed", columns="pattern", values=measure, aggfunc="mean")
        values = values.reindex(index=sorted(mine["seed"].unique()), columns=sparsity.index)
        settings = (*mine["training"].iloc[0], *mine["scope"].iloc[0])
        place = (tuple(sparsity.index), sparsity.to_numpy(), tuple(values.index), values.to_numpy(float))
        found.append(Line(*key, *place, settings))
    return found


def pairs(curves: list[Line]) -> list[tuple[Line, Line]]:
    """Pair the curves of one family, model, treatment and kind that differ in exactly one axis.

    Two values of the first axis (two tasks, say) that share no place on the other axes are paired all the same; the
    remark names the axes on which they differ too.
    """

    def comparable(a: Line, b: Line) -> bool:
        if kind(a) != kind(b):
            return False
        if len(differing(a.place, b.place)) <= 1:
            return True
        others = [{c.place[1:] for c in curves if (kind(c), c.place[0]) == (kind(x), x.place[0])} for x in (a, b)]
        return not others[0] & others[1]

    return [(a, b) for a, b in combinations(curves, 2) if comparable(a, b)]


def kind(line: Line) -> tuple:
    """What two curves must share to be compared: the curve's name says treatment, what is removed, and settings."""
    return line.family, line.model, line.curve


def differing(one: Place, other: Place) -> list[str]:
    """The axes on which two places differ."""
    a, b = dict(one), dict(other)
    return [axis for axis in a | b if a.get(axis) != b.get(axis)]


# --- one curve -------------------------------------------------------------------------------------------------------


def alone(line: Line, first: bool) -> list[dict]:
    """The claims about one curve, of its complete cases; none if those are fewer than two patterns."""
    part = line.part(*complete(line.values))
    if len(part.patterns) < 2:
        return []
    dropped = left_out(part, line)
    rows = [falls(part), loses(part, first)]
    return [row | {"remark": "; ".join(filter(None, [row["remark"], dropped]))} for row in rows]


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
    weights, chances = resamples(len(line.seeds))
    steady = (np.diff(average(line.values, weights), axis=1) <= TOLERANCE).all(axis=1)
    rise = max(float(steps.max()), 0.0)
    remark = f"{100 * (mean[-1] - mean[0]):+.1f} points from first to last, largest rise {100 * rise:.1f}"
    share = float(chances[steady].sum()) if len(line.seeds) > 1 else None
    return about(line) | {"claim": "monotone fall", "estimate": rank, "share": share, "remark": remark}


def loses(line: Line, first: bool) -> dict:
    """The sparsity at which the mean curve first falls below LEVEL, between neighbours by a straight line; inf: never.

    Only the two neighbours are measured: the remark names them, and that the number is the line's.
    """
    start = None if first else (0.0, 1.0)
    mean = line.values.mean(axis=0)
    estimate = float(crossing(mean[None], line.sparsities, start)[0])
    weights, chances = resamples(len(line.seeds))
    low, high = interval(crossing(average(line.values, weights), line.sparsities, start), chances, len(line.seeds))
    remark = bracket(mean, line, estimate, first)
    return about(line) | {"claim": "loses 5 %", "estimate": estimate, "low": low, "high": high, "remark": remark}


def bracket(mean: np.ndarray, line: Line, estimate: float, first: bool) -> str:
    """Between which measured points a mean curve falls below LEVEL, in words."""
    if np.isinf(estimate):
        return f"never up to sparsity {line.sparsities.max():.4g}"
    at = int((mean < LEVEL).argmax())
    if at == 0 and first:
        return f"at {line.patterns[0]} or before"
    before = "dense" if at == 0 else line.patterns[at - 1]
    return f"between {before} and {line.patterns[at]} (line: {estimate:.3f})"


def about(line: Line) -> dict:
    """Which curve a claim is about."""
    return {
        "family": line.family,
        "model": line.model,
        "curve": line.curve,
        **there(line, "a"),
        "seeds_a": len(line.seeds),
        "remark": "",
    }


def there(line: Line, side: str) -> dict:
    """Where a curve stands, in words and on each axis, as columns of this side of a pair."""
    return {side: place_words(line.place), **{f"{axis}_{side}": value for axis, value in line.place}}


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


def gaps(a: Line, b: Line, first: bool = False) -> list[dict]:
    """The difference of two curves (a - b) at every pattern they share, and its mean over them, of complete cases.

    With ``first`` each curve's first point is left out: it is 100 % by definition, and would only dilute the mean.
    Where the two share seeds, only those count and are resampled together; otherwise each curve is resampled by itself.
    """
    if first:
        a, b = (x.part(range(len(x.seeds)), range(1, len(x.patterns))) for x in (a, b))
    one, other, paired = matched(a, b)
    if not one.patterns:
        return []
    n_a, n_b = len(one.seeds), len(other.seeds)
    if paired:
        weights, chances = resamples(n_a)
        spread = average(one.values - other.values, weights)
    else:
        left, right, chances = resample_both(n_a, n_b)
        spread = average(one.values, left) - average(other.values, right)
    centre = one.values.mean(axis=0) - other.values.mean(axis=0)
    named = about(one) | there(b, "b") | {"seeds_b": n_b, "paired": paired}
    seeds = min(n_a, n_b)
    low, high = interval(spread.mean(axis=1), chances, seeds)
    t_low, t_high = student((one.values - other.values).mean(axis=1)) if paired else (None, None)
    mean = {"claim": "mean gap", "estimate": float(centre.mean()), "low": low, "high": high}
    rows = [named | mean | {"t_low": t_low, "t_high": t_high, "remark": basis(a, b, one, other)}]
    for i, pattern in enumerate(one.patterns):
        low, high = interval(spread[:, i], chances, seeds)
        place = {"pattern": pattern, "sparsity": float(one.sparsities[i])}
        rows.append(named | place | {"claim": "gap", "estimate": float(centre[i]), "low": low, "high": high})
    return rows


def matched(a: Line, b: Line) -> tuple[Line, Line, bool]:
    """Cut two curves to the patterns and seeds that are complete in both; True if the seeds are the same ones."""
    shared = [pattern for pattern in a.patterns if pattern in b.patterns]
    one, other = (x.part(range(len(x.seeds)), [x.patterns.index(pattern) for pattern in shared]) for x in (a, b))
    common = [seed for seed in a.seeds if seed in b.seeds]
    left, right = (x.part([x.seeds.index(seed) for seed in common], range(len(shared))) for x in (one, other))
    rows, columns = complete(left.values - right.values)
    if rows:
        return left.part(rows, columns), right.part(rows, columns), True
    rows, columns = complete(one.values)
    one, other = one.part(rows, columns), other.part(range(len(other.seeds)), columns)
    rows, columns = complete(other.values)
    return one.part(range(len(one.seeds)), columns), other.part(rows, columns), False


def basis(a: Line, b: Line, one: Line, other: Line) -> str:
    """What a gap rests on: sparsities and seeds, and in what the two curves differ besides their names."""
    patterns, seeds = len(set(a.patterns) | set(b.patterns)), len(set(a.seeds) | set(b.seeds))
    most = max(len(one.seeds), len(other.seeds))
    n = len(one.patterns)
    words = [f"{n} sparsities" if n == patterns else f"{n} of {patterns} sparsities"]
    if one.seeds == other.seeds and most < seeds:
        words.append(f"{most} of {seeds} seeds")
    elif one.seeds != other.seeds and (len(one.seeds), len(other.seeds)) != (len(a.seeds), len(b.seeds)):
        words.append(f"{len(one.seeds)} of {len(a.seeds)} and {len(other.seeds)} of {len(b.seeds)} seeds")
    remarks = [", ".join(words)]
    also = differing(a.place, b.place)[1:]
    if also:
        remarks.append(f"{', '.join(also)} differ{'s' if len(also) == 1 else ''} too")
    differ = differing(a.settings, b.settings)
    return "; ".join(remarks + ([f"settings differ: {', '.join(differ)}"] if differ else []))
