"""Multiple choice: an encoder with a head that gives every choice one number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from junkdna.families.encoder.checks import check_encoder
from junkdna.families.encoder.model import Encoder
from junkdna.training.bucketing import Grain, divide
from junkdna.training.step import Batches
from junkdna.training.tokens import Features


class Chooser(Encoder):
    """An AutoModelForMultipleChoice.

    The library's class takes (questions, choices, tokens) and lays all choices one below the other; here they come so,
    as questions of one choice each: (choices, 1, tokens). So they can be packed, or padded apart.
    """

    def __init__(self, name: str, revision: str, ignore_mismatched: bool = False, max_length: int = 1):
        """Load. Raises UserError when the model cannot be had or does not fit."""

        def prepare(config, raw) -> None:
            check_encoder(config.to_dict() | dict(raw), name, max_length)

        super().__init__(name, revision, "AutoModelForMultipleChoice", prepare, ignore_mismatched)
        self._settle_batches()

    @property
    def outputs(self) -> int:
        return 1

    def arrange(self, inputs: dict) -> dict:
        """Give every tensor its axis of choices, of the length 1."""
        return {name: x.unsqueeze(1) if isinstance(x, Tensor) else x for name, x in inputs.items()}


@dataclass(frozen=True)
class Questions(Batches):
    """Questions with ``choices`` sequences each, one after the other in ``features``; a batch holds all choices of its
    questions.

    ``labels``: the index of the right choice, int64 (questions,). ``collate`` makes the model's inputs of sequences;
    ``grain``: how questions are divided by length; None: not at all.
    """

    features: Features
    labels: np.ndarray
    choices: int
    collate: Callable[[list[dict]], dict]
    grain: Grain | None = None

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each question with all of its choices."""
        return self._by_question.sum(axis=1)

    @cached_property
    def _by_question(self) -> np.ndarray:
        return self.features.lengths.reshape(-1, self.choices)

    @cached_property
    def _longest(self) -> np.ndarray:
        """Tokens of each question's longest choice."""
        return self._by_question.max(axis=1)

    def parts(self, indices: np.ndarray) -> list[np.ndarray]:
        return [indices] if self.grain is None else divide(indices, (self._longest,) * self.choices, self.grain)

    def batch(self, indices: np.ndarray) -> dict:
        """The model's inputs, a sequence for each choice, and ``labels``, a tensor (questions,)."""
        sequences = (self.choices * np.asarray(indices)[:, None] + np.arange(self.choices)).ravel()
        return self.collate(self.features.rows(sequences)) | {"labels": torch.from_numpy(self.labels[indices])}

    def loss(self, model: nn.Module, batch: dict) -> Tensor:
        """The mean over questions of the cross-entropy over their choices."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return functional.cross_entropy(model(**inputs).logits.view(-1, self.choices), batch["labels"])
