"""Tokenised examples: flat arrays that grow from cell to cell and are cut without copying."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from junkdna.errors import Fault, UserError
from junkdna.training.bucketing import Grain, divide
from junkdna.training.step import Batches


@dataclass(frozen=True)
class Features:
    """Tokenised examples, the columns that a model takes one after the other in flat arrays, and the labels.

    ``columns``: name -> int32 array of all tokens; example ``i`` has those from ``starts[i]`` to ``starts[i + 1]``.
    Attention masks are left out: every stored token is a real one.
    """

    columns: dict[str, np.ndarray]
    starts: np.ndarray
    labels: list[int] | list[float]
    max_length: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Token counts, int64 (examples,)."""
        return np.diff(self.starts)

    def rows(self, indices: Iterable[int]) -> list[dict[str, np.ndarray]]:
        """The inputs of some examples, one dict of int32 arrays each."""
        bounds = [(self.starts[i], self.starts[i + 1]) for i in indices]
        return [{name: column[a:b] for name, column in self.columns.items()} for a, b in bounds]

    def first(self, count: int) -> Features:
        """The first ``count`` examples, without copying their tokens."""
        end = self.starts[count]
        columns = {name: column[:end] for name, column in self.columns.items()}
        return replace(self, columns=columns, starts=self.starts[: count + 1], labels=self.labels[:count])

    def followed_by(self, other: Features) -> Features:
        """These examples and then those of ``other``."""
        columns = {name: np.concatenate([column, other.columns[name]]) for name, column in self.columns.items()}
        starts = np.concatenate([self.starts, self.starts[-1] + other.starts[1:]])
        return Features(columns, starts, [*self.labels, *other.labels], self.max_length)


@dataclass(frozen=True)
class OneLength:
    """A ``collate`` for examples of one length at a time, which then need no padding; ``parts`` divides a batch."""

    collate: Callable[[list[dict]], dict]

    def __call__(self, inputs: list[dict]) -> dict:
        return self.collate(inputs)


def parts(collate: Callable, lengths: np.ndarray, indices: np.ndarray) -> list[np.ndarray]:
    """Divide the numbers of a batch's examples into what ``collate`` takes at once: as a rule all of them.

    Examples keep their order within a part; parts go from the longest to the shortest.
    """
    if not isinstance(collate, OneLength):
        return [indices]
    own = lengths[indices]
    return [indices[own == length] for length in np.unique(own)[::-1]]


@dataclass(frozen=True)
class Collated(Batches):
    """Features as batches of tensors: ``collate`` makes the model's inputs of a list of examples' inputs (see
    ``step``). ``grain``: how batches are divided by length; None: not at all.
    """

    features: Features
    collate: Callable[[list[dict]], dict]
    grain: Grain | None = None

    @cached_property
    def lengths(self) -> np.ndarray:
        return self.features.lengths

    def parts(self, indices: np.ndarray) -> list[np.ndarray]:
        """Those of these examples that form a batch together."""
        if self.grain is None:
            return parts(self.collate, self.lengths, indices)
        return divide(indices, (self.lengths,), self.grain)

    def batch(self, indices: np.ndarray) -> dict:
        """The model's inputs and ``labels``, a tensor (examples,), of the examples of these numbers."""
        import torch

        made = self.collate(self.features.rows(indices))
        return made | {"labels": torch.tensor([self.features.labels[i] for i in indices])}


class NoTokens(UserError):
    """A row for which the tokenizer produces no tokens; ``row`` is its number, from 0."""

    def __init__(self, row: int, texts: tuple[str, ...]):
        self.row, self.texts = row, texts
        super().__init__(Fault("model", "", f"its tokenizer produces no tokens for row {row + 1}, {self.shown}"))

    @property
    def shown(self) -> str:
        """The row's texts, cut to what a line holds."""
        return " and ".join(repr(text[:40]) for text in self.texts)


def tokenise(texts: Sequence[tuple[str, ...]], labels: list, tokenizer, max_length: int) -> Features:
    """Tokenise texts or pairs of texts, cutting them to ``max_length`` tokens (the longer text of a pair first).

    Raises UserError if no room is left for text, and ``NoTokens`` if a row becomes none.
    """
    columns = [list(column) for column in zip(*texts)]
    marks = tokenizer.num_special_tokens_to_add(pair=len(columns) == 2)
    if max_length <= marks:
        reason = f"leaves no room for text, {marks} tokens mark its ends; give more"
        raise UserError(Fault("max_length", max_length, reason))
    encoded = tokenizer(*columns, truncation=True, max_length=max_length, return_attention_mask=False)
    starts = np.cumsum([0, *map(len, encoded["input_ids"])])
    empty = np.flatnonzero(np.diff(starts) == 0)
    if empty.size:
        raise NoTokens(int(empty[0]), texts[empty[0]])
    columns = {
        name: np.fromiter(itertools.chain.from_iterable(rows), np.int32, starts[-1]) for name, rows in encoded.items()
    }
    return Features(columns, starts, labels, max_length)
