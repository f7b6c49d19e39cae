"""What both baselines have in common: batches padded to their longest example, and how they are asked and run.

Data and metrics are read and computed with the project's modules, so that start-up is a lower bound of theirs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import AutoTokenizer, DataCollatorWithPadding

from benchmark.contender import Contender
from benchmark.processes import private_output, serve
from GLUE_tasks import Glue_prune_oneshot
from junkdna.families import metrics
from junkdna.families.encoder import examples
from junkdna.families.glue.family import read
from junkdna.runs import request
from junkdna.training import predict as evaluation
from junkdna.training import recipe
from junkdna.training.tokens import Features, tokenise


class Padded(Contender):
    """One run's data and plan. A baseline adds ``model``, ``scope`` and ``run(moments)``."""

    def __init__(self, cell):
        self.cell = cell
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.task = examples.cut(read(cell), cell.percentage, cell.max_train_samples, cell.max_eval_samples)
        self.tokenizer = AutoTokenizer.from_pretrained(cell.model_name_or_path, trust_remote_code=False)
        train, validation = self.task.train, self.task.evals["eval"]
        self.features = tokenise(train.texts, train.labels, self.tokenizer, cell.max_length)
        self.validation = tokenise(validation.texts, validation.labels, self.tokenizer, cell.max_length)
        self.pad = DataCollatorWithPadding(self.tokenizer)
        self.plan = recipe.plan(
            recipe.Recipe(
                batch_size=cell.per_device_train_batch_size,
                epochs=cell.num_train_epochs,
                learning_rate=cell.learning_rate,
                weight_decay=0.0,
                schedule="linear",
                seed=cell.seed,
                max_steps=cell.max_train_steps,
            ),
            len(self.features),
        )
        torch.manual_seed(cell.seed)

    def rows(self, features: Features, indices) -> list[dict]:
        """Examples as lists of numbers."""
        return [{name: ids.tolist() for name, ids in row.items()} for row in features.rows(indices)]

    def batch(self, features: Features, indices) -> dict[str, torch.Tensor]:
        batch = self.pad(self.rows(features, indices))
        batch["labels"] = torch.tensor([features.labels[i] for i in indices])
        return {name: value.to(self.device) for name, value in batch.items()}

    @torch.no_grad()
    def outputs(self) -> np.ndarray:
        self.model.eval()
        rows = []
        for start in range(0, len(self.validation), self.cell.per_device_eval_batch_size):
            indices = range(start, min(start + self.cell.per_device_eval_batch_size, len(self.validation)))
            rows.append(self.model(**self.batch(self.validation, indices)).logits.float().cpu().numpy())
        return np.concatenate(rows)

    def scores(self, outputs: np.ndarray) -> dict[str, float]:
        """The task's metrics of outputs on the validation split."""
        labels = np.asarray(self.validation.labels)
        found = metrics.scores(self.task.metrics, evaluation.as_labels(outputs), labels)
        return {f"eval_{name}": value for name, value in found.items()}

    def evaluate_all(self) -> tuple[dict[str, float], np.ndarray]:
        outputs = self.outputs()
        return self.scores(outputs), outputs

    def run(self, moments: list) -> dict[str, float]:
        """Train to the end, evaluating after every epoch; note when the first step began."""
        raise NotImplementedError


def main(make: Callable[..., Padded]) -> None:
    """Answer requests, or do one run and write its moments and metrics to a file; ``make(cell, serving)``."""
    target, *flags = sys.argv[1:]
    answers = private_output() if target == "--serve" else None
    (cell,) = request.parse(Glue_prune_oneshot.FAMILY, flags).cells
    made = make(cell, answers is not None)
    if answers:
        serve(made, answers)
        return
    moments: list = []
    found = made.run(moments)
    moments.append(["end", time.time()])
    moments.append(["metrics", found])
    with open(target, "w") as file:
        json.dump(moments, file)
