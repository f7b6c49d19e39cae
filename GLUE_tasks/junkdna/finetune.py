"""The one training loop: AdamW on a model whose mask is held, evaluation after every epoch. Knows nothing of GLUE.

AdamW without decay on biases and normalisation, a schedule over optimiser steps, no gradient clipping, no padding beyond the batch
(protocol of the paper's GLUE experiments). One optimiser step always covers ``batch_size x processes x accumulation``
examples of a permutation that depends on the seed and the epoch alone; its loss is their mean, however they are divided
into batches, so that accumulation and several processes compute the same step as one large batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from junkdna.data import Features
from junkdna.errors import UserError
from junkdna.progress import Progress
from junkdna.regimes import SparseToDense

Evaluate = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class Recipe:
    """How to train. ``batch_size`` is per process; None for ``max_steps`` and ``warmup_steps`` takes the defaults."""

    batch_size: int
    epochs: int
    learning_rate: float
    weight_decay: float
    schedule: str
    seed: int
    max_steps: int | None = None
    warmup_steps: int | None = None
    accumulation: int = 1


@dataclass(frozen=True)
class Plan:
    """The recipe's numbers for a given amount of data: optimiser steps in all, per epoch, and of warm-up."""

    examples: int
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
    return Plan(examples, per_step, steps_per_epoch, steps, math.ceil(steps / steps_per_epoch), warmup)


def order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """Return the permutation in which an epoch visits the examples; a function of its arguments alone."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(examples)


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: ``train_loss`` is the mean over its examples, ``metrics`` those of the evaluation.

    ``tokens`` counts what was trained on, padding left out.
    """

    number: int
    step: int
    train_loss: float
    learning_rate: float
    tokens: int
    train_seconds: float
    eval_seconds: float
    metrics: dict[str, float]


