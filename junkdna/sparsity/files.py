"""Masks on disk: one safetensors file, one bit per weight, under a digest that is checked when it is read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from junkdna.errors import Fault, UserError
from junkdna.sparsity.locate import check_mask
from junkdna.sparsity.masks import Masks, fingerprint, pack, unpack

FORMAT = "junkdna-mask-1"
"""Key of the shapes in the file's metadata."""

DIGEST = "sha256"
"""Key of the masks' fingerprint there; files of earlier versions have none."""


def to_bytes(masks: Masks) -> bytes:
    """Return masks as the content of a safetensors file, shapes and digest in its metadata; equal if masks are."""
    from safetensors.torch import save

    shapes = {name: list(mask.shape) for name, mask in masks.items()}
    metadata = {FORMAT: json.dumps(shapes), DIGEST: fingerprint(masks)}
    plain = save({name: pack(mask) for name, mask in masks.items()})
    length = int.from_bytes(plain[:8], "little")
    header = json.loads(plain[8 : 8 + length])
    # by hand: safetensors writes several keys in no fixed order, and equal masks should be equal files
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + plain[8 + length :]


def save_masks(path: str | os.PathLike, masks: Masks) -> None:
    """Write masks to a file that ``load_masks`` reads. The file is never seen half written.

    Raises UserError if one is not a boolean tensor.
    """
    partial = Path(f"{os.fspath(path)}.{os.getpid()}.partial")
    try:
        partial.write_bytes(to_bytes(masks))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_masks(path: str | os.PathLike) -> Masks:
    """Read a mask file: name -> boolean tensor on the CPU; raises UserError if it is not one, or is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise UserError(Fault("mask", path, f"is not a junkdna mask file ({FORMAT})"))
            shapes = json.loads(metadata[FORMAT])
            if not isinstance(shapes, dict) or shapes.keys() != set(file.keys()):
                raise ValueError("its shapes are not those of its matrices")
            masks = {name: _mask(file.get_tensor(name), shape, name) for name, shape in shapes.items()}
    except UserError:
        raise
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UserError(Fault("mask", path, f"cannot be read: {error}")) from None
    if metadata.get(DIGEST, fingerprint(masks)) != fingerprint(masks):
        raise UserError(Fault("mask", path, "is damaged or was changed (its content does not fit its digest)"))
    return masks


def _mask(bits: Tensor, shape: object, name: str) -> Tensor:
    """Unpack a mask; raises ValueError unless it has exactly the bits that its shape asks for."""
    sizes = shape if isinstance(shape, list) else [None]
    if not sizes or any(type(size) is not int or size < 1 for size in sizes):
        raise ValueError(f"the shape of {name} is not one of a matrix")
    size = math.prod(sizes)
    if bits.dtype != torch.uint8 or bits.dim() != 1 or len(bits) != -(-size // 8):
        raise ValueError(f"{name} does not hold the {size:,} bits of its shape")
    mask = unpack(bits, tuple(sizes))
    if not torch.equal(pack(mask), bits):
        raise ValueError(f"{name} holds bits beyond its shape")
    return mask


def check_fits(masks: Masks, weights: Mapping[str, Tensor], path: str | os.PathLike) -> None:
    """Raise UserError unless there are masks, and every one is boolean, of a matrix in scope, and has its shape."""
    if not masks:
        raise UserError(Fault("mask", path, "holds no mask"))
    for name, mask in masks.items():
        if name not in weights:
            raise UserError(Fault("mask", path, f"holds a mask for {name}, which is not in the scope of this run"))
        check_mask(name, mask)
        if mask.shape != weights[name].shape:
            shapes = f"the mask of {name} is {tuple(mask.shape)}, the matrix is {tuple(weights[name].shape)}"
            raise UserError(Fault("mask", path, shapes))
