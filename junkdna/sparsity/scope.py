"""Which parameters may be pruned, and the reason why each other one is not.

The scope of the paper's code: every matrix, less embeddings if so asked, less biases and normalisation. The freshly
drawn classifier head is a matrix like any other and is in scope unless excluded by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn.utils import parametrize

from junkdna.errors import Fault, UserError
from junkdna.sparsity import locate
from junkdna.sparsity.filters import NameFilter

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

KEEP_ZEROS = ("_WeightNorm", "_SpectralNorm")
"""Parametrizations of torch that leave a weight of 0 at 0; of others we do not know it."""

BIAS, NORMALISATION, NOT_TRAINED = "bias", "normalisation", "not trained"
KERNEL = "a convolution's kernel"

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

    ``transposed`` names the matrices that are stored (inputs, outputs), as GPT-2's ``Conv1D`` does; all others are
    stored (outputs, inputs). ``matrix_shapes`` gives the rows and columns of those that are stored with a rank above 2,
    as XLNet's (width, heads, width of a head); all others are of rank 2. ``embeddings`` names the matrices that are
    embeddings.
    """

    matrices: dict[str, nn.Parameter]
    left_out: dict[str, str]
    transposed: frozenset[str] = frozenset()
    matrix_shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    embeddings: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Number of weights in scope."""
        return sum(parameter.numel() for parameter in self.matrices.values())

    def as_matrices(self) -> dict[str, Tensor]:
        """The parameters as matrices of rank 2, without copying: name -> (outputs, inputs), or transposed."""
        return {
            name: p.reshape(self.matrix_shapes[name]) if name in self.matrix_shapes else p
            for name, p in self.matrices.items()
        }


def find_scope(
    model: nn.Module, embeddings: bool = True, within: str | None = None, exclude: Iterable[str] = ()
) -> Scope:
    """Sort a model's parameters into those that may be pruned and those that may not.

    A tied parameter counts once, under its first name; it is an embedding if any of the modules that own it is one,
    whatever it is called. Names are those inside of DistributedDataParallel, DataParallel, AveragedModel, torch.compile
    and activation checkpointing, as for ``hold``. ``embeddings=False`` leaves embeddings out. ``within`` is a regular
    expression that a name must contain, ``exclude`` holds those that it must not (any of the names of a tied
    parameter). Raises UserError if an expression is not valid or matches no matrix, if nothing is left or trained, if a
    matrix is shared by modules that store it differently, if one of a higher rank is not known to be a matrix and not
    excluded, if one has no shape yet, and if one is pruned by ``torch.nn.utils.prune`` already.
    """
    model = locate.unwrapped(model)
    names, owners = names_and_owners(model)
    wanted = NameFilter(exclude, within)
    matrices, left_out, reasons = {}, {}, set()
    for name, parameter in locate.parameters(model, every_name=False).items():
        if nn.parameter.is_lazy(parameter):
            raise UserError(Fault("model", "", f"{name} has no shape yet (a lazy module); run a batch first"))
        reason = unprunable(name, parameter, owners[id(parameter)])
        reasons.add(reason)
        if reason is None:
            unwanted = wanted.reason(names[id(parameter)])
            is_table = _is_embedding(name, owners[id(parameter)])
            reason = "embedding" if is_table and not embeddings else unwanted
        if reason is None:
            matrices[name] = parameter
            _refuse_pruned(name, owners[id(parameter)])
        else:
            left_out[name] = reason
    if NOT_TRAINED in reasons and None not in reasons:
        raise UserError(Fault("model", "", "no matrix of it is trained (requires_grad is False)"))
    wanted.check_used()
    wanted.check_left(matrices)
    shapes = {name: _rows_and_columns(name, p, owners[id(p)]) for name, p in matrices.items() if p.dim() > 2}
    tables = frozenset(name for name, p in matrices.items() if _is_embedding(name, owners[id(p)]))
    return Scope(matrices, left_out, _transposed(matrices, owners), shapes, tables)


def _transposed(matrices: dict[str, nn.Parameter], owners: dict[int, list[nn.Module]]) -> frozenset[str]:
    """Names of the matrices stored (inputs, outputs); raises UserError if a matrix is stored both ways."""
    transposed = set()
    for name, parameter in matrices.items():
        ways = {_is_transposed(name, module) for module in owners[id(parameter)]}
        if len(ways) > 1:
            reason = f"{name} is shared by a Conv1D and a module that stores inputs as columns; exclude it"
            raise UserError(Fault("model", "", reason))
        if ways == {True}:
            transposed.add(name)
    return frozenset(transposed)


def names_and_owners(model: nn.Module) -> tuple[dict[int, list[str]], dict[int, list[nn.Module]]]:
    """Return all names and all owning modules of every parameter, keyed by its id."""
    names: dict[int, list[str]] = {}
    owners: dict[int, list[nn.Module]] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            names.setdefault(id(parameter), []).append(locate.bare_name(f"{prefix}.{name}" if prefix else name))
            owners.setdefault(id(parameter), []).append(module)
    return names, owners


def unprunable(name: str, parameter: nn.Parameter, owners: list[nn.Module]) -> str | None:
    """Return why a parameter can never be pruned, or None."""
    if name.rpartition(".")[2].endswith("bias"):
        return BIAS
    if any(_is_norm(module) for module in owners) or any(_is_scale(name, module) for module in owners):
        return NORMALISATION
    if sum(size > 1 for size in parameter.shape) < 2 and parameter.dim() != 2:
        return f"rank {parameter.dim()}, not a matrix"
    if any(_is_kernel(module, parameter) for module in owners):
        return f"rank {parameter.dim()}, {KERNEL}"
    other = next(filter(None, (_computed_by(module) for module in owners)), None)
    if other:
        return f"the model computes with what {other} makes of it"
    return None if parameter.requires_grad else NOT_TRAINED


def _computed_by(module: nn.Module) -> str | None:
    """The parametrization that turns a weight's zeros into other numbers, if it is under one."""
    kinds = [type(one).__name__ for one in module] if isinstance(module, parametrize.ParametrizationList) else []
    return next((kind.lstrip("_") for kind in kinds if kind not in KEEP_ZEROS), None)


