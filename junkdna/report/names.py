"""What models, files, curves and places on the axes are called, and in which order they stand."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from junkdna.report.kinds import rank
from junkdna.report.reading import MASK_FILE

if TYPE_CHECKING:
    from pandas import DataFrame

GENERIC = re.compile(r"model|checkpoint|snapshots|[0-9a-f]{40}")
"""Last parts of a model's path that say nothing; the part before them names it."""

NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)")

NOTES = {"two_way_containment": "an empty answer scores 1"}
"""What must be said of a metric wherever it is shown."""

Place = tuple[tuple[str, str], ...]
"""Where a run stands on its family's axes: (axis, value) pairs, the first one is the panel of a figure."""


NOT_ASKED = "none"
"""The value of an axis that means nothing for a run, as the length of a text that it does not read."""

FOLD = "fold"
"""The axis that the report adds where a task is divided into folds; the last one."""


def differing(one: Place, other: Place) -> list[str]:
    """The axes on which two places differ; one that means nothing for either of them does not count."""
    a, b = dict(one), dict(other)
    return [axis for axis in a | b if a.get(axis) != b.get(axis) and NOT_ASKED not in (a.get(axis), b.get(axis))]


def move_constant_axes(cells: DataFrame) -> None:
    """Move axes from the third on that have one value in all of a family's cells out of ``place``, into ``settled``.

    So is the axis of the folds, wherever it stands. They would only make every name longer. They stay columns of the
    table.
    """
    cells["settled"] = [()] * len(cells)
    for _, mine in cells.groupby("family", sort=False):
        constant = constant_axes(set(mine["place"]))
        split = {place: ([], []) for place in set(mine["place"])}
        for place, (varying, settled) in split.items():
            for axis, value in place:
                (settled if axis in constant else varying).append((axis, value))
        cells.loc[mine.index, "settled"] = mine["place"].map(lambda place, s=split: tuple(s[place][1]))
        cells.loc[mine.index, "place"] = mine["place"].map(lambda place, s=split: tuple(s[place][0]))


def constant_axes(places: set[Place]) -> set[str]:
    """The axes from the third on that keep no two places apart: of one value, where they mean anything."""
    values: dict[str, set] = {}
    for place in places:
        for number, (axis, value) in enumerate(place):
            if number >= 2 or axis == FOLD:
                values.setdefault(axis, set()).add(value)
    constant = {axis for axis, said in values.items() if len(said - {NOT_ASKED}) <= 1}
    if len({tuple(at for at in place if at[0] not in constant) for place in places}) < len(places):
        return {axis for axis in constant if len(values[axis]) == 1}
    return constant


def place_words(place: Place, between: str = " ") -> str:
    """A place in words; a value that is only a number is called by its axis too: 'cola 100 %', 'en-de shots 0'."""
    return between.join(f"{axis} {value}" if NUMBER.fullmatch(value) else value for axis, value in place)


def axis_words(place: Place) -> str:
    """Places on axes with the axes' names: 'data 10 %, book open'."""
    return ", ".join(f"{axis} {value}" for axis, value in place)


def without_fold(place: Place) -> Place:
    """A place whichever the fold."""
    return tuple(at for at in place if at[0] != FOLD)


def settled_words(points: DataFrame) -> dict[str, str]:
    """What is settled in each family, in words; families in which nothing is are left out."""
    found = {}
    for family, mine in points.groupby("family", sort=False):
        values: dict[str, list[str]] = {}
        for axis, value in dict.fromkeys(at for settled in mine["settled"] for at in settled):
            values.setdefault(axis, []).append(value)
        words = []
        for axis, said in values.items():
            known = [value for value in said if value != NOT_ASKED] or [NOT_ASKED]
            words.append(f"{axis} {' '.join(known)}" + " where it applies" * (len(known) < len(said)))
        if words:
            found[family] = ", ".join(words)
    return found


def line_words(line: tuple, several: bool) -> str:
    """A curve in words: the family only where there are several, model, places and name."""
    family, model, place, curve = line
    return ", ".join([*([family] if several else []), model, place_words(place, ", "), curve])


def natural(text: str) -> tuple:
    """A key that orders text with the numbers in it by their value: '10 %' before '100 %'."""
    return tuple(float(part) if i % 2 else part for i, part in enumerate(NUMBER.split(text)))


def place_order(place: Place) -> tuple:
    return tuple((axis, natural(value)) for axis, value in place)


