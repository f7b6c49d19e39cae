"""The one training loop: AdamW on a model whose mask is held, evaluation after every epoch. Knows nothing of GLUE.

AdamW without decay on biases and normalisation, a schedule over optimizer steps, no gradient clipping, no padding
beyond the batch (protocol of the paper's GLUE experiments). One optimizer step always covers ``batch_size x processes x
accumulation`` examples of an order that depends on the seed and the epoch alone. Its loss is their mean (over what they
weigh: an example counts as one, unless ``Batches.weight`` says otherwise), however they are divided into batches, so
that accumulation and several processes compute the same step as one large batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from junkdna.errors import Fault, UserError
from junkdna.sparsity.hold import Held
from junkdna.sparsity.scope import BIAS, NORMALISATION, names_and_owners, unprunable
from junkdna.training import plain_attention
from junkdna.training.recipe import Plan, Recipe, plan
from junkdna.training.step import Batches, Step, Stepwise, random_state, set_random_state

Evaluate = Callable[[nn.Module], dict[str, float]]


class TrainedApart(Protocol):
    """The rows of an embedding that are trained for it: ``weight``, (rows, width), stands for ``module.weight``."""

    weight: nn.Parameter
    module: nn.Module

    def write_back(self) -> None:
        """Bring the module's own weight up to date."""

    def read_again(self) -> None:
        """Take the rows from the module's own weight."""

    def close(self) -> None:
        """Leave the module as it was."""

    def widened(self, state: dict, optimizer) -> dict:
        """An optimizer's state as if the whole module had been trained."""

    def narrowed(self, state: dict, optimizer) -> dict:
        """The other way round."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: ``train_loss`` is the mean over what its examples weigh, ``metrics`` are the evaluation's.

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
    """How far training has come: optimizer steps, whole epochs, and of the epoch under way the examples taken.

    ``tokens``, ``seconds`` and ``loss`` (0-d float32, the weighted sum over those examples, this process's share) are
    of that epoch; ``rate`` is the learning rate of the last step.
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

    ``state()`` is all that the rest of a training depends on beside what the constructor is given; after
    ``load_state()`` it goes on as if it had never stopped, bit for bit.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        recipe: Recipe,
        accelerator,
        held: Held | None = None,
        make_step: Callable[[nn.Module, Plan], Step] | None = None,
        divide: Callable[[nn.Module, Held | None], TrainedApart | None] | None = None,
    ):
        """Move the model to the accelerator's device, and make the optimizer and the schedule.

        ``held``: the mask of a model that was pruned; None for dense transfer. ``make_step`` gives another way to take
        steps, for one process and one batch a step; by default they are taken operation by operation. ``divide`` may
        take the rows of a word embedding that no batch reads out of the training, which leaves the same weights; it is
        asked where one process trains without weight decay.
        """
        from transformers import get_scheduler

        self.batches, self.recipe, self.accelerator, self.held = batches, recipe, accelerator, held
        self.plan = plan(recipe, len(batches.lengths), accelerator.num_processes)
        self.bare = model.to(accelerator.device)
        if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16":
            plain_attention.teach(model)
        if accelerator.scaler is not None:  # fp16: a scale left by an earlier cell would change this one
            accelerator.scaler = torch.amp.GradScaler(accelerator.device.type)
        may_divide = divide is not None and accelerator.num_processes == 1 and recipe.weight_decay == 0
        self.apart = divide(model, held) if may_divide else None
        optimizer = make_optimizer(model, recipe, accelerator.scaler is None, self.apart)
        if held is not None:
            held.attach(optimizer)
        self.model = accelerator.prepare_model(model) if accelerator.num_processes > 1 else model
        self.schedule = get_scheduler(recipe.schedule, optimizer, self.plan.warmup_steps, self.plan.steps)
        self.optimizer = accelerator.prepare_optimizer(optimizer)  # not before the schedule, which wraps its step
        self.step = self._choose_step(make_step)
        self.at = Position(self._zero())
        self.epochs: list[Epoch] = []
        self.taken_from: dict | None = None  # what was said of the run whose training this is
        torch.manual_seed(recipe.seed + accelerator.process_index)  # dropout

    def _choose_step(self, make_step: Callable[[nn.Module, Plan], Step] | None) -> Step:
        alone = self.accelerator.num_processes == self.recipe.accumulation == 1
        if make_step is None or not alone or self.accelerator.scaler is not None:
            return Stepwise(self.model, self.batches, self.accelerator)
        return make_step(self.model, self.plan)

    def run(
        self,
        evaluate: Evaluate,
        on_step: Callable[[int, torch.Tensor, float, int], None] = lambda *_: None,
        save: Callable[[], None] | None = None,
        save_every: int | str | None = None,
    ) -> Iterator[Epoch]:
        """Train what is left, and yield each epoch when it is trained and evaluated.

        ``evaluate`` is called after each epoch; ``on_step(number, loss, learning rate, tokens)`` after each step;
        ``save`` every ``save_every`` steps or after each "epoch" but the last. Evaluations and saves see weights that
        were verified.
        """
        while self.at.epoch < self.plan.epochs:
            loss = self._train_epoch(on_step, save, save_every)
            self.verify()
            started = time.perf_counter()
            metrics = evaluate(self.bare)
            seconds = time.perf_counter() - started
            at = self.at
            epoch = Epoch(at.epoch + 1, at.step, loss, at.rate, at.tokens, at.seconds, seconds, metrics)
            self.epochs.append(epoch)
            self.at = Position(self._zero(), at.step, at.epoch + 1)
            yield epoch
            if save_every == "epoch" and self.at.epoch < self.plan.epochs:
                save()

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.at.epoch >= self.plan.epochs

    def close(self) -> None:
        """Let go of the model and the optimizer, so that the next cell finds the memory free."""
        self.step.forget()
        if self.apart is not None:
            self.apart.close()
        if self.model is not self.bare:
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        if self.held is not None:
            self.held.detach()
        self.optimizer.state.clear()  # hooks and optimizer refer to each other: it would live until they are collected
        self.accelerator.free_memory()

    def verify(self) -> None:
        """Bring the model's own weights up to date and check the held ones exactly; raises MaskBroken.

        To be called before every evaluation and save.
        """
        self._write_back()
        if self.held is not None:
            self.held.verify()

    def _train_epoch(self, on_step, save, save_every) -> float:
        """Train to the end of the epoch under way and return its mean loss."""
        self.model.train()
        at = self.at
        lengths = self.batches.lengths
        permutation = self.batches.order(self.recipe.seed, at.epoch)
        before, started = at.seconds, time.perf_counter()
        while at.seen < len(permutation) and at.step < self.plan.steps:
            at.rate = self.schedule.get_last_lr()[0]
            examples = permutation[at.seen : at.seen + self.plan.per_step]
            loss = self.train_step(examples)
            at.loss += loss * self.batches.weight(examples)
            at.step += 1
            at.seen += len(examples)
            tokens = int(lengths[examples].sum())
            at.tokens += tokens
            at.seconds = before + time.perf_counter() - started
            on_step(at.step, loss, at.rate, tokens)
            if isinstance(save_every, int) and at.step % save_every == 0 and at.step < self.plan.steps:
                self.verify()
                save()
        mean = float(self.accelerator.reduce(at.loss, "sum")) / self.batches.weight(permutation[: at.seen])
        if not math.isfinite(mean):
            reason = (
                f"training diverged, the mean loss of epoch {at.epoch + 1} is {mean}; a lower learning rate or "
                "more warm-up may help"
            )
            raise UserError(Fault("learning_rate", f"{self.recipe.learning_rate:g}", reason))
        return mean

    def train_step(self, examples: np.ndarray) -> torch.Tensor:
        """Take one optimizer step on the mean loss of the given examples.

        Returns this process's share of that mean (0-d, detached); the shares of all processes add up to it.
        """
        share = self._zero()
        batches = list(self._batches(examples))
        for i, (indices, weight) in enumerate(batches):
            share += self.step(indices, weight, last=i == len(batches) - 1)
        self._update()
        return share

    def _update(self) -> None:
        """Move the weights; the mask is held by hooks of the optimizer's own step, so that nothing stands between
        them.
        """
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
        whole = self.batches.weight(examples)
        for start in range(0, len(examples), size):
            chunk = examples[start : start + size]
            mine = chunk[rank::processes]
            yield (mine, self.batches.weight(mine) / whole) if len(mine) else (chunk[:1], 0.0)

    def _zero(self) -> torch.Tensor:
        return torch.zeros((), device=self.accelerator.device)

    def state(self) -> dict:
        """Plain values and tensors: weights, optimizer, schedule, position, and every process's random state and
        loss.
        """
        self._write_back()
        mine = {"random": random_state(self.accelerator.device), "loss": self.at.loss.cpu()}
        if self.accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            processes = gather_object([mine])
        else:
            processes = [mine]
        return {
            "model": self.bare.state_dict(),
            "optimizer": self._optimizer_state(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            "at": {name: value for name, value in vars(self.at).items() if name != "loss"},
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "taken_from": self.taken_from,
            "processes": processes,
        }

    def _optimizer_state(self) -> dict:
        state = self.optimizer.state_dict()
        return state if self.apart is None else self.apart.widened(state, self.optimizer)

    def _write_back(self) -> None:
        """Bring the model's own weights up to date."""
        if self.apart is not None:
            self.apart.write_back()

    def load_state(self, state: dict) -> None:
        """Go on from a ``state()``; its tensors may be on any device."""
        self.bare.load_state_dict(state["model"])
        optimizer = state["optimizer"]
        if self.apart is not None:
            self.apart.read_again()
            optimizer = self.apart.narrowed(optimizer, self.optimizer)
        self.optimizer.load_state_dict(optimizer)
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        mine = state["processes"][self.accelerator.process_index]
        self.at = Position(mine["loss"].to(self.accelerator.device), **state["at"])
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.taken_from = state.get("taken_from")
        set_random_state(mine["random"], self.accelerator.device)

    def outcome(self, made_by: dict) -> dict:
        """What a training that has ended leaves: its weights, copied to the CPU, how far it came, and ``made_by``, what
        is to be said of the run that made it.
        """
        weights = {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.bare.named_parameters()}
        return {"weights": weights, "at": self.at, "epochs": list(self.epochs), "by": self.taken_from or made_by}

    @torch.no_grad()
    def take_over(self, outcome: dict) -> None:
        """Be where another training of the same model and recipe ended."""
        for name, parameter in self.bare.named_parameters():
            parameter.copy_(outcome["weights"][name])
        if self.apart is not None:
            self.apart.read_again()
        self.at, self.epochs, self.taken_from = outcome["at"], list(outcome["epochs"]), outcome["by"]


def no_decay_names(model: nn.Module) -> set[str]:
    """Names of the biases and normalisation weights, which weight decay leaves alone."""
    _, owners = names_and_owners(model)
    return {
        name
        for name, parameter in model.named_parameters()
        if unprunable(name, parameter, owners[id(parameter)]) in (BIAS, NORMALISATION)
    }


def make_optimizer(
    model: nn.Module, recipe: Recipe, fused: bool = True, apart: TrainedApart | None = None
) -> torch.optim.AdamW:
    """Return AdamW (torch's default betas and eps) with decay on everything but biases and normalisation.

    Fused: on a CPU the plain one is a Python loop. Of a word embedding it trains the rows that are trained ``apart``.
    """
    undecayed = no_decay_names(model)

    def group(rate: float, decayed: bool) -> dict:
        chosen = [
            apart.weight if apart is not None and parameter is apart.module.weight else parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and (name not in undecayed) == decayed and rate_of(name) == rate
        ]
        return {"params": chosen, "lr": rate, "weight_decay": recipe.weight_decay if decayed else 0.0}

    def rate_of(name: str) -> float:
        return next((rate for begins, rate in recipe.rates if name.startswith(begins)), recipe.learning_rate)

    rates = dict.fromkeys([recipe.learning_rate, *(rate for _, rate in recipe.rates)])
    groups = [group(rate, decayed) for rate in rates for decayed in (True, False)]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.learning_rate, fused=fused)