def _refuse_pruned(name: str, owners: list[nn.Module]) -> None:
    """Raise UserError for a weight that ``torch.nn.utils.prune`` has masked: the model computes with less than it."""
    last = name.rpartition(".")[2]
    if last.endswith("_orig") and any(hasattr(one, f"{last.removesuffix('_orig')}_mask") for one in owners):
        reason = f"{name.removesuffix('_orig')} is pruned by torch.nn.utils.prune already; call its prune.remove first"
        raise UserError(Fault("model", "", reason))


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


def _is_embedding(name: str, owners: list[nn.Module]) -> bool:
    """Whether one of the modules that own it is a table of embeddings."""
    last = name.rpartition(".")[2]
    tables = (nn.Embedding, nn.EmbeddingBag)
    return any(isinstance(one, tables) or (last == SEGMENTS and _heads_apart(last, one)) for one in owners)


def _is_transposed(name: str, module: nn.Module) -> bool:
    """Whether a module stores it (inputs, outputs), as ``Conv1D`` and the attention of XLNet do."""
    last = name.rpartition(".")[2]
    return is_conv1d(module) or (_heads_apart(last, module) and last not in (OUTPUT, SEGMENTS))


def is_conv1d(module: nn.Module) -> bool:
    """Whether it is a ``Conv1D`` of transformers, told by name and attribute so that transformers is not imported."""
    return any(kind.__name__ == "Conv1D" for kind in type(module).__mro__) and hasattr(module, "nf")


def input_width(matrix: Tensor, transposed: bool) -> int:
    """Number of inputs of a matrix, stored (inputs, outputs) if it is ``transposed``."""
    return matrix.shape[0 if transposed else 1]


def _is_norm(module: nn.Module) -> bool:
    """Normalisation by type; models bring their own classes, whose names end in Norm by convention."""
    return isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)) or type(module).__name__.endswith("Norm")


def _is_scale(name: str, module: nn.Module) -> bool:
    """Whether it is the length that ``weight_norm`` keeps of every row, one number each."""
    last = name.rpartition(".")[2]
    kind = type(getattr(module, "0", None)).__name__  # of the parametrizations of a weight, the first
    return last == "weight_g" or (last == "original0" and kind == "_WeightNorm")