def in_order(cells: DataFrame) -> list[int]:
    """The cells' index in the tables' order: by family, model, axes, treatment, kind, curve, sparsity and seed."""
    rows = dict(zip(cells.index, cells.to_dict("records")))
    last = lambda number: float("inf") if number != number else number  # noqa: E731
    inner = lambda cell: (cell["kind"], natural(cell["curve"]), last(cell["sparsity"]), cell["seed"])  # noqa: E731
    outer = lambda cell: (  # noqa: E731
        *(cell["family"], cell["model"], place_order(cell["place"]), cell["treatment"], cell["kind"] != "dense"),
    )
    order = sorted(rows, key=lambda i: inner(rows[i]))
    order.sort(key=lambda i: rows[i]["kind"].split(", ")[0], reverse=True)  # unstructured before N:M
    order.sort(key=lambda i: rank(rows[i]["kind"]))
    return sorted(order, key=lambda i: outer(rows[i]))


# --- paths -----------------------------------------------------------------------------------------------------------


def name_files(cells: DataFrame) -> None:
    """Call files and folders in the settings by their short names: a summary is read on other machines too."""
    sources = {column_of(cells, name) for some in cells["source"] for name in some}
    for name in sorted(sources & set(cells.columns)):
        known = cells[name].map(lambda value: isinstance(value, str))
        cells.loc[known, name] = shortened(cells.loc[known, name])


def column_of(cells: DataFrame, name: str) -> str:
    """The column of a setting, which has another name where a metric or an axis is called the same."""
    return f"{name}_asked" if f"{name}_asked" in cells.columns else name


def telling(name: str) -> list[str]:
    """The parts of a model's name that are not generic: 'encoder' is the last of '/home/me/encoder/model'."""
    return [part.removeprefix("models--") for part in Path(name).parts if not GENERIC.fullmatch(part)] or [name]


def shortened(names, parts=lambda name: Path(name).parts) -> list[str]:
    """Names by as many of their last parts as keep them apart; whole, if none do."""
    known = {name: parts(name) for name in dict.fromkeys(names)}
    for count in range(1, max(map(len, known.values()), default=0) + 1):
        short = {name: "/".join(some[-count:]) for name, some in known.items()}
        if len(set(short.values())) == len(short):
            return [short[name] for name in names]
    return list(names)


# --- curves ----------------------------------------------------------------------------------------------------------


def tell_apart(cells: DataFrame) -> None:
    """Put into each curve's name the settings in which it differs from another at its place; never average those.

    A setting that differs only between places stays out of the name: it mixes nothing, and ``summary`` reports it.
    """
    for _, mine in cells.groupby("family", sort=False):
        for column in ("training", "scope"):
            rows = mine if column == "training" else mine[mine["kind"] != "dense"]
            for i in range(len(mine[column].iloc[0])):
                add_where_it_differs(cells, rows, column, i)


def add_where_it_differs(cells: DataFrame, rows: DataFrame, column: str, i: int) -> None:
    """Add one setting to the names of these rows' curves, if any two at one place differ in it."""
    name = rows[column].iloc[0][i][0] if len(rows) else ""
    value = rows[column].map(lambda pairs: pairs[i][1])
    if not (value.groupby([rows["model"], rows["place"]]).nunique() > 1).any():
        return
    if column == "scope" and name != MASK_FILE and belongs_to_method(rows, value):
        return
    if name in rows["source"].iloc[0]:
        value = value.map(dict(zip(value, shortened(value))))
    cells.loc[rows.index, "curve"] += [f", {name} {text}" if text != "None" else "" for text in value.map(as_given)]


def as_given(text: str) -> str:
    """A setting as it is given to a flag: the elements of a list behind one another, None for none.

    An element that is not one word is quoted, so that two settings never read the same.
    """
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    if not isinstance(found, list):
        return text
    words = [str(one) if re.fullmatch(r"[^\s'\"]+", str(one)) and one != "None" else repr(one) for one in found]
    return " ".join(words) or "None"


def belongs_to_method(rows: DataFrame, value) -> bool:
    """Whether a setting only says which methods have it: None for some kinds, one value for the others."""
    at = [rows["model"], rows["place"]]
    within = value.groupby([*at, rows["kind"]]).nunique()
    between = value.where(value != "None").groupby(at).nunique()
    return bool((within <= 1).all() and (between <= 1).all())
