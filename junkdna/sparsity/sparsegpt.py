"""SparseGPT: remove weights column by column and let the columns that follow make up for each. Pure functions.

With inputs X of a linear layer, H = (2 / samples) X'X is the Hessian of its squared output error. The published steps
take U, the upper Cholesky factor of the inverse of H; a removed weight w of column j costs (w / U_jj)^2 and adds
-(w / U_jj) U_j to the columns after it. Here H = R R' is factored with R upper triangular. As R is the inverse of U,
nothing is inverted: the weights that the columns before j leave at j are, with D what has been taken from the weights
so far, W_j + (D R)_j / R_jj. That is the same arithmetic in a quarter of the factorisation's operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from junkdna.sparsity.patterns import NM, PerBlock, removed_count
from junkdna.sparsity.select import keep_all_but, keep_best

BLOCK = 128
"""Columns of a block: the unit of an unstructured pattern, and after which all others are brought up to date."""

SPAN = 512
"""Columns for which what the ones before have taken is worked out at once."""

TILE = 256
"""Columns that are factored at once."""

DAMPING = 0.01
"""Part of its mean that is added to the diagonal of H."""

ATTEMPTS = 6
"""How often the factorisation is tried, each time with ten times the damping."""

STEP = 16
"""Columns after which the rest of their block is brought up to date; in N:M patterns whole groups, of about as many."""


class NotPositive(ArithmeticError):
    """The Hessian is not positive definite with any damping: its inputs were not finite numbers."""


class Hessian:
    """H of a linear layer's inputs, taken in as the samples go by. Holds (columns, columns) in fp32."""

    def __init__(self, columns: int, device: torch.device | str = "cpu"):
        self.total = torch.zeros(columns, columns, dtype=torch.float32, device=device)
        self._finished = False

    def add(self, inputs: Tensor) -> None:
        """Take in inputs of shape (..., columns), of any floating dtype. Only the upper half is computed."""
        columns = len(self.total)
        x = inputs.reshape(-1, columns).float()
        width = max(TILE, columns // 8)
        for top in range(0, columns, width):
            self.total[top : top + width, top:].addmm_(x[:, top : top + width].T, x[:, top:])

    def finish(self, samples: int) -> Tensor:
        """Return H = (2 / samples) X'X, symmetric to the bit. The sums are scaled in place, which saves a copy.

        Raises RuntimeError the second time: they would be scaled twice.
        """
        if self._finished:
            raise RuntimeError("this Hessian is finished; its sums have been scaled in place")
        self._finished = True
        self.total.mul_(2 / samples)
        _mirror(self.total, upwards=False)
        return self.total


@dataclass(frozen=True)
class Factor:
    """``upper``: (columns, columns) fp32, R in its upper triangle; what is below is not part of it.

    ``dead``: (columns,), True where an input was always 0. ``damped``: how often more damping was needed.
    """

    upper: Tensor
    dead: Tensor
    damped: int


def factor(hessian: Tensor) -> Factor:
    """Factor a symmetric Hessian (fp32) in place, damped as published. Several layers with the same inputs share it.

    The matrix given is overwritten and becomes ``Factor.upper``. Raises NotPositive.
    """
    diagonal = hessian.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1
    start, damping = diagonal.clone(), DAMPING * diagonal.mean()
    for attempt in range(ATTEMPTS):
        diagonal.copy_(start + damping * 10**attempt)
        if _factor_in_place(hessian):
            return Factor(hessian, dead, attempt)
        _mirror(hessian, upwards=True)  # the lower half still holds H
    raise NotPositive("the Hessian of the inputs is not positive definite with any damping")


def _factor_in_place(matrix: Tensor) -> bool:
    """Write R with matrix = R R' over the upper triangle, last columns first; False if a pivot is not positive."""
    for stop in range(len(matrix), 0, -TILE):
        start = max(stop - TILE, 0)
        corner = matrix[start:stop, start:stop]
        symmetric = corner.triu() + corner.triu(1).T
        lower, failed = torch.linalg.cholesky_ex(symmetric.flip(0, 1))
        if failed.item() or not bool(lower.isfinite().all()):
            return False
        upper = lower.flip(0, 1)
        corner.copy_(upper + corner.tril(-1))
        if start == 0:
            break
        panel = torch.linalg.solve_triangular(upper.T, matrix[:start, start:stop], upper=False, left=False)
        matrix[:start, start:stop] = panel
        for top in range(0, start, TILE):
            end = min(top + TILE, start)
            matrix[top:end, top:end] -= (panel[top:end] @ panel[top:end].T).triu()
            if end < start:
                matrix[top:end, end:start].addmm_(panel[top:end], panel[end:].T, alpha=-1)
    return True


def _mirror(matrix: Tensor, upwards: bool) -> None:
    """Copy one triangle of a square matrix onto the other, tile by tile; the diagonal stays."""
    for top in range(0, len(matrix), TILE):
        end = top + TILE
        corner = matrix[top:end, top:end]
        corner.copy_(corner.tril() + corner.tril(-1).T if upwards else corner.triu() + corner.triu(1).T)
        right, below = matrix[top:end, end:], matrix[end:, top:end]
        if upwards:
            right.copy_(below.T)
        else:
            below.copy_(right.T)


def prune(
    weight: Tensor, hessian: Tensor | Factor, pattern: PerBlock | NM, transposed: bool = False
) -> tuple[Tensor, Tensor, dict[str, int]]:
    """Return the pruned and updated weights, their mask (True where kept), and the findings. ``weight`` is not changed.

    ``weight``: (outputs, inputs), or transposed, of any floating dtype; the results have its shape, the weights its
    dtype.
    A Hessian is overwritten by ``factor``. Weights of dead inputs count as 0 in the ranking; those that stay keep their
    values. Counts are exact; of equal scores the earlier weight stays. Findings: ``dead_columns``, ``damping``. For N:M
    the M must divide the inputs; then a block is the largest multiple of M up to 128, so that no group is cut.
    """
    found = hessian if isinstance(hessian, Factor) else factor(hessian)
    taken = torch.empty_like(weight, dtype=torch.float32, memory_format=torch.contiguous_format)
    mask = torch.empty_like(weight, dtype=torch.bool, memory_format=torch.contiguous_format)
    views = (tensor.T if transposed else tensor for tensor in (weight, taken, mask))
    _prune_blocks(*views, found, pattern)
    updated = taken.neg_().add_(weight)
    updated[mask.logical_not_()] = 0
    findings = {"dead_columns": int(found.dead.sum()), "damping": found.damped}
    return updated.to(weight.dtype), mask.logical_not_(), findings


def _prune_blocks(weight: Tensor, taken: Tensor, mask: Tensor, found: Factor, pattern: PerBlock | NM) -> None:
    """Fill in what is taken from the weights (old - new) and the mask, block by block; all are (outputs, inputs)."""
    inputs = weight.shape[1]
    width = BLOCK // pattern.of * pattern.of if isinstance(pattern, NM) else pattern.columns
    span = max(SPAN // width, 1) * width
    for start in range(0, inputs, width):
        stop = min(start + width, inputs)
        # a product with few columns is slow: that of the columns before is made for several blocks
        if start % span == 0:
            begun = start
            before = taken[:, :begun] @ found.upper[:begun, begun : begun + span]
        corner = found.upper[start:stop, start:stop].triu()
        inverse = torch.linalg.solve_triangular(corner, torch.eye(stop - start, device=corner.device), upper=True)
        sums = before[:, start - begun : stop - begun]
        sums.addmm_(taken[:, begun:start], found.upper[begun:start, start:stop])
        old = _transposed(weight[:, start:stop].float())
        current = torch.addmm(old, inverse.T, sums.T)
        importance = corner.diagonal().masked_fill(found.dead[start:stop], 0)
        kept = _prune_block(current, inverse, importance, pattern)
        taken[:, start:stop] = _transposed(old - current.mul_(kept))
        mask[:, start:stop] = _transposed(kept)


def _transposed(matrix: Tensor) -> Tensor:
    """A transposed copy; much faster from what is contiguous, also to make it so."""
    return matrix.contiguous().T.contiguous()


def _prune_block(current: Tensor, inverse: Tensor, importance: Tensor, pattern: PerBlock | NM) -> Tensor:
    """Go through a block's columns; ``current``, (columns, outputs), is updated in place. Returns what is kept.

    ``inverse`` is U of these columns, ``importance`` 1 / U_jj, or 0 for a dead input.
    """
    columns = len(current)
    groups = isinstance(pattern, NM)
    kept = torch.empty_like(current, dtype=torch.bool) if groups else _keep_of_block(current, importance, pattern)
    scale = 1 / inverse.diagonal()[:, None]
    unit = pattern.of if groups else STEP
    size = max(STEP // unit, 1) * unit
    for first in range(0, columns, size):
        last = min(first + size, columns)
        errors = torch.empty_like(current[first:last])
        for start in range(first, last, unit):
            group = slice(start, min(start + unit, last))
            if groups:
                kept[group] = keep_best((current[group] * importance[group, None]).abs_(), pattern.keep)
            share = ~kept[group] * scale[group]
            for column in range(group.start, group.stop):
                error = torch.mul(current[column], share[column - start], out=errors[column - first])
                rest = slice(column + 1, last)
                current[rest].addcmul_(inverse[column, rest, None], error, value=-1)
        current[last:].addmm_(inverse[first:last, last:].T, errors, alpha=-1)
    return kept


def _keep_of_block(current: Tensor, importance: Tensor, pattern: PerBlock) -> Tensor:
    """Choose what is kept of a block, (columns, outputs), before any of its columns is pruned."""
    scores = _transposed((current * importance[:, None]).abs_())
    kept = keep_all_but(scores.reshape(1, -1), removed_count(pattern.sparsity, scores.numel()))
    return _transposed(kept.reshape(scores.shape))
