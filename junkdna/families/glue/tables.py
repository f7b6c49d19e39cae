"""Files of rows, read strictly: csv, json lines, and the tab-separated files of GLUE.

Nothing is guessed. A file that is not what its name says is an error that names the row.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from junkdna.errors import UserError
from junkdna.families import textfiles

LONGEST = 1 << 24
"""Characters that a csv field may have. Some passages are longer than csv's own limit of 128 KiB."""

csv.field_size_limit(LONGEST)

ONE_A_LINE = "(json lines: one object a line)"


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


# --- csv -------------------------------------------------------------------------------------------------------------


def _csv(text: str) -> tuple[tuple[str, ...], list[list], list[int]]:
    header, rows, lines = None, [], []
    for line, row in csv_rows(text, strict=True):
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
            raise ValueError(f"row {len(rows) + 1} is the header again; were files put together? (line {line})")
        rows.append(row + [None] * (len(header) - len(row)))
        lines.append(line)
    return tuple(header or ()), rows, lines


def csv_rows(text: str, **form) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which it ends, cells) of every row, none for a blank one; raises ValueError that names the row."""
    reader = csv.reader(io.StringIO(text, newline=""), **form)
    number = 0  # of the header
    while True:
        begins = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            which = f"row {number}" if number else "the header"
            raise ValueError(f"{which}, from line {begins} on: {_explained(error)}") from None
        yield reader.line_num, row
        number += bool(row)


def _explained(error: csv.Error) -> str:
    said = str(error)
    if "expected after" in said:
        return f'{said}; a quote inside a quoted text is written twice, as "" and not as \\"'
    if "unexpected end" in said:
        return "its quote is never closed"
    if "field limit" in said:
        return f"a field has more than {LONGEST:,} characters; is a quote never closed?"
    return said


def _check_names(header: list[str]) -> None:
    named = [name for name in header if name.strip()]
    if len(set(named)) < len(named):
        raise ValueError(f"two columns have the same name ({listed(header)})")


def is_header(row: list[str], header: list[str]) -> bool:
    """Whether a row says the header again; a byte-order mark stays where files were put together."""
    return len(row) == len(header) and all(a.strip("\ufeff ") == b.strip() for a, b in zip(row, header))


def listed(names) -> str:
    """Columns in quotes, the first twenty of them."""
    names = list(names)
    return ", ".join([*map(repr, names[:20]), *(["..."] if len(names) > 20 else [])]) or "none"


# --- json ------------------------------------------------------------------------------------------------------------


def _json_lines(text: str) -> tuple[tuple[str, ...], list[list], list[int]]:
    """Every key of any row is a column, so that a row that lacks one is seen wherever it stands."""
    objects, lines = [], []
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            objects.append(_json_object(number, line, first=not objects))
            lines.append(number)
    columns = tuple(dict.fromkeys(name for row in objects for name in row))
    return columns, [[row.get(name) for name in columns] for row in objects], lines


def _json_object(number: int, line: str, first: bool) -> dict:
    if first and line.lstrip().startswith("["):
        raise ValueError(f"line {number} begins a JSON array, not an object {ONE_A_LINE}")
    try:
        row = json.loads(line, parse_int=_whole, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} is not JSON: {error.msg} {ONE_A_LINE}") from None
    except RecursionError:
        raise ValueError(f"line {number} is nested too deeply {ONE_A_LINE}") from None
    except ValueError as error:
        raise ValueError(f"line {number} {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is not a JSON object {ONE_A_LINE}")
    return row


def _whole(digits: str) -> int | str:
    """A whole number; one of thousands of digits, which Python does not read, as text."""
    return int(digits) if len(digits) < 1000 else digits


def _object(pairs: list[tuple[str, object]]) -> dict:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"has {next(name for name in names if names.count(name) > 1)!r} twice")
    return made
