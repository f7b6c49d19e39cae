"""Layers that compute what torch's do, in less time on a CPU; on other devices they are torch's own.

Dropout is that of ``training.dropout``. Word embeddings: torch makes a gradient of the size of the whole vocabulary
anew in every step; a batch touches a few hundred of its rows.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from junkdna.training.dropout import dropout


def replace(model: nn.Module) -> None:
    """Put the layers of this module into a model, in place of torch's. Names, parameters and modes stay."""
    try:
        words = model.get_input_embeddings()
    except NotImplementedError:  # some models have none, or several
        words = None
    uses = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))
            elif child is words and _is_plain(child) and uses[id(child.weight)] == 1:
                setattr(parent, name, WordEmbedding(child).train(child.training))


def _is_plain(module: nn.Module) -> bool:
    return type(module) is nn.Embedding and module.max_norm is None and not (module.sparse or module.scale_grad_by_freq)


class Dropout(nn.Dropout):
    """``dropout`` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


class WordEmbedding(nn.Embedding):
    """torch's, whose gradient on a CPU lives in one tensor from step to step: only the rows that were used are zeroed.

    Nothing else may write that gradient: the weight is this module's alone. While a gradient is wanted, rows may be
    looked up in another weight, which holds some of them; see ``vocabulary``.
    """

    def __init__(self, plain: nn.Embedding):
        """Takes over the weight, shape (words, width), of a torch embedding."""
        super().__init__(
            plain.num_embeddings, plain.embedding_dim, padding_idx=plain.padding_idx, _weight=plain.weight.data
        )
        self.weight = plain.weight
        self.look_up_in(None, None)

    def look_up_in(self, some: nn.Parameter | None, rows: Tensor | None) -> None:
        """Train ``some``, (rows, width), in place of the weight: its rows ``rows``, int64 (rows,). None ends it."""
        self._some = None if some is None else (some,)  # in a tuple: it is not a parameter of the model
        self._place = None
        if rows is not None:
            self._place = torch.full((self.num_embeddings,), -1).index_copy_(0, rows, torch.arange(len(rows)))
        self._gradient: Tensor | None = None
        self._used: list[Tensor] = []

    def forward(self, ids: Tensor) -> Tensor:
        if _are_several() or ids.device.type != "cpu" or not (torch.is_grad_enabled() and self.weight.requires_grad):
            return super().forward(ids)
        if self._some is None:
            return _Rows.apply(self.weight, ids, self, self.padding_idx)
        padding = None if self.padding_idx is None else int(self._place[self.padding_idx])
        return _Rows.apply(*self._some, self._place[ids], self, None if padding == -1 else padding)

    def add_gradient(self, weight: nn.Parameter, ids: Tensor, gradient: Tensor, padding: int | None) -> None:
        """Add (..., width) to the rows ``ids`` (...) of a weight's gradient, and set that of ``padding`` to 0."""
        if weight.grad is None:
            weight.grad = self._zeros(weight)
        self._used.append(ids.reshape(-1))
        weight.grad.index_add_(0, self._used[-1], gradient.reshape(-1, self.embedding_dim))
        if padding is not None:
            weight.grad[padding].zero_()

    def _zeros(self, weight: nn.Parameter) -> Tensor:
        if self._gradient is None:
            self._gradient = torch.zeros_like(weight)
        for ids in self._used:
            self._gradient.index_fill_(0, ids, 0.0)
        self._used.clear()
        return self._gradient


def _are_several() -> bool:
    """Whether several processes train together, and exchange gradients."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _Rows(torch.autograd.Function):
    """Look rows up; in the backward pass write the weight's gradient where it belongs in place of returning it."""

    @staticmethod
    def forward(ctx, weight: Tensor, ids: Tensor, module: WordEmbedding, padding: int | None) -> Tensor:
        ctx.weight, ctx.ids, ctx.module, ctx.padding = weight, ids, module, padding
        return nn.functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        ctx.module.add_gradient(ctx.weight, ctx.ids, gradient, ctx.padding)
        return None, None, None, None
