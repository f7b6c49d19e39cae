"""What it costs to hold a mask in a loop that is not the project's: a plain one, and Hugging Face's Trainer.

Both are as in ``modern``, but for the mask: the public API holds it. What its hooks take in a step is measured from
inside, since it is less than two steps differ by.

    python -m benchmark.holding --serve FLAGS...     answers requests: ``loop``, ``trainer``
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from transformers import TrainerCallback

import junkdna
from benchmark.modern import Modern
from benchmark.padded import main
from junkdna.sparsity import hold, masks

HOOKS = ((hold._Attachment, "_before"), (hold._Attachment, "_after"), (junkdna.HoldMasks, "on_step_end"))
"""All that runs in a step for the sake of the mask."""


class Holding(Modern):
    """One run: a model whose mask is held, and two loops that train it."""

    def __init__(self, cell, serving: bool = True):
        self.spent = 0.0  # seconds of the process in hooks
        for owner, name in HOOKS:
            setattr(owner, name, self.timed(getattr(owner, name)))
        super().__init__(cell)

    def timed(self, hook: Callable) -> Callable:
        def call(*arguments, **more):
            started = time.process_time()
            try:
                return hook(*arguments, **more)
            finally:
                self.spent += time.process_time() - started

        return call

    def prune(self, serving: bool) -> None:
        self.masks = masks.make_masks(self.scope, self.cell.pattern)

    def loop(self, batches: list[list[int]]) -> list[tuple[float, float]]:
        """Take steps in a plain loop; return the processor seconds of each, and those of them that went to the mask."""
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.cell.learning_rate, weight_decay=0.0, fused=True)
        held = junkdna.hold(self.model, self.masks, "sparse").attach(optimizer)
        bf16, took = self.cell.mixed_precision == "bf16", []
        self.model.train()
        for examples in batches:
            self.spent, started = 0.0, time.process_time()
            with torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext():
                loss = self.model(**self.batch(self.features, np.array(examples))).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            took.append((time.process_time() - started, self.spent))
        held.verify()
        held.detach()
        return took

    def trainer_steps(self, steps: int) -> list[tuple[float, float]]:
        """The same of the Trainer's steps."""
        trainer, clock = self.trainer, Clock(self)
        trainer.args.max_steps = steps
        trainer.add_callback(junkdna.HoldMasks(self.masks, "sparse"))
        trainer.add_callback(clock)  # behind it, so that it sees the end of all that is done in a step
        trainer.train()
        return clock.took


class Clock(TrainerCallback):
    """Notes what every step took, and what of it went to the mask."""

    def __init__(self, run: Holding):
        self.run, self.took = run, []

    def on_step_begin(self, args, state, control, **more):
        self.run.spent, self.started = 0.0, time.process_time()

    def on_step_end(self, args, state, control, **more):
        self.took.append((time.process_time() - self.started, self.run.spent))


if __name__ == "__main__":
    main(Holding)
