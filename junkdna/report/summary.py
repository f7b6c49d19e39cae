"""From cells to the points of curves: normalised, averaged over seeds, with what is missing and what differs said aloud."""

from __future__ import annotations

from junkdna.report.collect import DONE, FAILED, NO_VALUE, SCOPE, TRAINING, UNFINISHED

LINE = ["model", "task", "percentage", "curve"]
"""What a curve is; its points differ in the pattern, and the runs of a point in the seed."""

OTHER_SETTINGS = ["pad_to_max_length", "ignore_mismatched_sizes", "save_model"]
PROVENANCE = ("code_", "version_", "hardware_", "weight_hash", "data_")
MEASURES = ("normalised", "above_chance")

ACCURACIES = ("accuracy", "mm_accuracy")
CLEAR = 0.05
"""A correlation of less than this is not clearly above chance; an accuracy must be two standard errors of chance above it."""

WEAK = "its base is not clearly above chance"
SAME = 1e-9
"""Values this close to chance are chance: they come from the same counts."""


def normalise(cells, first: bool = False):
    """Return the cells with their value as a fraction of a base value, as it is and above chance.

    The base is the dense run of the same model, task, percentage, seed and training; with ``first`` the same seed's run
    at the curve's lowest sparsity. Where a base is missing, ambiguous or not above 0 (or chance), the fraction is empty and
    ``base_remark`` says why; it also says where a base is so weak that the fraction means little.
    """
    key = ["model", "task", "percentage", "seed", "training", *(["curve"] if first else [])]
    base = firsts(cells) if first else cells[(cells["status"] == DONE) & (cells["kind"] == "dense")]
    values = base.groupby(key)["value"].nunique().rename("base_values")
    base = base.drop_duplicates(key).set_index(key)
    cells = cells.join(base[["value", "path"]].add_prefix("base_"), on=key).join(values, on=key)
    ambiguous = cells["base_values"] > 1
    for name in ("base_value", "base_path"):
        cells[name] = cells[name].where(~ambiguous)
    value, floor, top = cells["value"], cells["chance"], cells["base_value"]
    cells["normalised"] = value / top.where(top > 0)
    cells["above_chance"] = (value - floor) / (top - floor).where(top > floor)
    cells["base_remark"] = base_remarks(cells, ambiguous)
    return cells.drop(columns="base_values")


def firsts(cells):
    """The finished runs at the lowest sparsity of each curve."""
    pruned = cells[cells["kind"] != "dense"]
    lowest = pruned.groupby(LINE)["pattern"].agg(lambda names: min(names, key=lambda name: sparsity_of(cells, name)))
    done = pruned[pruned["status"] == DONE]
    return done[done["pattern"] == done.join(lowest.rename("lowest"), on=LINE)["lowest"]]


def base_remarks(cells, ambiguous) -> list[str]:
    """What is wrong with each finished run's base, in words; empty if nothing is."""
    import pandas as pd

    top, floor = cells["base_value"], cells["chance"]
    rows = cells["eval_samples"] if "eval_samples" in cells else float("nan")
    error = (floor * (1 - floor) / rows) ** 0.5  # of an accuracy at chance
    margin = (2 * error).fillna(0).where(cells["metric"].isin(ACCURACIES), CLEAR)
    words = pd.Series("", index=cells.index)
    words[top - floor <= margin] = WEAK
    words[top <= 0] = "its base is not above 0"
    words[top.isna()] = "its base is missing"
    words[ambiguous] = "its base occurs more than once, with different values"
    words[cells["status"] != DONE] = ""
    return list(words)


def tidy(cells):
    """Return the cells as they are written to ``summary.csv``: without the columns that only serve to compare."""
    return cells.drop(columns=["training", "scope", "path", "base_path"])


def sparsity_of(cells, pattern: str) -> float:
    """The sparsity that a pattern's label stands for."""
    return float(cells.loc[cells["pattern"] == pattern, "sparsity"].min())


