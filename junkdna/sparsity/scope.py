"""Which parameters may be pruned, and the reason why each other one is not.

The scope of the paper's code: every matrix, less embeddings if so asked, less biases and normalisation. The freshly
drawn classifier head is a matrix like any other and is in scope unless excluded by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor, nn

from junkdna.errors import Fault, UserError
from junkdna.sparsity import locate

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

HEADS_APART = {
    "XLNetRelativeAttention": ("q", "k", "v", "o", "r", "seg_embed"),
    "FunnelRelMultiheadAttention": ("r_kernel", "seg_embed"),
}
"""Attention's matrices that are stored (width, heads, width of a head), by the module's class."""

OUTPUT, SEGMENTS = "o", "seg_embed"
"""Of these the one whose inputs are the heads, and a table of embeddings; of all others the heads are the outputs."""


@dataclass(frozen=True)
class Scope:
    """``matrices``: name -> parameter, in the model's order. ``left_out``: name -> reason.

    ``turned`` names the matrices that are stored (inputs, outputs), as GPT-2's ``Conv1D`` does; all others are stored
    (outputs, inputs). ``flat`` gives the rows and columns of those that are stored with a rank above 2, as XLNet's
    (width, heads, width of a head); all others are of rank 2. ``embeddings`` names the matrices that are embeddings.
    """

    matrices: dict[str, nn.Parameter]
    left_out: dict[str, str]
    turned: frozenset[str] = frozenset()
    flat: dict[str, tuple[int, int]] = field(default_factory=dict)
    embeddings: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Number of weights in scope."""
        return sum(parameter.numel() for parameter in self.matrices.values())

    def as_matrices(self) -> dict[str, Tensor]:
        """The parameters as matrices of rank 2, without copying: name -> (outputs, inputs), or turned."""
        return {name: p.reshape(self.flat[name]) if name in self.flat else p for name, p in self.matrices.items()}


def find_scope(
    model: nn.Module, embeddings: bool = True, within: str | None = None, exclude: Iterable[str] = ()
) -> Scope:
    """Sort a model's parameters into those that may be pruned and those that may not.

    A tied parameter counts once, under its first name; it is an embedding if any of the modules that own it is one,
    whatever it is called. Names are those inside of DistributedDataParallel, DataParallel, torch.compile and
    activation checkpointing, as for ``hold``. ``embeddings=False`` leaves embeddings out. ``within`` is a regular
    expression that a name must contain, ``exclude`` holds those that it must not (any of the names of a tied
    parameter). Raises UserError if an expression is not valid or matches no matrix, if nothing is left, if a matrix
    is shared by modules that store it differently, and if one of a higher rank is not known to be a matrix and not
    excluded.
    """
    model = locate.unwrapped(model)
    names, owners = _owners(model)
    excluded = {text: _compiled("exclude", text) for text in ([exclude] if isinstance(exclude, str) else exclude)}
    inside = _compiled("within", within) if within is not None else None
    unused = {("exclude", text) for text in excluded} | ({("within", within)} if inside else set())
    matrices, left_out, flat, tables = {}, {}, {}, set()
    for name, parameter in locate.parameters(model, every_name=False).items():
        called, owned_by = names[id(parameter)], owners[id(parameter)]
        reason = _unprunable(name, parameter, owned_by)
        hits = [text for text, regex in excluded.items() if any(map(regex.search, called))]
        outside = inside is not None and not any(map(inside.search, called))
        if reason is None:
            unused -= {("exclude", text) for text in hits} | (set() if outside else {("within", within)})
        is_table = any(_is_embedding(name, module) for module in owned_by)
        if reason is None and is_table and not embeddings:
            reason = "embedding"
        if reason is None and outside:
            reason = f"not within {within}"
        if reason is None and hits:
            reason = f"excluded by {hits[0]}"
        if reason is None:
            matrices[name] = parameter
            tables |= {name} if is_table else set()
            if parameter.dim() > 2:
                flat[name] = _rows_and_columns(name, parameter, owned_by)
        else:
            left_out[name] = reason
    if unused:
        raise UserError(*(Fault(setting, text, "matches no matrix of the model") for setting, text in sorted(unused)))
    if not matrices:
        asked = " ".join(excluded) or ("" if within is None else within)
        raise UserError(Fault("exclude", asked, "no matrix is left to prune"))
    return Scope(matrices, left_out, _turned(matrices, owners), flat, frozenset(tables))


