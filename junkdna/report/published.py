"""The paper's own curves (arXiv 2310.02277), read off the coordinates of its vector figures; the data is
``published.csv``.

One row per point. ``figure`` is setting1 (varying data adequacy), setting2 (multilingual translation), setting3
(question answering), setting4 (task difficulty), true_gem (three transfers on two tasks) or true_gem_tasks (the same
on six); ``pattern`` is the sparsity in percent, or N:M with N kept. What the values are relative to is in ``base``:

- "own first point": setting1 and true_gem, unstructured. 100 is the same curve's value at 10 % sparsity, not dense.
- "dense": their N:M panels, setting2 (BLEU), setting4 and true_gem_tasks. 100 is one dense run.
- "change relative to dense": setting3, (hits - dense hits) / dense hits, a fraction.

A GLUE point is the mean of two runs after the last epoch. ``metric`` is what a point measures, and ``note`` what must
be said of it beside ours. ``model`` is empty where the source does not say; of setting1 and true_gem it is inferred
from their dense scores. 39 of the 1,180 points in the figures are left out, because they cannot be what their axis
says: whole numbers that no count of correct answers gives, or values repeated from another panel. So some curves have
gaps.

The columns in AXES are axes of runs: a curve stands beside runs that have exactly these axes, and these values on them.
"""

from __future__ import annotations

from pathlib import Path

from junkdna.report.names import Place, axis_words, place_words

FILE = Path(__file__).with_name("published.csv")
AXES = ("task", "data")
CURVE = ["model", "place", "treatment", "kind", "base", "metric", "note"]


def read():
    """Return every point as a DataFrame, ``sparsity`` (a fraction) added."""
    import pandas as pd

    table = pd.read_csv(FILE, dtype={"pattern": str}, keep_default_na=False)
    table["sparsity"] = [sparsity(pattern) for pattern in table["pattern"]]
    return table


def sparsity(pattern: str) -> float:
    """The fraction removed: '2:8' removes 0.75, '30' removes 0.3."""
    keep, of, *_ = [*map(float, pattern.split(":")), 0]
    return 1 - keep / of if of else keep / 100


def beside(points, kinds=("unstructured", "N:M")):
    """Return the published curves of the places, treatments and kinds that the points have, each once.

    ``place`` is the points' own name for it. A curve that two figures print is taken once.
    """
    import pandas as pd

    table = read()
    table = table[table["base"] != "change relative to dense"]
    wanted = points[points["kind"].isin(kinds)]
    found = []
    for key in wanted[["place", "treatment", "kind", "metric"]].drop_duplicates().itertuples():
        mine = at(table, key.place)
        mine = mine[(mine["treatment"] == key.treatment) & (mine["kind"] == key.kind) & comparable(mine, key.metric)]
        for figure, curve in mine.groupby("figure", sort=False):
            axis = table[(table["figure"] == figure) & (table["kind"] == key.kind)]
            found.append(with_gaps(curve.assign(place=[key.place] * len(curve)), axis))
    if not found:
        return table.iloc[:0].assign(place=None)
    return pd.concat(found).drop_duplicates([*CURVE, "pattern"]).reset_index(drop=True)


def at(table, place: Place):
    """The published points at a place: those of exactly these axes and values, case and dashes aside."""
    values = dict(place)
    if not set(values) <= set(AXES):
        return table.iloc[:0]
    fits = [table[axis].map(task_key) == task_key(values.get(axis, "")) for axis in AXES]
    return table[fits[0] & fits[1]]


def comparable(table, metric: str):
    """Where a published metric is this one, or a version of it on another split, which its note says."""
    return table["metric"].map(lambda theirs: bool(metric) and f"_{theirs}".endswith(f"_{metric}")).astype(bool)


def absent(points, overlay) -> list[str]:
    """Say of which places there is nothing to lay over, and why."""
    table = read()
    have = set(overlay["place"])
    words = []
    for place, metric in points.loc[points["kind"] != "dense", ["place", "metric"]].drop_duplicates().values:
        if metric and place not in have:
            theirs = at(table, place)
            why = f", not by {metric}" if len(theirs) and not comparable(theirs, metric).any() else ""
            words.append(f"--published: no curve of {place_words(place)}{why}")
    return words


def with_gaps(curve, axis):
    """Add the points of its figure's axis that a curve lacks, without a value: a line must not run across them."""
    places = axis.drop_duplicates("pattern").sort_values("sparsity")
    wanted = places[["pattern", "sparsity"]].merge(curve.drop(columns="sparsity"), on="pattern", how="left")
    for name in [*CURVE, *AXES, "figure", "curve"]:
        wanted[name] = [curve[name].iloc[0]] * len(wanted)
    return wanted


def task_key(name: str) -> str:
    """A task's name without case, dashes and spaces: SST-2 and sst2 are one."""
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def label(curve: dict) -> str:
    """A published curve's full name: whose it is, what was done, where, and what 100 % is."""
    rest = axis_words(curve["place"][1:])
    words = [short_label(curve["model"], curve["base"]), curve["treatment"], rest, curve["note"]]
    return ", ".join(filter(None, words))


def short_label(model: str, base: str) -> str:
    """Whose curve it is and what 100 % is."""
    whole = "own 10 % point" if base == "own first point" else "dense"
    return f"published, {model or 'model not stated'} (100 % = {whole})"
