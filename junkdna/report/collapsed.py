"""Runs that collapsed: named beside every mean and claim that they are in, and ringed in the figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from junkdna.runs.collapse import MARGIN

if TYPE_CHECKING:
    from pandas import DataFrame

BASE = "its base has collapsed"
RINGED = "ringed: collapsed seeds in the mean"
RINGED_BASE = "ringed: collapsed seeds in the mean, or in its base"

CAPTION = f"""Collapsed: on the validation split no more than {100 * MARGIN:g} points above what one answer to all
examples scores (the share of the most frequent label; 0 for correlations; for word problems what the best single
training equation solves). Such runs stay in the means; the remarks name them, and the figure rings their points."""

RING = "a ring around a point"
"""What tells the rings from the other lines of a panel."""


def fallen(done: DataFrame, name: str = "collapsed"):
    """Which of these runs have collapsed; by "base_collapsed" their bases. Not those of which it is not known."""
    return done[name].eq(True)


def fallen_bases(done: DataFrame):
    """Which of these runs are compared with another run that has collapsed."""
    return fallen(done, "base_collapsed") & (done["base_path"] != done["path"])


def columns(done: DataFrame) -> dict:
    """A point's columns: how many seeds have collapsed, how many have a base that has, whether either is drawn."""
    runs, bases = fallen(done), fallen_bases(done)
    counts = {"collapsed": runs, "base_collapsed": bases}
    drawn = done["ratio"].notna()
    return {name: done.loc[which, "seed"].nunique() for name, which in counts.items()} | {
        "ringed": RINGED_BASE if (bases & drawn).any() else RINGED if (runs & drawn).any() else ""
    }


def remark(done: DataFrame) -> str:
    """Which seeds of a point have collapsed, of how many, and the mean of the others; empty if none has."""
    which = fallen(done)
    if not which.any():
        return ""
    names = [
        f"{seed} in {folds}" if folds else f"{seed}"
        for seed, folds in done.loc[which, ["seed", "collapsed_folds"]].values
    ]
    said = f"collapsed: seed {', '.join(names)}"
    seeds = done["seed"].nunique()
    if which.all():
        return said if seeds == 1 else f"{said} (all {seeds} seeds averaged)"
    share = f"{done.loc[which, 'seed'].nunique()} of {seeds} seeds averaged"
    return f"{said} ({share}, mean of the others {done.loc[~which, 'value'].mean():.4f})"


# --- claims ----------------------------------------------------------------------------------------------------------


def table(done: DataFrame, values) -> np.ndarray:
    """Whether each run of a curve, and its base, has collapsed: bool (2, seeds, patterns), as in ``values``."""
    marked = [done.assign(said=fallen(done, name).astype(float)) for name in ("collapsed", "base_collapsed")]
    found = [one.pivot_table(index="seed", columns="pattern", values="said", aggfunc="max") for one in marked]
    return np.array([one.reindex(index=values.index, columns=values.columns).eq(1) for one in found])


def words(*lines) -> list[str]:
    """How many of the runs that a claim about these curves rests on have collapsed, and which bases."""
    known = [line for line in lines if line.collapsed is not None]
    counts = [int(line.collapsed[0].sum()) for line in known]
    said = [f"{n} of {line.values.size}" for n, line in zip(counts, known)]
    made = [f"collapsed: {' and '.join(said)} runs"] if any(counts) else []
    seeds = sorted({seed for line in known for seed, bad in zip(line.seeds, line.collapsed[1].any(axis=1)) if bad})
    return made + ([f"{BASE}: seed {', '.join(map(str, seeds))}"] if seeds else [])


# --- the figure ------------------------------------------------------------------------------------------------------


def ring(panel, points: DataFrame, at: tuple, handles: dict) -> None:
    """Draw a ring around the points that hold collapsed seeds, and explain it in the legend; ``at`` is (x, y)."""
    x, y = map(np.asarray, at)
    rung = (points["ringed"] != "").to_numpy()
    if not rung.any():
        return
    drawn = panel.plot(
        x[rung], y[rung], linestyle="", marker="o", markersize=11, markerfacecolor="none",
        markeredgecolor="black", markeredgewidth=1.1, zorder=5, gid=RING, clip_on=False,
    )  # fmt: skip
    if (points["ringed"] == RINGED_BASE).any():
        handles.pop(RINGED, None)  # the other text says it too
        handles.setdefault(RINGED_BASE, drawn[0])
    elif RINGED_BASE not in handles:
        handles.setdefault(RINGED, drawn[0])


def keep_inside(panel, low: float, high: float) -> None:
    """Move the rings of points outside the axis to its edge, where the figure marks the points."""
    for line in panel.lines:
        if line.get_gid() == RING:
            line.set_ydata(np.clip(line.get_ydata(), low, high))
