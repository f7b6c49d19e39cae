"""Which parameters may be pruned, and the reason why each other one is not.

The scope of the paper's code: every matrix, less embeddings if so asked, less biases and normalisation. The freshly drawn
classifier head is a matrix like any other and is in scope unless excluded by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from junkdna.errors import UserError


@dataclass(frozen=True)
class Scope:
    """``matrices``: name -> parameter (rank 2), in the model's order. ``left_out``: name -> reason."""

    matrices: dict[str, nn.Parameter]
    left_out: dict[str, str]

    @property
    def size(self) -> int:
        """Number of weights in scope."""
        return sum(parameter.numel() for parameter in self.matrices.values())


def find_scope(model: nn.Module, embeddings: bool = True, exclude: Iterable[str] = ()) -> Scope:
    """Sort a model's parameters into those that may be pruned and those that may not.

    A tied parameter counts once, under its first name; it is an embedding if any of the modules that own it is one, whatever
    it is called. ``embeddings=False`` leaves embeddings out; ``exclude`` holds regular expressions searched in names (all
    the names of a tied parameter). Raises UserError if an expression matches no matrix or if nothing is left.
    """
    names, owners = _owners(model)
    patterns = {text: re.compile(text) for text in exclude}
    unused = set(patterns)
    matrices, left_out = {}, {}
    for name, parameter in model.named_parameters():
        reason = _unprunable(name, parameter, owners[id(parameter)])
        hits = [text for text, regex in patterns.items() if any(map(regex.search, names[id(parameter)]))]
        if reason is None:
            unused -= set(hits)
        if reason is None and not embeddings and any(map(_is_embedding, owners[id(parameter)])):
            reason = "embedding"
        if reason is None and hits:
            reason = f"excluded by {hits[0]}"
        if reason is None:
            matrices[name] = parameter
        else:
            left_out[name] = reason
    if unused:
        raise UserError(*(f"--prune_exclude {text}: matches no matrix of the model" for text in sorted(unused)))
    if not matrices:
        raise UserError("--prune_exclude, --noembed: together they leave no matrix to prune")
    return Scope(matrices, left_out)


def _owners(model: nn.Module) -> tuple[dict[int, list[str]], dict[int, list[nn.Module]]]:
    """Return all names and all owning modules of every parameter, keyed by its id."""
    names: dict[int, list[str]] = {}
    owners: dict[int, list[nn.Module]] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            names.setdefault(id(parameter), []).append(f"{prefix}.{name}" if prefix else name)
            owners.setdefault(id(parameter), []).append(module)
    return names, owners


def _unprunable(name: str, parameter: nn.Parameter, owners: list[nn.Module]) -> str | None:
    """Return why a parameter can never be pruned, or None."""
    if name.rpartition(".")[2].endswith("bias"):
        return "bias"
    if any(_is_norm(module) for module in owners):
        return "normalisation"
    if parameter.dim() != 2:
        return f"rank {parameter.dim()}, not a matrix"
    return None if parameter.requires_grad else "not trained"


def _is_embedding(module: nn.Module) -> bool:
    return isinstance(module, (nn.Embedding, nn.EmbeddingBag))


def _is_norm(module: nn.Module) -> bool:
    """Normalisation by type; models bring their own classes, whose names end in Norm by convention."""
    return isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)) or type(module).__name__.endswith("Norm")


def no_decay_names(model: nn.Module) -> set[str]:
    """Names of the biases and normalisation weights, which weight decay leaves alone."""
    _, owners = _owners(model)
    return {
        name
        for name, parameter in model.named_parameters()
        if _unprunable(name, parameter, owners[id(parameter)]) in ("bias", "normalisation")
    }
