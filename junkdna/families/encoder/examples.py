"""Examples as an encoder's task has them: the splits of a task, and texts with labels."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import Protocol, TypeVar

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


class Rows(Protocol):
    """Examples of one split in their order, of whatever kind."""

    skipped: int
    """Rows of the file that were passed over."""

    def __len__(self) -> int: ...

    def first(self, count: int | None) -> Rows:
        """The first ``count`` examples; all of them for None."""

    def since(self, start: int) -> Rows:
        """All examples from number ``start`` on."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that a model is given, so that two runs can be seen to have used the same data."""


@dataclass(frozen=True)
class Splits:
    """All splits of a task, and where they are from; ``evals`` is keyed 'eval', 'eval_mm'. ``metrics``: the main one
    first.
    """

    train: Rows
    evals: dict[str, Rows]
    metrics: tuple[str, ...]
    source: str

    @cached_property
    def recurring(self) -> int:
        """How many of ``evals`` have the very texts of a training row, whatever its label; of rows with ``texts``."""
        known = set(self.train.texts)
        return sum(texts in known for rows in self.evals.values() for texts in rows.texts)

    @property
    def recurring_words(self) -> str:
        """What is printed of them; nothing where there are none."""
        return f"; {self.recurring:,} validation rows have the texts of a training row" * bool(self.recurring)


@dataclass(frozen=True)
class TaskData(Splits):
    """All splits of a task of ``Examples``; ``label_names`` is empty for a regression.

    ``text_columns`` and ``label_column`` are where texts and labels were read, under the names that the files have.
    """

    label_names: tuple[str, ...] = ()
    text_columns: tuple[str, ...] = ()
    label_column: str = "label"

    @property
    def num_labels(self) -> int:
        return len(self.label_names) or 1

    @property
    def kind(self) -> str:
        """Whether labels are classes or numbers."""
        return "classification" if self.label_names else "regression"

    @property
    def columns(self) -> dict:
        """The columns that were read, by their roles."""
        return {"texts": list(self.text_columns), "label": self.label_column}


Task = TypeVar("Task", bound=Splits)


def prefix_size(percentage: Decimal, rows: int) -> int:
    """Return how many of ``rows`` the first ``percentage`` percent are, rounded as ``datasets`` rounds ``[:p%]``."""
    return round(float(percentage) * rows / 100.0)


def cut(data: Task, percentage: Decimal, max_train: int | None, max_eval: int | None) -> Task:
    """Keep the first ``percentage`` percent of the training rows, then at most ``max_*`` rows of each split."""
    size = prefix_size(percentage, len(data.train))
    if size == 0:
        reason = f"leaves none of the {len(data.train)} training rows"
        raise UserError(Fault("validation_split_percentage", decimal_text(percentage), reason))
    evals = {key: examples.first(max_eval) for key, examples in data.evals.items()}
    return replace(data, train=data.train.first(size).first(max_train), evals=evals)
