"""How a mask is held while a model trains, and the proof that it was.

========================  =====================  ==============================================
transfer (paper)          removed weights        held while training
========================  =====================  ==============================================
``Sparse``                set to 0               yes, at 0
``DenseWithFreezing``     left as pre-trained    yes, at their pre-trained values
``SparseToDense``         set to 0               no, they may grow again
========================  =====================  ==============================================

Dense transfer has no mask and therefore no regime. A weight is held by masking its **gradient**: AdamW's moments then
stay 0 and its update is 0. Decoupled weight decay is the one other thing that moves a weight; it leaves a 0 where it is,
and ``DenseWithFreezing`` takes it over so that it reaches the kept weights only.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from junkdna.errors import UserError
from junkdna.sparsity.masks import Masks


class MaskBroken(RuntimeError):
    """A weight that should have been held has changed. A bug, never the user's mistake; it stops the run."""


class SparseToDense:
    """Zero the removed weights once; afterwards every weight is free."""

    name = "sparse-to-dense transfer"
    decays_itself = False

    def __init__(self, parameters: Mapping[str, nn.Parameter], masks: Masks):
        """``parameters`` must hold every matrix of ``masks``, with the same shapes."""
        self.parameters = {name: parameters[name] for name in masks}
        self.masks = dict(masks)

    @torch.no_grad()
    def start(self) -> None:
        """Bring the weights into the state in which training starts. Call after the model is on its device."""
        for name, parameter in self.parameters.items():
            self.masks[name] = self.masks[name].to(parameter.device)
            parameter.view(torch.int32).mul_(self.masks[name])  # as bits: +0 where removed, nothing else touched

    def mask_gradients(self) -> None:
        """Zero the gradients of held weights. Call directly before every optimiser step."""

    def decay(self, factor: float) -> None:
        """Shrink the kept weights by ``factor`` (learning rate x weight decay), where the regime does it itself."""

    def verify(self) -> None:
        """Raise MaskBroken unless every held weight is exactly what the regime says. Nothing is held here."""


class Sparse(SparseToDense):
    """Zero the removed weights and keep them exactly 0."""

    name = "sparse transfer"

    @torch.no_grad()
    def mask_gradients(self) -> None:
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                parameter.grad.mul_(self.masks[name].view(torch.uint8))  # torch casts bools at a third of the speed

    @torch.no_grad()
    def verify(self) -> None:
        for name, parameter in self.parameters.items():
            wrong = int(((parameter != 0) & ~self.masks[name]).count_nonzero())
            if wrong:
                _check_finite(name, parameter)
                raise MaskBroken(f"{wrong} removed weights of {name} are not 0")


class DenseWithFreezing(Sparse):
    """Zero nothing; keep the small weights at their pre-trained values, bit for bit, while the others train."""

    name = "dense transfer with freezing"
    decays_itself = True

    @torch.no_grad()
    def start(self) -> None:
        self.pretrained = {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            self.masks[name] = self.masks[name].to(parameter.device)

    @torch.no_grad()
    def decay(self, factor: float) -> None:
        for name, parameter in self.parameters.items():
            parameter.mul_(torch.where(self.masks[name], 1.0 - factor, 1.0))

    @torch.no_grad()
    def verify(self) -> None:
        for name, parameter in self.parameters.items():
            mask, before = self.masks[name], self.pretrained[name].to(parameter.device)
            wrong = int(((parameter.view(torch.int32) != before.view(torch.int32)) & ~mask).count_nonzero())
            if wrong:
                _check_finite(name, parameter)
                raise MaskBroken(f"{wrong} frozen weights of {name} differ from their pre-trained values")


def _check_finite(name: str, parameter: nn.Parameter) -> None:
    """Tell training that has diverged (a NaN gradient spreads to held weights too) from a mask that was not held."""
    if not bool(parameter.isfinite().all()):
        raise UserError(
            f"--learning_rate: training diverged, {name} holds NaN or infinite values; a lower rate may help"
        )


REGIMES = {regime.name: regime for regime in (Sparse, DenseWithFreezing, SparseToDense)}
