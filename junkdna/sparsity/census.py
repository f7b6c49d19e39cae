"""What a mask removes, in all and of every matrix; and ``choose_masks``, which counts what it makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from junkdna.errors import Fault, UserError
from junkdna.sparsity import files
from junkdna.sparsity.masks import Masks, fingerprint, make_masks
from junkdna.sparsity.patterns import NM, Pattern, PerBlock, PerMatrix, PerRow, removed_count
from junkdna.sparsity.scope import KERNEL, Scope, input_width
from junkdna.sparsity.scores import Score, named, score_name

CONTROLS = {"random": "control: at random", "largest": "control: the LARGEST magnitudes"}
"""Scores that are worth a remark beside the pattern."""


@dataclass(frozen=True)
class Matrix:
    """One masked matrix. ``threshold``: the largest magnitude removed (None: nothing); ``asked``: None if asked in all.

    ``head``: whether its weights were freshly drawn. ``embedding``: whether it is one.
    """

    name: str
    shape: list[int]
    removed: int
    kept: int
    asked: int | None
    threshold: float | None
    head: bool
    embedding: bool = False

    def as_dict(self) -> dict:
        """As it stands in a record, which says ``asked`` only where it was asked of each matrix.

        Which matrices are embeddings is recorded in sum alone.
        """
        left_out = {"embedding"} | ({"asked"} if self.asked is None else set())
        return {key: value for key, value in asdict(self).items() if key not in left_out}


@dataclass(frozen=True)
class Census:
    """What masks remove.

    ``asked``: how many weights the pattern asks for (None: a mask file). ``left_out``: name -> reason. ``zeros``:
    masked weights that were 0 before anything was removed; ``zeros_removed``: how many of them are among the removed.
    """

    pattern: str
    score: str | None
    asked: int | None
    mask_hash: str
    matrices: list[Matrix]
    left_out: dict[str, str]
    zeros: int = 0
    zeros_removed: int = 0

    @property
    def removed(self) -> int:
        """Number of removed weights."""
        return sum(matrix.removed for matrix in self.matrices)

    @property
    def size(self) -> int:
        """Number of masked weights."""
        return self.removed + sum(matrix.kept for matrix in self.matrices)

    @property
    def threshold(self) -> float | None:
        """Largest magnitude removed."""
        return max((matrix.threshold for matrix in self.matrices if matrix.threshold is not None), default=None)

    @property
    def kernels(self) -> list[str]:
        """Names of the kernels of convolutions that are left out."""
        return [name for name, reason in self.left_out.items() if reason.endswith(KERNEL)]

    def as_dict(self) -> dict:
        """The section ``pruning`` of a run's record, in plain values."""
        return {
            "pattern": self.pattern,
            "score": self.score,
            "scope": {"weights": self.size, "matrices": len(self.matrices)},
            "asked": self.asked,
            "removed": self.removed,
            "kept": self.size - self.removed,
            "sparsity": self.removed / self.size,
            "threshold": self.threshold,
            "mask_hash": self.mask_hash,
            "zeros_before": {"weights": self.zeros, "removed": self.zeros_removed},
            "head": _sums(matrix for matrix in self.matrices if matrix.head),
            "embeddings": _sums(matrix for matrix in self.matrices if matrix.embedding),
            "matrices": [matrix.as_dict() for matrix in self.matrices],
            "left_out": self.left_out,
        }

    def lines(self, treatment: str) -> list[str]:
        """What a run prints of them; ``treatment`` is what is done with the removed weights."""
        threshold = "" if self.threshold is None else f"; largest magnitude removed {self.threshold:.6g}"
        said = [
            f"{self.removed:,} of {self.size:,} weights in {len(self.matrices)} matrices "
            f"({self.removed / self.size:.4%}); {treatment}",
            f"{self.pattern}{threshold}",
        ]
        if self.zeros:
            said.append(
                f"{self.zeros:,} weights in scope were 0 before; {self.zeros_removed:,} of them are among the removed "
                "ones, and the sparsity counts no other zero"
            )
        if self.kernels:
            said.append(
                f"{len(self.kernels)} kernel(s) of convolutions are not matrices and left out, such as "
                f"{self.kernels[0]}"
            )
        head = _sums(matrix for matrix in self.matrices if matrix.head)
        if head["weights"]:
            said.append(
                f"the fresh head is in scope: {head['removed']:,} of its {head['weights']:,} weights "
                f"({head['removed'] / head['weights']:.2%}) are among them"
            )
        tables = _sums(matrix for matrix in self.matrices if matrix.embedding)
        if tables["weights"]:
            said.append(
                f"embeddings are {tables['weights'] / self.size:.2%} of the weights in scope and "
                f"{tables['removed'] / (self.removed or 1):.2%} of the removed ones "
                f"({tables['removed']:,} of {tables['weights']:,})"
            )
        return said

    def __str__(self) -> str:
        asked = "" if self.asked is None else f", asked {self.asked:,}"
        threshold = "" if self.threshold is None else f"; largest magnitude removed {self.threshold:.6g}"
        share = f"{self.removed / self.size:.4%}{asked}"
        lines = [
            f"{self.pattern}: {self.removed:,} of {self.size:,} weights removed ({share}) "
            f"in {len(self.matrices)} matrices{threshold}"
        ]
        width = max(len(matrix.name) for matrix in self.matrices)
        for matrix in self.matrices:
            share = matrix.removed / max(matrix.removed + matrix.kept, 1)
            shape = " x ".join(map(str, matrix.shape))
            lines.append(f"  {matrix.name:{width}}  {shape:>15}  {share:9.4%} removed{'  (fresh)' * matrix.head}")
        return "\n".join(lines)


