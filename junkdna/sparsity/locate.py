"""Where the parameter of a mask is: under a wrapper, tied, or divided over processes.

Parameters that ``fully_shard`` (FSDP2) has turned into DTensors are looked at through the part that this process
holds. The mask and the frozen values are divided in the same way, without any communication.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from junkdna.errors import Fault, UserError, did_you_mean

ADDED = ("_orig_mod", "_checkpoint_wrapped_module")
"""Parts that torch.compile and activation checkpointing add to names, anywhere in them."""


WRAPPERS = (nn.parallel.DistributedDataParallel, nn.DataParallel, torch.optim.swa_utils.AveragedModel)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel, DataParallel, AveragedModel and torch.compile.

    Raises UserError if it is not a module.
    """
    if not isinstance(model, nn.Module):
        raise UserError(Fault("model", type(model).__name__, "must be a torch.nn.Module"))
    while isinstance(model, WRAPPERS) or hasattr(model, "_orig_mod"):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model


def bare_name(name: str) -> str:
    """A parameter's name less what wrappers add to it."""
    *parts, last = name.split(".")
    return ".".join([*(part for part in parts if part not in ADDED), last])


def parameters(model: nn.Module, every_name: bool = True) -> dict[str, nn.Parameter]:
    """Return a model's parameters under all of their bare names, or under the first of each."""
    named = unwrapped(model).named_parameters(remove_duplicate=not every_name)
    return {bare_name(name): parameter for name, parameter in named}


def of_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Return the parameter of every mask.

    Raises UserError where there is no mask, where a mask has no parameter, is not boolean or has another shape, where
    the values are not here (meta device, FSDP1, DeepSpeed), and where two different masks are for one tied parameter.
    """
    _refuse_flattened(unwrapped(model))
    if not isinstance(masks, Mapping):
        raise UserError(Fault("mask", type(masks).__name__, "must be a dictionary, name -> mask"))
    if not masks:
        raise UserError(Fault("mask", "", "there is none: the dictionary is empty"))
    there, found, owner = parameters(model), {}, {}
    for name, mask in masks.items():
        if name not in there:
            reason = f"is for {name}, which the model does not have{did_you_mean(name, there)}{_hint()}"
            raise UserError(Fault("mask", "", reason))
        parameter = there[name]
        check_mask(name, mask)
        if mask.shape != parameter.shape:
            shapes = f"the mask of {name} is {tuple(mask.shape)}, the parameter is {tuple(parameter.shape)}"
            raise UserError(Fault("mask", "", shapes + _hint()))
        if parameter.is_meta:
            raise UserError(Fault("model", "", f"{name} has no values yet (meta device); load them first"))
        twin = owner.setdefault(id(parameter), name)
        if twin == name:
            found[name] = parameter
        elif not torch.equal(masks[twin], mask):
            raise UserError(Fault("mask", "", f"{twin} and {name} are one tied parameter, but their masks differ"))
    return found


def check_mask(name: str, mask: object) -> None:
    """Raise UserError unless a mask is a boolean tensor."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        reason = f"the mask of {name} is {kind}; it must be a torch.bool tensor, True where kept"
        raise UserError(Fault("mask", "", reason))


def _refuse_flattened(model: nn.Module) -> None:
    """Raise UserError if FSDP1 or DeepSpeed's ZeRO 3 keeps the parameters in pieces without a shape."""
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        reason = "FSDP1 has flattened its parameters, where masks cannot be held; use fully_shard (FSDP2)"
        raise UserError(Fault("model", "", reason))
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        reason = "DeepSpeed's ZeRO 3 has divided its parameters, where masks cannot be held; use fully_shard (FSDP2)"
        raise UserError(Fault("model", "", reason))


def _hint() -> str:
    """What may have become of a parameter where several processes train."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return "; FSDP1 flattens parameters, where masks cannot be held: use fully_shard (FSDP2)" if several else ""


def reshard(model: nn.Module) -> None:
    """Give up the whole weights that ``fully_shard`` (FSDP2) has gathered for an evaluation: they are copies, which it
    will throw away, of the parameters that are trained.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")  # what it divides needs it
    for module in unwrapped(model).modules() if fsdp else ():
        if isinstance(module, fsdp.FSDPModule):
            module.reshard()


def is_sharded(tensor: Tensor) -> bool:
    """Whether this is a DTensor."""
    return hasattr(tensor, "device_mesh")


def local_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds: the tensor itself unless it is divided. Shares its memory.

    Call it under ``torch.no_grad``.
    """
    return tensor.to_local() if is_sharded(tensor) else tensor


def shard_like(whole: Tensor, parameter: Tensor) -> Tensor:
    """Return this process's part of a tensor that every process has in full, on the parameter's device."""
    if not is_sharded(parameter):
        return whole.to(parameter.device)
    from torch.distributed.tensor import distribute_tensor

    part = distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return part.to_local().to(local_part(parameter).device)