def _compiled(setting: str, text: str) -> re.Pattern:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(Fault(setting, text, f"is not a valid regular expression: {error}")) from None


def _turned(matrices: dict[str, nn.Parameter], owners: dict[int, list[nn.Module]]) -> frozenset[str]:
    """Names of the matrices stored (inputs, outputs); raises UserError if a matrix is stored both ways."""
    turned = set()
    for name, parameter in matrices.items():
        ways = {_is_turned(name, module) for module in owners[id(parameter)]}
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
            names.setdefault(id(parameter), []).append(locate.plain(f"{prefix}.{name}" if prefix else name))
            owners.setdefault(id(parameter), []).append(module)
    return names, owners


def _unprunable(name: str, parameter: nn.Parameter, owners: list[nn.Module]) -> str | None:
    """Return why a parameter can never be pruned, or None."""
    if name.rpartition(".")[2].endswith("bias"):
        return "bias"
    if any(_is_norm(module) for module in owners) or any(_is_scale(name, module) for module in owners):
        return "normalisation"
    if sum(size > 1 for size in parameter.shape) < 2 and parameter.dim() != 2:
        return f"rank {parameter.dim()}, not a matrix"
    if any(_is_kernel(module, parameter) for module in owners):
        return f"rank {parameter.dim()}, a convolution's kernel"
    return None if parameter.requires_grad else "not trained"


def _is_kernel(module: nn.Module, parameter: nn.Parameter) -> bool:
    """Whether it is the kernel of a convolution that looks at neighbours; one that does not is a matrix."""
    return isinstance(module, CONVOLUTIONS) and parameter.dim() > 2 and max(parameter.shape[2:]) > 1


def _rows_and_columns(name: str, parameter: nn.Parameter, owners: list[nn.Module]) -> tuple[int, int]:
    """Return the shape as a matrix of what is stored with a higher rank; raises UserError if its axes are not known."""
    shape, last = parameter.shape, name.rpartition(".")[2]
    if all(isinstance(module, CONVOLUTIONS) for module in owners):
        return shape[0], shape[1]
    if all(_heads_apart(last, module) for module in owners) and len(shape) == 3:
        return shape[0], shape[1] * shape[2]
    axes = " x ".join(map(str, shape))
    reason = f"{name} is stored with rank {len(shape)} ({axes}), and which axes are its inputs is not known"
    raise UserError(Fault("exclude", "", f"{reason}; exclude it to leave it unpruned"))


def _heads_apart(last: str, module: nn.Module) -> bool:
    return last in HEADS_APART.get(type(module).__name__, ())


def _is_embedding(name: str, module: nn.Module) -> bool:
    last = name.rpartition(".")[2]
    return isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or (last == SEGMENTS and _heads_apart(last, module))


def _is_turned(name: str, module: nn.Module) -> bool:
    """Whether a module stores it (inputs, outputs), as the ``Conv1D`` of transformers and the attention of XLNet do.

    They are told by their names so that transformers need not be imported.
    """
    last = name.rpartition(".")[2]
    conv1d = any(kind.__name__ == "Conv1D" for kind in type(module).__mro__)
    return conv1d or (_heads_apart(last, module) and last not in (OUTPUT, SEGMENTS))


def _is_norm(module: nn.Module) -> bool:
    """Normalisation by type; models bring their own classes, whose names end in Norm by convention."""
    return isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)) or type(module).__name__.endswith("Norm")


def _is_scale(name: str, module: nn.Module) -> bool:
    """Whether it is the length that ``weight_norm`` keeps of every row, one number each."""
    last = name.rpartition(".")[2]
    kind = type(getattr(module, "0", None)).__name__  # of the parametrizations of a weight, the first
    return last == "weight_g" or (last == "original0" and kind == "_WeightNorm")


def no_decay_names(model: nn.Module) -> set[str]:
    """Names of the biases and normalisation weights, which weight decay leaves alone."""
    _, owners = _owners(model)
    return {
        name
        for name, parameter in model.named_parameters()
        if _unprunable(name, parameter, owners[id(parameter)]) in ("bias", "normalisation")
    }
