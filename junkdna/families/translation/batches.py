"""Sentence pairs as a translation model is trained on them: padded at their ends, weighed by their target tokens."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from junkdna.training.bucketing import COARSE, Grain, divide
from junkdna.training.step import Batches

IGNORED = -100
"""The label of what is padding; it stands behind a sentence's end only, and never counts."""


@dataclass(frozen=True)
class Rows:
    """Rows of token ids of different lengths: ``ids`` int32, row ``i`` from ``starts[i]`` to ``starts[i + 1]``."""

    ids: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Rows:
        lengths = [len(row) for row in rows]
        ids = np.fromiter(itertools.chain.from_iterable(rows), np.int32, sum(lengths))
        return cls(ids, np.cumsum([0, *lengths]))

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(np.concatenate([part.ids for part in parts]), np.cumsum([0, *lengths]))

    def where(self, kept: np.ndarray) -> Rows:
        """The rows for which ``kept``, bool (rows,), is true."""
        return Rows(self.ids[np.repeat(kept, self.lengths)], np.cumsum([0, *self.lengths[kept]]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 (rows,)."""
        return np.diff(self.starts)

    def __getitem__(self, number: int) -> np.ndarray:
        return self.ids[self.starts[number] : self.starts[number + 1]]


@dataclass(frozen=True)
class Sentences(Batches):
    """Examples of one or several language pairs, those of a pair together.

    ``source``: the encoder's inputs. ``labels``: what the decoder is to write. ``first``: what it reads first, int
    (examples,). ``sizes``: examples of each language pair. ``temperature``: with several pairs, one with n examples
    makes up n^(1/temperature) parts of an epoch. ``padding``: a token of the source that nothing sees. ``smoothing``:
    share of a target token's probability that is spread over the vocabulary. ``grain``: how batches are divided by
    length and padded.
    """

    source: Rows
    labels: Rows
    first: np.ndarray
    sizes: tuple[int, ...]
    padding: int
    temperature: float = 1.0
    smoothing: float = 0.0
    grain: Grain = COARSE

    @cached_property
    def lengths(self) -> np.ndarray:
        return self.source.lengths + self.labels.lengths

    def weight(self, indices: np.ndarray) -> int:
        """A step's loss is the mean over its target tokens."""
        return int(self.labels.lengths[indices].sum())

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Every language pair gets its share of the epoch's examples; within it they come in turn, shuffled anew each
        time around. A function of what it is given alone.
        """
        if len(self.sizes) == 1:
            return super().order(seed, epoch)
        draw = np.random.Generator(np.random.PCG64([seed, epoch]))
        counts, starts = shares(self.sizes, self.temperature), np.cumsum([0, *self.sizes])
        taken = [start + _in_turn(draw, size, count) for start, size, count in zip(starts, self.sizes, counts)]
        return draw.permutation(np.concatenate(taken))

    def parts(self, indices: np.ndarray) -> list[np.ndarray]:
        """Divide examples by length, as often as their ``grain`` says: the longest come first."""
        return divide(indices, (self.source.lengths, self.labels.lengths), self.grain)

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """The model's inputs, (examples, longest), and the labels."""
        source, labels = ([rows[i] for i in indices] for rows in (self.source, self.labels))
        read = [np.concatenate([self.first[i : i + 1], row[:-1]]) for i, row in zip(indices, labels)]
        to = self.grain.padded
        inputs = padded(source, self.padding, to)
        return {
            "input_ids": inputs,
            "attention_mask": padded([np.ones(len(row), np.int64) for row in source], 0, to),
            "decoder_input_ids": padded(read, int(self.first[indices[0]]), to),
            "labels": padded(labels, IGNORED, to),
        }

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The mean over target tokens of the cross-entropy with smoothed labels."""
        return self._loss(model, batch, "mean", self.smoothing)

    @torch.no_grad()
    def sum_of_losses(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The sum over target tokens of the cross-entropy, without smoothing."""
        return self._loss(model, batch, "sum", 0.0)

    def _loss(self, model: nn.Module, batch: dict[str, Tensor], reduction: str, smoothing: float) -> Tensor:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits = model(**inputs, use_cache=False).logits.float().flatten(0, 1)
        how = {"ignore_index": IGNORED, "reduction": reduction, "label_smoothing": smoothing}
        return cross_entropy(logits, batch["labels"].flatten(), **how)


def padded(rows: Sequence[np.ndarray], value: int, to: Callable[[int], int]) -> Tensor:
    """Rows as a tensor int64 (rows, ``to`` of the longest), filled up at their ends."""
    made = np.full((len(rows), to(max(map(len, rows)))), value, dtype=np.int64)
    for number, row in enumerate(rows):
        made[number, : len(row)] = row
    return torch.from_numpy(made)


def shares(sizes: Sequence[int], temperature: float) -> list[int]:
    """Divide as many draws as there are examples among language pairs, in proportion to size^(1/temperature).

    What rounding down leaves goes to those that lost most by it; every pair gets at least one.
    """
    largest, total = max(sizes), sum(sizes)
    parts = [(size / largest) ** (1 / temperature) for size in sizes]  # <= 1: no temperature is too small
    exact = [total * part / sum(parts) for part in parts]
    counts = [max(1, math.floor(share)) for share in exact]
    while missing := total - sum(counts):
        if missing > 0:
            counts[max(range(len(sizes)), key=lambda i: exact[i] - counts[i])] += 1
        else:  # of as few draws as there are pairs
            counts[counts.index(max(counts))] -= 1
    return counts


def _in_turn(draw: np.random.Generator, size: int, count: int) -> np.ndarray:
    """``count`` numbers below ``size``: all of them in random order, and again, as often as needed."""
    return np.concatenate([draw.permutation(size) for _ in range(math.ceil(count / size))])[:count]


def evaluator(splits: dict[str, Sentences], batch_size: int, accelerator) -> Callable[[nn.Module], dict[str, float]]:
    """Return a function that gives a model's mean loss over all target tokens, "eval_loss", and, of several language
    pairs, over those of each: "eval_loss_en-de".
    """

    def evaluate(model: nn.Module) -> dict[str, float]:
        model.eval()
        sums = {pair: _sum_of_losses(model, split, batch_size, accelerator) for pair, split in splits.items()}
        sizes = {pair: int(split.labels.lengths.sum()) for pair, split in splits.items()}
        found = {"eval_loss": sum(sums.values()) / sum(sizes.values())} if sums else {}
        each = {f"eval_loss_{pair}": sums[pair] / sizes[pair] for pair in sums}
        return found | (each if len(each) > 1 else {})

    return evaluate


def _sum_of_losses(model: nn.Module, split: Sentences, batch_size: int, accelerator) -> float:
    """The sum over a split's target tokens; every batch is one process's."""
    by_length = np.argsort(-split.lengths, kind="stable")
    found = 0.0
    for start in range(accelerator.process_index * batch_size, len(by_length), accelerator.num_processes * batch_size):
        batch = split.batch(by_length[start : start + batch_size])
        with accelerator.autocast():
            loss = split.sum_of_losses(model, {name: value.to(accelerator.device) for name, value in batch.items()})
        found += float(loss)
    if accelerator.num_processes == 1:
        return found
    return float(accelerator.reduce(torch.tensor(found, dtype=torch.float64, device=accelerator.device), "sum"))
