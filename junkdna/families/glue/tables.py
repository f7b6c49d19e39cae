"""Rows of csv or json lines as a table, and of the tab-separated files of GLUE.

Nothing is guessed. A file that is not what its name says is an error that names the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from junkdna.errors import UserError
from junkdna.families import textfiles

AGAIN = "repeats the header; were files concatenated?"
"""What is wrong with such a row."""


@dataclass(frozen=True)
class Table:
    """Rows of cells, one for each column. A cell is None where the file has nothing.

    ``where`` is the file with its flag. ``lines`` has the line of the file on which each row ends, and ``numbers`` the
    row's number where that is not its place, counted from 1.
    """

    where: str
    columns: tuple[str, ...]
    rows: list[list]
    lines: Sequence[int]
    numbers: Sequence[int] | None = None

    def column(self, place: int) -> list:
        """All cells of a column."""
        return [row[place] for row in self.rows]

    def values(self, name: str) -> list:
        """All cells of the column of this name."""
        return self.column(self.columns.index(name))

    def wrong(self, index: int, reason: str) -> UserError:
        """An error that names a row, with its line in the file."""
        number = self.numbers[index] if self.numbers else index + 1
        return UserError(f"{self.where}: row {number} {reason} (line {self.lines[index]})")


def read_table(where: str, path: str) -> Table:
    """Read a csv or json-lines file; raises UserError."""
    try:
        text = textfiles.read(path)
        columns, rows, lines = _csv(text) if Path(path).suffix.lower() == ".csv" else _json_lines(text)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read: {textfiles.reason_of(error)}") from None
    if not rows:
        raise UserError(f"{where}: has no rows")
    return Table(where, columns, rows, lines)


def _csv(text: str) -> tuple[tuple[str, ...], list[list], list[int]]:
    header, rows, lines = None, [], []
    for line, row in textfiles.csv_rows(text, strict=True):
        if not row:  # a blank line
            continue
        if header is None:
            header = row
            _check_names(header)
            continue
        if len(row) > len(header):
            reason = f"row {len(rows) + 1} has more than {len(header)} columns; is a comma in its text not quoted?"
            raise ValueError(f"{reason} (line {line})")
        if is_header(row, header):
            raise ValueError(f"row {len(rows) + 1} {AGAIN} (line {line})")
        rows.append(row + [None] * (len(header) - len(row)))
        lines.append(line)
    return tuple(header or ()), rows, lines


def _check_names(header: list[str]) -> None:
    named = [name for name in header if name.strip()]
    if len(set(named)) < len(named):
        raise ValueError(f"two columns have the same name ({listed(header)})")


def _json_lines(text: str) -> tuple[tuple[str, ...], list[list], list[int]]:
    """Every key of any row is a column, so that a row that lacks one is seen wherever it stands."""
    found = textfiles.json_rows(text)
    columns = tuple(dict.fromkeys(name for _, row in found for name in row))
    return columns, [[row.get(name) for name in columns] for _, row in found], [line for line, _ in found]


def is_header(row: list[str], header: list[str]) -> bool:
    """Whether a row repeats the header; a byte-order mark stays where files were concatenated."""
    return len(row) == len(header) and all(a.strip("\ufeff ") == b.strip() for a, b in zip(row, header))


def listed(names) -> str:
    """Columns in quotes, the first twenty of them."""
    names = list(names)
    return ", ".join([*map(repr, names[:20]), *(["..."] if len(names) > 20 else [])]) or "none"
