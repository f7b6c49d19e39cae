"""From cells to the points of curves: normalised and averaged over seeds; and what is missing."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from junkdna.report import collapsed, corpus_scores, questions, repeats
from junkdna.report.collect import FIXED, axes_of
from junkdna.report.names import FOLD
from junkdna.report.reading import DONE, FAILED, INCOMPLETE, NO_VALUE, UNFINISHED

if TYPE_CHECKING:
    from pandas import DataFrame

LINE = ["family", "model", "place", "curve"]
"""What a curve is; its points differ in the pattern, and the runs of a point in the seed."""

MEASURES = ("normalised", "above_chance")
INTERVALS = ("questions", "unit", "value_low", "value_high", "ratio_low", "ratio_high")

CLEAR = 0.05
"""A metric whose chance is 0 is clearly above it from here on; a proportion, two standard errors above its chance."""

CLEAR_SCORE = 1.0
"""The same of a score of a whole text, which goes up to 100."""

WEAK, NONE = "its base is not clearly above chance", "its base is not above 0"
SILENT = (WEAK, NONE, collapsed.BASE)
"""What is said of a base by which nothing can be measured."""

SAME = 1e-9
"""Values this close to chance are chance: they come from the same counts."""


def normalise(cells: DataFrame, first: bool = False) -> DataFrame:
    """Return the cells with their value as a fraction of a base value, as it is and above chance.

    The base is the dense run of the same family, model, place, seed and training, or of another seed where nothing in
    it is drawn (``repeats``); with ``first`` the same seed's run at the curve's lowest sparsity. Of a metric of which
    less is better the fraction is base / value. Where a base is missing, ambiguous or not above 0 (or chance), the
    fraction is empty and ``base_remark`` says why; it also says where a base is so weak that the fraction means little.
    Such a fraction is left out beside others of its curve that have a clear base: a share of almost nothing can be any
    number.
    """
    key = ["family", "model", "place", "training", *(["curve"] if first else []), "seed"]
    base = firsts(cells) if first else cells[(cells["status"] == DONE) & (cells["kind"] == "dense")]
    values = base.groupby(key)["value"].nunique().rename("base_values")
    base = base.drop_duplicates(key).set_index(key)
    copied = ["value", "path", "collapsed", "draws", "draws_remark"]
    mine = key if first else [*key[:-1], "base_seed"]
    cells = cells.join(base[copied].add_prefix("base_"), on=mine).join(values, on=mine)
    ambiguous = cells["base_values"] > 1
    for name in copied:
        cells[f"base_{name}"] = cells[f"base_{name}"].where(~ambiguous)
    value, floor, top = cells["value"], cells["chance"], cells["base_value"]
    cells["normalised"] = share(value, top, cells["better"])
    cells["above_chance"] = (value - floor) / (top - floor).where(above(top, floor, cells["better"]) > 0)
    cells["base_remark"] = base_remarks(cells, ambiguous)
    if first:  # dense runs belong to no curve, and have no base
        cells.loc[cells["kind"] == "dense", "base_remark"] = ""
    cells["ratio"] = value / top.where(top > 0)
    weak = cells["base_remark"].isin(SILENT[:2]) | ((cells["base_remark"] == collapsed.BASE) & ~over_folds(cells))
    clear = cells["normalised"].notna() & ~weak & (cells["status"] == DONE)
    beside = clear.groupby([cells[name] for name in LINE]).transform("any")
    cells.loc[weak & beside, [*MEASURES, "ratio"]] = float("nan")
    return over_questions(cells.drop(columns="base_values"))


def over_folds(cells: DataFrame):
    """Which rows are means over several folds: their base says more than a fold of it that has collapsed."""
    return (cells[FOLD] if FOLD in cells else cells["seed"]).map(str).str.startswith("mean of")


def over_questions(cells: DataFrame):
    """Add how many questions a run was asked, and the intervals over them of its value and of its ratio to the base."""
    rows = cells[["draws", "base_draws", "better", "chance"]].to_dict("records")
    asked = [isinstance(cell["draws"], questions.Draws) for cell in rows]
    cells["questions"] = [cell["draws"].count if known else 0 for cell, known in zip(rows, asked)]
    cells["unit"] = [cell["draws"].unit if known else "" for cell, known in zip(rows, asked)]
    own = [questions.bounds(cell["draws"].means if known else None) for cell, known in zip(rows, asked)]
    ratios = [questions.bounds(questions.compared(cell, "ratio")) for cell in rows]
    for name, ends in (("value", own), ("ratio", ratios)):
        cells[f"{name}_low"] = [float("nan") if low is None else low for low, _ in ends]
        cells[f"{name}_high"] = [float("nan") if high is None else high for _, high in ends]
    itself = cells["base_path"] == cells["path"]  # 100 % by definition
    cells.loc[itself, ["ratio_low", "ratio_high"]] = float("nan")
    return cells


def share(value, base, better):
    """A value as a fraction of its base; base / value where less is better. Empty where the divisor is not above 0."""
    less = better == "lower"
    return (value / base.where(base > 0)).where(~less, base.where(base > 0) / value.where(value > 0))


def above(value, floor, better):
    """By how much a value is better than ``floor``."""
    return (value - floor).where(better != "lower", floor - value)


def firsts(cells: DataFrame):
    """The finished runs at the lowest sparsity of each curve."""
    pruned = cells[cells["kind"] != "dense"]
    lowest = pruned.groupby(LINE)["pattern"].agg(lambda names: min(names, key=lambda name: sparsity_of(cells, name)))
    done = pruned[pruned["status"] == DONE]
    return done[done["pattern"] == done.join(lowest.rename("lowest"), on=LINE)["lowest"]]


def base_remarks(cells: DataFrame, ambiguous) -> list[str]:
    """What is wrong with each finished run's base, in words; empty if nothing is."""
    import pandas as pd

    top, floor = cells["base_value"], cells["chance"]
    rows = pd.to_numeric(cells["eval_samples"]) if "eval_samples" in cells else float("nan")
    score = cells["metric"].isin(corpus_scores.SCORES)
    proportion = (floor > 0) & (floor < 1) & ~score
    error = (floor.where(proportion) * (1 - floor) / rows) ** 0.5  # of a proportion at chance
    margin = (2 * error).fillna(0).where(proportion, CLEAR).where(~score, CLEAR_SCORE)
    words = pd.Series("", index=cells.index)
    words[above(top, floor, cells["better"]) <= margin] = WEAK
    words[collapsed.fallen_bases(cells)] = collapsed.BASE
    words[top <= 0] = NONE
    words[top.isna()] = "its base is missing"
    words[ambiguous] = "its base occurs more than once, with different values"
    words[cells["status"] != DONE] = ""
    return list(words)


