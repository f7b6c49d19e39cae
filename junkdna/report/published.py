"""The paper's own curves (arXiv 2310.02277), read off the coordinates of its vector figures; the data is ``published.csv``.

One row per point. ``figure`` is setting1 (varying data adequacy), setting2 (multilingual translation), setting3 (question
answering), setting4 (task difficulty), true_gem (three transfers on two tasks) or true_gem_tasks (the same on six);
``pattern`` is the sparsity in percent, or N:M with N kept. What the values are relative to is in ``base``:

- "own first point": setting1 and true_gem, unstructured. 100 is the same curve's value at 10 % sparsity, not dense.
- "dense": their N:M panels, setting2 (BLEU), setting4 and true_gem_tasks. 100 is one dense run.
- "change relative to dense": setting3, (hits - dense hits) / dense hits, a fraction.

A GLUE point is the mean of two runs after the last epoch; MNLI is the mismatched set, QQP is accuracy. ``model`` is empty
where the source does not say; of setting1 and true_gem it is inferred from their dense scores. 39 of the 1,180 points in the
figures are left out, because they cannot be what their axis says: whole numbers that no count of correct answers gives, or
values repeated from another panel. So some curves have gaps.
"""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).with_name("published.csv")
METRICS = ("matthews_correlation", "pearson", "accuracy", "mm_accuracy")
"""What the published values are of; runs compared by another metric (F1) have no curve to stand beside."""

CURVE = ["model", "task", "percentage", "transfer", "kind", "base"]


def read():
    """Return every point as a DataFrame, ``sparsity`` (a fraction) added."""
    import pandas as pd

    table = pd.read_csv(FILE, dtype={"pattern": str}, keep_default_na=False, na_values={"percentage": [""]})
    table["sparsity"] = [sparsity(pattern) for pattern in table["pattern"]]
    return table


def sparsity(pattern: str) -> float:
    """The fraction removed: '2:8' removes 0.75, '30' removes 0.3."""
    keep, of, *_ = [*map(float, pattern.split(":")), 0]
    return 1 - keep / of if of else keep / 100


def beside(points, kinds=("unstructured", "N:M")):
    """Return the published curves of the tasks, shares of data, transfers and kinds that the points have, each once.

    ``task`` is the points' own name for it. A curve that two figures print is taken once.
    """
    import pandas as pd

    table = read()
    table = table[table["base"] != "change relative to dense"]
    wanted = points["kind"].isin(kinds) & points["metric"].isin(METRICS)
    keys = points.loc[wanted, ["task", "percentage", "transfer", "kind"]].drop_duplicates()
    found = []
    for key in keys.itertuples():
        of_task = table[(table["task"].map(plain) == plain(key.task)) & (table["percentage"] == key.percentage)]
        mine = of_task[(of_task["transfer"] == key.transfer) & (of_task["kind"] == key.kind)]
        for figure, curve in mine.groupby("figure", sort=False):
            axis = table[(table["figure"] == figure) & (table["kind"] == key.kind)]
            found.append(with_gaps(curve.assign(task=key.task), axis))
    if not found:
        return table.iloc[:0]
    return pd.concat(found).drop_duplicates([*CURVE, "pattern"]).reset_index(drop=True)


def absent(points, overlay) -> list[str]:
    """Say of which tasks and shares of data there is nothing to lay over, and why."""
    places = ["task", "percentage", "metric"]
    have = set(overlay[places[:2]].itertuples(index=False, name=None))
    words = []
    for task, share, metric in points.loc[points["kind"] != "dense", places].drop_duplicates().itertuples(index=False):
        if metric and (task, share) not in have:
            why = "" if metric in METRICS else f", not by {metric}"
            words.append(f"--published: no curve of {task} on {share:g} % of its data{why}")
    return words


def with_gaps(curve, axis):
    """Add the points of its figure's axis that a curve lacks, without a value: a line must not run across them."""
    places = axis.drop_duplicates("pattern").sort_values("sparsity")
    wanted = places[["pattern", "sparsity"]].merge(curve.drop(columns="sparsity"), on="pattern", how="left")
    return wanted.fillna({name: curve[name].iloc[0] for name in [*CURVE, "figure", "curve"]})


def plain(task: str) -> str:
    """A task's name without case and dashes: SST-2 and sst2 are one."""
    return task.lower().replace("-", "").replace("_", "")


def label(curve: dict) -> str:
    """A published curve's full name: whose it is, what was done, and what 100 % is."""
    share = "" if curve["percentage"] == 100 else f", {curve['percentage']:g} % of data"
    return f"{short_label(curve['model'], curve['base'])}, {curve['transfer']}{share}{caveat(curve['task'])}"


def caveat(task: str) -> str:
    """What must be said of a task's published values beside ours."""
    return ", mismatched set" if plain(task) == "mnli" else ""


def short_label(model: str, base: str) -> str:
    """Whose curve it is and what 100 % is."""
    return f"published, {model or 'model not stated'} (100 % = {'own 10 % point' if base == 'own first point' else 'dense'})"
