"""The objective of multiple choice: of the pairs that make up a question, find the right one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from junkdna.families.encoder.data import Data
from junkdna.families.encoder.objective import Objective
from junkdna.families.encoder.tuning import Inputs
from junkdna.families.reasoning import tasks
from junkdna.families.reasoning.cell import ReasoningCell
from junkdna.families.reasoning.choices import Choices
from junkdna.families.reasoning.chooser import Chooser, Questions
from junkdna.families.reasoning.tasks import CHOICE, METRICS
from junkdna.models.folder import wrong
from junkdna.runs.schema import metric
from junkdna.training import predict, tokens
from junkdna.training.finetune import Evaluate
from junkdna.training.tokens import Features, OneLength

METRIC = METRICS[CHOICE]


class MultipleChoice(Objective):
    """Give every choice a number, the right one the largest."""

    def __init__(self, cell: ReasoningCell, data: Data):
        self.cell, self.task = cell, data.task
        self.each = data.whole.train.num_choices
        self._logits: dict[str, np.ndarray] = {}

    @property
    def loads(self) -> tuple:
        cell = self.cell
        return (CHOICE, cell.model_name_or_path, cell.model_revision, cell.ignore_mismatched_sizes)

    def load(self) -> Chooser:
        cell = self.cell
        names = (cell.model_name_or_path, cell.model_revision)
        return Chooser(*names, cell.ignore_mismatched_sizes, cell.max_length)

    def tokenise(self, rows: Choices, tokenizer) -> Features:
        """One sequence for each choice, the right one with the label 1."""
        texts = [pair for pairs in rows.texts for pair in pairs]
        right = [int(place == label) for label in rows.labels for place in range(self.each)]
        return tokens.tokenise(texts, right, tokenizer, self.cell.max_length)

    def batches(self, inputs: Inputs) -> Questions:
        collate = inputs.layout.collate
        if isinstance(collate, OneLength):
            reason = "gives a text other outputs with padding than alone, and choices differ in length"
            raise wrong(self.cell.model_name_or_path, f"{reason}: it cannot take questions in batches")
        labels = np.array(self.task.train.labels)
        return Questions(inputs.features["train"], labels, self.each, collate, inputs.layout.grain)

    # --- evaluation --------------------------------------------------------------------------------------------------

    def evaluator(self, inputs: Inputs) -> Evaluate:
        def judge(key: str, outputs: np.ndarray) -> dict[str, float]:
            self._logits[key] = outputs.reshape(-1, self.each)
            return {METRIC: float(self._right(key).mean())}

        splits = {key: inputs.features[key] for key in self.task.evals}
        size = self.cell.per_device_eval_batch_size
        return predict.evaluator(splits, judge, inputs.layout.collate, size, inputs.accelerator)

    def _right(self, key: str) -> np.ndarray:
        return self._logits[key].argmax(axis=1) == self.task.evals[key].labels

    def predictions(self) -> Iterator[dict]:
        """What was chosen of every question, last: the first of equal ones."""
        for row, logits, right in zip(self.task.evals["eval"].rows, self._logits["eval"], self._right("eval")):
            yield {
                "id": row.id,
                "choice": int(logits.argmax()),
                "label": row.label,
                "logits": [round(float(value), 6) for value in logits],
                "scores": {METRIC: float(right)},
            }

    def measures(self) -> list[dict]:
        chance = tasks.chance(CHOICE, self.each)
        return [metric(f"eval_{METRIC}", chance=chance, main=True)]

    def floor(self) -> float:
        """The share of the place in which the right choice stands most often."""
        return self.task.evals["eval"].majority

    # --- what is said of it ------------------------------------------------------------------------------------------

    def about(self, inputs: Inputs) -> dict:
        recurring = {"exact": self.task.recurring}
        return {"kind": "multiple choice", "num_choices": self.each, "recurring": recurring}

    def about_split(self, rows: Choices) -> dict:
        return {"majority": rows.majority, "doubled": rows.doubled}

    def words(self) -> str:
        return f"{self.each} choices each{self.task.recurring_words}"
