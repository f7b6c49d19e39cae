"""Which parameters may be pruned, and the reason why each other one is not.

The scope of the paper's code: every matrix, less embeddings if so asked, less biases and normalisation. The freshly
drawn classifier head is a matrix like any other and is in scope unless excluded by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from junkdna.errors import Fault, UserError


@dataclass(frozen=True)
class Scope:
    """``matrices``: name -> parameter (rank 2), in the model's order. ``left_out``: name -> reason.

    ``turned`` names the matrices that are stored (inputs, outputs), as GPT-2's ``Conv1D`` does; all others are stored
    (outputs, inputs).
    """

    matrices: dict[str, nn.Parameter]
    left_out: dict[str, str]
    turned: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Number of weights in scope."""
        return sum(parameter.numel() for parameter in self.matrices.values())


def find_scope(
    model: nn.Module, embeddings: bool = True, within: str | None = None, exclude: Iterable[str] = ()
) -> Scope:
    """Sort a model's parameters into those that may be pruned and those that may not.

    A tied parameter counts once, under its first name; it is an embedding if any of the modules that own it is one,
    whatever it is called. ``embeddings=False`` leaves embeddings out. ``within`` is a regular expression that a name
    must contain, ``exclude`` holds those that it must not (any of the names of a tied parameter). Raises UserError if
    an expression is not valid or matches no matrix, if nothing is left, and if a matrix is shared by modules that
    store it differently.
    """
    names, owners = _owners(model)
    excluded = {text: _compiled("exclude", text) for text in ([exclude] if isinstance(exclude, str) else exclude)}
    inside = _compiled("within", within) if within is not None else None
    unused = {("exclude", text) for text in excluded} | ({("within", within)} if inside else set())
    matrices, left_out = {}, {}
    for name, parameter in model.named_parameters():
        called, owned_by = names[id(parameter)], owners[id(parameter)]
        reason = _unprunable(name, parameter, owned_by)
        hits = [text for text, regex in excluded.items() if any(map(regex.search, called))]
        outside = inside is not None and not any(map(inside.search, called))
        if reason is None:
            unused -= {("exclude", text) for text in hits} | (set() if outside else {("within", within)})
        if reason is None and not embeddings and any(map(_is_embedding, owned_by)):
            reason = "embedding"
        if reason is None and outside:
            reason = f"not within {within}"
        if reason is None and hits:
            reason = f"excluded by {hits[0]}"
        if reason is None:
            matrices[name] = parameter
        else:
            left_out[name] = reason
    if unused:
        raise UserError(*(Fault(setting, text, "matches no matrix of the model") for setting, text in sorted(unused)))
    if not matrices:
        asked = " ".join(excluded) or ("" if within is None else within)
        raise UserError(Fault("exclude", asked, "with what else is left out, no matrix is left to prune"))
    return Scope(matrices, left_out, _turned(matrices, owners))


def _compiled(setting: str, text: str) -> re.Pattern:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(Fault(setting, text, f"is not a valid regular expression: {error}")) from None


def _turned(matrices: dict[str, nn.Parameter], owners: dict[int, list[nn.Module]]) -> frozenset[str]:
    """Names of the matrices stored (inputs, outputs); raises UserError if a matrix is stored both ways."""
    turned = set()
    for name, parameter in matrices.items():
        ways = {_is_turned(module) for module in owners[id(parameter)]}
        if len(ways) > 1:
            reason = f"{name} is shared by a Conv1D and a module that stores inputs as columns; exclude it"
            raise UserError(Fault("model", "", reason))
        if ways == {True}:
            turned.add(name)
    return frozenset(turned)


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


def _is_turned(module: nn.Module) -> bool:
    """Whether it is the ``Conv1D`` of transformers, told by its name so that transformers need not be imported."""
    return any(kind.__name__ == "Conv1D" for kind in type(module).__mro__)


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
