"""A small fresh Transformer decoder that writes equations from an encoder's states.

Every projection is a matrix of its own, so that the decoder's weights can be pruned and counted like an encoder's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from junkdna.errors import Fault, UserError
from junkdna.families.reasoning.vocabulary import PAD, START

IGNORED = -100
"""The label of padding."""


@dataclass
class Output:
    """``logits`` (rows, symbols to write, vocabulary); ``loss``, 0-d, if there were labels."""

    logits: Tensor
    loss: Tensor | None = None


class Attention(nn.Module):
    """Attention of several heads over keys and values that are handed in, so that they can be kept."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def remember(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, (rows, heads, places, width / heads) each, of states (rows, places, width)."""
        return self._split(self.key(states)), self._split(self.value(states))

    def forward(
        self, states: Tensor, memory: tuple[Tensor, Tensor], mask: Tensor | None = None, causal=False
    ) -> Tensor:
        """Attend from states (rows, n, width) to a memory of m places; returns (rows, n, width).

        ``mask``: bool, as (rows, heads, n, m) or broadcast to it, True where a place may be looked at.
        """
        found = functional.scaled_dot_product_attention(
            self._split(self.query(states)),
            *memory,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        return self.output(found.transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """Attention to what is written, attention to the text, and two linear maps; each after a normalisation."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float):
        super().__init__()
        self.written, self.read = Attention(width, heads, dropout), Attention(width, heads, dropout)
        self.wide, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)
        self.before_written, self.before_read, self.before_wide = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def write(self, states: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attend to what is written: to the ``past`` and itself, or (None) each place to those up to it.

        ``states``: (rows, n, width), with a past n = 1. Returns new states, and keys and values with the new ones.
        """
        normal = self.before_written(states)
        memory = self.written.remember(normal)
        if past is not None:
            memory = tuple(torch.cat(pair, dim=2) for pair in zip(past, memory))
        return states + self.dropout(self.written(normal, memory, causal=past is None)), memory

    def look(self, states: Tensor, text: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """Attend to the text, and map; states (rows, n, width) in and out."""
        states = states + self.dropout(self.read(self.before_read(states), text, mask))
        inner = functional.gelu(self.wide(self.before_wide(states)))
        return states + self.dropout(self.narrow(self.dropout(inner)))


class EquationDecoder(nn.Module):
    """Writes symbols from the padded states of an encoder.

    ``symbols``: size of the vocabulary. ``width``: the encoder's, which ``heads`` must divide. ``most``: the most
    symbols that it can write, ``END`` not counted. Weights are drawn from torch's generator. Raises UserError.
    """

    def __init__(
        self,
        symbols: int,
        width: int,
        *,
        layers: int = 2,
        heads: int = 8,
        inner: int = 1024,
        dropout: float = 0.1,
        most: int = 40,
    ):
        super().__init__()
        if width % heads:
            raise UserError(Fault("decoder_heads", heads, f"does not divide the encoder's width, {width}"))
        self.most = most
        self.symbols, self.places = nn.Embedding(symbols, width), nn.Embedding(most + 1, width)
        self.layers = nn.ModuleList(Layer(width, heads, inner, dropout) for _ in range(layers))
        self.normal, self.output = nn.LayerNorm(width), nn.Linear(width, symbols)
        self.dropout = nn.Dropout(dropout)
        self.draw()

    def draw(self) -> None:
        """Draw all matrices and biases from torch's generator; normalisations are as they were made."""
        self.apply(_draw)

    def forward(self, states: Tensor, mask: Tensor, labels: Tensor, smoothing: float = 0.0) -> Output:
        """Teacher forcing: from ``START`` and all labels but the last, predict the labels.

        ``states`` (rows, places, width); ``mask`` (rows, places), 0 for padding; ``labels`` int64 (rows, n), ``END``
        last, then padding, ``IGNORED``. The loss is the mean over all labels that are not padding, with label
        ``smoothing`` in [0, 1). Raises ValueError for labels that are longer than what it can write.
        """
        if labels.shape[1] > self.most + 1:
            raise ValueError(f"an equation of {labels.shape[1] - 1} symbols is longer than {self.most}")
        inputs = labels.roll(1, dims=1)
        inputs[:, 0] = START
        inputs = inputs.masked_fill(inputs == IGNORED, PAD)
        hidden, looked_at = self.embed(inputs), seen(mask)
        for layer in self.layers:
            hidden, _ = layer.write(hidden, None)
            hidden = layer.look(hidden, layer.read.remember(states), looked_at)
        logits = self.output(self.normal(hidden))
        loss = functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
        )
        return Output(logits, loss)

    def embed(self, ids: Tensor, first: int = 0) -> Tensor:
        """Return the input of the first layer, (rows, n, width), for symbols (rows, n) from place ``first`` on."""
        places = torch.arange(first, first + ids.shape[1], device=ids.device)
        return self.dropout(self.symbols(ids) + self.places(places))


def labels_of(equations: list[tuple[int, ...]]) -> Tensor:
    """Encoded equations as labels, int64 (equations, longest), padded at the end."""
    longest = max(map(len, equations))
    return torch.tensor([[*ids, *[IGNORED] * (longest - len(ids))] for ids in equations])


def _draw(module: nn.Module) -> None:
    """Draw a module's own weights: matrices by the width of their two sides, as tiny and wide decoders need it."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)


def seen(mask: Tensor) -> Tensor:
    """A mask of texts (rows, places) as attention takes it."""
    return mask.bool()[:, None, None, :]
