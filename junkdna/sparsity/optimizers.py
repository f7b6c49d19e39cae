"""What is known of optimizers: the torch optimizer inside a wrapper, and whether its step leaves held weights alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from junkdna.errors import Fault, UserError
from junkdna.sparsity.locate import local_part

ELEMENTWISE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
"""Optimizers that add exactly 0 to a weight whose gradients and state have always been 0. Their subclasses may not."""


def innermost(optimizer) -> torch.optim.Optimizer:
    """Return the torch optimizer inside accelerate's wrapper; raises UserError if there is none."""
    found = find(optimizer)
    if found is None:
        reason = "is not a torch.optim.Optimizer, whose steps the mask is held in"
        raise UserError(Fault("optimizer", type(optimizer).__name__, reason))
    return found


def find(optimizer) -> torch.optim.Optimizer | None:
    """The same, or None."""
    while not hasattr(optimizer, "_optimizer_step_pre_hooks") and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    known = isinstance(optimizer, torch.optim.Optimizer) and hasattr(optimizer, "_optimizer_step_pre_hooks")
    return optimizer if known else None


def run_first(optimizer: torch.optim.Optimizer, hook) -> None:
    """Let this hook (what registering it returned) run before the other hooks after a step."""
    optimizer._optimizer_step_post_hooks.move_to_end(hook.id, last=False)


def leaves_alone(optimizer: torch.optim.Optimizer, group: dict, zero: bool) -> bool:
    """Whether a step cannot move a weight whose gradient and state are 0, as far as the optimizer's settings tell.

    ``zero``: the weight is +0 itself, which decay leaves where it is.
    """
    if type(optimizer) not in ELEMENTWISE or group.get("differentiable") or group.get("capturable"):
        return False  # capturable steps divide by the learning rate, which a warm-up starts at 0
    rate, decay = group["lr"], group["weight_decay"]
    if isinstance(rate, Tensor) or isinstance(decay, Tensor):  # to read them may mean waiting for a GPU
        return False
    return decay == 0 or (zero and 0 <= rate * decay <= 1)


def divides_by_zero(group: dict, dtype: torch.dtype) -> bool:
    """Whether a step may compute 0 / 0 where gradient and state are 0: eps is 0, or may become 0 in half precision."""
    return "eps" in group and not group["eps"] >= torch.finfo(dtype).smallest_normal


def has_clean_state(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, kept: Tensor) -> bool:
    """Whether all that the optimizer remembers of held weights is 0. ``kept`` is this process's part of the mask."""
    values = (value for value in optimizer.state.get(parameter, {}).values() if isinstance(value, Tensor))
    parts = (local_part(value) for value in values if value.shape == parameter.shape)
    return not any(bool(((part != 0) & ~kept.to(part.device)).any()) for part in parts)
