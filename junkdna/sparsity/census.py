"""One-shot pruning of a model: scope and pattern become masks, with a report of what was asked and what was removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from junkdna.sparsity import masks as mask_tools
from junkdna.sparsity.masks import Masks
from junkdna.sparsity.patterns import NM, Pattern, PerMatrix, removed_count
from junkdna.sparsity.scope import Scope, find_scope

RANKINGS = {"one_shot_smallgm": lambda seed: mask_tools.largest_keys, "random": mask_tools.random_keys}
"""Modes that rank weights by something else than their magnitude, smallest first."""


def make(
    model: nn.Module,
    pattern: Pattern | None,
    mode: str,
    seed: int,
    embeddings: bool,
    exclude: Iterable[str],
    mask_file: str | None,
    drawn: Iterable[str],
) -> tuple[Masks, dict]:
    """Return the masks of a model's scope, and the report of RUN_SCHEMA's ``pruning``. Changes no weight.

    ``mask_file`` takes the place of ``pattern`` and ``mode``; ``drawn`` names the parameters that make up the fresh head.
    Raises UserError as the functions that it calls.
    """
    scope = find_scope(model, embeddings, exclude)
    if mask_file:
        masks = mask_tools.load_masks(mask_file)
        mask_tools.check_fits(masks, scope.matrices, mask_file)
        words, asked = f"mask file {mask_file}", None
    else:
        keys = RANKINGS[mode](seed) if mode in RANKINGS else mask_tools.magnitude_keys
        masks = mask_tools.make_masks(scope.matrices, pattern, keys)
        words, asked = describe(pattern, mode), asked_count(pattern, scope.matrices)
    return masks, report(scope, masks, words, asked, pattern, set(drawn))


def describe(pattern: Pattern, mode: str) -> str:
    """The pattern in words, with what is unusual about a control."""
    extra = {"random": "; control: at random", "one_shot_smallgm": "; control: the LARGEST magnitudes"}
    return f"{pattern}{extra.get(mode, '')}"


def asked_count(pattern: Pattern, weights: Mapping[str, Tensor]) -> int:
    """Return how many weights a pattern asks to remove, worked out from sizes alone."""
    if isinstance(pattern, NM):
        return sum(weight.numel() // pattern.of * (pattern.of - pattern.keep) for weight in weights.values())
    if isinstance(pattern, PerMatrix):
        return sum(removed_count(pattern.sparsity, weight.numel()) for weight in weights.values())
    return removed_count(pattern.sparsity, sum(weight.numel() for weight in weights.values()))


@torch.no_grad()
def report(scope: Scope, masks: Masks, words: str, asked: int | None, pattern: Pattern | None, drawn: set[str]) -> dict:
    """Count what the masks remove, in all and of every matrix."""
    rows = []
    for name, mask in masks.items():
        weight = scope.matrices[name]
        kept = int(mask.count_nonzero())
        row = {"name": name, "shape": list(mask.shape), "removed": mask.numel() - kept, "kept": kept}
        if isinstance(pattern, (NM, PerMatrix)):
            row["asked"] = asked_count(pattern, {name: weight})
        row["threshold"] = _largest(weight * ~mask) if kept < mask.numel() else None
        row["head"] = name in drawn
        rows.append(row)
    head = [row for row in rows if row["head"]]
    size = sum(row["removed"] + row["kept"] for row in rows)
    removed = sum(row["removed"] for row in rows)
    missing = {name: "not in the mask file" for name in scope.matrices if name not in masks}
    return {
        "pattern": words,
        "scope": {"weights": size, "matrices": len(rows)},
        "asked": asked,
        "removed": removed,
        "kept": size - removed,
        "sparsity": removed / size,
        "threshold": max((row["threshold"] for row in rows if row["threshold"] is not None), default=None),
        "mask_hash": mask_tools.fingerprint(masks),
        "head": {"weights": sum(r["removed"] + r["kept"] for r in head), "removed": sum(r["removed"] for r in head)},
        "matrices": rows,
        "left_out": scope.left_out | missing,
    }


def _largest(weight: Tensor) -> float:
    low, high = weight.aminmax()
    return max(-float(low), float(high))


@torch.no_grad()
def zero_count(parameters: Mapping[str, Tensor], masks: Masks) -> int:
    """Count the exact zeros among the masked matrices of a model as it is now."""
    return sum(parameters[name].numel() - int(torch.count_nonzero(parameters[name])) for name in masks)


def check_same_on_all(mask_hash: str, accelerator) -> None:
    """Stop unless every process has the same mask."""
    if accelerator.num_processes == 1:
        return
    from accelerate.utils import gather_object

    hashes = gather_object([mask_hash])
    if len(set(hashes)) != 1:
        raise RuntimeError(f"the processes hold different masks: {hashes}")