class FineTuning:
    """One model in training. Build it, then ``run()``; the pieces are methods so that tests can take single steps."""

    def __init__(
        self,
        model: nn.Module,
        features: Features,
        collate: Callable,
        recipe: Recipe,
        regime: SparseToDense | None,
        accelerator,
    ):
        """``collate`` makes the model's tensors of a list of inputs; ``regime`` is None for dense transfer.

        Moves the model to the accelerator's device and brings its weights into the regime's starting state.
        """
        from transformers import get_scheduler

        self.features, self.collate, self.recipe, self.accelerator = features, collate, recipe, accelerator
        self.plan = plan(recipe, len(features), accelerator.num_processes)
        self.regime = regime
        self.bare = model.to(accelerator.device)
        if regime is not None:
            regime.start()
        if accelerator.scaler is not None:  # fp16: a scale left by an earlier cell would change this one
            accelerator.scaler = torch.amp.GradScaler(accelerator.device.type)
        optimizer = make_optimizer(model, recipe, regime, fused=accelerator.scaler is None)
        self.model = accelerator.prepare_model(model) if accelerator.num_processes > 1 else model
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.schedule = get_scheduler(recipe.schedule, optimizer, self.plan.warmup_steps, self.plan.steps)
        self.step = 0
        torch.manual_seed(recipe.seed + accelerator.process_index)  # dropout

    def run(
        self, evaluate: Evaluate, progress: Progress, on_epoch: Callable[[Epoch], None] = lambda epoch: None
    ) -> Epoch:
        """Train all epochs and return the last; ``evaluate`` is called after each, on weights that were verified."""
        for number in range(self.plan.epochs):
            started = time.perf_counter()
            loss, rate, tokens = self._train_epoch(number, progress)
            trained = time.perf_counter()
            self.verify()
            metrics = evaluate(self.bare)
            ended = time.perf_counter()
            epoch = Epoch(number + 1, self.step, loss, rate, tokens, trained - started, ended - trained, metrics)
            on_epoch(epoch)
        return epoch

    def close(self) -> None:
        """Let go of the model and the optimiser, so that the next cell finds the memory free."""
        if self.model is not self.bare:
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.accelerator.free_memory()

    def verify(self) -> None:
        """Check the held weights exactly; raises MaskBroken. To be called before every evaluation and save."""
        if self.regime is not None:
            self.regime.verify()

    def _train_epoch(self, number: int, progress: Progress) -> tuple[float, float, int]:
        """Return the epoch's mean training loss, the learning rate of its last step and its tokens."""
        self.model.train()
        permutation = order(self.recipe.seed, number, len(self.features))
        total, seen, tokens, rate = torch.zeros((), device=self.accelerator.device), 0, 0, 0.0
        for start in range(0, len(permutation), self.plan.per_step):
            if self.step == self.plan.steps:
                break
            rate = self.schedule.get_last_lr()[0]
            examples = permutation[start : start + self.plan.per_step]
            loss = self.train_step(examples)
            total += loss * len(examples)
            seen += len(examples)
            length = sum(self.features.lengths[i] for i in examples)
            tokens += length
            progress.step(self.step, loss, rate, length)
        mean = float(self.accelerator.reduce(total, "sum")) / seen
        if not math.isfinite(mean):
            raise UserError(
                f"--learning_rate {self.recipe.learning_rate:g}: training diverged, the mean loss of epoch {number + 1} "
                f"is {mean}; a lower rate or more warm-up may help"
            )
        return mean, rate, tokens

    def train_step(self, examples: np.ndarray) -> torch.Tensor:
        """Take one optimiser step on the mean loss of the given examples.

        Returns this process's share of that mean (0-d, detached); the shares of all processes add up to it.
        """
        share = torch.zeros((), device=self.accelerator.device)
        batches = list(self._batches(examples))
        for i, (indices, weight) in enumerate(batches):
            last = i == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    loss = self.model(**self._tensors(indices)).loss
                loss = loss * (weight * self.accelerator.num_processes)  # gradients are averaged over processes
                self.accelerator.backward(loss)
            share += loss.detach() / self.accelerator.num_processes
        self._update()
        return share

    def _update(self) -> None:
        """Move the weights. Nothing stands between the mask and the step but the decay that the regime takes over."""
        if self.regime is not None:
            if self.recipe.weight_decay:
                self.regime.decay(self.schedule.get_last_lr()[0] * self.recipe.weight_decay)
            self.regime.mask_gradients()
        self.optimizer.step()
        if not self.accelerator.optimizer_step_was_skipped:  # fp16 skips steps whose gradients overflow
            self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def _batches(self, examples: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
        """Divide a step's examples into this process's batches, each with its weight in the step's mean loss.

        Every process gets equally many batches. One that has no example left takes a spare one at weight 0.
        """
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        size = self.recipe.batch_size * processes
        for start in range(0, len(examples), size):
            chunk = examples[start : start + size]
            mine = chunk[rank::processes]
            yield (mine, len(mine) / len(examples)) if len(mine) else (chunk[:1], 0.0)

    def _tensors(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        batch = self.collate([self.features.inputs[i] for i in indices])
        batch["labels"] = torch.tensor([self.features.labels[i] for i in indices])
        return {name: value.to(self.accelerator.device, non_blocking=True) for name, value in batch.items()}


def make_optimizer(
    model: nn.Module, recipe: Recipe, regime: SparseToDense | None, fused: bool = True
) -> torch.optim.AdamW:
    """Return AdamW (torch's default betas and eps) with decay on everything but biases and normalisation.

    Parameters whose decay the regime applies itself get none here. Fused: on a CPU the plain one is a Python loop.
    """
    from junkdna.scope import no_decay_names

    own = set(regime.parameters) if regime is not None and regime.decays_itself else set()
    undecayed = no_decay_names(model) | own
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in named if name not in undecayed], "weight_decay": recipe.weight_decay},
        {"params": [p for name, p in named if name in undecayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.learning_rate, fused=fused)