def points(cells):
    """Return one row per point of a curve, also of points that no run has reached.

    A curve's points are all patterns that any of its seeds has; ``expected`` counts the seeds that any of its patterns has,
    ``normalised_seeds`` those that are in the normalised mean, and ``note`` says which of them are failed, unfinished or
    missing, and which have nothing to be normalised by. ``floor`` is where chance lies on the normalised axis.
    """
    import pandas as pd

    few = [*LINE, "kind", "transfer", "pattern", "sparsity", "seed", "status", "error", "metric", "value", "chance"]
    few += ["base_value", "base_remark", *MEASURES]
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
                "normalised_seeds": done.loc[done["normalised"].notna(), "seed"].nunique(),
                "floor": (done["chance"] / done["base_value"].where(done["base_value"] > 0)).mean(),
            }
            for name in MEASURES:
                point |= {name: done[name].mean(), f"{name}_std": done[name].std()}
            rows.append(point | {"note": note(at, seeds)})
    return pd.DataFrame(rows)


def note(at, seeds: list) -> str:
    """Say what is not in a point's mean, seed by seed."""
    done = at[at["status"] == DONE]
    words = [f"missing: seed {seed}" for seed in seeds if seed not in set(at["seed"])]
    for cell in at[at["status"].isin((FAILED, NO_VALUE))].itertuples():
        words.append(f"{cell.status}: seed {cell.seed}" + (f" ({cell.error})" if cell.error else ""))
    words += [f"unfinished: seed {cell.seed}" for cell in at[at["status"] == UNFINISHED].itertuples()]
    for remark, mine in done[done["base_remark"] != ""].groupby("base_remark"):
        what = "" if remark == WEAK else "not normalised: "
        words.append(f"{what}{remark}: seed {', '.join(map(str, mine['seed']))}")
    if len(done) and ((done["value"] - done["chance"]).abs() < SAME).all():
        words.append("every run exactly at chance")
    if done["seed"].duplicated().any():
        words.append(f"averaged although a seed occurs twice ({len(done)} runs)")
    return "; ".join(words)


def missing(cells, first: bool = False) -> list[tuple]:
    """Return (curve, pattern, seed) of every cell that others ask for and no folder holds.

    Others are the curve's other patterns and seeds; and, unless ``first``, pruned runs that have no dense one beside them.
    """
    holes = [] if first else bases(cells)
    for line, mine in cells.groupby(LINE, sort=False):
        have = set(zip(mine["pattern"], mine["seed"]))
        wanted = ((pattern, seed) for pattern in mine["pattern"].unique() for seed in sorted(mine["seed"].unique()))
        holes += [(line, *what) for what in wanted if what not in have]
    return holes


def bases(cells) -> list[tuple]:
    """The same of the dense runs that no folder holds, by which pruned ones would be normalised."""
    key = ["model", "task", "percentage", "training"]
    dense, pruned = cells[cells["kind"] == "dense"], cells[cells["kind"] != "dense"]
    have = set(dense[[*key, "seed"]].itertuples(index=False, name=None))
    curves = {tuple(place): curve for *place, curve in dense[[*key, "curve"]].itertuples(index=False, name=None)}
    holes = []
    for *place, seed in dict.fromkeys(pruned[[*key, "seed"]].itertuples(index=False, name=None)):
        if (*place, seed) not in have:
            line = (*place[:3], curves.get(tuple(place), "dense transfer"))
            holes.append((line, "dense", seed))
    return holes


# --- what differs ----------------------------------------------------------------------------------------------------


UNIDENTIFIED = "True: code not identified"
"""Runs of code that was changed after its commit may have run different code, even if they all say so."""


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
        if name == "code_changed":
            values = values.replace("True", UNIDENTIFIED)
        if values.nunique() > 1 or UNIDENTIFIED in set(values):
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
    by_path = done.set_index("path")
    lines = []
    for name in names:
        text = done[name].map(str)
        counts = text.groupby([done[key] for key in [*LINE, "pattern"]], sort=False).nunique()
        lines += describe(name, "differs within a mean", [key for key, count in counts.items() if count > 1])
        based = done[done["base_path"].notna() & (done["base_path"] != done["path"])]
        other = based["base_path"].map(by_path[name]).map(str) != based[name].map(str)
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
