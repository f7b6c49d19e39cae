"""The gradient of a batch, operation by operation; other ways to it are in ``fast``.

A way to take a step is a ``Step``: called with the numbers of some examples, it adds the gradient of their mean loss to
that of the parameters.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from junkdna.training import recipe


class Batches(Protocol):
    """Examples as a model takes them. A class that names it as its base inherits what is defined here."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, int64 (examples,), padding not counted."""

    def batch(self, indices: np.ndarray) -> dict:
        """The model's inputs, labels among them, of the examples of these numbers."""

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The numbers of the examples as an epoch visits them, as many as there are examples: each once."""
        return recipe.order(seed, epoch, len(self.lengths))

    def parts(self, indices: np.ndarray) -> list[np.ndarray]:
        """Divide these examples into those that form a batch together: all of them."""
        return [indices]

    def weight(self, indices: np.ndarray) -> int:
        """What these examples count for in the mean loss of a step: one each."""
        return len(indices)

    def loss(self, model: nn.Module, batch: dict) -> Tensor:
        """The mean loss of a batch, 0-d: the model's own."""
        return model(**batch).loss


class Step(Protocol):
    """A way to the gradient of some examples' loss."""

    def __call__(self, indices: np.ndarray, weight: float = 1.0, last: bool = True) -> Tensor:
        """Add the gradient of ``weight`` times the mean loss of some examples to that of the parameters.

        ``last``: the batch is the step's last, and processes exchange gradients. Returns the loss, 0-d, detached.
        """

    def describe(self) -> str:
        """How steps were taken, in words."""

    def forget(self) -> None:
        """Let go of what was recorded, as must be done after the model's structure or dropout has changed."""


class Stepwise:
    """Operation by operation, on batches that the host makes; with any number of processes, and of batches in a
    step.
    """

    def __init__(self, model: nn.Module, batches: Batches, accelerator):
        self.model, self.batches, self.accelerator = model, batches, accelerator

    def __call__(self, indices: np.ndarray, weight: float = 1.0, last: bool = True) -> Tensor:
        *others, final = self.batches.parts(indices)
        total = None
        for part in (*others, final):
            share = weight * (self.batches.weight(part) / self.batches.weight(indices))
            loss = self._add_gradient(part, share, last and part is final)
            total = loss if total is None else total + loss
        return total

    def _add_gradient(self, indices: np.ndarray, weight: float, last: bool) -> Tensor:
        """The same for examples that form one batch."""
        with nullcontext() if last else self.accelerator.no_sync(self.model):
            with self.accelerator.autocast():
                loss = self.batches.loss(self.model, self._on_device(self.batches.batch(indices)))
            loss = loss * (weight * self.accelerator.num_processes)  # gradients are averaged over processes
            self.accelerator.backward(loss)
        return loss.detach() / self.accelerator.num_processes

    def _on_device(self, batch: dict) -> dict:
        return {name: value.to(self.accelerator.device, non_blocking=True) for name, value in batch.items()}

    def describe(self) -> str:
        return "operation by operation"

    def forget(self) -> None:
        """Nothing is recorded."""


def random_state(device: torch.device) -> dict[str, Tensor]:
    """States of the generators that dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    return states


def set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    """Put the generators back into states that ``random_state`` returned; those of another kind of device are left
    out.
    """
    torch.set_rng_state(states["cpu"])
    if device.type in states and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[device.type])
