"""Text files, plain or gzipped, read strictly: a file that is not UTF-8 is an error that says where."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16 or UTF-32", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}
"""How files in other encodings begin."""


def read(path: str | Path) -> str:
    """Return the text of a file, unpacked if its name ends in ``.gz``; raises ValueError or OSError."""
    content = Path(path).read_bytes()
    if Path(path).suffix.lower() == ".gz":
        content = _unpacked(content)
    for mark, encoding in OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise ValueError(f"it is {encoding}; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise ValueError(f"line {line} is not UTF-8 ({byte}); save it as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"line {line} holds a NUL byte; it is damaged, or not UTF-8")
    return text


def reason_of(error: OSError | ValueError) -> str:
    """What went wrong, without the path."""
    return getattr(error, "strerror", None) or str(error)


def _unpacked(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"it is not a complete gzip file: {error}") from None
