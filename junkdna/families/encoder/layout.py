"""How examples are laid out for a model: the fastest way in which it gives each of them what it gives it alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from junkdna.errors import one_line
from junkdna.models.folder import wrong
from junkdna.training import predict, probe
from junkdna.training.bucketing import DIVIDED, Grain, grain_on
from junkdna.training.fast import packing
from junkdna.training.tokens import Features, OneLength

if TYPE_CHECKING:
    import torch

    from junkdna.families.encoder.model import Encoder
    from junkdna.families.encoder.settings import EncoderCell

FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a model raises for inputs that it cannot take."""

SIDES = {"right": "left", "left": "right"}
"""The other side on which padding may stand."""


@dataclass(frozen=True)
class Layout:
    """``words`` say it; ``collate`` makes a model's tensors of a list of examples.

    ``packed``: whether a batch is one row without padding. ``grain``: how batches are divided by length to save
    padding; None where there is none, or none that other examples cause. ``rows``: how many rows were looked at;
    ``difference``: the largest one between their outputs in batches and alone, in units of the largest output.
    """

    words: str
    collate: Callable[[list[dict]], dict]
    packed: bool
    grain: Grain | None
    rows: int
    difference: float


def choose(cell: EncoderCell, pretrained: Encoder, features: dict[str, Features], accelerator) -> Layout:
    """Return the first layout in which odd rows of the run's data get the outputs that they get alone.

    Looks at the model in its pre-trained state, on the run's device. Packed rows come first, then padded ones, then
    batches of rows of equal length. Raises UserError if the model cannot take the rows, or if none of these will do.
    The tokenizer is left with a side for padding that gives the model's own outputs, where there is one.
    """
    device, tokenizer = accelerator.device, pretrained.tokenizer
    rows = probe.odd_rows(features.values(), {tokenizer.pad_token_id, pretrained.config.pad_token_id} - {None})
    model = pretrained.reset(0).to(device)
    alone = _alone(pretrained, model, rows, device)
    reason = None if cell.pad_to_max_length else _unpacked(pretrained, device)
    own = tokenizer.padding_side
    for way in _candidates(cell, pretrained, accelerator):
        tokenizer.padding_side = way.side
        difference, failure = _difference(model, rows, alone, way.collate, device)
        if difference <= probe.TOLERANCE:
            if way.packed and own == "left":
                _choose_padding_side(pretrained, model, rows, alone, device)
            words = way.words + (f", {DIVIDED}" if way.grain else "") + (f" ({reason})" if reason else "")
            return Layout(words, way.collate, way.packed, way.grain, len(rows), difference)
        if way.side == own:  # what the tokenizer's own side gave says why
            reason = f"{way.words}, {failure}"
    raise wrong(pretrained.name, f"gives a row other outputs in a batch than alone: {reason}")


@dataclass(frozen=True)
class Candidate:
    """A way to make batches, before anything was measured; ``side`` is where the tokenizer pads for it."""

    words: str
    collate: Callable[[list[dict]], dict]
    side: str
    grain: Grain | None = None
    packed: bool = False


def _candidates(cell: EncoderCell, pretrained: Encoder, accelerator) -> list[Candidate]:
    """The ways to make batches, the fastest first."""
    tokenizer, made = pretrained.tokenizer, partial(_arranged, pretrained)
    own, grain = tokenizer.padding_side, grain_on(accelerator, pretrained.model)
    fixed, found = cell.max_length if cell.pad_to_max_length else None, []
    if fixed is None and not _unpacked(pretrained, accelerator.device):
        fused = accelerator.device.type != "cpu"
        sizes = (pretrained.first_position, pretrained.config.num_attention_heads, fused)
        packed = packing.collator(*sizes, multiple=grain.row, padding_id=tokenizer.pad_token_id or 0)
        found.append(Candidate("packed", made(packed), own, packed=True))
    bounded = None if fixed else replace(grain, most=cell.max_length)
    padded = made(predict.collator(tokenizer, bounded.padded if bounded else lambda longest: fixed))
    words = f"padded to {fixed} tokens" if fixed else "padded"
    other = SIDES[own]
    equal = OneLength(made(predict.collator(tokenizer)))
    return [
        *found,
        Candidate(words, padded, own, bounded),
        Candidate(f"{words} on the {other}", padded, other, bounded),
        Candidate("in batches of equal length", equal, own),
    ]


def _unpacked(pretrained: Encoder, device: torch.device) -> str | None:
    """Why a model takes no packed rows on a device; None: it does."""
    if device.type != "cpu" and pretrained.config.model_type in packing.ON_CPU:
        return f"models of type {pretrained.config.model_type} are packed on CPUs only"
    return pretrained.unpacked


def _arranged(pretrained: Encoder, collate: Callable[[list[dict]], dict]) -> Callable[[list[dict]], dict]:
    """Make the model's inputs of what ``collate`` makes."""
    return lambda inputs: pretrained.arrange(collate(inputs))


def _alone(pretrained: Encoder, model, rows: list[dict], device: torch.device) -> torch.Tensor:
    """Return what the model gives every row alone, as its user would call it."""
    single = _arranged(pretrained, predict.collator(pretrained.tokenizer))
    try:
        alone = probe.outputs(model, (single([row]) for row in rows), device)
    except FAILURES as error:
        kind = type(error).__name__
        raise wrong(pretrained.name, f"cannot take this task's rows, {kind}: {one_line(error)[:200]}") from None
    if alone.shape != (len(rows), pretrained.outputs):
        reason = f"its head gives outputs of the shape {tuple(alone.shape)} for {len(rows)} rows"
        raise wrong(pretrained.name, f"{reason}, {pretrained.outputs} for each are needed")
    if not alone.isfinite().all():
        raise wrong(pretrained.name, "gives NaN or infinite outputs before anything is trained")
    return alone


def _difference(model, rows: list[dict], alone: torch.Tensor, collate: Callable, device) -> tuple[float, str]:
    """How far rows in batches are from rows alone, and the same in words."""
    try:
        difference = probe.relative(probe.in_batches(model, rows, collate, device), alone)
    except FAILURES as error:
        return float("inf"), f"{type(error).__name__}: {one_line(error)[:120]}"
    return difference, f"outputs differ by {difference:.1g} from those of single rows"


def _choose_padding_side(pretrained: Encoder, model, rows: list[dict], alone: torch.Tensor, device) -> None:
    """Have the tokenizer, which is saved with the model, pad on the side where padding changes nothing."""
    tokenizer = pretrained.tokenizer
    own = tokenizer.padding_side
    for side in (own, SIDES[own]):
        tokenizer.padding_side = side
        padded = _arranged(pretrained, predict.collator(tokenizer))
        if _difference(model, rows, alone, padded, device)[0] <= probe.TOLERANCE:
            if side != own:
                pretrained.notes.append(
                    f"the saved tokenizer pads on the {side}; on the {own}, the model would read padding"
                )
            return
    tokenizer.padding_side = own
