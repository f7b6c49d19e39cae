"""Magnitudes and a pattern -> boolean masks, exactly; packing, saving and comparing them. Pure functions.

A mask is True where a weight is kept. A mask dictionary holds only what is in scope: membership is the definition.

Weights are ranked by integer keys, the lowest removed first. The bits of a non-negative float32, read as an integer, order
like the float, so the magnitude key of a weight is its float32 bit pattern without the sign, exact for half-precision
weights too. Among equal keys the earlier position survives: in the order of the dictionary, then row by row.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from junkdna.errors import UserError
from junkdna.sparsity.patterns import NM, Pattern, PerMatrix, Unstructured, removed_count

Masks = dict[str, Tensor]
Keys = Callable[[str, Tensor], Iterator[np.ndarray]]
"""Given a matrix's name and values, yields its keys (int32, >= 0) in chunks, row by row."""

CHUNK = 1 << 18
"""Weights looked at at a time, so that working memory stays at a few MB whatever the model's size."""

HIGH_BITS, LOW_BITS = 16, 15
"""A key has 31 bits; a sample's upper 16 tell where to look, then all bits of the keys there are looked at."""

SAMPLE = 1 << 22
"""Keys that tell where to look, about; of fewer weights, all."""


# --- keys ------------------------------------------------------------------------------------------------------------


def magnitude_keys(name: str, weight: Tensor) -> Iterator[np.ndarray]:
    """Keys that order weights by absolute value in float32."""
    for chunk in weight.detach().reshape(-1).split(CHUNK):
        yield chunk.cpu().float().numpy().view(np.int32) & np.int32(0x7FFFFFFF)


def largest_keys(name: str, weight: Tensor) -> Iterator[np.ndarray]:
    """Keys that order weights by falling absolute value (the control that prunes the largest)."""
    for keys in magnitude_keys(name, weight):
        yield np.int32(0x7FFFFFFF) - keys


def random_keys(seed: int) -> Keys:
    """Return keys drawn uniformly; they depend on ``seed`` and a matrix's name and shape only, so masks are nested."""

    def keys(name: str, weight: Tensor) -> Iterator[np.ndarray]:
        generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
        for start in range(0, weight.numel(), CHUNK):
            yield generator.integers(0, 1 << 31, min(CHUNK, weight.numel() - start), dtype=np.int32)

    return keys


# --- making masks ----------------------------------------------------------------------------------------------------


def make_masks(weights: Mapping[str, Tensor], pattern: Pattern, keys: Keys = magnitude_keys) -> Masks:
    """Return one boolean mask per matrix (its shape, on the CPU), True where the weight is kept.

    Raises UserError for NaN or infinite weights, for a width that M does not divide, and for a sparsity > 0 that removes
    nothing.
    """
    for name, weight in weights.items():
        _check_finite(name, weight)
    if isinstance(pattern, NM):
        return {name: nm_mask(name, weight, pattern) for name, weight in weights.items()}
    if isinstance(pattern, PerMatrix):
        masks = {}
        for name, weight in weights.items():
            masks |= remove_lowest({name: weight}, removed_count(pattern.sparsity, weight.numel()), keys)
    else:
        assert isinstance(pattern, Unstructured)
        size = sum(weight.numel() for weight in weights.values())
        masks = remove_lowest(weights, removed_count(pattern.sparsity, size), keys)
    if pattern.sparsity > 0 and all(bool(mask.all()) for mask in masks.values()):
        raise UserError(
            f"--sparsity {pattern.sparsity}: removes not a single weight of this scope; give 0 or a larger one"
        )
    return masks


def _check_finite(name: str, weight: Tensor) -> None:
    low, high = torch.aminmax(weight.detach())
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise UserError(f"--model_name_or_path: the weight {name} holds NaN or infinite values and cannot be ranked")


