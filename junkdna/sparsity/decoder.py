"""The decoder blocks of a causal language model: where they are, and which of their matrices may be pruned.

A model fits if its base holds exactly one list of blocks, all of one class, that are called one after the other with
the hidden states as first argument, and whose matrices are all ordinary linear layers: ``nn.Linear``, or the
``Conv1D`` of GPT-2, which stores (inputs, outputs). Mixtures of experts, encoder-decoders and quantised models do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from junkdna.errors import Fault, UserError
from junkdna.sparsity.filters import NameFilter
from junkdna.sparsity.locate import bare_name, parameters, unwrapped
from junkdna.sparsity.scope import NOT_TRAINED, Scope, is_conv1d, names_and_owners, unprunable

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "opt", "gpt2", "gpt_neox")
"""Model types (of a configuration) that are known to fit, and tested. Others are judged by their structure."""

FITS = (
    "a model fits if it has one list of decoder blocks, all of one class and called one after the other, whose "
    f"matrices are ordinary linear layers ({', '.join(MODEL_TYPES)} and models of their structure)"
)

CROSS = re.compile(r"(^|\.)(cross|encoder)_?att(entio)?n($|\.)")
"""Names of modules that attend to an encoder's states, as in the decoders of BART and of GPT-2 with an encoder."""


@dataclass(frozen=True)
class Decoder:
    """``blocks``: the decoder blocks, in order. ``prefix``: the name of their list in the model, as ``model.layers``.

    ``base``: the model without its head, which is called to make the blocks' inputs.
    """

    blocks: tuple[nn.Module, ...]
    prefix: str
    base: nn.Module

    def linears(self, number: int) -> dict[str, nn.Module]:
        """The linear layers of a block under the names of their weights in the model, in the block's order."""
        found = {}
        for name, module in self.blocks[number].named_modules():
            if is_linear(module):
                found[bare_name(f"{self.prefix}.{number}.{name}.weight")] = module
        return found


def is_linear(module: nn.Module) -> bool:
    """Whether it is an ``nn.Linear`` or a ``Conv1D`` of transformers."""
    return isinstance(module, nn.Linear) or is_conv1d(module)


def find_decoder(model: nn.Module) -> Decoder:
    """Return the decoder blocks of a causal language model; raises UserError, saying what makes a model fit."""
    model = unwrapped(model)
    base = getattr(model, "base_model", model)
    lists = {
        name: module
        for name, module in base.named_modules()
        if isinstance(module, nn.ModuleList) and any(map(is_linear, module.modules()))
    }
    lists = {name: found for name, found in lists.items() if not _inside(name, lists)}
    if len(lists) != 1:
        raise _misfit(model, f"has {len(lists) or 'no'} lists of blocks with linear layers")
    (found,) = lists.values()
    if len({type(block) for block in found}) != 1:
        raise _misfit(model, "has blocks of several classes")
    prefix = next(name for name, module in model.named_modules() if module is found)
    if any(CROSS.search(name) for name, _ in found.named_modules()):
        raise _misfit(model, "has attention to an encoder's states in its blocks, which nothing uses here")
    decoder = Decoder(tuple(found), prefix, base)
    _check_matrices(model, decoder)
    return decoder


def _inside(name: str, lists: Iterable[str]) -> bool:
    return any(name.startswith(f"{other}.") or (not other and name) for other in lists if other != name)


def _misfit(model: nn.Module, reason: str) -> UserError:
    return UserError(Fault("model", "", f"{type(model).__name__} {reason}; {FITS}"))


def _check_matrices(model: nn.Module, decoder: Decoder) -> None:
    """Raise UserError unless all matrices of the blocks are weights of linear layers, each used once."""
    seen: set[int] = set()
    for number, block in enumerate(decoder.blocks):
        for name, module in decoder.linears(number).items():
            if "weight" not in dict(module.named_parameters(recurse=False)):
                how = "parametrized, or pruned by torch.nn.utils.prune"
                raise _misfit(model, f"computes {name} out of other parameters ({how})")
        weights = {id(module.weight): name for name, module in decoder.linears(number).items()}
        for name, parameter in block.named_parameters():
            called = bare_name(f"{decoder.prefix}.{number}.{name}")
            if parameter.dim() > 2:
                kind = f"rank {parameter.dim()} (a convolution, or a mixture of experts)"
                raise _misfit(model, f"stores {called} with {kind}")
            if id(parameter) in weights and not (parameter.dim() == 2 and parameter.is_floating_point()):
                raise _misfit(model, f"stores {called} as {parameter.dtype} of rank {parameter.dim()}, as if quantised")
        if not weights:
            raise _misfit(model, f"has no linear layer in block {number}")
        if seen & weights.keys():
            raise _misfit(model, "shares weights between its blocks")
        seen |= weights.keys()


def decoder_scope(model: nn.Module, exclude: Iterable[str] = ()) -> Scope:
    """Return the weights of all linear layers inside the decoder blocks as a scope; nothing else is in it.

    ``exclude`` holds regular expressions that a name must not contain. A weight counts whether it is trained or not.
    Raises UserError as ``find_decoder``, if an expression is not valid or matches no matrix, and if nothing is left.
    """
    model = unwrapped(model)
    decoder = find_decoder(model)
    linears = {name: layer for n in range(len(decoder.blocks)) for name, layer in decoder.linears(n).items()}
    _, owners = names_and_owners(model)
    wanted = NameFilter(exclude, of="the decoder blocks")
    matrices, left_out = {}, {}
    for name, parameter in parameters(model, every_name=False).items():
        if name in linears:
            reason = wanted.reason([name])
        else:
            reason = _outside(name, parameter, owners[id(parameter)], f"{bare_name(decoder.prefix)}.")
        if reason is None:
            matrices[name] = parameter
        else:
            left_out[name] = reason
    wanted.check_used()
    wanted.check_left(matrices)
    return Scope(matrices, left_out, frozenset(name for name in matrices if is_conv1d(linears[name])))


def _outside(name: str, parameter: nn.Parameter, owners: list[nn.Module], prefix: str) -> str:
    """Return why a parameter is not one of the matrices."""
    if any(isinstance(module, nn.Embedding) for module in owners):
        return "embedding"
    reason = unprunable(name, parameter, owners)
    if reason and reason != NOT_TRAINED:
        return reason
    return "not a linear layer" if name.startswith(prefix) else "outside the decoder blocks"
