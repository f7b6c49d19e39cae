"""Text files, plain or gzipped, read strictly: a file that is not UTF-8 is an error that says where."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""Marks at the beginning of files in other encodings, the longer ones first."""


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
