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
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from junkdna.errors import UserError
from junkdna.runs.progress import Progress
from junkdna.sparsity.hold import Held
from junkdna.training.fast.resident import Resident
from junkdna.training.step import Graphs, Stepwise, random_state, set_random_state
from junkdna.training.tokens import Features

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


@dataclass
class Position:
    """How far training has come: optimiser steps, whole epochs, and of the epoch under way the examples taken.

    ``tokens``, ``seconds`` and ``loss`` (0-d float32, the sum over those examples, this process's share) are of that epoch;
    ``rate`` is the learning rate of the last step.
    """

    loss: torch.Tensor
    step: int = 0
    epoch: int = 0
    seen: int = 0
    tokens: int = 0
    seconds: float = 0.0
    rate: float = 0.0


class FineTuning:
    """One model in training. Build it, then ``run()``; the pieces are methods so that tests can take single steps.

    ``state()`` is all that the rest of a training depends on beside what the constructor is given; after ``load_state()`` it
    goes on as if it had never stopped, bit for bit.
    """

    def __init__(
        self,
        model: nn.Module,
        features: Features,
        collate: Callable,
        recipe: Recipe,
        held: Held | None,
        accelerator,
        resident: Resident | None = None,
        graphs: bool = True,
    ):
        """``collate`` makes the model's tensors of a list of inputs; ``held`` is None for dense transfer.

        Moves the model to the accelerator's device and holds its masks in the optimiser's steps. With ``resident``,
        the same examples on that device, batches have fixed shapes wherever a step is one batch of one process, and with ``graphs``
        they are trained on as CUDA graphs.
        """
        from transformers import get_scheduler

        self.features, self.collate, self.recipe, self.accelerator = features, collate, recipe, accelerator
        self.plan = plan(recipe, len(features), accelerator.num_processes)
        self.held = held
        self.bare = model.to(accelerator.device)
        if accelerator.scaler is not None:  # fp16: a scale left by an earlier cell would change this one
            accelerator.scaler = torch.amp.GradScaler(accelerator.device.type)
        optimizer = make_optimizer(model, recipe, fused=accelerator.scaler is None)
        if held is not None:
            held.attach(optimizer)
        self.model = accelerator.prepare_model(model) if accelerator.num_processes > 1 else model
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.schedule = get_scheduler(recipe.schedule, optimizer, self.plan.warmup_steps, self.plan.steps)
        self.gradient = Stepwise(self.model, features, collate, accelerator)
        if (
            resident is not None
            and accelerator.num_processes == recipe.accumulation == 1
            and accelerator.scaler is None
        ):
            trouble = None if graphs else "--no_cuda_graphs was given"
            self.gradient = Graphs(self.model, resident, accelerator, self.plan.steps, trouble)
        self.at = Position(self._zero())
        self.epochs: list[Epoch] = []
        torch.manual_seed(recipe.seed + accelerator.process_index)  # dropout

    def run(
        self,
        evaluate: Evaluate,
        progress: Progress,
        on_epoch: Callable[[Epoch], None] = lambda epoch: None,
        save: Callable[[], None] | None = None,
        save_every: int | str | None = None,
    ) -> Epoch:
        """Train what is left and return the last epoch.

        ``evaluate`` is called after each epoch, ``save`` every ``save_every`` steps or after each "epoch"; both on weights
        that were verified.
        """
        while self.at.epoch < self.plan.epochs:
            loss = self._train_epoch(progress, save, save_every)
            self.verify()
            started = time.perf_counter()
            metrics = evaluate(self.bare)
            seconds = time.perf_counter() - started
            at = self.at
            epoch = Epoch(at.epoch + 1, at.step, loss, at.rate, at.tokens, at.seconds, seconds, metrics)
            self.epochs.append(epoch)
            self.at = Position(self._zero(), at.step, at.epoch + 1)
            on_epoch(epoch)
            if save_every == "epoch" and self.at.epoch < self.plan.epochs:
                save()
        return self.epochs[-1]

    def close(self) -> None:
        """Let go of the model and the optimiser, so that the next cell finds the memory free."""
        self.gradient.forget()
        if self.model is not self.bare:
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.accelerator.free_memory()

    def verify(self) -> None:
        """Check the held weights exactly; raises MaskBroken. To be called before every evaluation and save."""
        if self.held is not None:
            self.held.verify()

    def _train_epoch(self, progress: Progress, save, save_every) -> float:
        """Train to the end of the epoch under way and return its mean loss."""
        self.model.train()
        at = self.at
        permutation = order(self.recipe.seed, at.epoch, len(self.features))
        lengths = self.features.lengths
        before, started = at.seconds, time.perf_counter()
        while at.seen < len(permutation) and at.step < self.plan.steps:
            at.rate = self.schedule.get_last_lr()[0]
            examples = permutation[at.seen : at.seen + self.plan.per_step]
            loss = self.train_step(examples)
            at.loss += loss * len(examples)
            at.step += 1
            at.seen += len(examples)
            tokens = int(lengths[examples].sum())
            at.tokens += tokens
            at.seconds = before + time.perf_counter() - started
            progress.step(at.step, loss, at.rate, tokens)
            if isinstance(save_every, int) and at.step % save_every == 0 and at.step < self.plan.steps:
                self.verify()
                save()
        mean = float(self.accelerator.reduce(at.loss, "sum")) / at.seen
        if not math.isfinite(mean):
            raise UserError(
                f"--learning_rate {self.recipe.learning_rate:g}: training diverged, the mean loss of epoch {at.epoch + 1} "
                f"is {mean}; a lower rate or more warm-up may help"
            )
        return mean

    def train_step(self, examples: np.ndarray) -> torch.Tensor:
        """Take one optimiser step on the mean loss of the given examples.

        Returns this process's share of that mean (0-d, detached); the shares of all processes add up to it.
        """
        share = self._zero()
        batches = list(self._batches(examples))
        for i, (indices, weight) in enumerate(batches):
            share += self.gradient(indices, weight, last=i == len(batches) - 1)
        self._update()
        return share

    def _update(self) -> None:
        """Move the weights; the masks are held in the optimiser's own step, so nothing stands between the two."""
        self.optimizer.step()
        if not self.accelerator.optimizer_step_was_skipped:  # fp16 skips steps whose gradients overflow
            self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)

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

    def _zero(self) -> torch.Tensor:
        return torch.zeros((), device=self.accelerator.device)

    def state(self) -> dict:
        """Plain values and tensors: weights, optimiser, schedule, position, and every process's random state and loss."""
        mine = {"random": random_state(self.accelerator.device), "loss": self.at.loss.cpu()}
        if self.accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            processes = gather_object([mine])
        else:
            processes = [mine]
        return {
            "model": self.bare.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            "at": {name: value for name, value in vars(self.at).items() if name != "loss"},
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "processes": processes,
        }

    def load_state(self, state: dict) -> None:
        """Go on from a ``state()``; its tensors may be on any device."""
        self.bare.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        mine = state["processes"][self.accelerator.process_index]
        self.at = Position(mine["loss"].to(self.accelerator.device), **state["at"])
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        set_random_state(mine["random"], self.accelerator.device)


def make_optimizer(model: nn.Module, recipe: Recipe, fused: bool = True) -> torch.optim.AdamW:
    """Return AdamW (torch's default betas and eps) with decay on everything but biases and normalisation.

    Fused: on a CPU the plain one is a Python loop.
    """
    from junkdna.sparsity.scope import no_decay_names

    undecayed = no_decay_names(model)
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in named if name not in undecayed], "weight_decay": recipe.weight_decay},
        {"params": [p for name, p in named if name in undecayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.learning_rate, fused=fused)
