"""What models, files, curves and places on the axes are called, and in which order they stand."""

from __future__ import annotations

import re
from pathlib import Path

GENERIC = re.compile(r"model|checkpoint|snapshots|[0-9a-f]{40}")
"""Last parts of a model's path that say nothing; the part before them names it."""

NUMBER = re.compile(r"(\d+(?:\.\d+)?)")

Place = tuple[tuple[str, str], ...]
"""Where a run stands on its family's axes: (axis, value) pairs, the first one is the panel of a figure."""


def place_words(place: Place, between: str = " ") -> str:
    """A place in words; a value that is only a number is called by its axis too: 'cola 100 %', 'en-de shots 0'."""
    return between.join(f"{axis} {value}" if NUMBER.fullmatch(value) else value for axis, value in place)


def axis_words(place: Place) -> str:
    """Places on axes with the axes' names: 'data 10 %, book open'."""
    return ", ".join(f"{axis} {value}" for axis, value in place)


def line_words(line: tuple, several: bool) -> str:
    """A curve in words: the family only where there are several, model, places and name."""
    family, model, place, curve = line
    return ", ".join([*([family] if several else []), model, place_words(place, ", "), curve])


def natural(text: str) -> tuple:
    """A key that orders text with the numbers in it by their value: '10 %' before '100 %'."""
    return tuple(float(part) if i % 2 else part for i, part in enumerate(NUMBER.split(text)))


def place_order(place: Place) -> tuple:
    return tuple((axis, natural(value)) for axis, value in place)


def in_order(cells) -> list[int]:
    """The cells' index in the tables' order: by family, model, axes, treatment, kind, curve, sparsity and seed."""
    rows = dict(zip(cells.index, cells.to_dict("records")))
    last = lambda number: float("inf") if number != number else number  # noqa: E731
    inner = lambda cell: (cell["kind"], cell["curve"], last(cell["sparsity"]), cell["seed"])  # noqa: E731
    outer = lambda cell: (  # noqa: E731
        *(cell["family"], cell["model"], place_order(cell["place"]), cell["treatment"], cell["kind"] != "dense"),
    )
    order = sorted(rows, key=lambda i: inner(rows[i]))
    order.sort(key=lambda i: rows[i]["kind"].split(", ")[0], reverse=True)  # unstructured before N:M
    return sorted(order, key=lambda i: outer(rows[i]))


# --- paths -----------------------------------------------------------------------------------------------------------


def name_files(cells) -> None:
    """Call files and folders in the settings by their short names: a summary is read on other machines too."""
    sources = {name for some in cells["source"] for name in some}
    for name in sorted(sources & set(cells.columns)):
        known = cells[name].map(lambda value: isinstance(value, str))
        cells.loc[known, name] = shortened(cells.loc[known, name])


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


def tell_apart(cells) -> None:
    """Put into each curve's name the settings in which it differs from another at its place; never average those.

    A setting that differs only between places stays out of the name: it mixes nothing, and ``summary`` reports it.
    """
    for _, mine in cells.groupby("family", sort=False):
        for column in ("training", "scope"):
            rows = mine if column == "training" else mine[mine["kind"] != "dense"]
            for i in range(len(mine[column].iloc[0])):
                add_where_it_differs(cells, rows, column, i)


def add_where_it_differs(cells, rows, column: str, i: int) -> None:
    """Add one setting to the names of these rows' curves, if any two at one place differ in it."""
    name = rows[column].iloc[0][i][0] if len(rows) else ""
    value = rows[column].map(lambda pairs: pairs[i][1])
    if not (value.groupby([rows["model"], rows["place"]]).nunique() > 1).any():
        return
    if name in rows["source"].iloc[0]:
        value = value.map(dict(zip(value, shortened(value))))
    cells.loc[rows.index, "curve"] += [f", {name} {text}" if text != "None" else "" for text in value]
