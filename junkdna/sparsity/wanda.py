"""Wanda: a weight matters as much as its magnitude times the norm of the inputs that it meets. Pure functions.

The norms are those of a linear layer's input columns over calibration samples. No weight is updated.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from junkdna.sparsity.scores import CHUNK, Score

ROWS = 512
"""Rows of inputs that are squared at a time."""


class ColumnSquares:
    """The sum of squares of every input column of a linear layer, taken in as the samples go by."""

    def __init__(self, columns: int, device: torch.device | str = "cpu"):
        self.total = torch.zeros(columns, dtype=torch.float32, device=device)

    def add(self, inputs: Tensor) -> None:
        """Take in inputs of shape (..., columns), of any floating dtype; squared and added in fp32."""
        for rows in inputs.reshape(-1, self.total.numel()).split(ROWS):
            self.total += rows.to(torch.float32, copy=True).square_().sum(0)

    def mean(self, samples: int) -> Tensor:
        """The mean over samples of the squared column norms: (columns), fp32."""
        return self.total / samples


def score(squares: Tensor, transposed: bool = False) -> Score:
    """Return the score |W| x norm of the input, given the squared norms of the inputs (fp32).

    ``transposed``: the matrix is stored (inputs, outputs).
    """
    norms = squares.sqrt()

    def wanda(name: str, weight: Tensor) -> Iterator[Tensor]:
        step = max(CHUNK // weight.shape[1], 1)
        for top in range(0, len(weight), step):
            rows = weight[top : top + step].detach().float().abs()
            yield rows * (norms[top : top + step, None] if transposed else norms)

    return wanda


def variant_score(squares: Tensor, transposed: bool = False) -> Score:
    """Return the score of Wanda's variant: which share of its row's sum of scores the lowest make up to this weight.

    Published, a row loses its lowest scores as long as they sum to at most alpha of the row, and alpha is searched
    until the sparsity is within 0.001 of what was asked. Ranking these shares over the whole matrix (``PerMatrix``)
    finds the same rows' counts for the alpha that gives the sparsity exactly.
    """
    plain = score(squares, transposed)

    def wanda_variant(name: str, weight: Tensor) -> Tensor:
        scores = torch.cat([part.cpu() for part in plain(name, weight)])
        shares = _shares(scores.T.contiguous() if transposed else scores)
        return shares.T.contiguous() if transposed else shares

    return wanda_variant


def _shares(scores: Tensor) -> Tensor:
    """For every score the part that it and the lower ones of its row are of the row's sum; (rows, columns), fp32.

    Of equal scores the later counts as lower.
    """
    shares = torch.empty_like(scores)
    for top in range(0, len(scores), 256):
        ordered, places = scores[top : top + 256].flip(1).sort(dim=1, stable=True)
        sums = ordered.cumsum(1, dtype=torch.float64)
        part = (sums / sums[:, -1:].clamp_min(torch.finfo(torch.float64).tiny)).float()
        shares[top : top + 256] = torch.empty_like(part).scatter_(1, places, part).flip(1)
    return shares
