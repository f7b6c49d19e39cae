"""The exact selection: which weights have the lowest scores, over all matrices, in every row or block, or in every N:M
group.

Counts are exact. Among equal scores the earlier position survives: in the order of the dictionary, then row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from junkdna.errors import Fault, UserError
from junkdna.sparsity.patterns import NM, PerBlock, removed_count
from junkdna.sparsity.scope import input_width
from junkdna.sparsity.scores import Score, keys, magnitude, score_name

HIGH_BITS, LOW_BITS = 16, 15
"""A key has 31 bits; a sample's upper 16 tell where to look, then all bits of the keys there are looked at."""

SAMPLE = 1 << 22
"""Keys that tell where to look, about; of fewer weights, all."""

BAND = 1 << 22
"""Keys held at once while rows are ranked that are stored as columns."""


# --- over all matrices -----------------------------------------------------------------------------------------------


def remove_lowest(weights: Mapping[str, Tensor], count: int, score: Score = magnitude) -> dict[str, Tensor]:
    """Mask out exactly ``count`` weights, those with the lowest scores over all matrices together.

    Returns a boolean mask per matrix, in its shape, on the CPU.
    """
    threshold, spared = key_threshold(weights, count, score)
    masks, removed = {}, 0
    for name, weight in weights.items():
        kept = np.empty(weight.numel(), dtype=bool)
        start = 0
        for chunk in keys(score, name, weight):
            part = kept[start : start + chunk.size]
            np.greater(chunk, threshold, out=part)
            if spared:
                ties = np.flatnonzero(chunk == threshold)[:spared]
                part[ties] = True
                spared -= ties.size
            start += chunk.size
        removed += kept.size - int(np.count_nonzero(kept))
        masks[name] = torch.from_numpy(kept).reshape(weight.shape)
    if removed != count:
        raise _unsteady(score)
    return masks


