"""Writing equations with the decoder, greedily or by beam search, a batch of texts at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from junkdna.families.reasoning.decoder import EquationDecoder, seen
from junkdna.families.reasoning.vocabulary import END, PAD, START, Vocabulary


@dataclass(frozen=True)
class Written:
    """What was written, ``END`` left out. ``ended``: "end"; "length" if it was cut; "nan" if the decoder's outputs were
    not finite, in which case nothing was written.
    """

    ids: tuple[int, ...]
    ended: str


@dataclass(frozen=True)
class Grammar:
    """Which symbols keep an equation well-formed: ``growth`` int64 (symbols,), ``usable`` bool (rows, symbols), as
    ``Vocabulary`` has them.
    """

    growth: Tensor
    usable: Tensor

    @classmethod
    def of(cls, vocabulary: Vocabulary, numbers: Sequence[int], device: torch.device | str = "cpu") -> Grammar:
        """Make the grammar of a batch; ``numbers``: how many numbers each of its problems has."""
        usable = torch.tensor([vocabulary.usable(count) for count in numbers], device=device)
        return cls(torch.tensor(vocabulary.growth, device=device), usable)

    def allowed(self, missing: Tensor, left: int) -> Tensor:
        """Return (rows, beams, symbols): what may be written where ``missing`` (rows, beams) operands are to come.

        ``left``: how many symbols may follow; so many operands may be missing after this one.
        """
        missing = missing[..., None]
        fits = (self.growth != 0) & (missing > 0) & (missing + self.growth <= left) & self.usable[:, None]
        fits[..., END] = missing[..., 0] == 0
        return fits


@torch.inference_mode()
def write(
    decoder: EquationDecoder,
    states: Tensor,
    mask: Tensor,
    *,
    beams: int = 1,
    grammar: Grammar | None = None,
) -> list[Written]:
    """Write an equation for each row of an encoder's states (rows, places, width); ``mask``: 0 for padding.

    The search keeps ``beams`` equations (1: greedy). They are ranked by their log probability, divided by the number
    of their symbols, ``END`` counted. One that has ended keeps its rank, and its place until better ones take it. The
    best that has ended is returned, or, if none has, the best. With a ``grammar`` only well-formed equations are
    written. The decoder must be in evaluation mode.
    """
    search = _Search(len(states), beams, states.device)
    reader = _Reader(decoder, states, mask)
    for place in range(decoder.most + 1):
        scores = reader.scores(search.last, place)
        if grammar is not None:
            allowed = grammar.allowed(search.missing, decoder.most - place - 1)
            scores = scores.masked_fill(~allowed, -torch.inf)
        chosen = search.step(scores, None if grammar is None else grammar.growth)
        if search.over:
            break
        reader.follow(chosen)
    return search.best(decoder.most, reader.broken)


class _Reader:
    """The decoder's scores of the next symbol, with keys and values of all that came before kept."""

    def __init__(self, decoder: EquationDecoder, states: Tensor, mask: Tensor):
        self.decoder, self.mask = decoder, seen(mask)
        self.text = [layer.read.remember(states) for layer in decoder.layers]
        self.past = [None] * len(decoder.layers)
        self.broken = torch.zeros(len(states), dtype=torch.bool, device=states.device)
        """Rows whose outputs were not finite at some place."""

    def scores(self, last: Tensor, place: int) -> Tensor:
        """Return log probabilities (rows, beams, symbols) after the symbols ``last`` (rows, beams) at ``place - 1``.

        ``PAD`` and ``START`` cannot be written: -inf.
        """
        rows, beams = last.shape
        hidden = self.decoder.embed(last.reshape(-1, 1), place)
        for number, layer in enumerate(self.decoder.layers):
            hidden, self.past[number] = layer.write(hidden, self.past[number])
            # all beams of a row read the same text, each place of its own: no copy of the text for each beam
            hidden = layer.look(hidden.view(rows, beams, -1), self.text[number], self.mask).view(rows * beams, 1, -1)
        logits = self.decoder.output(self.decoder.normal(hidden)).float().view(rows, beams, -1)
        self.broken |= ~logits.isfinite().flatten(1).all(1)
        logits = logits.masked_fill(self.broken[:, None, None], 0.0)
        logits[..., [PAD, START]] = -torch.inf
        return logits.log_softmax(-1)

    def follow(self, chosen: Tensor) -> None:
        """Let each beam go on from the one that it was ``chosen`` from: int64 (rows, beams)."""
        rows, beams = chosen.shape
        flat = (chosen + beams * torch.arange(rows, device=chosen.device)[:, None]).flatten()
        self.past = [tuple(part[flat] for part in memory) for memory in self.past]


class _Search:
    """The equations that are kept for each row, best first."""

    def __init__(self, rows: int, beams: int, device: torch.device):
        self.last = torch.full((rows, beams), START, device=device)
        self.symbols = self.last[..., None][..., :0]
        self.score = torch.full((rows, beams), -torch.inf, device=device)
        self.score[:, 0] = 0.0  # all begin alike: one of them goes on at first
        self.length = torch.zeros_like(self.score)
        self.missing = torch.ones_like(self.last)
        self.ended = torch.zeros_like(self.last, dtype=torch.bool)

    def step(self, scores: Tensor, growth: Tensor | None) -> Tensor:
        """Write one symbol; ``scores`` (rows, beams, symbols). Returns which beam each new one was made from."""
        rows, beams, count = scores.shape
        stays = torch.full_like(scores[0, 0], -torch.inf)
        stays[PAD] = 0.0
        scores = self.score[..., None] + torch.where(self.ended[..., None], stays, scores)
        length = self.length + ~self.ended
        ranks = (scores / length[..., None]).view(rows, -1)
        best = ranks.sort(dim=1, descending=True, stable=True).indices[:, :beams]
        chosen, self.last = best // count, best % count
        self.score = scores.view(rows, -1).gather(1, best)
        self.length, self.ended = length.gather(1, chosen), self.ended.gather(1, chosen) | (self.last == END)
        if growth is not None:
            self.missing = self.missing.gather(1, chosen) + growth[self.last]
        kept = self.symbols.gather(1, chosen[..., None].expand(-1, -1, self.symbols.shape[2]))
        self.symbols = torch.cat([kept, self.last[..., None]], dim=2)
        return chosen

    @property
    def over(self) -> bool:
        """Whether nothing is left to be written."""
        return bool((self.ended | self.score.isneginf()).all())

    def best(self, most: int, broken: Tensor) -> list[Written]:
        """Return the best equation of each row."""
        first = self.ended.int().argmax(1)  # 0 where none has ended
        found = self.symbols[torch.arange(len(first)), first].tolist()
        return [_written(*row, most) for row in zip(found, broken.tolist())]


def _written(symbols: list[int], broken: bool, most: int) -> Written:
    if broken:
        return Written((), "nan")
    if END in symbols:
        return Written(tuple(symbols[: symbols.index(END)]), "end")
    return Written(tuple(symbols[:most]), "length")
