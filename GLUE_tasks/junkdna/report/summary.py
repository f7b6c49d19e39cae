"""From cells to the points of curves: normalised, averaged over seeds, with what is missing and what differs said aloud."""

from __future__ import annotations

from junkdna.report.collect import DONE, FAILED, SCOPE, TRAINING, UNFINISHED

LINE = ["model", "task", "percentage", "curve"]
"""What a curve is; its points differ in the pattern, and the runs of a point in the seed."""

GRID = {
    *("task_name", "train_file", "validation_file", "glue_dir", "validation_split_percentage", "model_name_or_path"),
    *("sparse_init", "sparsity_asked", "nm_ratio", "freeze_weights", "freeze_weights_frompretrain", "method"),
}
"""Settings that a sweep varies on purpose; the tables show them already."""

OTHER_SETTINGS = ["pad_to_max_length", "ignore_mismatched_sizes", "save_model"]
PROVENANCE = ("code_", "version_", "hardware_", "weight_hash", "data_")
MEASURES = ("normalised", "above_chance")


def normalise(cells, first: bool = False):
    """Return the cells with their value as a fraction of a base value, as it is and above chance.

    The base is the dense run of the same model, task, percentage, seed and training; with ``first`` the same seed's run
    at the curve's lowest sparsity. Where a base is missing or not above 0 (or chance), so is the fraction.
    """
    key = ["model", "task", "percentage", "seed", "training"]
    done = cells[cells["status"] == DONE]
    if first:
        key = [*key, "curve"]
        pruned = done[done["kind"] != "dense"]
        lowest = (
            cells[cells["kind"] != "dense"]
            .groupby(LINE)["pattern"]
            .agg(lambda pattern: min(pattern, key=lambda name: sparsity_of(cells, name)))
        )
        base = pruned[pruned["pattern"] == pruned.join(lowest.rename("lowest"), on=LINE)["lowest"]]
    else:
        base = done[done["kind"] == "dense"]
    base = base.drop_duplicates(key).set_index(key)
    cells = cells.join(base["value"].rename("base_value"), on=key)
    cells = cells.join(base["folder"].rename("base_folder"), on=key)
    value, floor, top = cells["value"], cells["chance"], cells["base_value"]
    cells["normalised"] = value / top.where(top > 0)
    cells["above_chance"] = (value - floor) / (top - floor).where(top > floor)
    return cells


def tidy(cells):
    """Return the cells as they are written to ``summary.csv``: without the columns that only serve to compare."""
    return cells.drop(columns=["training", "scope", "base_folder"])


def sparsity_of(cells, pattern: str) -> float:
    """The sparsity that a pattern's label stands for."""
    return float(cells.loc[cells["pattern"] == pattern, "sparsity"].min())


def points(cells):
    """Return one row per point of a curve, also of points that no run has reached.

    A curve's points are all patterns that any of its seeds has; ``expected`` counts the seeds that any of its patterns has,
    and ``note`` says which of them are failed, unfinished or missing, and which have nothing to be normalised by.
    """
    import pandas as pd

    few = [*LINE, "kind", "transfer", "pattern", "sparsity", "seed", "status", "error", "metric", "value", *MEASURES]
    rows = []
    for line, mine in cells[few].groupby(LINE, sort=False):  # a hundred columns would make this slow
        seeds = sorted(mine["seed"].unique())
        for pattern, at in sorted(mine.groupby("pattern"), key=lambda item: item[1]["sparsity"].mean()):
            done = at[at["status"] == DONE]
            point = dict(zip(LINE, line)) | {name: at[name].iloc[0] for name in ("kind", "transfer")}
            known = mine["metric"].dropna()
            point |= {
                "pattern": pattern,
                "sparsity": (done if len(done) else at)["sparsity"].mean(),
                "metric": known.iloc[0] if len(known) else "",
                "mean": done["value"].mean(),
                "std": done["value"].std(),
                "seeds": done["seed"].nunique(),
                "expected": len(seeds),
                "runs": len(done),
            }
            for name in MEASURES:
                point |= {name: done[name].mean(), f"{name}_std": done[name].std()}
            rows.append(point | {"note": note(at, seeds)})
    return pd.DataFrame(rows)


