"""Runs on the folds of one task, averaged within a seed before seeds are averaged.

A setting of the role ``fold`` says which part of the data a run was asked about. The fold is an axis of the report
alone: its number for a run, "mean of 5" for the mean of five of them, and "none" where the family has folds elsewhere.
A seed that lacks a fold has no mean: folds differ in difficulty, and a mean of others would be another number.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from junkdna.report import names, questions
from junkdna.report.names import FOLD, NOT_ASKED, Place
from junkdna.report.reading import DONE, INCOMPLETE

if TYPE_CHECKING:
    from pandas import DataFrame

SAME = ["family", "model", "whole", "treatment", "kind", "curve", "pattern", "seed", "training", "scope"]
"""What runs have in common that differ in the fold alone; what changes rounding at most may differ, as over seeds."""


def fold_of(settings: dict, roles: dict[str, str]) -> Place:
    """A run's place on the axis of folds; () if it is on none."""
    found = [settings.get(name) for name, role in roles.items() if role == "fold"]
    return tuple((FOLD, str(fold)) for fold in found[:1] if fold is not None)


def complete(rows: list[dict]) -> None:
    """Give the runs of no fold the value "none" on that axis, in families that have it: all have the same axes then."""
    have = {row["family"] for row in rows if FOLD in dict(row["place"])}
    for row in rows:
        if row["family"] in have and FOLD not in dict(row["place"]):
            row["place"] += ((FOLD, NOT_ASKED),)


def number(cells: DataFrame) -> None:
    """Add to the cells ``whole``: the place that the mean over the folds has; their own place if there is one fold.

    Also ``collapsed_folds``, which ``average`` fills.
    """
    counts = {at: len(folds) for at, folds in held(cells).items()}
    keys = zip(cells["family"], cells["model"], cells["place"])
    cells["whole"] = [joined(place, counts[place_key(family, model, place)]) for family, model, place in keys]
    cells["collapsed_folds"] = ""


def place_key(family: str, model: str, place: Place) -> tuple:
    """A place of a model, whichever the fold."""
    return family, model, names.without_fold(place)


def held(cells: DataFrame) -> dict[tuple, set[str]]:
    """The folds that there are at every place of a model."""
    found: dict[tuple, set[str]] = {}
    for family, model, place in zip(cells["family"], cells["model"], cells["place"]):
        found.setdefault(place_key(family, model, place), set()).add(dict(place).get(FOLD, NOT_ASKED))
    return found


def joined(place: Place, folds: int) -> Place:
    """A place with "mean of N" for its fold, where there are several."""
    return tuple((axis, f"mean of {folds}" if axis == FOLD and folds > 1 else value) for axis, value in place)


def average(cells: DataFrame) -> DataFrame:
    """Return the cells with a row per seed in place of its folds; the same cells if no place has several folds.

    Value and chance are means over the folds. A row that lacks one of the folds of its place has neither, and its
    ``error`` says which. Other columns keep what all folds of the row share. Cells are those of ``collect``, not
    normalised yet.
    """
    import pandas as pd

    if (cells["whole"] == cells["place"]).all():
        return cells
    wanted = held(cells)
    groups: dict[tuple, list[dict]] = {}
    rows = []
    for cell in cells.to_dict("records"):
        if len(wanted[place_key(cell["family"], cell["model"], cell["place"])]) > 1:
            groups.setdefault(tuple(cell[name] for name in SAME), []).append(cell)
        else:
            rows.append(cell | {"place": (*cell["place"], *cell["settled"])})
    rows += [
        one(mine, wanted[place_key(*(mine[0][name] for name in ("family", "model", "place")))])
        for mine in groups.values()
    ]
    made = pd.DataFrame(rows, columns=cells.columns)
    names.move_constant_axes(made)
    for axis in dict.fromkeys(axis for place in made["place"] for axis, _ in place):
        made[axis] = [dict((*place, *settled)).get(axis, "") for place, settled in zip(made["place"], made["settled"])]
    return made.loc[names.in_order(made)].reset_index(drop=True)