def tidy(cells: DataFrame) -> DataFrame:
    """Return the cells as they are written to ``summary.csv``: without the columns that only serve to compare."""
    first = ["folder", "status", "error", "family", "model", *axes_of(cells)]
    first += [name for name in FIXED[FIXED.index("treatment") : FIXED.index("base_value")] if name != "better"]
    inner = ["path", "place", "base_path", "training", "scope", "layout", "source", "settled"]
    inner += ["whole", "collapsed_folds", "base_collapsed", "made_of", "seal", "base_seed"]
    inner += ["predictions_digest", "draws", "draws_remark", "base_draws", "base_draws_remark"]
    return cells[[*first, *(name for name in cells.columns if name not in (*first, *inner))]]


def sparsity_of(cells: DataFrame, pattern: str) -> float:
    """The sparsity that a pattern's label stands for."""
    return float(cells.loc[cells["pattern"] == pattern, "sparsity"].min())


# --- points ----------------------------------------------------------------------------------------------------------


def points(cells: DataFrame) -> DataFrame:
    """Return one row per point of a curve, also of points that no run has reached.

    A curve's points are all patterns that any of its seeds has; ``expected`` counts the seeds that any of its
    patterns has, ``normalised_seeds`` those that are in the normalised mean, and ``note`` says which of them are
    failed, unfinished or missing, and which have nothing to be normalised by. ``ratio`` is value / base whichever
    direction is better, as it is drawn, and ``chance_ratio`` where chance lies on it. ``collapsed`` and
    ``base_collapsed`` count seeds; ``ringed`` says if the figure shows it. The ``INTERVALS`` are those over questions,
    of a point that is one run of a curve of one seed.
    """
    import pandas as pd

    few = [*LINE, "kind", "treatment", "pattern", "sparsity", "seed", "status", "error", "metric", "better", "value"]
    few += ["chance", "base_value", "base_path", "base_remark", *MEASURES, "settled", "ratio", *INTERVALS]
    few += ["path", "collapsed", "collapsed_folds", "base_collapsed"]
    few += ["draws", "draws_remark", "base_draws", "base_draws_remark"]
    rows = []
    for line, mine in repeats.counted(cells)[few].groupby(LINE, sort=False):  # a hundred columns would make this slow
        seeds = sorted(mine["seed"].unique())
        known = mine[mine["metric"].notna()]  # a run that failed has none, and one under way may have another
        known = known.sort_values("status", key=lambda status: status != DONE, kind="stable")
        same = known[["metric", "better"]].iloc[0].to_dict() if len(known) else {"metric": "", "better": "higher"}
        for pattern, at in sorted(mine.groupby("pattern"), key=lambda item: item[1]["sparsity"].mean()):
            rows.append(dict(zip(LINE, line)) | {"pattern": pattern} | point(at, seeds) | same)
    made = pd.DataFrame(rows)
    for axis in axes_of(made):
        made[axis] = [dict(place).get(axis, "") for place in made["place"]]
    return made


