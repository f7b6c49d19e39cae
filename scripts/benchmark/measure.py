"""Time, memory and floating-point operations, and what several measurements come to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

FLOP_FORMULA = (
    "3 x (2 x weights of the encoder's matrices x tokens + 4 x layers x width x sum of squared lengths "
    "+ 2 x weights of the head's matrices x examples); real tokens, no padding; work that is left out counts as done"
)


def spread(values: Iterable[float]) -> dict:
    """Median, smallest and largest of some measurements, and how many there were."""
    values = list(values)
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def ratio(
    reference: Sequence[float], other: Sequence[float], higher_is_better: bool = False, paired: bool = True
) -> dict | None:
    """How many times better the other way is: pair by pair if measured in turns, else the ratio of the medians.

    None if it has no meaning: something measured is 0 or less.
    """
    if higher_is_better:
        reference, other = other, reference
    if min(reference) <= 0 or min(other) <= 0:
        return None
    if paired and len(reference) == len(other):
        return spread(a / b for a, b in zip(reference, other))
    return spread([statistics.median(reference) / statistics.median(other)])


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# --- memory ----------------------------------------------------------------------------------------------------------

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(field: str = "VmRSS") -> int | None:
    """Bytes of this process in memory now (VmRSS) or at most (VmHWM); None where Linux's /proc is not."""
    try:
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024


class Peak:
    """The most memory that this process (or its share of a GPU) held since the object was made, in bytes."""

    def __init__(self, device: torch.device):
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
            return
        self.before = resident()
        try:
            CLEAR.write_text("5")  # the kernel forgets the old peak, see proc_pid_clear_refs(5)
        except OSError:
            self.before = None

    def bytes(self) -> int | None:
        """None where it cannot be known."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_reserved(self.device)  # the memory of graphs too, which is not allocated anew
        return resident("VmHWM") if self.before is not None else None

    def extra(self) -> int | None:
        """What was allocated beyond what was held at the start."""
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else self.bytes()
        return None if peak is None else peak - self.before


def held(*objects, known: Iterable[torch.Tensor] = ()) -> int:
    """Bytes of all tensors that are found in objects' attributes and in dicts and lists, less those ``known``."""
    seen = {tensor.untyped_storage().data_ptr() for tensor in known}
    total, left = 0, list(objects)
    while left:
        item = left.pop()
        if isinstance(item, torch.Tensor):
            storage = item.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                total += storage.nbytes()
        elif isinstance(item, dict):
            left += item.values()
        elif isinstance(item, (list, tuple)):
            left += item
    return total


# --- floating-point operations ---------------------------------------------------------------------------------------


def step_flops(model: torch.nn.Module, lengths: Sequence[int]) -> int:
    """Floating-point operations of one training step on examples of the given token counts, by FLOP_FORMULA."""
    matrices = [(name, p.numel()) for name, p in model.named_parameters() if p.dim() == 2 and "embedding" not in name]
    encoder = sum(size for name, size in matrices if ".encoder." in name)
    head = sum(size for name, size in matrices if ".encoder." not in name)
    config = model.config
    attention = 4 * config.num_hidden_layers * config.hidden_size * sum(n * n for n in lengths)
    return 3 * (2 * encoder * sum(lengths) + attention + 2 * head * len(lengths))


def matmul_rate(device: torch.device, dtype: torch.dtype, size: int, repeats: int = 5) -> float:
    """Floating-point operations per second of a product of two square matrices; the best of some repeats."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    a @ b
    best = float("inf")
    for _ in range(repeats):
        synchronise(device)
        started = time.perf_counter()
        a @ b
        synchronise(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best