def choose_masks(
    scope: Scope,
    pattern: Pattern | None = None,
    score: str | Score = "magnitude",
    seed: int = 0,
    mask_file: str | None = None,
    fresh: Iterable[str] = (),
) -> tuple[Masks, Census]:
    """Return the masks of a scope and their census. Changes no weight: ``hold`` does.

    ``score`` is a function or a name of ``SCORES``; ``seed`` is used by "random". ``mask_file`` takes the place of
    pattern and score. ``fresh`` names the parameters that make up a freshly drawn head. Raises UserError as
    ``make_masks`` and ``load_masks``, and if neither pattern nor file is given.
    """
    if mask_file:
        masks = files.load_masks(mask_file)
        files.check_fits(masks, scope.matrices, mask_file)
        return masks, _count(scope, masks, f"mask file {mask_file}", fresh=fresh, absent="not in the mask file")
    if pattern is None:
        raise UserError(Fault("pattern", "", "give a pattern, such as Unstructured(0.5), or a mask file"))
    score = named(score, seed) if isinstance(score, str) else score
    masks = make_masks(scope, pattern, score)
    return masks, census(scope, masks, pattern, score_name(score), fresh)


def census(
    scope: Scope,
    masks: Masks,
    pattern: Pattern | None = None,
    score: str | None = None,
    fresh: Iterable[str] = (),
) -> Census:
    """Count what masks remove. ``pattern`` and ``score`` say what was asked for, if that is known.

    Thresholds are those of the weights as they are now: call it before ``hold``. Raises UserError if a mask does not
    fit.
    """
    files.check_fits(masks, scope.matrices, "")
    if pattern is None:
        return _count(scope, masks, "masks", score, fresh=fresh)
    return _count(
        scope,
        masks,
        describe(pattern, score),
        score,
        asked_count(pattern, scope.as_matrices(), scope.transposed),
        pattern,
        fresh,
    )


def describe(pattern: Pattern, score: str | None) -> str:
    """A pattern in words, with a remark where the score calls for one."""
    return f"{pattern}; {CONTROLS[score]}" if score in CONTROLS else str(pattern)


