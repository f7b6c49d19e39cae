"""Rows by the names of their columns, from csv, json lines, parquet or Arrow; a mistake in one names the row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from junkdna.errors import UserError
from junkdna.families import textfiles

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One row: its number from 1, the line of the file on which it ends (None: not a text file), its cells."""

    number: int
    line: int | None
    cells: dict[str, object]


def read(where: str, path: str | Path) -> list[Row]:
    """Read a file, csv if its name says so, json lines otherwise, either also with ``.gz``.

    ``where`` is the file with its flag, for messages. Raises UserError for a file that cannot be read or has no rows.
    """
    try:
        text = textfiles.read(path)
        found = list(_csv(text) if is_csv(path) else _json_lines(text))
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read: {textfiles.reason_of(error)}") from None
    if not found:
        raise UserError(f"{where}: has no rows")
    return found


def each(where: str, rows: Iterable[Row], make: Callable[[Row], T]) -> list[T]:
    """Make something of every row; a ValueError, "has no ...", becomes a UserError that names file, row and line."""
    made = []
    for row in rows:
        try:
            made.append(make(row))
        except ValueError as error:
            line = "" if row.line is None else f" (line {row.line})"
            raise UserError(f"{where}: row {row.number} {error}{line}") from None
    return made


def is_csv(path: str | Path) -> bool:
    """Whether a file's name ends in ``.csv`` or ``.csv.gz``."""
    return str(path).lower().endswith((".csv", ".csv.gz"))


# --- cells -----------------------------------------------------------------------------------------------------------


def cell(row: Row, name: str, *others: str) -> object:
    """Return what stands under one of these names; raises ValueError if that is nothing, or if two are given."""
    found = [key for key in (name, *others) if row.cells.get(key) is not None]
    if len(found) > 1:
        raise ValueError(f"has both {found[0]!r} and {found[1]!r}; give one")
    if not found:
        raise ValueError(f"has no {name!r} (it has: {', '.join(list(row.cells)[:20]) or 'nothing'})")
    return row.cells[found[0]]


def text(value: object, name: str) -> str:
    """Return a value that is a text, without white space at its ends; raises ValueError, also if nothing is left.

    ``name`` is what the message calls it.
    """
    return textfiles.text_of(value, name).strip()


# --- files -----------------------------------------------------------------------------------------------------------


def _csv(content: str) -> Iterator[Row]:
    header, number = None, 0
    for line, cells in textfiles.csv_rows(content, strict=True):
        if not cells:  # a blank line
            continue
        if header is None:
            header = [name.strip() for name in cells]
            if len(set(header)) < len(header):
                raise ValueError(f"two columns have the same name ({', '.join(header)})")
            continue
        number += 1
        if len(cells) != len(header):
            reason = f"row {number} has {len(cells)} columns, the header {len(header)}; are texts with commas quoted?"
            raise ValueError(f"{reason} (line {line})")
        yield Row(number, line, dict(zip(header, cells)))


def _json_lines(content: str) -> Iterator[Row]:
    for number, (line, cells) in enumerate(textfiles.json_rows(content), start=1):
        yield Row(number, line, cells)
