"""The objective of texts with labels: a classification, or a regression."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from junkdna.families import metrics
from junkdna.families.encoder.data import Data
from junkdna.families.encoder.examples import Examples, TaskData
from junkdna.families.encoder.model import Classifier
from junkdna.families.encoder.objective import Objective
from junkdna.families.encoder.settings import EncoderCell
from junkdna.families.encoder.tuning import Inputs
from junkdna.runs.schema import metric
from junkdna.training import predict, tokens
from junkdna.training.finetune import Evaluate
from junkdna.training.tokens import Collated, Features

SHOWN = 10
"""Classes that are named on the screen."""


class Classification(Objective):
    """Give every text, or pair of texts, its class or its number."""

    def __init__(self, cell: EncoderCell, data: Data):
        self.cell, self.names, self.task = cell, data.whole.label_names, data.task
        self._said: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def loads(self) -> tuple:
        cell = self.cell
        return (cell.model_name_or_path, cell.model_revision, cell.ignore_mismatched_sizes, self.names)

    def load(self) -> Classifier:
        cell = self.cell
        key = (cell.model_name_or_path, cell.model_revision)
        return Classifier(*key, self.names, cell.ignore_mismatched_sizes, cell.max_length)

    def tokenise(self, rows: Examples, tokenizer) -> Features:
        return tokens.tokenise(rows.texts, rows.labels, tokenizer, self.cell.max_length)

    # --- training ----------------------------------------------------------------------------------------------------

    def batches(self, inputs: Inputs) -> Collated:
        return Collated(self._train(inputs), inputs.layout.collate, inputs.layout.grain)

    def _train(self, inputs: Inputs) -> Features:
        return predict.with_model_labels(inputs.features["train"], inputs.pretrained.label_order)

    def make_step(self, inputs: Inputs):
        """Steps as CUDA graphs, if they are asked for, of examples that stay on the GPU."""
        if not (self.cell.cuda_graphs and inputs.accelerator.device.type == "cuda" and inputs.layout.packed):
            return None
        return partial(_make_graphs, inputs, self._train(inputs))

    # --- evaluation --------------------------------------------------------------------------------------------------

    def evaluator(self, inputs: Inputs) -> Evaluate:
        score, order = partial(metrics.scores, self.task.metrics), inputs.pretrained.label_order

        def judge(key: str, outputs: np.ndarray) -> dict[str, float]:
            labels = predict.as_labels(outputs, order)
            self._said[key] = labels, outputs if order is None else outputs[:, list(order)]
            return score(labels, np.asarray(splits[key].labels))

        splits = {key: inputs.features[key] for key in self.task.evals}
        size = self.cell.per_device_eval_batch_size
        return predict.evaluator(splits, judge, inputs.layout.collate, size, inputs.accelerator)

    def predictions(self) -> Iterator[dict]:
        """What was predicted of every example of the first split, last."""
        predictions, outputs = self._said["eval"]
        labels, task = self.task.evals["eval"].labels, self.cell.axes["task"]
        for number, (label, prediction, logits) in enumerate(zip(labels, predictions.tolist(), outputs.tolist())):
            shown = {"logits": [round(value, 6) for value in logits]} if self.names else {}
            yield {"id": f"{task}/{number}", "prediction": prediction, "label": label, **shown}

    def measures(self) -> list[dict]:
        known = metrics.METRICS
        return [
            metric(
                f"{key}_{name}",
                better=known[name].better,
                chance=known[name].chance_on(split.labels),
                main=(key, name) == ("eval", self.task.metrics[0]),
            )
            for key, split in self.task.evals.items()
            for name in self.task.metrics
        ]

    def floor(self) -> float | None:
        """What chance reaches is what one answer to all reaches."""
        return metrics.METRICS[self.task.metrics[0]].chance_on(self.task.evals["eval"].labels)

    # --- what is said of it ------------------------------------------------------------------------------------------

    def about(self, inputs: Inputs) -> dict:
        task = self.task
        recurring = {"exact": task.recurring}
        return {"columns": task.columns, "kind": task.kind, "labels": list(self.names), "recurring": recurring}

    def about_split(self, rows: Examples) -> dict:
        return {"majority": rows.majority}

    def words(self) -> str:
        return columns_in_words(self.task) + self.task.recurring_words


def columns_in_words(task: TaskData) -> str:
    """Which columns were read as what, and the kind of task: "text 'a', label 'b': 2 classes 0, 1"."""
    texts = " and ".join(map(repr, task.text_columns))
    kind = "regression"
    if task.label_names:
        shown = [name if name.isprintable() else repr(name) for name in task.label_names[:SHOWN]]
        more = ", ..." if len(task.label_names) > SHOWN else ""
        kind = f"{len(task.label_names)} classes {', '.join(shown)}{more}"
    return f"{'texts' if len(task.text_columns) > 1 else 'text'} {texts}, label {task.label_column!r}: {kind}"


def _make_graphs(inputs: Inputs, train: Features, model, plan):
    from junkdna.training.fast.cuda_graphs import Graphs
    from junkdna.training.fast.resident import Resident

    pretrained, accelerator = inputs.pretrained, inputs.accelerator
    heads, padding = pretrained.config.num_attention_heads, pretrained.tokenizer.pad_token_id
    resident = Resident(train, pretrained.first_position, heads, padding, accelerator.device)
    return Graphs(model, resident, accelerator, plan.steps)
