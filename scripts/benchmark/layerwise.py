"""Both ways of pruning one matrix layer by layer, each in a process of its own: the published steps, and the product's.

    python -m benchmark.layerwise reference|product SIZE SPARSITY N:M     answers requests about a matrix of SIZE x SIZE

The reference is the published steps written literally: full sorts for magnitude and Wanda, groups of columns one after
the other for N:M, and for SparseGPT two Cholesky factorisations with an inversion between them and a loop over columns.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from torch import Tensor

from benchmark import measure
from benchmark.processes import private_output, serve
from junkdna.sparsity import sparsegpt, wanda
from junkdna.sparsity.masks import matrix_mask
from junkdna.sparsity.patterns import NM, Pattern, PerBlock, PerMatrix, PerRow, parse_nm, parse_sparsity
from junkdna.sparsity.scores import magnitude
from junkdna.training import device as hardware

CPU = torch.device("cpu")
SAMPLES = 4

# --- the published steps ---------------------------------------------------------------------------------------------


def magnitude_steps(weight: Tensor, sparsity: float) -> Tensor:
    """What is removed: all up to the value at the place of the count in the sorted magnitudes of the matrix."""
    magnitudes = weight.abs()
    threshold = torch.sort(magnitudes.flatten())[0][int(weight.numel() * sparsity)]
    return magnitudes <= threshold


def wanda_steps(weight: Tensor, squares: Tensor, sparsity: float) -> Tensor:
    """What is removed: the first of every row of scores, sorted in full."""
    scores = weight.abs() * squares.sqrt().reshape(1, -1)
    removed = torch.zeros_like(scores, dtype=torch.bool)
    places = torch.sort(scores, dim=-1, stable=True)[1][:, : int(weight.shape[1] * sparsity)]
    return removed.scatter_(1, places, True)


def group_steps(scores: Tensor, pattern: NM) -> Tensor:
    """What is removed of every group of columns, one group after the other."""
    removed = torch.zeros_like(scores, dtype=torch.bool)
    for column in range(0, scores.shape[1], pattern.of):
        group = scores[:, column : column + pattern.of].float()
        removed.scatter_(1, column + torch.topk(group, pattern.of - pattern.keep, dim=1, largest=False)[1], True)
    return removed


def sparsegpt_steps(
    weight: Tensor, h: Tensor, sparsity: float, pattern: NM | None, exact: bool = False
) -> tuple[Tensor, Tensor]:
    """The new weights and what is removed, block by block and column by column. ``h`` is overwritten.

    ``exact``: not one weight more per block than was asked for, as published.
    """
    w, columns = weight.clone().float(), weight.shape[1]
    dead = torch.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    diagonal = torch.arange(columns)
    h[diagonal, diagonal] += 0.01 * torch.mean(torch.diag(h))
    h = torch.linalg.cholesky(h)
    h = torch.cholesky_inverse(h)
    u = torch.linalg.cholesky(h, upper=True)
    all_removed = torch.zeros_like(w, dtype=torch.bool)
    for start in range(0, columns, 128):
        stop = min(start + 128, columns)
        block, corner = w[:, start:stop].clone(), u[start:stop, start:stop]
        new, errors = torch.zeros_like(block), torch.zeros_like(block)
        if pattern is None:
            scores = block**2 / torch.diag(corner).reshape(1, -1) ** 2
            removed = scores <= torch.sort(scores.flatten())[0][int(scores.numel() * sparsity) - exact]
        else:
            removed = torch.zeros_like(block, dtype=torch.bool)
        for i in range(stop - start):
            column, pivot = block[:, i], corner[i, i]
            if pattern is not None and i % pattern.of == 0:
                scores = block[:, i : i + pattern.of] ** 2 / torch.diag(corner)[i : i + pattern.of].reshape(1, -1) ** 2
                lowest = torch.topk(scores, pattern.of - pattern.keep, dim=1, largest=False)[1]
                removed.scatter_(1, i + lowest, True)
            kept = column.clone()
            kept[removed[:, i]] = 0
            new[:, i] = kept
            error = (column - kept) / pivot
            block[:, i:] -= error.unsqueeze(1).matmul(corner[i, i:].unsqueeze(0))
            errors[:, i] = error
        w[:, start:stop], all_removed[:, start:stop] = new, removed
        w[:, stop:] -= errors.matmul(u[start:stop, stop:])
    return w.to(weight.dtype), all_removed


# --- requests --------------------------------------------------------------------------------------------------------


class Layer:
    """A square matrix with inputs of different sizes that are correlated, and its pruned forms."""

    def __init__(self, way: str, size: str, sparsity: str, ratio: str):
        torch.set_grad_enabled(False)
        self.way = way
        self.sparsity, self.nm = parse_sparsity(sparsity), parse_nm(ratio)
        if way == "product":
            hardware.keep_freed_memory()
        self._make(2 * self.nm.of)
        for method in ("magnitude", "wanda", "sparsegpt"):  # libraries load at first use
            for nm in (False, True):
                self.prune(method, nm)
        self._make(int(size))

    def _make(self, size: int) -> None:
        self.size = size
        generator = torch.Generator().manual_seed(0)
        self.weight = 0.02 * torch.randn(self.size, self.size, generator=generator)
        inputs = torch.randn(self.size + 64, self.size, generator=generator)
        inputs += 0.5 * inputs.roll(1, 1)
        inputs *= torch.exp(torch.randn(self.size, generator=generator))
        self.inputs = inputs
        self.squares = inputs.square().sum(0) / SAMPLES
        self.hessian = 2 / SAMPLES * inputs.T @ inputs
        self.spare = self.hessian.clone()

    def add(self) -> float:
        """Seconds to add all inputs to a Hessian."""
        if self.way == "product":
            hessian = sparsegpt.Hessian(self.size)
            started = time.perf_counter()
            hessian.add(self.inputs)
        else:
            total = torch.zeros(self.size, self.size)
            started = time.perf_counter()
            total += self.inputs.T @ self.inputs
        return time.perf_counter() - started

    def prune(self, method: str, nm: bool, save: str | None = None, exact: bool = False) -> dict:
        """Prune the matrix; write what came out to ``save`` if asked. Returns seconds and copies held at most.

        A copy is the size of the matrix; what is given (the matrix, and its Hessian, which is used up) does not count.
        ``exact``: see ``sparsegpt_steps``.
        """
        self.spare.copy_(self.hessian)
        hardware.give_back_freed_memory()
        peak = measure.Peak(CPU)
        started = time.perf_counter()
        weight, removed = self._product(method, nm) if self.way == "product" else self._reference(method, nm, exact)
        seconds = time.perf_counter() - started
        extra = peak.extra()
        if save:
            np.savez(save, weight=weight.numpy(), removed=np.packbits(removed.numpy().reshape(-1)))
        return {"seconds": seconds, "copies": None if extra is None else extra / self.weight.nbytes}

    def _reference(self, method: str, nm: bool, exact: bool) -> tuple[Tensor, Tensor]:
        sparsity = float(self.sparsity)
        if method == "sparsegpt":
            return sparsegpt_steps(self.weight, self.spare, sparsity, self.nm if nm else None, exact)
        if nm:
            scale = self.squares.sqrt().reshape(1, -1) if method == "wanda" else 1
            return self.weight, group_steps(self.weight.abs() * scale, self.nm)
        if method == "wanda":
            return self.weight, wanda_steps(self.weight, self.squares, sparsity)
        return self.weight, magnitude_steps(self.weight, sparsity)

    def _product(self, method: str, nm: bool) -> tuple[Tensor, Tensor]:
        unit = {"magnitude": PerMatrix, "wanda": PerRow, "sparsegpt": PerBlock}[method]
        pattern: Pattern = self.nm if nm else unit(self.sparsity)
        if method == "sparsegpt":
            weight, kept, _ = sparsegpt.prune(self.weight, self.spare, pattern)
        else:
            score = wanda.score(self.squares) if method == "wanda" else magnitude
            weight, kept = self.weight, matrix_mask("weight", self.weight, pattern, score)
        return weight, kept.logical_not_()

    def compare(self, reference: str, product: str) -> dict:
        """How many weights one of two saved results removes and the other keeps; and how far the weights are apart.

        ``elsewhere``: those of them whose magnitude is not the largest of all of them. ``weights``: the norm of the
        difference of the weights, relative to that of the reference's.
        """
        theirs, ours = np.load(reference), np.load(product)
        a, b = (np.unpackbits(file["removed"], count=self.weight.numel()).view(bool) for file in (theirs, ours))
        magnitudes = self.weight.abs().reshape(-1).numpy()[a != b]
        apart = np.linalg.norm(theirs["weight"] - ours["weight"]) / np.linalg.norm(theirs["weight"])
        elsewhere = int((magnitudes != magnitudes.max(initial=0)).sum())
        return {"different": int((a != b).sum()), "elsewhere": elsewhere, "weights": float(apart)}


if __name__ == "__main__":
    serve_to = private_output()
    serve(Layer(*sys.argv[1:]), serve_to)
