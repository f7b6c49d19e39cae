"""How to train, the numbers that follow from it, and the order of examples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """How to train. ``batch_size`` is per process; None for ``max_steps`` and ``warmup_steps`` takes the defaults.

    ``rates``: (how parameters' names begin, their learning rate) for those that have one of their own.
    """

    batch_size: int
    epochs: int
    learning_rate: float
    weight_decay: float
    schedule: str
    seed: int
    max_steps: int | None = None
    warmup_steps: int | None = None
    accumulation: int = 1
    rates: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Plan:
    """The recipe's numbers for a given amount of data: optimizer steps in all, per epoch, and of warm-up."""

    per_step: int
    steps_per_epoch: int
    steps: int
    epochs: int
    warmup_steps: int


def plan(recipe: Recipe, examples: int, processes: int = 1) -> Plan:
    """Work out the number of steps; warm-up is 6 % of them, rounded down, unless the recipe says otherwise.

    A constant schedule has none.
    """
    per_step = recipe.batch_size * processes * recipe.accumulation
    steps_per_epoch = math.ceil(examples / per_step)
    steps = recipe.max_steps or steps_per_epoch * recipe.epochs
    warmup = int(0.06 * steps) if recipe.warmup_steps is None else recipe.warmup_steps
    if recipe.schedule == "constant":
        warmup = 0
    return Plan(per_step, steps_per_epoch, steps, math.ceil(steps / steps_per_epoch), warmup)


def order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """Return the permutation in which an epoch visits the examples; a function of its arguments alone."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(examples)
