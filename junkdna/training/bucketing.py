"""Dividing a batch by length, as often as that saves enough padding, into shapes that the device is quick at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn


@dataclass(frozen=True)
class Grain:
    """How finely batches are divided and padded, or rows of packed examples filled up.

    ``worth``: padded tokens that a further part of a batch must save: what going through a model once more costs.
    ``shares``: a batch is cut at multiples of one of so many equal shares of its examples; None: anywhere. ``tokens``:
    lengths are padded to a multiple of so many tokens, but to no more than ``most``, which None leaves open. ``row``:
    a packed row is filled up to a multiple of so many tokens.
    """

    worth: int
    shares: int | None = None
    tokens: int = 1
    most: int | None = None
    row: int = 1

    def padded(self, length):
        """The length, or lengths, to which examples of at most ``length`` tokens are padded."""
        up = -(-length // self.tokens) * self.tokens
        return up if self.most is None else np.minimum(up, self.most)

    def step(self, examples: int) -> int:
        """Examples of the smallest part of a batch."""
        return 1 if self.shares is None else -(-examples // self.shares)


DIVIDED = "divided by length where that saves padding"
"""How records say it."""

COARSE = Grain(worth=4096)
"""A GPU has to be kept busy."""

FINE = Grain(worth=128)
"""A CPU in fp32."""

REPEATED = Grain(worth=1024, shares=8, tokens=4, row=16)
"""A CPU in bf16: its products are compiled for each shape that is new, which takes up to five times as long as they do;
so there should be few shapes.
"""

SMALL = 20_000_000
"""Weights of linear layers up to which REPEATED's ``worth`` was seen to be right."""

LEAST = 256
"""Its least value: however large a model, going through it once more reads and writes its weights and gradients."""


def grain_on(accelerator, model: nn.Module) -> Grain:
    """The grain for a device at its precision.

    On a CPU in bf16 going through a model once more mostly starts operations and compiles products. A padded token
    costs as much as the model is large, so dividing is worth more there.
    """
    if accelerator.device.type != "cpu":
        return COARSE
    if accelerator.mixed_precision != "bf16":
        return FINE
    weights = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    return replace(REPEATED, worth=max(LEAST, REPEATED.worth * SMALL // max(SMALL, weights)))


def divide(indices: np.ndarray, lengths: Sequence[np.ndarray], grain: Grain) -> list[np.ndarray]:
    """Divide the numbers of examples into parts that are padded apart, the longest first; they stay together, in their
    own order, where that saves less than ``grain.worth`` padded tokens.

    ``lengths``: for each side that is padded by itself, int64 (all examples,).
    """
    by_length = indices[np.argsort(-sum(side[indices] for side in lengths), kind="stable")]
    sides = [grain.padded(side[by_length]) for side in lengths]
    ends = _ends(sides, grain.worth, grain.step(len(indices)))
    return [indices] if len(ends) == 1 else np.split(by_length, ends[:-1])


def _ends(sides: list[np.ndarray], worth: int, step: int) -> list[int]:
    """Where to cut rows, sorted by length, into parts: the cut that saves most padding, then cuts within both parts.

    A cut stands behind a multiple of ``step`` rows.
    """
    size = len(sides[0])
    whole = size * sum(side.max() for side in sides)
    longest = np.maximum.accumulate
    places = np.arange(step, size, step)
    if places.size == 0:
        return [size]
    first = sum(longest(side)[places - 1] for side in sides)
    second = sum(longest(side[::-1])[::-1][places] for side in sides)
    divided = places * first + (size - places) * second
    if whole - divided.min() < worth:
        return [size]
    cut = int(places[divided.argmin()])
    left, right = ([side[part] for side in sides] for part in (slice(cut), slice(cut, None)))
    return [*_ends(left, worth, step), *(cut + end for end in _ends(right, worth, step))]
