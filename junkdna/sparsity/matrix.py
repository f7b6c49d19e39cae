"""One matrix whose removed weights are held: at 0, at their frozen values, or not at all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from junkdna.errors import Fault, UserError
from junkdna.sparsity.locate import is_sharded, local_part, shard_like

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers of as many bytes as a float, to look at its bits."""


class MaskBroken(RuntimeError):
    """A weight that should have been held has changed. A bug or a step from outside; it stops the run."""


class HeldMatrix:
    """A parameter with its mask.

    ``mask``: in full, a copy of what was given. ``kept``: the part of it for the weights that this process holds,
    beside them. ``values``: of frozen weights, in full, row by row, on the CPU; None for other kinds.
    ``adding_zero_is_exact``: whether adding 0 to held weights cannot change a bit.
    """

    def __init__(self, name: str, mask: Tensor, parameter: nn.Parameter, kind: str):
        self.name, self.mask, self.kind = name, mask.clone(), kind  # the caller's may be edited
        self.values: Tensor | None = None
        self.adding_zero_is_exact = True
        self._seen: tuple | None = None
        self.place(parameter)

    @torch.no_grad()
    def place(self, parameter: nn.Parameter) -> None:
        """Look at the parameter as it is now: another object, device or dtype."""
        part = local_part(parameter)
        seen = (id(parameter), part.device, part.dtype)
        if seen != self._seen:
            self.parameter, self.dtype = parameter, part.dtype
            self.kept = shard_like(self.mask, parameter)
            self._factors = self.kept.view(torch.uint8)  # torch casts bools at a third of the speed
            self._frozen: Tensor | None = None
            self._seen = seen
            self._see_whether_adding_zero_is_exact()

    def of(self, parameter: nn.Parameter) -> HeldMatrix:
        """The same weights held in another parameter; this matrix itself where it is the same one."""
        if parameter is self.parameter:
            return self
        other = HeldMatrix(self.name, self.mask, parameter, self.kind)
        other.values = self.values
        return other

    @torch.no_grad()
    def start(self) -> None:
        """Zero the removed weights, or take note of their values."""
        if self.kind != "frozen":
            self._erase(self.parameter)
            return
        whole = self.parameter.full_tensor() if is_sharded(self.parameter) else self.parameter
        values = whole.detach()[~self.mask.to(whole.device)].cpu()
        if not bool(values.isfinite().all()):
            raise UserError(Fault("model", "", f"{self.name} holds NaN or infinite values, which cannot be frozen"))
        self.take_values(values)

    def check_values(self, values: Tensor | None) -> None:
        """Raise UserError unless these are the frozen values of this matrix, or None for other kinds."""
        if (values is None) != (self.kind != "frozen"):
            raise UserError(Fault("mask", "", f"the saved state does not hold the frozen values of {self.name}"))
        if values is not None and values.numel() != self.mask.numel() - int(self.mask.count_nonzero()):
            raise UserError(Fault("mask", "", f"the saved state holds another number of frozen values of {self.name}"))

    def take_values(self, values: Tensor | None) -> None:
        """Freeze the removed weights at these values, in the order of the matrix; None for other kinds."""
        self.check_values(values)
        if values is None:
            return
        self.values, self._frozen = values, None
        self._see_whether_adding_zero_is_exact()

    def _see_whether_adding_zero_is_exact(self) -> None:
        """In the dtype that the weights have now: -0 + 0 is +0, and subnormals may be flushed."""
        if self.values is not None:
            values = self.values.to(self.dtype)
            tiny = values.abs() < torch.finfo(values.dtype).tiny
            self.adding_zero_is_exact = not bool((tiny & (values.signbit() | (values != 0))).any())

    def mask_gradient(self) -> None:
        """Set the gradient of held weights to 0, in place. Call it under ``torch.no_grad``."""
        gradient = self.parameter.grad
        if gradient is None or self.kind == "free":
            return
        self._follow()
        if gradient.is_sparse:
            self.parameter.grad = self._masked_rows(gradient.coalesce())
        else:
            self._erase(gradient)

    def _masked_rows(self, gradient: Tensor) -> Tensor:
        """The same for the gradient of an embedding that has values for some rows only."""
        values = gradient.values().where(self.kept[gradient.indices()[0]], 0)
        return torch.sparse_coo_tensor(
            gradient.indices(), values, gradient.shape, is_coalesced=True, check_invariants=False
        )

    @torch.no_grad()
    def restore(self) -> None:
        """Set held weights to what they must be."""
        self._follow()
        if self.kind == "sparse":
            self._erase(self.parameter)
        elif self.kind == "frozen":
            self._frozen = self._frozen_here()
            local_part(self.parameter).masked_scatter_(~self.kept, self._frozen)

    @torch.no_grad()
    def verify(self) -> None:
        """Raise MaskBroken unless every held weight is what it must be; UserError if training has diverged."""
        self._follow()
        part, held = local_part(self.parameter).detach(), ~self.kept
        if self.kind == "sparse":
            wrong, what = int(((part != 0) & held).count_nonzero()), "removed weights of {} are not 0"
        else:
            bits, what = BITS[part.element_size()], "frozen weights of {} differ from their pre-trained values"
            wrong = int((part[held].view(bits) != self._frozen_here().view(bits)).count_nonzero())
        if part.numel() and not all(bool(value.isfinite()) for value in part.aminmax()):
            reason = f"training diverged, {self.name} holds NaN or infinite values; a lower learning rate may help"
            raise UserError(Fault("learning_rate", "", reason))
        if wrong:
            raise MaskBroken(f"{wrong} {what.format(self.name)}")

    def _follow(self) -> None:
        """Notice that the model has been moved or cast."""
        part = local_part(self.parameter)
        if (part.device, part.dtype) != self._seen[1:]:
            self.place(self.parameter)

    def _erase(self, values: Tensor) -> None:
        """As bits, since NaN x 0 is NaN: +0 where removed, nothing else touched."""
        part = local_part(values)
        part.view(BITS[part.element_size()]).mul_(self._factors)

    def _frozen_here(self) -> Tensor:
        """The frozen values of the weights that this process holds, beside them, in their dtype."""
        if self._frozen is not None:
            return self._frozen
        values = self.values.to(self.dtype)
        if is_sharded(self.parameter):
            whole = torch.zeros(self.mask.shape, dtype=self.dtype)
            whole[~self.mask.cpu()] = values
            values = shard_like(whole, self.parameter)[~self.kept]
        return values.to(self.kept.device)
