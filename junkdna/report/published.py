"""The paper's own curves (arXiv 2310.02277), read off the coordinates of its vector figures; the data is
``published.csv``.

One row per point. ``figure`` is setting1 (varying data adequacy), setting2 (multilingual translation), setting3
(question answering), setting4 (task difficulty), true_gem (three transfers on two tasks) or true_gem_tasks (the same on
six); ``pattern`` is the sparsity in percent, or N:M with N kept. What the values are relative to is in ``base``:

- "own first point": setting1 and true_gem, unstructured. 100 is the same curve's value at 10 % sparsity, not dense.
- "dense": their N:M panels, setting2 (BLEU), setting4 and true_gem_tasks. 100 is one dense run.
- "change relative to dense": setting3, (hits - dense hits) / dense hits, a fraction. 100 is the dense run once read.

Setting 2: the majority pair is taken to be en-de, the minority pair en-gu, a point the mean of both directions. The
released zero-shot runs told mBART wrong languages: Czech and Estonian for English and German, Czech and Chinese for
English and Gujarati. The few-shot panels carry opposite labels: of two dense models, with BLEU 34.8 and 32.9, the
unstructured panel calls the first one the majority's, and the N:M panel the second one. Both are kept as printed.

A GLUE point is the mean of two runs after the last epoch. ``metric`` is what a point measures, and ``note`` what must
be said of it beside ours. Of word problems the source says "accuracy" alone, taken to be that of the value. ``model``
is empty where the source does not say; of setting1 and true_gem it is inferred from their dense scores. 39 of the 1,180
points in the figures are left out, because they cannot be what their axis says: whole numbers that no count of correct
answers gives, or values repeated from another panel. So some curves have gaps.

The columns in AXES are axes of runs: a curve stands beside runs that have exactly these axes, and these values on them.
An axis in ANY that is empty in a curve may have any value, and runs without an axis in UNLESS have its value there.
``kind`` names method and pattern as the report's own curves do: 'unstructured' and 'N:M' are magnitude, 'wanda' and
'N:M, wanda' another method.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from junkdna.report.kinds import is_nm, method_of
from junkdna.report.names import Place, axis_words, place_words, without_fold

if TYPE_CHECKING:
    from pandas import DataFrame

FILE = Path(__file__).with_name("published.csv")
AXES = ("task", "data", "book", "context", "shots", "pair")
ANY = ("context",)
UNLESS = {"data": "100 %"}
"""The value of an axis that runs without this axis have: a task that is always trained on whole."""

ALSO = {"csqa": "commonsenseqa"}
"""Tasks that the paper calls otherwise."""

CHANGE, OF = "change relative to dense", "published, "
CURVE = ["model", "place", "treatment", "kind", "base", "metric", "note"]


def read():
    """Return every point as a DataFrame, ``value`` in per cent of its base, ``sparsity`` (a fraction) added."""
    import pandas as pd

    table = pd.read_csv(FILE, dtype=dict.fromkeys(["pattern", *AXES], str), keep_default_na=False)
    table["sparsity"] = [sparsity(pattern) for pattern in table["pattern"]]
    change = table["base"] == CHANGE
    table.loc[change, "value"] = 100 * (1 + table.loc[change, "value"])
    return table


def sparsity(pattern: str) -> float:
    """The fraction removed: '2:8' removes 0.75, '30' removes 0.3."""
    keep, of, *_ = [*map(float, pattern.split(":")), 0]
    return 1 - keep / of if of else keep / 100


def beside(points: DataFrame) -> DataFrame:
    """Return the published curves of the places, treatments and kinds that the points have, each once.

    ``place`` is the points' own name for it. A curve that two figures print is taken once.
    """
    import pandas as pd

    table = read()
    methods = table["kind"].map(method)
    found = []
    for key in points[["family", "place", "settled", "treatment", "kind", "metric"]].drop_duplicates().itertuples():
        mine = points_at(table[methods == method(key.kind)], (*key.place, *key.settled))
        mine = mine[(mine["treatment"] == key.treatment) & comparable(mine, key.metric)]
        for figure, curve in mine.groupby("figure", sort=False):
            axis = table[(table["figure"] == figure) & (methods == method(key.kind))]
            there = {"family": key.family, "place": [key.place] * len(curve), "kind": key.kind}
            found.append(with_gaps(curve.assign(**there), axis))
    if not found:
        return table.iloc[:0].assign(family=None, place=None)
    return pd.concat(found).drop_duplicates(["family", *CURVE, "pattern"]).reset_index(drop=True)


def method(kind: str) -> tuple[bool, str]:
    """What a curve and a published one must share: the kind of pattern, and what chose the weights."""
    return is_nm(kind), method_of(kind)


def points_at(table, place: Place):
    """The published points at a place: those of exactly these axes and values, case and dashes aside."""
    values = dict(without_fold(place))  # the paper says nothing of folds
    if not set(values) <= set(AXES):
        return table.iloc[:0]
    for axis in AXES:
        fits = table[axis].map(task_key) == task_key(values.get(axis, ""))
        if axis in ANY:
            fits |= table[axis] == ""
        if axis in UNLESS and axis not in values:
            fits |= table[axis] == UNLESS[axis]
        table = table[fits]
    return table


def comparable(table, metric: str):
    """Where a published metric is this one, or a version of it on another split, which its note says."""
    other = table["metric"].map(lambda theirs: bool(metric) and theirs.endswith(f"_{metric}")).astype(bool)
    return (table["metric"] == metric) | (other & (table["note"] != ""))


def absent(points: DataFrame, overlay: DataFrame) -> list[str]:
    """Say of which places there is nothing to lay over, and why."""
    table = read()
    have = set(overlay["place"])
    words = []
    pruned = points.loc[points["kind"] != "dense", ["place", "settled", "metric"]]
    for place, settled, metric in pruned.drop_duplicates().values:
        if metric and place not in have:
            theirs = points_at(table, (*place, *settled))
            why = f", not by {metric}" if len(theirs) and not comparable(theirs, metric).any() else ""
            words.append(f"--published: no curve of {place_words(place)}{why}")
    return words


def with_gaps(curve, axis):
    """Add the points of its figure's axis that a curve lacks, without a value: a line must not run across them."""
    places = axis.drop_duplicates("pattern").sort_values("sparsity")
    wanted = places[["pattern", "sparsity"]].merge(curve.drop(columns="sparsity"), on="pattern", how="left")
    for name in [*CURVE, *AXES, "family", "figure", "curve"]:
        wanted[name] = [curve[name].iloc[0]] * len(wanted)
    return wanted


def task_key(name: str) -> str:
    """A task's name without case, dashes and spaces, so that SST-2 and sst2 are one."""
    key = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    return ALSO.get(key, key)


def label(curve: dict) -> str:
    """A published curve's full name: whose it is, what was done, where, and what 100 % is."""
    rest = axis_words(curve["place"][1:])
    words = [short_label(curve["model"], curve["base"]), curve["treatment"], rest, curve["note"]]
    return ", ".join(filter(None, words))


def short_label(model: str, base: str) -> str:
    """Whose curve it is and what 100 % is."""
    whole = "own 10 % point" if base == "own first point" else "dense"
    return f"{OF}{model or 'model not stated'} (100 % = {whole})"