def one(cells: list[dict], wanted: set[str]) -> dict:
    """One row from those of a seed's folds; ``wanted`` are all folds of their place."""
    cells = sorted(cells, key=lambda cell: names.natural(fold_in(cell)))
    status, error = standing(cells, wanted)
    if status == DONE:
        cells = list({fold_in(cell): cell for cell in cells if cell["status"] == DONE}.values())
    first = cells[0]
    told = next((cell for cell in cells if cell["status"] == DONE), first)  # a run that failed has no metric
    place = (*first["whole"], *first["settled"])
    made = {name: first[name] if all(same(cell[name], first[name]) for cell in cells) else None for name in first}
    made |= {name: told[name] for name in ("path", "sparsity", "metric", "better")}
    made |= {"folder": f"{told['folder']} and {len(cells) - 1} more", "status": status, "error": error}
    made |= {"place": place, FOLD: dict(place)[FOLD]}
    for name in ("value", "chance"):
        made[name] = sum(cell[name] for cell in cells) / len(cells) if status == DONE else float("nan")
    if "eval_samples" in first and status == DONE:
        made["eval_samples"] = sum(cell["eval_samples"] for cell in cells)
    return made | collapsed(cells) | drawn(cells)


def fold_in(cell: dict) -> str:
    return dict(cell["place"])[FOLD]


def same(one, other) -> bool:
    """Whether two values of a column are the same; missing ones are."""
    return bool(one is other or (one != one and other != other) or (type(one) is type(other) and one == other))


def standing(cells: list[dict], wanted: set[str]) -> tuple[str, str]:
    """The status of a mean, and what is wrong with its folds. A run that did not finish gives way to one that did."""
    values: dict[str, set[float]] = {}
    for cell in cells:
        if cell["status"] == DONE:
            values.setdefault(fold_in(cell), set()).add(cell["value"])
    wrong = {"missing": wanted - {fold_in(cell) for cell in cells}}
    wrong["more than once, with different values"] = {fold for fold, found in values.items() if len(found) > 1}
    for cell in cells:
        if fold_in(cell) not in values:
            said = cell["status"] + (f" ({cell['error']})" if cell["error"] else "")
            wrong.setdefault(said, set()).add(fold_in(cell))
    words = [f"{fold_words(folds)} {said}" for said, folds in wrong.items() if folds]
    return (INCOMPLETE, ", ".join(words)) if words else (DONE, "")


def fold_words(folds) -> str:
    """'fold 3', or 'folds 0, 1'."""
    return f"fold{'s' * (len(folds) > 1)} {', '.join(sorted(folds, key=names.natural))}"


def collapsed(cells: list[dict]) -> dict:
    """Whether any fold has collapsed, and which; not known (None) if no fold's record says it."""
    fallen = [fold_in(cell) for cell in cells if cell["collapsed"] is True]
    known = [cell["collapsed"] for cell in cells if cell["collapsed"] is not None]
    return {"collapsed": bool(fallen) if known else None, "collapsed_folds": fold_words(fallen) if fallen else ""}


def drawn(cells: list[dict]) -> dict:
    """The resamples over questions of a mean: questions are drawn within each fold. None if a fold has none."""
    draws = [cell["draws"] for cell in cells]
    remarks = [f"fold {fold_in(cell)}: {cell['draws_remark']}" for cell in cells if cell["draws_remark"]]
    if not all(isinstance(some, questions.Draws) for some in draws):
        return {"draws": None, "draws_remark": ", ".join(remarks)}
    sets = hashlib.sha256(" ".join(some.questions for some in draws).encode()).hexdigest()
    means = sum(some.means for some in draws) / len(draws)
    count = sum(some.count for some in draws)
    return {"draws": replace(draws[0], questions=sets, count=count, means=means), "draws_remark": ""}
