"""The project's own command, watched from outside: nothing of what it does is repeated here.

python -m benchmark.product FILE FLAGS...        the command; the moments of its cells are written to FILE
python -m benchmark.product --serve FLAGS...     the command up to its first step; then answers requests, see
                                                 ``contender``
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch

from benchmark.contender import Contender
from benchmark.processes import private_output, serve
from GLUE_tasks import Glue_prune_oneshot
from junkdna.training import finetune
from junkdna.training import predict as evaluation
from junkdna.training.fast.cuda_graphs import Graphs

LONG = 1_000_000
"""Steps."""


class Product(Contender):
    """A FineTuning that the command has built and is about to run."""

    def __init__(self, tuning: finetune.FineTuning, evaluate):
        self.tuning, self._evaluate = tuning, evaluate
        self.model, self.features, self.device = tuning.bare, tuning.batches.features, tuning.accelerator.device
        self.scope = tuning.held.parameters
        if isinstance(tuning.step, Graphs):
            tuning.step.steps = LONG  # what is timed stands for a long training, where every graph pays

    def train_step(self, examples: np.ndarray) -> torch.Tensor:
        return self.tuning.train_step(examples)

    def dropout(self, on: bool) -> None:
        super().dropout(on)
        self.tuning.step.forget()  # a graph repeats the dropout that it was recorded with

    def taken(self) -> str:
        return self.tuning.step.describe()

    def evaluate_all(self) -> tuple[dict[str, float], np.ndarray]:
        outputs, predict = [], evaluation.predict

        def keep(*args, **kwargs):
            outputs.append(predict(*args, **kwargs))
            return outputs[-1]

        self.tuning.verify()
        evaluation.predict = keep
        try:
            return self._evaluate(self.model), outputs[0]
        finally:
            evaluation.predict = predict

    def mask_tensors(self):
        return [vars(matrix) for matrix in self.tuning.held.matrices]


def answer_requests(flags: list[str]) -> None:
    """Let the command load, prune and prepare; then answer requests in place of its training."""
    answers = private_output()

    def take_over(self: finetune.FineTuning, evaluate, *rest, **more):
        serve(Product(self, evaluate), answers)
        raise SystemExit(0)

    finetune.FineTuning.run = take_over
    sys.exit(Glue_prune_oneshot.main(flags))


def watch(file: str, flags: list[str]) -> None:
    """Run the command; note when each cell begins, takes its first step and ends."""
    moments: list = []
    family = Glue_prune_oneshot.FAMILY
    run, train = family.run, finetune.FineTuning.run

    def note_cell(*args, **kwargs):
        moments.append(["begin", time.time()])
        run(*args, **kwargs)
        moments.append(["end", time.time()])

    def note_training(self, *args, **kwargs):
        moments.append(["first step", time.time()])
        return train(self, *args, **kwargs)

    family.run, finetune.FineTuning.run = note_cell, note_training
    code = Glue_prune_oneshot.main(flags)
    with open(file, "w") as out:
        json.dump(moments, out)
    sys.exit(code)


def main() -> None:
    target, *flags = sys.argv[1:]
    if target == "--serve":
        answer_requests(flags)
    else:
        watch(target, flags)


if __name__ == "__main__":
    main()
