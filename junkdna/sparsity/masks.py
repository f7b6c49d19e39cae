"""A score and a pattern -> boolean masks, exactly; packing, counting and comparing them. Pure functions.

A mask is True where a weight is kept. A mask dictionary holds only what is in scope: membership is the definition.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from junkdna.errors import Fault, UserError
from junkdna.sparsity.locate import check_mask, is_sharded
from junkdna.sparsity.patterns import (
    NM,
    Pattern,
    PerBlock,
    PerRow,
    Unstructured,
    check_pattern,
    decimal_text,
    removed_count,
)
from junkdna.sparsity.scope import Scope, input_width
from junkdna.sparsity.scores import Score, magnitude
from junkdna.sparsity.select import block_mask, nm_mask, remove_lowest, row_mask

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Masks = Mapping[str, Tensor]
"""Name -> boolean tensor: a dictionary, or ``Packed``."""


def make_masks(weights: Scope | Mapping[str, Tensor], pattern: Pattern, score: Score = magnitude) -> Masks:
    """Return one boolean mask per matrix (its shape, on the CPU), True where the weight is kept. Changes no weight.

    ``weights`` is a scope, or name -> matrix (rank 2, fp16, bf16, fp32 or fp64, any device). Of a scope, matrices
    stored with a higher rank are ranked as rows and columns; their masks have the stored shape. Raises UserError for
    NaN or infinite weights, for what is not a matrix, for weights that this process does not hold, for scores that are
    not what ``Score`` says, for a width that M does not divide, for a sparsity > 0 that removes nothing, and for a
    ``pattern`` that is none.
    """
    check_pattern(pattern)
    if not isinstance(weights, Scope | Mapping):
        raise UserError(Fault("weights", type(weights).__name__, "must be a scope (find_scope), or name -> matrix"))
    transposed = weights.transposed if isinstance(weights, Scope) else frozenset()
    shapes = {name: p.shape for name, p in (weights.matrices if isinstance(weights, Scope) else weights).items()}
    weights = weights.as_matrices() if isinstance(weights, Scope) else weights
    for name, weight in weights.items():
        check_weight(name, weight)
    if isinstance(pattern, Unstructured):
        size = sum(weight.numel() for weight in weights.values())
        masks = remove_lowest(weights, removed_count(pattern.sparsity, size), score)
    else:
        masks = {name: matrix_mask(name, w, pattern, score, name in transposed) for name, w in weights.items()}
    if pattern.sparsity > 0 and all(bool(mask.all()) for mask in masks.values()):
        raise UserError(nothing_removed(pattern))
    return {name: mask.reshape(shapes[name]) for name, mask in masks.items()}


def nothing_removed(pattern: Pattern) -> Fault:
    """What is wrong with a sparsity above 0 that is less than half a weight."""
    value = pattern.ratio if isinstance(pattern, NM) else decimal_text(pattern.sparsity)
    return Fault("sparsity", value, "removes no weight of this scope; give 0 or a larger one")


def matrix_mask(name: str, weight: Tensor, pattern: Pattern, score: Score, transposed: bool = False) -> Tensor:
    """Return the mask of one matrix (rank 2, checked before) under any pattern that looks at each matrix alone."""
    if isinstance(pattern, NM):
        return nm_mask(name, weight, pattern, score, transposed)
    if isinstance(pattern, PerBlock):
        return block_mask(name, weight, pattern, score, transposed)
    if isinstance(pattern, PerRow):
        count = removed_count(pattern.sparsity, input_width(weight, transposed))
        return row_mask(name, weight, count, score, transposed)
    return remove_lowest({name: weight}, removed_count(pattern.sparsity, weight.numel()), score)[name]


def check_weight(name: str, weight: Tensor) -> None:
    """Raise UserError unless the weights are a matrix that can be ranked here."""
    if not isinstance(weight, Tensor) or weight.dtype not in FLOATS:
        kind = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
        raise UserError(Fault("model", "", f"the weight {name} is {kind}; a float tensor of 2, 4 or 8 bytes is needed"))
    if weight.dim() != 2:
        reason = f"the weight {name} has rank {weight.dim()}, and only matrices are ranked; find_scope knows which are"
        raise UserError(Fault("model", "", reason))
    if is_sharded(weight):
        raise UserError(Fault("model", "", f"the weight {name} is sharded; make the masks before the model is sharded"))
    if weight.is_meta:
        raise UserError(Fault("model", "", f"the weight {name} has no values yet (meta device); load them first"))
    if not weight.numel():
        raise UserError(
            Fault("model", "", f"the weight {name} is empty ({' x '.join(map(str, weight.shape))}); exclude it")
        )
    low, high = torch.aminmax(weight.detach())
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise UserError(Fault("model", "", f"the weight {name} holds NaN or infinite values and cannot be ranked"))


def fingerprint(masks: Masks) -> str:
    """SHA-256 of names, shapes and bits; equal for equal masks on any machine."""
    digest = hashlib.sha256()
    for name in sorted(masks):
        mask = masks[name]
        check_mask(name, mask)
        digest.update(f"{name}{tuple(mask.shape)}".encode())
        digest.update(pack(mask).numpy().tobytes())
    return digest.hexdigest()


def compare(a: Masks, b: Masks) -> dict[str, int]:
    """Count, for each matrix, the weights that one mask keeps and the other removes.

    Raises UserError if the two do not hold the same matrices, and if one is not a boolean tensor.
    """
    shapes: list[dict[str, tuple]] = [{}, {}]
    for masks, found in zip((a, b), shapes):
        for name, mask in masks.items():  # one at a time: masks may be packed
            check_mask(name, mask)
            found[name] = tuple(mask.shape)
    if shapes[0] != shapes[1]:
        raise UserError(Fault("mask", "", "the two do not hold the same matrices"))
    return {name: int((a[name] ^ b[name]).sum()) for name in a}


def pack(mask: Tensor) -> Tensor:
    """Return a mask's bits, eight a byte (uint8), row by row, the first in the highest bit; the tail is 0."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1)))


def unpack(bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo ``pack``. Raises ValueError if there are not as many bits as the shape has places."""
    size = math.prod(shape)
    if any(side < 0 for side in shape) or bits.numel() != -(-size // 8):
        raise ValueError(f"{bits.numel()} bytes are not the bits of a matrix {tuple(shape)}")
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=size).view(bool)).reshape(shape)


class Packed(Mapping):
    """Masks of a large model at one bit a weight: a mapping that unpacks a mask each time it is asked for.

    ``packed[name] = mask`` adds one. Changes to a mask that was taken out are lost.
    """

    def __init__(self):
        self._bits: dict[str, tuple[Tensor, tuple[int, ...]]] = {}

    def __setitem__(self, name: str, mask: Tensor) -> None:
        self._bits[name] = pack(mask), tuple(mask.shape)

    def __getitem__(self, name: str) -> Tensor:
        bits, shape = self._bits[name]
        return unpack(bits, shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)
