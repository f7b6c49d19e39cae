"""Dividing a batch by length, as often as that saves enough padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WORTH = {"cpu": 128}
"""Padded tokens that a further part of a batch must save, by device: what going through a model once more costs."""

WORTH_ELSEWHERE = 4096
"""The same of a GPU, which has to be kept busy."""


def worth_on(device_type: str) -> int:
    """Padded tokens that a further part of a batch must save on a device."""
    return WORTH.get(device_type, WORTH_ELSEWHERE)


def divide(indices: np.ndarray, lengths: Sequence[np.ndarray], worth: int) -> list[np.ndarray]:
    """Divide the numbers of examples into parts that are padded apart, the longest first; they stay together, in their
    own order, where that saves less than ``worth`` padded tokens.

    ``lengths``: for each side that is padded by itself, int64 (all examples,).
    """
    by_length = indices[np.argsort(-sum(side[indices] for side in lengths), kind="stable")]
    ends = _ends([side[by_length] for side in lengths], worth)
    return [indices] if len(ends) == 1 else np.split(by_length, ends[:-1])


def _ends(sides: list[np.ndarray], worth: int) -> list[int]:
    """Where to cut rows, sorted by length, into parts: the cut that saves most padding, then cuts within both parts."""
    size = len(sides[0])
    whole = size * sum(side.max() for side in sides)
    longest = np.maximum.accumulate
    first = sum(longest(side)[:-1] for side in sides)
    second = sum(longest(side[::-1])[::-1][1:] for side in sides)
    places = np.arange(1, size)
    divided = places * first + (size - places) * second
    if size == 1 or whole - divided.min() < worth:
        return [size]
    cut = int(divided.argmin()) + 1
    left, right = ([side[part] for side in sides] for part in (slice(cut), slice(cut, None)))
    return [*_ends(left, worth), *(cut + end for end in _ends(right, worth))]
