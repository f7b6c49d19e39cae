"""What the families that have a model write texts have in common: nothing unasked for, and no text made of NaN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import GenerationConfig, LogitsProcessor


@contextmanager
def only_what_is_asked(model) -> Iterator[None]:
    """Take the checkpoint's generation settings away: ``generate`` fills with them what a call leaves open."""
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def by_length(rows: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Yield the numbers of the rows by length, the longest first: memory that does not suffice shows at once."""
    order = sorted(range(len(rows)), key=lambda number: -len(rows[number]))
    return (order[start : start + size] for start in range(0, len(order), size))


class Watch(LogitsProcessor):
    """Notes in which steps a row's logits are not numbers, and changes nothing.

    ``rows`` texts are written at once, each by one beam or several.
    """

    def __init__(self, rows: int):
        self.rows = rows
        self.bad: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        bad = ~(scores < torch.inf).all(dim=-1)  # a token that cannot be has -inf
        self.bad.append(bad.view(self.rows, -1).any(dim=1))
        return scores

    def first_bad(self) -> list[int | None]:
        """The first such step of every row, or None."""
        bad = torch.stack(self.bad, dim=1).tolist() if self.bad else [[]] * self.rows
        return [steps.index(True) if True in steps else None for steps in bad]
