"""Text files, plain or gzipped, csv and json lines, read strictly: an error says on which line and what is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""Marks at the beginning of files in other encodings, the longer ones first."""

LONGEST = 1 << 24
"""Characters that a csv field may have. Some passages are longer than csv's own limit of 128 KiB."""

ONE_A_LINE = "(json lines: one object a line)"


def read(path: str | Path) -> str:
    """Return a file's text, unpacked if its name ends in ``.gz``, without a byte-order mark, line ends as they are.

    Raises OSError, or ValueError with what is wrong, and on which line. ``reason_of`` puts either into words.
    """
    content = Path(path).read_bytes()
    if Path(path).suffix.lower() == ".gz":
        content = _unpacked(content)
    for mark, encoding in ENCODINGS.items():
        if content.startswith(mark):
            raise ValueError(f"it is {encoding}; save it as UTF-8")
    if 0 in content[:4]:
        raise ValueError("it seems to be UTF-16 without a byte-order mark; save it as UTF-8")
    if 0 in content:
        line = content.count(b"\n", 0, content.index(0)) + 1
        raise ValueError(f"line {line} holds a NUL byte; it is damaged, or not UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise ValueError(f"line {line} is not UTF-8 ({byte}); save it as UTF-8") from None


def reason_of(error: OSError | ValueError) -> str:
    """What went wrong, without the path."""
    return getattr(error, "strerror", None) or str(error)


def _unpacked(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"it is not a complete gzip file: {error}") from None


# --- csv -------------------------------------------------------------------------------------------------------------


def csv_rows(text: str, **form) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which it ends, cells) of every row, none for a blank one; raises ValueError that names the row."""
    csv.field_size_limit(LONGEST)
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


# --- json lines ------------------------------------------------------------------------------------------------------


def json_rows(text: str) -> list[tuple[int, dict]]:
    """Return (line, object) of every row of json lines, blank lines left out; raises ValueError with what is wrong."""
    lines = enumerate(io.StringIO(text, newline=None), start=1)  # texts may hold the line ends that only Python knows
    found: list[tuple[int, dict]] = []
    for number, line in lines:
        if line.strip():
            found.append((number, _row(number, line, first=not found)))
    return found


def _row(number: int, line: str, first: bool) -> dict:
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


# --- what rows hold --------------------------------------------------------------------------------------------------


def kind_of(value: object) -> str:
    """A value's kind, in the words of JSON."""
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")


def text_of(value: object, name: str) -> str:
    """Return a value that is a text of whole characters and not empty; raises ValueError.

    ``name`` is what the message calls it.
    """
    if not isinstance(value, str):
        raise ValueError(f"has in {name!r} {kind_of(value)} where a text should be")
    check_whole(value, name)
    if not value.strip():
        raise ValueError(f"has in {name!r} an empty text")
    return value


def check_whole(text: str, name: str = "") -> None:
    """Raise ValueError for half of a character: JSON can write it (``\\ud800``), no file and no tokenizer takes it.

    ``name`` is the column that the message names.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        said = f"has in {name!r}" if name else "holds"
        raise ValueError(f"{said} {half}, half of a character, which stands for nothing alone") from None


def row_id(cells: dict, number: int) -> str:
    """Return a row's ``id``, a text or a whole number; its number if there is none. Raises ValueError."""
    value = cells.get("id")
    if value is None:
        return str(number)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise ValueError(f"has the 'id' {value!r}; give a text or a whole number")
    return str(value)
