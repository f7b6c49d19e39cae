"""Text files, plain or gzipped, and json lines, read strictly: an error says on which line and what is wrong."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from pathlib import Path

ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""Marks at the beginning of files in other encodings, the longer ones first."""

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


def json_rows(text: str) -> list[tuple[int, dict]]:
    """Return (line, object) of every row of json lines, blank lines left out; raises ValueError with what is wrong."""
    lines = enumerate(io.StringIO(text, newline=None), start=1)  # texts may hold the line ends that only Python knows
    return [(number, _object(number, line)) for number, line in lines if line.strip()]


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


def check_whole(text: str) -> None:
    """Raise ValueError for half of a character: JSON can write it (``\\ud800``), no file and no tokenizer takes it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise ValueError(f"holds {half}, half of a character, which stands for nothing alone") from None


def reason_of(error: OSError | ValueError) -> str:
    """What went wrong, without the path."""
    return getattr(error, "strerror", None) or str(error)


def _object(number: int, line: str) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} is not JSON: {error.msg} {ONE_A_LINE}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets by the thousand
        raise ValueError(f"line {number} cannot be read as JSON {ONE_A_LINE}") from None
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is not a JSON object {ONE_A_LINE}")
    return row


def _unpacked(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"it is not a complete gzip file: {error}") from None
