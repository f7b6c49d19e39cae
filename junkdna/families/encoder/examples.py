"""Texts with labels, as every encoder's task has them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property

from junkdna.errors import Fault, UserError
from junkdna.sparsity.patterns import decimal_text


@dataclass(frozen=True)
class Examples:
    """Texts (one or two strings each) and labels of one split, in file order.

    Labels are class indices, or floats for a regression. ``skipped`` counts rows of a GLUE file that lack columns (QQP
    has such rows; the Hub's copy leaves them out too).
    """

    texts: list[tuple[str, ...]]
    labels: list[int] | list[float]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, count: int | None) -> Examples:
        """The first ``count`` examples; all of them for None."""
        return replace(self, texts=self.texts[:count], labels=self.labels[:count])

    @property
    def majority(self) -> float:
        """Share of the most frequent label: the accuracy of a model that always says the same."""
        return Counter(self.labels).most_common(1)[0][1] / len(self)

    def since(self, start: int) -> Examples:
        """All examples from number ``start`` on."""
        return replace(self, texts=self.texts[start:], labels=self.labels[start:])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the texts and labels, so that two runs can be seen to have used the same data."""
        return hashlib.sha256(json.dumps([self.texts, self.labels]).encode()).hexdigest()


@dataclass(frozen=True)
class TaskData:
    """All splits of a task; ``label_names`` is empty for a regression; ``evals`` is keyed 'eval', 'eval_mm'.

    ``text_columns`` and ``label_column`` are where texts and labels were read, under the names that the files have.
    """

    train: Examples
    evals: dict[str, Examples]
    label_names: tuple[str, ...]
    metrics: tuple[str, ...]
    source: str
    text_columns: tuple[str, ...] = ()
    label_column: str = "label"

    @property
    def num_labels(self) -> int:
        return len(self.label_names) or 1

    @property
    def kind(self) -> str:
        """Whether labels are classes or numbers."""
        return "classification" if self.label_names else "regression"


def prefix_size(percentage: Decimal, rows: int) -> int:
    """Return how many of ``rows`` the first ``percentage`` percent are, rounded as ``datasets`` rounds ``[:p%]``."""
    return round(float(percentage) * rows / 100.0)


def cut(data: TaskData, percentage: Decimal, max_train: int | None, max_eval: int | None) -> TaskData:
    """Keep the first ``percentage`` percent of the training rows, then at most ``max_*`` rows of each split."""
    size = prefix_size(percentage, len(data.train))
    if size == 0:
        reason = f"leaves none of the {len(data.train)} training rows"
        raise UserError(Fault("validation_split_percentage", decimal_text(percentage), reason))
    evals = {key: examples.first(max_eval) for key, examples in data.evals.items()}
    return replace(data, train=data.train.first(size).first(max_train), evals=evals)
