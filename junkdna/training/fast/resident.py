"""Training examples that stay on a GPU, and batches of them in a few fixed shapes, made there.

What a CUDA graph repeats has the shapes that it was recorded with, while every batch has as many tokens as its examples
happen to have. So its row is filled up to the next multiple of TOKENS, and attention's grid to the next multiple of
LONGEST: a task's batches then have a handful of shapes. The filling is seen by no example and has no gradient. Which
examples form a batch stays as it was.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from junkdna.training.fast import packing
from junkdna.training.fast.attention import Group, Layout
from junkdna.training.tokens import Features

TOKENS, LONGEST = 128, 64
"""Steps in which rows and grids grow; docs/speed-log.md says how much filling that is and how many shapes."""


class Shape(NamedTuple):
    """Of a batch: its examples, the tokens of its row, and the tokens of an example on attention's grid."""

    examples: int
    tokens: int
    longest: int


class Resident:
    """Examples on a device, and their batches as ``packing.collator`` would make them, but in fixed shapes."""

    def __init__(self, features: Features, first_position: int, heads: int, padding_id: int, device):
        """``first_position``, ``heads``: as for ``packing.collator``; ``padding_id``: the token that rows are filled
        with.
        """
        self.heads, self.device = heads, torch.device(device)
        self.lengths = features.lengths
        places = packing.positions(features.columns["input_ids"], self.lengths, first_position).astype(np.int32)
        columns = features.columns | {"position_ids": places}
        self._filling = dict.fromkeys(columns, 0) | {"input_ids": padding_id, "position_ids": first_position}
        self._columns = {name: torch.from_numpy(ids).to(device) for name, ids in columns.items()}
        self._starts = torch.from_numpy(features.starts[:-1].copy()).to(device)
        self._lengths = torch.from_numpy(self.lengths).to(device)
        self._labels = torch.tensor(features.labels).to(device)

    def shape(self, indices: np.ndarray) -> Shape:
        """The shape of a batch of examples. It leaves one place of the row, and one of the grid at least, to nobody."""
        lengths = self.lengths[indices]
        longest = _up(lengths.max(), LONGEST)
        if lengths.min() == longest:
            longest += LONGEST
        return Shape(len(indices), _up(lengths.sum() + 1, TOKENS), longest)

    def upload(self, indices: np.ndarray) -> Tensor:
        """Bring the numbers of examples, int64 (B,), to the device; the host does not wait."""
        numbers = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        if self.device.type == "cuda":
            numbers = numbers.pin_memory()
        return numbers.to(self.device, non_blocking=True)

    def batch(self, examples: Tensor, shape: Shape) -> dict:
        """Make the model's inputs and labels of the examples of these numbers, int64 (B,), on the device.

        ``shape`` must be theirs. Nothing here depends on a value that the host would have to wait for.
        """
        lengths = self._lengths[examples]
        ends = lengths.cumsum(0)
        first = ends - lengths
        token = torch.arange(shape.tokens, device=self.device)
        real = token < ends[-1]
        example = torch.searchsorted(ends, token, right=True).clamp_(max=shape.examples - 1)
        column = token - first[example]
        at = torch.where(real, self._starts[examples][example] + column, 0)
        row = {
            name: torch.where(real, ids[at].long(), self._filling[name])[None] for name, ids in self._columns.items()
        }
        row["packing"] = self._layout(lengths, first, example, column, real, shape)
        row["labels"] = self._labels[examples]
        return row

    def _layout(self, lengths: Tensor, first: Tensor, example: Tensor, column: Tensor, real: Tensor, shape: Shape):
        """As ``attention.layout`` for fused kernels.

        The grid's padding shows the row's last token, which is filling, and filling is sent to a place that shows
        padding. Neither has a gradient, so that none has to be cleared.
        """
        heads, longest = self.heads, shape.longest
        head = torch.arange(heads, device=self.device)
        columns = torch.arange(longest, device=self.device)
        is_token = columns < lengths[:, None]
        shown = torch.where(is_token, first[:, None] + columns, shape.tokens - 1)
        rows = (shown[:, None, :] * heads + head[:, None]).reshape(-1)
        nobodys = lengths.argmin() * heads * longest + longest - 1
        place = (example * heads * longest + column)[:, None] + head * longest
        places = torch.where(real[:, None], place, nobodys).reshape(-1)
        bias = torch.zeros(is_token.shape, device=self.device).masked_fill_(~is_token, float("-inf"))
        group = Group(shape.examples, heads, longest, 0, bias[:, None, None, :])
        return Layout(first, rows, places, rows[:0], (group,), fused=True)


def _up(number: int, step: int) -> int:
    return -(-int(number) // step) * step