def point(at, seeds: list) -> dict:
    """The means over seeds of the cells of one curve and pattern; ``seeds`` are the curve's."""
    done = at[at["status"] == DONE]
    by_seed = done.groupby("seed")[["value", *MEASURES, "ratio"]].mean()  # a seed that occurs twice counts once
    made = {
        **{name: (done if len(done) else at)[name].iloc[0] for name in ("kind", "treatment", "settled")},
        "sparsity": (done if len(done) else at)["sparsity"].mean(),
        "mean": by_seed["value"].mean(),
        "std": by_seed["value"].std(),
        "seeds": len(by_seed),
        "expected": len(seeds),
        "normalised_seeds": int(by_seed["ratio"].notna().sum()),
    }
    for name in (*MEASURES, "ratio"):
        made |= {name: by_seed[name].mean(), f"{name}_std": by_seed[name].std()}
    drawn = done[done["ratio"].notna()]
    made["chance_ratio"] = (drawn["chance"] / drawn["base_value"]).groupby(drawn["seed"]).mean().mean()
    once = len(done) == len(seeds) == 1  # several seeds are what the uncertainty is over
    made |= {name: done[name].iloc[0] if once else float("nan") for name in INTERVALS}
    made |= {"questions": int(made["questions"]), "unit": str(made["unit"])} if once else {"questions": 0, "unit": ""}
    return made | collapsed.columns(done) | {"note": notes(at, seeds)}


def notes(at, seeds: list) -> str:
    """Say what is not in a point's mean, seed by seed."""
    done = at[at["status"] == DONE]
    words = [f"missing: seed {seed}" for seed in seeds if seed not in set(at["seed"])]
    for cell in at[at["status"].isin((FAILED, NO_VALUE, INCOMPLETE))].itertuples():
        words.append(f"{cell.status}: seed {cell.seed}" + (f" ({cell.error})" if cell.error else ""))
    words += [f"unfinished: seed {cell.seed}" for cell in at[at["status"] == UNFINISHED].itertuples()]
    words += filter(None, [collapsed.remark(done)])
    for remark, mine in done[done["base_remark"] != ""].groupby("base_remark"):
        what = "" if mine["ratio"].notna().all() else "not normalised: "
        words.append(f"{what}{remark}: seed {', '.join(map(str, mine['seed']))}")
    nothing = done[(done["better"] == "lower") & (done["value"] <= 0) & (done["ratio"] == 0)]
    if len(nothing):
        words.append(f"no base / value in the claims, the value is 0: seed {', '.join(map(str, nothing['seed']))}")
    if len(done) and ((done["value"] - done["chance"]).abs() < SAME).all():
        words.append("every run exactly at chance")
    if len(done) == len(seeds) == 1:
        lost = questions.remark(done.iloc[0].to_dict())
        words += [f"no interval: {lost}"] if lost else []
    if done["seed"].duplicated().any():
        words.append(f"averaged although a seed occurs twice ({len(done)} runs)")
    return "; ".join(words)


# --- what is missing -------------------------------------------------------------------------------------------------


def missing(cells: DataFrame, first: bool = False) -> list[tuple]:
    """Return (curve, pattern, seed) of every cell that others ask for and no folder holds.

    Others are the curve's other patterns, seeds and folds; and, unless ``first``, pruned runs that have no dense one
    beside them.
    """
    holes = [] if first else bases(cells)
    for (family, model, _, curve), mine in cells.groupby(["family", "model", "whole", "curve"], sort=False):
        have = set(zip(mine["place"], mine["pattern"], mine["seed"]))
        seeds = sorted(repeats.counted(mine)["seed"].unique())
        wanted = product(mine["place"].unique(), mine["pattern"].unique(), seeds)
        holes += [((family, model, at, curve), *what) for at, *what in wanted if (at, *what) not in have]
    return list(dict.fromkeys(holes))


def bases(cells: DataFrame) -> list[tuple]:
    """The same of the dense runs that no folder holds, by which pruned ones would be normalised."""
    key = ["family", "model", "place", "training"]
    dense, pruned = cells[cells["kind"] == "dense"], cells[cells["kind"] != "dense"]
    have = set(dense[[*key, "seed"]].itertuples(index=False, name=None))
    curves = {tuple(at): curve for *at, curve in dense[[*key, "curve"]].itertuples(index=False, name=None)}
    treatments = dict(zip(dense["family"], dense["treatment"]))
    holes = []
    for *at, seed in dict.fromkeys(pruned[[*key, "base_seed"]].itertuples(index=False, name=None)):
        if (*at, seed) not in have:
            line = (*at[:3], curves.get(tuple(at), treatments.get(at[0], "dense")))
            holes.append((line, "dense", seed))
    return holes
