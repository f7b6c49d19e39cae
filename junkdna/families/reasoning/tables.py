"""Rows of binary files: Arrow streams within a zip, as ``save_to_disk`` of ``datasets`` writes them, and parquet."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from junkdna.errors import UserError, one_line
from junkdna.families.reasoning.rows import Row
from junkdna.families.textfiles import reason_of


def from_zip(where: str, path: Path, split: str) -> list[Row]:
    """Read a split of a zipped folder of Arrow streams, without unpacking it. Raises UserError.

    The parts of a split are ``SPLIT/data-00000-of-00001.arrow`` and so on, at any depth.
    """
    import pyarrow

    try:
        with zipfile.ZipFile(path) as packed:
            names = _parts(packed.namelist(), split)
            tables = [pyarrow.ipc.open_stream(io.BytesIO(packed.read(name))).read_all() for name in names]
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, pyarrow.ArrowException) as error:
        raise UserError(f"{where}: cannot be read: {one_line(reason_of(error))}") from None
    return _numbered(row for table in tables for row in table.to_pylist())


def _parts(names: list[str], split: str) -> list[str]:
    """The files of a split in their order; raises ValueError unless there are as many as their names say."""
    pattern = re.compile(rf"(?:.*/)?{re.escape(split)}/data-\d+-of-(\d+)\.arrow")
    found = sorted(filter(pattern.fullmatch, names))
    if not found or len(found) != int(pattern.fullmatch(found[0])[1]):
        raise ValueError(f"it has {len(found)} file(s) {split}/data-*-of-*.arrow; not all of them, or another archive")
    return found


def from_parquet(files: list[Path]) -> list[Row]:
    """Read parquet files one after the other."""
    from pyarrow import parquet

    return _numbered(row for file in files for row in parquet.read_table(file).to_pylist())


def _numbered(cells: Iterable[dict]) -> list[Row]:
    def rows() -> Iterator[Row]:
        for number, one in enumerate(cells, start=1):
            yield Row(number, None, one)

    return list(rows())
