"""Attention within each example of a packed row.

The tokens of a batch, one after the other, go onto a grid of padded examples, where attention is a few matrix products,
and back. Where each token goes is a ``Layout``, made once per batch. On a CPU examples of similar length share a grid,
so that little of it is padding, and the whole is one step of autograd that passes over the (length x length) tensors as
rarely as it can. Elsewhere all share one grid and torch's fused kernels do the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from junkdna.training.dropout import keep, kept_share

STEP = 16
"""Examples whose lengths round up to the same multiple of this share a grid."""


@dataclass(frozen=True)
class Group:
    """Examples on a grid of their own: G of them, H heads, the longest of L tokens. ``start`` is its first place.

    ``bias`` (G, 1, 1, L) is 0 at tokens and -inf at padding, float32; None if there is no padding.
    """

    examples: int
    heads: int
    longest: int
    start: int
    bias: Tensor | None

    def of(self, places: Tensor) -> Tensor:
        """The group's part of a tensor of all places: (places, width) gives (G * H, L, width)."""
        end = self.start + self.examples * self.heads * self.longest
        return places[self.start : end].view(self.examples * self.heads, self.longest, -1)

    def by_head(self, scores: Tensor) -> Tensor:
        """(G * H, L, L) as (G, H, L, L)."""
        return scores.view(self.examples, self.heads, self.longest, self.longest)


@dataclass(frozen=True)
class Layout:
    """Where the B examples of a batch lie in its row of T tokens, and where each token's H heads go: P places in all.

    ``first`` (B,) int64: each example's first token. ``rows`` (P,) int64: of each place the token and head that it
    shows, as token * H + head; at padding those of token 0. ``places`` (T * H,) int64: of each token and head its
    place. ``padding`` int64: the places that show padding. ``fused``: there is one group, and torch's fused kernels
    attend.
    """

    first: Tensor
    rows: Tensor
    places: Tensor
    padding: Tensor
    groups: tuple[Group, ...]
    fused: bool = False

    def to(self, device, non_blocking: bool = False) -> Layout:
        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        groups = tuple(Group(g.examples, g.heads, g.longest, g.start, move(g.bias)) for g in self.groups)
        return Layout(move(self.first), move(self.rows), move(self.places), move(self.padding), groups, self.fused)