def key_threshold(weights: Mapping[str, Tensor], count: int, score: Score = magnitude) -> tuple[int, int]:
    """Find the ``count``-th lowest key exactly, without sorting or joining anything.

    Returns (threshold, spared): every key below the threshold is removed and, of those equal to it, all but the first
    ``spared``. (-1, 0) removes nothing. A sample of the keys tells where to look; if it should mislead, all keys tell.
    """
    if count == 0:
        return -1, 0
    size = sum(weight.numel() for weight in weights.values())
    for stride in (1 + size // SAMPLE, 1):
        parts = (chunk[::stride] >> LOW_BITS for name, weight in weights.items() for chunk in keys(score, name, weight))
        sample = _histogram(parts, 1 << HIGH_BITS)
        found = _search(weights, count, score, _bin_of(sample, -(-count * int(sample.sum()) // size))[0])
        if found is not None:
            return found
    raise _unsteady(score)  # a sample of all keys cannot mislead


def _search(weights: Mapping[str, Tensor], count: int, score: Score, high_bin: int) -> tuple[int, int] | None:
    """Look for the ``count``-th lowest key among those in a bin of the upper bits and its two neighbours."""
    start = max(high_bin - 1, 0) << LOW_BITS
    width = (high_bin + 2 << LOW_BITS) - start
    below = 0

    def near() -> Iterator[np.ndarray]:
        nonlocal below
        for name, weight in weights.items():
            for chunk in keys(score, name, weight):
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


def _unsteady(score: Score) -> UserError:
    return UserError(Fault("score", score_name(score), "returns different values on a second call"))


# --- in every row ----------------------------------------------------------------------------------------------------


def row_mask(name: str, weight: Tensor, count: int, score: Score = magnitude, transposed: bool = False) -> Tensor:
    """Mask out the ``count`` weights with the lowest scores in every row, the later of equal ones first.

    A row holds the inputs of one output. It is a row of ``weight``, or a column where the matrix is ``transposed``,
    that is, stored (inputs, outputs). Returns a boolean mask in the weight's shape, on the CPU.
    """
    kept = np.empty(weight.shape, dtype=bool)
    columns = weight.shape[1]
    if not transposed:
        start = 0
        for block in _whole(keys(score, name, weight), columns):
            rows = block.reshape(-1, columns)
            kept[start : start + len(rows)] = _keep_all_but(rows, count)
            start += len(rows)
        return torch.from_numpy(kept)
    width = max(BAND // len(weight), 1)
    for left in range(0, columns, width):
        blocks = _whole(keys(score, name, weight), columns)
        band = np.concatenate([block.reshape(-1, columns)[:, left : left + width] for block in blocks])
        kept[:, left : left + width] = _keep_all_but(np.ascontiguousarray(band.T), count).T
    return torch.from_numpy(kept)


def keep_all_but(scores: Tensor, count: int) -> Tensor:
    """Return False for the ``count`` lowest scores of every row, the later of equal ones first.

    ``scores``: (rows, columns), float32, not negative, contiguous, on any device. Returns a boolean tensor beside it.
    """
    if scores.device.type == "cpu":
        return torch.from_numpy(_keep_all_but(scores.numpy().view(np.int32), count))
    return _keep_all_but_anywhere(scores, count)


def _keep_all_but_anywhere(scores: Tensor, count: int) -> Tensor:
    """The same with operations of torch."""
    if count == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = scores.kthvalue(count, dim=1, keepdim=True).values
    kept, ties = scores > threshold, scores == threshold
    spared = scores.shape[1] - count - kept.sum(1, keepdim=True)
    return kept | (ties & (ties.cumsum(1, dtype=torch.int32) <= spared))


def _keep_all_but(rows: np.ndarray, count: int) -> np.ndarray:
    """Return False for the ``count`` lowest keys of every row of (rows, columns), the later of equal ones first."""
    if count == 0:
        return np.ones(rows.shape, dtype=bool)
    threshold = np.partition(rows, count - 1, axis=1)[:, count - 1 : count]
    kept = rows > threshold
    spared = rows.shape[1] - count - kept.sum(axis=1)  # of those equal to the threshold, the first so many stay
    some = np.flatnonzero(spared)
    if some.size:
        ties = rows[some] == threshold[some]
        kept[some] |= ties & (np.cumsum(ties, axis=1, dtype=np.int32) <= spared[some, None])
    return kept


def _whole(chunks: Iterable[np.ndarray], multiple: int) -> Iterator[np.ndarray]:
    """Divide the same values into chunks whose sizes are multiples of ``multiple``."""
    waiting, size = [], 0
    for chunk in chunks:
        waiting.append(chunk)
        size += chunk.size
        if size >= multiple:
            joined = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
            cut = size - size % multiple
            yield joined[:cut]
            waiting, size = [joined[cut:]], size - cut


# --- in every block of columns ---------------------------------------------------------------------------------------


def block_mask(
    name: str, weight: Tensor, pattern: PerBlock, score: Score = magnitude, transposed: bool = False
) -> Tensor:
    """Mask out the same fraction of every block of input columns, all rows together; ties: output by output.

    Inputs are the columns of ``weight``, or its rows where it is ``transposed``. Returns a boolean mask in the weight's
    shape, on the CPU.
    """
    found = np.concatenate(list(keys(score, name, weight)) or [np.empty(0, np.int32)]).reshape(weight.shape)
    found = found.T if transposed else found
    kept = np.empty(found.shape, dtype=bool)
    for left in range(0, found.shape[1], pattern.columns):
        block = np.ascontiguousarray(found[:, left : left + pattern.columns])
        count = removed_count(pattern.sparsity, block.size)
        kept[:, left : left + pattern.columns] = _keep_all_but(block.reshape(1, -1), count).reshape(block.shape)
    return torch.from_numpy(np.ascontiguousarray(kept.T) if transposed else kept)


# --- in every N:M group ----------------------------------------------------------------------------------------------


def nm_mask(name: str, weight: Tensor, pattern: NM, score: Score = magnitude, transposed: bool = False) -> Tensor:
    """Keep the N highest scores in every group of M neighbouring inputs; ties: the earlier input.

    Inputs are the columns of ``weight``, or its rows where it is ``transposed``. Returns a boolean mask in the weight's
    shape, on the CPU. Raises UserError if M does not divide the number of inputs.
    """
    inputs, of = input_width(weight, transposed), pattern.of
    if inputs % of:
        reason = f"{of} does not divide the {inputs} input columns of {name}; exclude it or choose another M"
        raise UserError(Fault("nm", pattern.ratio, reason))
    step = weight.shape[1] if transposed else 1  # from one member of a group to the next
    kept = np.empty(weight.numel(), dtype=bool)
    start = 0
    for block in _whole(keys(score, name, weight), of * step):
        groups = np.moveaxis(block.reshape(-1, of, step), 1, 0)
        best = _keep_best(np.ascontiguousarray(groups).reshape(of, -1), pattern.keep)
        kept[start : start + block.size].reshape(-1, of, step)[...] = np.moveaxis(best.reshape(groups.shape), 0, 1)
        start += block.size
    return torch.from_numpy(kept).reshape(weight.shape)


def keep_best(scores: Tensor, keep: int) -> Tensor:
    """Return True for the ``keep`` highest scores of every column of (M, columns), the earlier of equal ones first.

    ``scores``: float32, not negative, contiguous, on any device. Returns a boolean tensor beside it.
    """
    if scores.device.type == "cpu":
        return torch.from_numpy(_keep_best(scores.numpy().view(np.int32), keep))
    return _keep_best_anywhere(scores, keep)


def _keep_best_anywhere(scores: Tensor, keep: int) -> Tensor:
    """The same with operations of torch."""
    order = scores.sort(dim=0, descending=True, stable=True).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(0, order[:keep], True)


def _keep_best(members: np.ndarray, keep: int) -> np.ndarray:
    """Return True for the ``keep`` largest keys of every column of (M, groups), the earlier of equal ones first.

    Counts for every member how many of its group beat it. Member against member, so that each comparison is one pass
    over contiguous memory: four times as fast as sorting for M = 8.
    """
    of = len(members)
    beaten_by = np.empty(members.shape, dtype=np.uint8)
    beaten_by[:] = np.arange(of - 1, -1, -1, dtype=np.uint8)[:, None]  # as if every later member won
    wins = np.empty(members.shape[1], dtype=bool)
    for later in range(1, of):
        for earlier in range(later):
            np.greater_equal(members[earlier], members[later], out=wins)
            beaten_by[later] += wins.view(np.uint8)
            beaten_by[earlier] -= wins.view(np.uint8)
    return beaten_by < keep