def asked_count(pattern: Pattern, weights: Mapping[str, Tensor], transposed: frozenset[str] = frozenset()) -> int:
    """Return how many weights a pattern asks to remove, worked out from sizes alone."""
    sizes = [weight.numel() for weight in weights.values()]
    if isinstance(pattern, NM):
        return sum(size // pattern.of * (pattern.of - pattern.keep) for size in sizes)
    if isinstance(pattern, PerMatrix):
        return sum(removed_count(pattern.sparsity, size) for size in sizes)
    if isinstance(pattern, (PerRow, PerBlock)):
        inputs = [input_width(weight, name in transposed) for name, weight in weights.items()]
        if isinstance(pattern, PerBlock):
            return sum(_asked_of_blocks(pattern, size // of, of) for size, of in zip(sizes, inputs))
        return sum(size // of * removed_count(pattern.sparsity, of) for size, of in zip(sizes, inputs))
    return removed_count(pattern.sparsity, sum(sizes))


def _asked_of_blocks(pattern: PerBlock, outputs: int, inputs: int) -> int:
    whole, rest = divmod(inputs, pattern.columns)
    full = removed_count(pattern.sparsity, outputs * pattern.columns)
    return whole * full + removed_count(pattern.sparsity, outputs * rest)


class Tally:
    """Counts what masks remove, matrix by matrix, each before its weights are changed; then makes the census."""

    def __init__(self, scope: Scope, pattern: Pattern | None = None, fresh: Iterable[str] = ()):
        self.scope, self.pattern, self.fresh = scope, pattern, set(fresh)
        self.weights = scope.as_matrices()
        self.matrices: list[Matrix] = []
        self.zeros = self.zeros_kept = 0

    @torch.no_grad()
    def add(self, name: str, mask: Tensor) -> None:
        """Count one matrix of the scope, whose weights are still as they were."""
        weight, kept, each = self.scope.matrices[name], int(mask.count_nonzero()), None
        if isinstance(self.pattern, (NM, PerMatrix, PerRow, PerBlock)):
            each = asked_count(self.pattern, {name: self.weights[name]}, self.scope.transposed)
        found = weight.numel() - int(torch.count_nonzero(weight))
        if found:
            self.zeros += found
            self.zeros_kept += int(((weight == 0) & mask.to(weight.device)).count_nonzero())
        threshold = _largest(weight * ~mask.to(weight.device)) if kept < mask.numel() else None
        removed = mask.numel() - kept
        head, embedding = name in self.fresh, name in self.scope.embeddings
        self.matrices.append(Matrix(name, list(mask.shape), removed, kept, each, threshold, head, embedding))

    def census(
        self, masks: Masks, words: str, score: str | None, asked: int | None, absent: str = "not masked"
    ) -> Census:
        """Return the ``Census`` of masks that have all been counted."""
        missing = {name: absent for name in self.scope.matrices if name not in masks}
        left_out = self.scope.left_out | missing
        removed = self.zeros - self.zeros_kept
        return Census(words, score, asked, fingerprint(masks), self.matrices, left_out, self.zeros, removed)


def _count(
    scope: Scope,
    masks: Masks,
    words: str,
    score: str | None = None,
    asked: int | None = None,
    pattern: Pattern | None = None,
    fresh: Iterable[str] = (),
    absent: str = "not masked",
) -> Census:
    """Count what the masks remove, in all and of every matrix."""
    tally = Tally(scope, pattern, fresh)
    for name, mask in masks.items():
        tally.add(name, mask)
    return tally.census(masks, words, score, asked, absent)


def _sums(matrices: Iterable[Matrix]) -> dict[str, int]:
    """How many weights some of the matrices have, and how many of these are removed."""
    counts = [(matrix.removed + matrix.kept, matrix.removed) for matrix in matrices]
    return {"weights": sum(size for size, _ in counts), "removed": sum(removed for _, removed in counts)}


def _largest(weight: Tensor) -> float:
    low, high = weight.aminmax()
    return max(abs(float(low)), abs(float(high)))


@torch.no_grad()
def zero_count(parameters: Mapping[str, Tensor], masks: Masks) -> int:
    """Count the exact zeros among the masked matrices of a model as it is now."""
    return sum(parameters[name].numel() - int(torch.count_nonzero(parameters[name])) for name in masks)
