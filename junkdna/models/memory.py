"""How much memory there is, and how much weights take."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


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


def size_of_files(folder: str | os.PathLike) -> int:
    """Bytes of the safetensors files in a folder."""
    return sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