def remove_lowest(weights: Mapping[str, Tensor], count: int, keys: Keys = magnitude_keys) -> Masks:
    """Mask out exactly ``count`` weights, those with the lowest keys over all matrices together."""
    threshold, spared = key_threshold(weights, count, keys)
    masks = {}
    for name, weight in weights.items():
        kept = np.empty(weight.numel(), dtype=bool)
        start = 0
        for chunk in keys(name, weight):
            part = kept[start : start + chunk.size]
            np.greater(chunk, threshold, out=part)
            if spared:
                ties = np.flatnonzero(chunk == threshold)[:spared]
                part[ties] = True
                spared -= ties.size
            start += chunk.size
        masks[name] = torch.from_numpy(kept).reshape(weight.shape)
    return masks


def key_threshold(weights: Mapping[str, Tensor], count: int, keys: Keys = magnitude_keys) -> tuple[int, int]:
    """Find the ``count``-th lowest key exactly, without sorting or joining anything.

    Returns (threshold, spared): every key below the threshold is removed and, of those equal to it, all but the first
    ``spared``. (-1, 0) removes nothing. A sample of the keys tells where to look; if it should mislead, all keys tell.
    """
    if count == 0:
        return -1, 0
    size = sum(weight.numel() for weight in weights.values())
    for stride in (1 + size // SAMPLE, 1):
        parts = (chunk[::stride] >> LOW_BITS for name, weight in weights.items() for chunk in keys(name, weight))
        sample = _histogram(parts, 1 << HIGH_BITS)
        found = _search(weights, count, keys, _bin_of(sample, -(-count * int(sample.sum()) // size))[0])
        if found is not None:
            return found
    raise AssertionError("a sample of all keys cannot mislead")


def _search(weights: Mapping[str, Tensor], count: int, keys: Keys, high_bin: int) -> tuple[int, int] | None:
    """Look for the ``count``-th lowest key among those in a bin of the upper bits and its two neighbours."""
    start = max(high_bin - 1, 0) << LOW_BITS
    width = (high_bin + 2 << LOW_BITS) - start
    below = 0

    def near() -> Iterator[np.ndarray]:
        nonlocal below
        for name, weight in weights.items():
            for chunk in keys(name, weight):
                from_start = chunk - np.int32(start)
                below += int(np.count_nonzero(from_start < 0))
                yield from_start[from_start.view(np.uint32) < width]  # what is negative is large as unsigned

    histogram = _histogram(near(), width)
    if not below < count <= below + histogram.sum():
        return None
    low_bin, below_low = _bin_of(histogram, count - below)
    removed_ties = count - below - below_low
    return start + low_bin, int(histogram[low_bin]) - removed_ties


def _histogram(parts: Iterator[np.ndarray], bins: int) -> np.ndarray:
    total = np.zeros(bins, dtype=np.int64)
    for part in parts:
        total += np.bincount(part, minlength=bins)
    return total


def _bin_of(histogram: np.ndarray, rank: int) -> tuple[int, int]:
    """Return the bin that holds the ``rank``-th element (from 1) and how many lie in the bins below it."""
    cumulative = np.cumsum(histogram)
    found = int(np.searchsorted(cumulative, rank))
    return found, int(cumulative[found - 1]) if found else 0


def nm_mask(name: str, weight: Tensor, pattern: NM) -> Tensor:
    """Keep the N largest magnitudes in every group of M neighbouring input columns (dim 1); ties: the earlier column.

    Raises UserError if M does not divide the number of columns.
    """
    rows, columns = weight.shape
    if columns % pattern.of:
        raise UserError(
            f"--nm_ratio {pattern.keep}:{pattern.of}: {pattern.of} does not divide the {columns} input columns of {name}; "
            "leave it out with --prune_exclude or choose another M"
        )
    kept = np.empty((rows * columns // pattern.of, pattern.of), dtype=bool)
    size = CHUNK // pattern.of
    for start, groups in zip(range(0, len(kept), size), weight.detach().reshape(-1, pattern.of).split(size)):
        (keys,) = magnitude_keys(name, groups)
        kept[start : start + size] = _keep_best(keys.reshape(-1, pattern.of), pattern.keep)
    return torch.from_numpy(kept).reshape(rows, columns)


def _keep_best(keys: np.ndarray, keep: int) -> np.ndarray:
    """Return True for the ``keep`` largest keys of every row of (groups, M), the earlier of equal ones first.

    Counts for every member how many of its group beat it. Column against column, so that each comparison is one pass over
    contiguous memory: four times as fast as sorting for M = 8.
    """
    columns = np.ascontiguousarray(keys.T)
    of = len(columns)
    beaten_by = np.empty(columns.shape, dtype=np.uint8)
    beaten_by[:] = np.arange(of - 1, -1, -1, dtype=np.uint8)[:, None]  # as if every later member won
    wins = np.empty(columns.shape[1], dtype=bool)
    for later in range(1, of):
        for earlier in range(later):
            np.greater_equal(columns[earlier], columns[later], out=wins)
            beaten_by[later] += wins.view(np.uint8)
            beaten_by[earlier] -= wins.view(np.uint8)
    return (beaten_by < keep).T


# --- what a mask says ------------------------------------------------------------------------------------------------


def kept_count(masks: Masks) -> int:
    """Number of kept weights."""
    return sum(int(mask.count_nonzero()) for mask in masks.values())


def sparsity(masks: Masks) -> float:
    """Fraction of the masked weights that is removed."""
    return 1 - kept_count(masks) / sum(mask.numel() for mask in masks.values())


def fingerprint(masks: Masks) -> str:
    """SHA-256 of names, shapes and bits; equal for equal masks on any machine."""
    digest = hashlib.sha256()
    for name in sorted(masks):
        digest.update(f"{name}{tuple(masks[name].shape)}".encode())
        digest.update(pack(masks[name]).numpy().tobytes())
    return digest.hexdigest()


def compare(a: Masks, b: Masks) -> dict[str, int]:
    """Count, for each matrix in both, the weights that one mask keeps and the other removes.

    Raises ValueError if the two do not hold the same matrices.
    """
    shapes = [{name: tuple(mask.shape) for name, mask in masks.items()} for masks in (a, b)]
    if shapes[0] != shapes[1]:
        raise ValueError("the masks are not of the same matrices")
    return {name: int((a[name] ^ b[name]).sum()) for name in a}


# --- on disk ---------------------------------------------------------------------------------------------------------

FORMAT = "junkdna-mask-1"


def pack(mask: Tensor) -> Tensor:
    """Return a mask's bits, eight a byte (uint8), row by row, the first in the highest bit; the tail is 0."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1)))


def unpack(bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo ``pack``."""
    size = int(np.prod(shape))
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=size).view(bool)).reshape(shape)


def to_bytes(masks: Masks) -> bytes:
    """Return masks as the content of a safetensors file: one bit per weight, shapes in the metadata; equal masks, equal bytes."""
    from safetensors.torch import save

    shapes = {name: list(mask.shape) for name, mask in masks.items()}
    # one key only: safetensors writes several in no fixed order, and equal masks should be equal files
    return save({name: pack(mask) for name, mask in masks.items()}, {FORMAT: json.dumps(shapes)})


def load_masks(path: str) -> Masks:
    """Read a mask file written by a run; raises UserError if it is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise UserError(f"--mask_file {path}: is no mask file of this program ({FORMAT})")
            shapes = json.loads(metadata[FORMAT])
            return {name: unpack(file.get_tensor(name), tuple(shape)) for name, shape in shapes.items()}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"--mask_file {path}: cannot be read: {error}") from None


def check_fits(masks: Masks, weights: Mapping[str, Tensor], path: str) -> None:
    """Raise UserError unless every mask belongs to a matrix in scope and has its shape."""
    for name, mask in masks.items():
        if name not in weights:
            raise UserError(f"--mask_file {path}: holds a mask for {name}, which is not in the scope of this run")
        if mask.shape != weights[name].shape:
            raise UserError(
                f"--mask_file {path}: the mask of {name} is {tuple(mask.shape)}, "
                f"the matrix is {tuple(weights[name].shape)}"
            )
