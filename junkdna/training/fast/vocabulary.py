"""Training the rows of a word embedding that a run's texts hold, and no others.

A row that no text holds never has a gradient, and AdamW without decay leaves it where it is, bit for bit. Yet in every
step it is read and written with its two moments: of MiniLM's weights half are word embeddings, of RoBERTa-base's a
third, and CoLA's texts hold a fifth of the words.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from junkdna.sparsity.hold import Held
from junkdna.training.fast.cpu_layers import WordEmbedding

WORTH = 0.75
"""Largest share of a vocabulary that is trained apart: the copy takes as much memory as three such parts save."""


class SeenRows:
    """The rows of a word embedding that texts hold, as a parameter of their own, ``weight``, (rows, width).

    The module looks rows up there wherever a gradient is wanted; its own weight is as it was until ``write_back()``.
    """

    def __init__(self, module: WordEmbedding, ids: np.ndarray):
        """``ids``: int (any,), the numbers of the rows, each once and ascending."""
        self.module, self.rows = module, torch.from_numpy(ids).long()
        self.weight = nn.Parameter(module.weight.detach()[self.rows])
        module.look_up_in(self.weight, self.rows)

    @torch.no_grad()
    def write_back(self) -> None:
        """Write the rows into the module's own weight."""
        self.module.weight[self.rows] = self.weight

    @torch.no_grad()
    def read_again(self) -> None:
        """Read the rows from the module's own weight."""
        self.weight.copy_(self.module.weight[self.rows])

    def close(self) -> None:
        """Have the module look rows up in its own weight again."""
        self.module.look_up_in(None, None)

    def widened(self, state: dict, optimizer) -> dict:
        """An optimizer's state as if it trained the whole vocabulary: the moments of all other rows are 0."""

        def wide(value):
            if not isinstance(value, Tensor) or value.shape != self.weight.shape:
                return value
            return value.new_zeros(self.module.weight.shape).index_copy_(0, self.rows, value)

        return self._changed(state, optimizer, wide)

    def narrowed(self, state: dict, optimizer) -> dict:
        """The other way round."""

        def narrow(value):
            whole = isinstance(value, Tensor) and value.shape == self.module.weight.shape
            return value[self.rows.to(value.device)] if whole else value

        return self._changed(state, optimizer, narrow)

    def _changed(self, state: dict, optimizer, change) -> dict:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        mine = next(i for i, parameter in enumerate(parameters) if parameter is self.weight)
        own = {name: change(value) for name, value in state["state"].get(mine, {}).items()}
        return state | {"state": state["state"] | ({mine: own} if own else {})}


def divide(model: nn.Module, held: Held | None, ids: np.ndarray) -> SeenRows | None:
    """Divide a model's vocabulary if its words have a ``WordEmbedding`` on a CPU, and texts hold few of them.

    ``ids``: int (any,), the words of all texts, in any order. One that has a mask, or is not trained, stays as it is.
    """
    found = [module for module in model.modules() if isinstance(module, WordEmbedding)]
    for module in found:  # a training that failed before it began may have left its rows
        module.look_up_in(None, None)
    words = found[0] if found else None
    if words is None or words.weight.device.type != "cpu" or not words.weight.requires_grad:
        return None
    if held is not None and any(parameter is words.weight for parameter in held.parameters.values()):
        return None
    seen = np.zeros(words.num_embeddings, bool)  # sorting 15 million tokens would take a second in every cell
    seen[ids] = True
    rows = np.flatnonzero(seen)
    return SeenRows(words, rows) if len(rows) <= WORTH * words.num_embeddings else None