def layout(lengths: np.ndarray, heads: int, fused: bool = False) -> Layout:
    """Lay out examples of the given token counts in groups; all in one if torch's fused kernels are to attend."""
    first = np.cumsum(lengths) - lengths
    sizes = np.zeros_like(lengths) if fused else -(-lengths // STEP)
    rows, padding, groups, start = [], [], [], 0
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        longest = lengths[members].max()
        column = np.arange(longest)
        is_token = column < lengths[members, None]
        token = np.where(is_token, first[members, None] + column, 0)
        rows.append((token[:, None, :] * heads + np.arange(heads)[:, None]).reshape(-1))
        padding.append(np.broadcast_to(~is_token[:, None, :], (len(members), heads, longest)).reshape(-1))
        bias = None if is_token.all() else _bias(is_token)
        groups.append(Group(len(members), heads, int(longest), start, bias))
        start += len(rows[-1])
    rows, padding = np.concatenate(rows), np.concatenate(padding)
    places = np.empty(lengths.sum() * heads, dtype=np.int64)
    shown = np.flatnonzero(~padding)
    places[rows[shown]] = shown
    return Layout(*map(torch.from_numpy, (first, rows, places, np.flatnonzero(padding))), tuple(groups), fused)


def _bias(is_token: np.ndarray) -> Tensor:
    return torch.zeros(is_token.shape).masked_fill_(torch.from_numpy(~is_token), float("-inf"))[:, None, None, :]


def attention(
    query: Tensor, key: Tensor, value: Tensor, packing: Layout, scale: float, dropout: float, bias: Tensor | None = None
) -> Tensor:
    """Scaled dot-product attention of each example to itself: (T * H, width) each, and so is what is returned.

    ``dropout`` in [0, 1) is the share of attention weights set to 0 (0 when not training). ``bias``, (H, M, M) with M
    tokens of the longest example or more, is added to the scores: of every head, and of the places of two tokens within
    their example. With it torch's fused kernels are not asked.
    """
    if packing.fused and bias is None:
        return _fused(query, key, value, packing, scale, dropout)
    return _Grouped.apply(query, key, value, bias, packing, scale, dropout)


def _fused(query: Tensor, key: Tensor, value: Tensor, packing: Layout, scale: float, dropout: float) -> Tensor:
    """All examples on one grid, by torch's fused kernels."""
    (group,) = packing.groups
    there, back, padding = packing.rows, packing.places, packing.padding
    shape = (group.examples, group.heads, group.longest, -1)
    on_grid = [_Move.apply(x, there, back, padding[:0]).view(shape) for x in (query, key, value)]
    bias = None if group.bias is None else group.bias.to(query.dtype)
    out = nn.functional.scaled_dot_product_attention(*on_grid, attn_mask=bias, dropout_p=dropout, scale=scale)
    return _Move.apply(out.reshape(-1, query.shape[-1]), back, there, padding)


class _Move(torch.autograd.Function):
    """Gather rows by ``there``, and their gradients by ``back``, its inverse: no atomic sums either way.

    Where a gradient arrives that belongs to no row, at ``silent``, it is 0.
    """

    @staticmethod
    def forward(ctx, x: Tensor, there: Tensor, back: Tensor, silent: Tensor) -> Tensor:
        ctx.back, ctx.silent = back, silent
        return x.index_select(0, there)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient.index_select(0, ctx.back).index_fill_(0, ctx.silent, 0), None, None, None


class _Grouped(torch.autograd.Function):
    """Attention group by group. Of the (L x L) tensors it keeps the weights before and after dropout, no mask."""

    @staticmethod
    def forward(ctx, query, key, value, bias: Tensor | None, packing: Layout, scale: float, dropout: float) -> Tensor:
        q, k, v = (x.index_select(0, packing.rows) for x in (query, key, value))
        q.mul_(scale)
        out, kept = torch.empty_like(v), []
        for group in packing.groups:
            scores = torch.bmm(group.of(q), group.of(k).transpose(1, 2))
            if bias is not None:
                group.by_head(scores).add_(bias[:, : group.longest, : group.longest])
            if group.bias is not None:
                group.by_head(scores).add_(group.bias.to(scores.dtype))
            weights = scores.softmax(-1)
            dropped = weights * keep(weights, dropout) if dropout else weights
            torch.bmm(dropped, group.of(v), out=group.of(out))
            kept += [weights, dropped]
        ctx.save_for_backward(q, k, v, *kept)
        ctx.packing, ctx.scale, ctx.share = packing, scale, kept_share(dropout)
        ctx.biased = None if bias is None else (bias.shape, bias.dtype)
        return out.index_select(0, packing.places).div_(ctx.share)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        q, k, v, *kept = ctx.saved_tensors
        packing = ctx.packing
        gradient = gradient.index_select(0, packing.rows).div_(ctx.share)
        gradient.index_fill_(0, packing.padding, 0)
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        dbias = None if ctx.biased is None else q.new_zeros(ctx.biased[0], dtype=ctx.biased[1])
        for group, weights, dropped in zip(packing.groups, kept[::2], kept[1::2]):
            above = group.of(gradient)
            torch.bmm(dropped.transpose(1, 2), above, out=group.of(dv))
            # with D = dropped, W = weights, A = above V': the scores' gradient is D A - W sum(D A)
            scores = torch.bmm(above, group.of(v).transpose(1, 2)).mul_(dropped)
            scores.addcmul_(weights, scores.sum(-1, keepdim=True), value=-1)
            if dbias is not None:
                dbias[:, : group.longest, : group.longest] += group.by_head(scores).sum(0)
            torch.bmm(scores, group.of(k), out=group.of(dq))
            torch.bmm(scores.transpose(1, 2), group.of(q), out=group.of(dk))
        dq, dk, dv = (x.index_select(0, packing.places) for x in (dq, dk, dv))
        return dq.mul_(ctx.scale), dk, dv, dbias, None, None, None
