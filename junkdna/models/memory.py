"""How much memory there is, and how much weights take."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path

from junkdna.models import folder


def available() -> int:
    """Bytes of memory that a process can still have; a very large number where the system does not say."""
    try:
        with open("/proc/meminfo") as file:
            said = dict(line.split(":", 1) for line in file)
        free = int(said["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 1 << 62
    return min(free, _left_in_group())


def _left_in_group() -> int:
    """Bytes that the control group of this process leaves it, as in a container or a job of a cluster."""
    root = Path("/sys/fs/cgroup")
    try:
        most = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
        said = (root / "memory.stat").read_text().split()
        cached = int(said[said.index("inactive_file") + 1])  # given back when it is wanted
        return 1 << 62 if most == "max" else int(most) - used + cached
    except (OSError, ValueError):
        return 1 << 62


def size_of(tensors: Iterable) -> int:
    """Bytes of some tensors, those that share their memory counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def size_of_files(path: str | os.PathLike, bytes_each: int) -> int:
    """Bytes that the weights in a folder's safetensors files take with so many bytes each; 0 if there are none.

    Only the files that would be loaded count: some folders hold the same weights twice.
    """
    return bytes_each * sum(map(_count_of, _weight_files(Path(path))))


def _weight_files(home: Path) -> list[Path]:
    if (home / "model.safetensors").is_file():
        return [home / "model.safetensors"]
    try:
        return [home / part for part in folder.parts_of(home / "model.safetensors.index.json")]
    except (OSError, ValueError):
        return []


def _count_of(path: Path) -> int:
    """Number of values in a safetensors file, by its header."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
