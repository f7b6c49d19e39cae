"""MPNet on packed rows: its attention adds a learned number for every head and distance between two tokens.

The library's modules make these numbers for a whole row, and hand no layout down to their attention. So three of its
methods are covered, in a model that is to be packed, by functions that leave padded batches to them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from junkdna.training.fast.attention import attention
from junkdna.training.fast.rows import Current


def teach(model: nn.Module) -> Callable[[], None]:
    """Make an MPNet attend within examples, and its last layer hand on first tokens alone, whenever a packed row comes
    in. Returns what undoes it. Raises AttributeError, with nothing changed, if the model is built otherwise.
    """
    encoder = getattr(model, model.base_model_prefix).encoder
    last = encoder.layer[-1].attention
    covers = [(encoder, "compute_position_bias", _bias), (last, "forward", _first)]
    covers += [(layer.attention.attn, "forward", _attend) for layer in encoder.layer]
    covers = [(module, name, getattr(module, name), cover) for module, name, cover in covers]
    current = Current(model)
    for module, name, plain, cover in covers:
        setattr(module, name, partial(cover, plain, module, current))

    def undo() -> None:
        current.forget()
        for module, name, *_ in covers:
            delattr(module, name)  # what it covered is the class's

    return undo


def _bias(plain, encoder: nn.Module, current: Current, states: Tensor, *args, **kwargs) -> Tensor:
    """The numbers for the longest example, (1, heads, L, L), in place of the whole row's."""
    if current.layout is not None:
        states = states[:, : max(group.longest for group in current.layout.groups)]
    return plain(states, *args, **kwargs)


def _attend(
    plain, module: nn.Module, current: Current, states: Tensor, attention_mask=None, position_bias=None, **kwargs
) -> tuple:
    """Attention within each example of a packed row, (1, T, hidden)."""
    if current.layout is None:
        return plain(states, attention_mask, position_bias, **kwargs)
    tokens, heads, width = states.shape[1], module.num_attention_heads, module.attention_head_size
    rows = (project(states).view(tokens * heads, width) for project in (module.q, module.k, module.v))
    dropout = module.dropout.p if module.training else 0.0
    out = attention(*rows, current.layout, width**-0.5, dropout, position_bias.squeeze(0))
    return (module.o(out.view(1, tokens, -1)),)


def _first(plain, module: nn.Module, current: Current, states: Tensor, *args, **kwargs) -> tuple:
    """A layer's attention with residual and normalisation, of first tokens alone."""
    if current.layout is None:
        return plain(states, *args, **kwargs)
    out, *more = module.attn(states, *args, **kwargs)
    return (module.LayerNorm(module.dropout(current.first_of(out)) + current.first_of(states)), *more)