def note(at, seeds: list) -> str:
    """Say what is not in a point's mean, seed by seed."""
    done = at[at["status"] == DONE]
    words = [f"missing: seed {seed}" for seed in seeds if seed not in set(at["seed"])]
    for cell in at[at["status"] == FAILED].itertuples():
        words.append(f"failed: seed {cell.seed}" + (f" ({cell.error})" if cell.error else ""))
    words += [f"unfinished: seed {cell.seed}" for cell in at[at["status"] == UNFINISHED].itertuples()]
    if (at["kind"] != "dense").all() and done["normalised"].isna().any():
        bare = done.loc[done["normalised"].isna(), "seed"]
        words.append(f"not normalised (its base is missing or not above 0): seed {', '.join(map(str, bare))}")
    if done["seed"].duplicated().any():
        words.append(f"averaged although a seed occurs twice ({len(done)} runs)")
    return "; ".join(words)


def missing(cells) -> list[tuple]:
    """Return (curve, pattern, seed) of every cell that its curve's other patterns and seeds ask for and no folder holds."""
    holes = []
    for line, mine in cells.groupby(LINE, sort=False):
        have = set(zip(mine["pattern"], mine["seed"]))
        wanted = ((pattern, seed) for pattern in mine["pattern"].unique() for seed in sorted(mine["seed"].unique()))
        holes += [(line, *what) for what in wanted if what not in have]
    return holes


# --- what differs ----------------------------------------------------------------------------------------------------


def differences(cells):
    """Return one row per value of every setting, version and machine in which the cells differ, with how many have it."""
    import pandas as pd

    names = [name for name in cells.columns if name in (*TRAINING, *SCOPE, *OTHER_SETTINGS)]
    names += [name for name in cells.columns if name.startswith(PROVENANCE[:3])]
    rows = []
    for name in names:
        known = cells[cells[name].notna()] if name.startswith(PROVENANCE[:3]) else cells
        if name in SCOPE:
            known = known[known["kind"] != "dense"]
        values = known[name].map(str)
        if values.nunique() > 1:
            for value, mine in known.groupby(values):
                where = ", ".join(
                    sorted({f"{task} {percentage:g} %" for task, percentage in zip(mine["task"], mine["percentage"])})
                )
                rows.append({"name": name, "value": value, "cells": len(mine), "where": where})
    return pd.DataFrame(rows, columns=["name", "value", "cells", "where"])


def mixed(cells) -> list[str]:
    """Name every difference that is inside one number: within a point's mean, or between a run and its base.

    Settings cannot be: they are part of a curve's name. Code, versions, machine, weights and data can, and are averaged.
    """
    done = cells[cells["status"] == DONE]
    names = [name for name in cells.columns if name.startswith(PROVENANCE) or name in OTHER_SETTINGS]
    by_folder = done.set_index("folder")
    lines = []
    for name in names:
        text = done[name].map(str)
        counts = text.groupby([done[key] for key in [*LINE, "pattern"]], sort=False).nunique()
        lines += describe(name, "differs within a mean", [key for key, count in counts.items() if count > 1])
        based = done[done["base_folder"].notna() & (done["base_folder"] != done["folder"])]
        other = based["base_folder"].map(by_folder[name]).map(str) != based[name].map(str)
        lines += describe(
            name,
            "is not that of the run it is normalised by",
            list(dict.fromkeys(map(tuple, based.loc[other, [*LINE, "pattern"]].values))),
        )
    return lines


def describe(name: str, what: str, keys: list[tuple]) -> list[str]:
    """One line per curve: the patterns at which something is so."""
    patterns: dict[tuple, list[str]] = {}
    for *line, pattern in keys:
        patterns.setdefault(tuple(line), []).append(str(pattern))
    return [
        f"{name} {what}: {model}, {task}, {percentage:g} %, {curve}: {' '.join(at)}"
        for (model, task, percentage, curve), at in patterns.items()
    ]
