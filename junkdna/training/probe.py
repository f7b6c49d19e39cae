"""Whether a model gives the examples of a batch what it gives each of them alone, seen on odd rows of the task's data.

A model can fail where typical rows look right: it may number positions over tokens other than the pad token, read
padding where it should read the first or the last token, or mix padding into what it computes. The rows that are looked
at are therefore the task's oddest: those that hold the pad token literally, the shortest, the longest, some between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from junkdna.training.step import random_state, set_random_state
from junkdna.training.tokens import Features, parts

TOLERANCE = 1e-4
"""Largest difference that counts as rounding, in units of the largest output: that of fp32, with room."""

SIZES = 4
"""Rows of a split that are taken for their lengths, from the shortest to the longest."""

TWINS = 2
"""Further rows of a length that is taken, so that a batch of one length holds different rows."""


def odd_rows(splits: Iterable[Features], pads: Collection[int]) -> list[dict[str, np.ndarray]]:
    """Return the inputs of a dozen odd rows of some splits, each content once.

    ``pads`` are the ids of the pad token. Of every split: the shortest row, the longest, ``SIZES`` - 2 between them,
    ``TWINS`` of equal length, and of the rows that hold the pad token the first, the longest and the one with most.
    """
    found: dict[bytes, dict[str, np.ndarray]] = {}
    for features in splits:
        for row in features.rows(_odd(features, pads)):
            found.setdefault(row["input_ids"].tobytes(), row)
    return list(found.values())


def _odd(features: Features, pads: Collection[int]) -> list[int]:
    """The numbers of a split's odd rows."""
    lengths = features.lengths
    by_length = np.argsort(lengths, kind="stable")
    picked = [by_length[i] for i in np.linspace(0, len(by_length) - 1, SIZES).astype(int)]
    picked += np.flatnonzero(lengths == lengths[picked[1]])[:TWINS].tolist()
    where = np.flatnonzero(np.isin(features.columns["input_ids"], list(pads)))
    rows, counts = np.unique(np.searchsorted(features.starts, where, side="right") - 1, return_counts=True)
    if rows.size:
        picked += [rows[0], rows[lengths[rows].argmax()], rows[counts.argmax()]]
    return list(dict.fromkeys(map(int, picked)))


@torch.inference_mode()
def outputs(model: nn.Module, batches: Iterable[dict], device) -> Tensor:
    """Return a model's outputs, in evaluation mode, for the examples of some batches: float32 (examples, labels), CPU.

    Neither the model's mode nor the random state is changed. Convolutions are as exact as other products, on a GPU too.
    """
    was_training, state = model.training, random_state(torch.device(device))
    rounded = torch.backends.cudnn.allow_tf32
    model.eval()
    try:
        torch.backends.cudnn.allow_tf32 = False
        return torch.cat([_logits(model, batch, device) for batch in batches])
    finally:
        model.train(was_training)
        torch.backends.cudnn.allow_tf32 = rounded
        set_random_state(state, torch.device(device))


def _logits(model: nn.Module, batch: dict, device) -> Tensor:
    return model(**{name: x.to(device) for name, x in batch.items()}).logits.float().cpu()


def in_batches(model: nn.Module, rows: list[dict], collate: Callable, device) -> Tensor:
    """Return the outputs of rows that share a batch as far as ``collate`` allows; none is alone in its batch."""
    lengths = np.array([len(row["input_ids"]) for row in rows])
    found, order = [], []
    for part in parts(collate, lengths, np.arange(len(rows))):
        together = part if len(part) > 1 else np.repeat(part, 2)
        found.append(outputs(model, [collate([rows[i] for i in together])], device)[: len(part)])
        order += part.tolist()
    return torch.cat(found)[np.argsort(order)]


def relative(batched: Tensor, alone: Tensor) -> float:
    """The largest difference between two tables of outputs, relative to the largest output; infinite if shapes differ.

    A model whose outputs are all 0 is compared as it is.
    """
    if batched.shape != alone.shape:
        return float("inf")
    largest = float(alone.abs().max())
    return float((batched - alone).abs().max()) / (largest or 1.0)
