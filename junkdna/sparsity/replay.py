"""Run a model's decoder blocks one at a time, with the arguments that the model itself gives them.

The model is called once for every batch with blocks that hand their inputs on unchanged: this gives the first block's
inputs and every block's other arguments (attention masks, rotary embeddings) at almost no cost. For the first sample
the model also runs as it is, and the blocks alone must give the same hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from junkdna.errors import Fault, UserError
from junkdna.sparsity.decoder import FITS, Decoder

Arguments = tuple[tuple, dict]
"""What a block is given besides the hidden states: positional and named arguments."""


@dataclass
class Replay:
    """Hidden states of all samples between two blocks, and what is needed to bring them through the next one.

    ``hidden``: a tensor (batch, tokens, width) per batch, where the model is. ``arguments``: per batch, per block.
    """

    hidden: list[Tensor]
    arguments: list[list[Arguments]]

    def through(self, block: nn.Module, number: int, device: torch.device, keep: bool) -> None:
        """Run all batches through a block that is on ``device``; ``keep`` what comes out as the next block's inputs."""
        for batch, hidden in enumerate(self.hidden):
            found = call(block, hidden, self.arguments[batch][number], device)
            if keep:
                hidden.copy_(found)


def call(block: nn.Module, hidden: Tensor, arguments: Arguments, device: torch.device) -> Tensor:
    """Run a block; returns its hidden states, whether it gives a tensor or a tuple that begins with them."""
    args, kwargs = _moved(arguments, device)
    return _hidden_of(block(hidden.to(device), *args, **kwargs))


def record(decoder: Decoder, inputs: Tensor, batch_size: int, device: torch.device | None) -> Replay:
    """Prepare to replay a model (in eval mode, without gradients) on int64 (samples, tokens).

    ``device``: where each block is run, one at a time (None: where it is). Raises UserError if the blocks alone do not
    give the hidden states of the model.
    """
    home = next(decoder.base.parameters()).device
    states, arities = _run_whole(decoder, inputs[:1].to(home), device)
    alone = _pass_through(decoder, inputs[:1].to(home), arities, Pool())
    _compare(decoder, states, *alone, device)
    pool, hidden, arguments = Pool(), [], []
    for batch in inputs.split(batch_size):
        first, given = _pass_through(decoder, batch.to(home), arities, pool)
        hidden.append(first)
        arguments.append(given)
    return Replay(hidden, arguments)


@contextmanager
def on_device(block: nn.Module, device: torch.device | None) -> Iterator[torch.device]:
    """Have a block on a device for a while; yields where it is."""
    home = next(block.parameters()).device
    try:
        block.to(device or home)
        yield next(block.parameters()).device
    finally:
        block.to(home)


class Pool:
    """Holds every tensor once that is equal to one seen before: most arguments are the same for all batches."""

    def __init__(self):
        self.tensors: list[Tensor] = []

    def __call__(self, value):
        """Return the value with its tensors (also in tuples, lists and dictionaries) replaced by equal ones."""
        return _mapped(value, self._held)

    def _held(self, tensor: Tensor) -> Tensor:
        for seen in self.tensors:
            if seen is tensor or (
                seen.shape == tensor.shape and seen.dtype == tensor.dtype and torch.equal(seen, tensor)
            ):
                return seen
        self.tensors.append(tensor)
        return tensor


def _mapped(value, function: Callable[[Tensor], Tensor]):
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _mapped(part, function) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_mapped(part, function) for part in value)
    return value


def _moved(value, device: torch.device | None):
    return _mapped(value, lambda tensor: tensor.to(device)) if device is not None else value


def _hidden_of(output) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


@contextmanager
def _replaced(decoder: Decoder, make: Callable[[int, Callable], Callable]) -> Iterator[None]:
    """Let every block do what ``make(number, its own forward)`` does, for a while."""
    before = [block.__dict__.get("forward") for block in decoder.blocks]
    try:
        for number, block in enumerate(decoder.blocks):
            block.forward = make(number, block.forward)
        yield
    finally:
        for block, own in zip(decoder.blocks, before):
            if own is None:
                block.__dict__.pop("forward", None)
            else:
                block.forward = own


def _run_whole(decoder: Decoder, batch: Tensor, device: torch.device | None) -> tuple[list[Tensor], list[int | None]]:
    """Run the model as it is: its hidden states before every block and after the last one, and what blocks return.

    Of a block that returns a tuple, how many values; None for a tensor.
    """
    states, arities = [], []

    def make(number: int, forward: Callable) -> Callable:
        def run(*args, **kwargs):
            _check_arguments(args, kwargs, batch)
            home = args[0].device
            with on_device(decoder.blocks[number], device) as there:
                output = forward(*_moved(args, there), **_moved(kwargs, there))
            output = _moved(output, home)
            states.append(args[0])
            arities.append(None if isinstance(output, Tensor) else len(output))
            if number == len(decoder.blocks) - 1:
                states.append(_hidden_of(output))
            return output

        return run

    with _replaced(decoder, make):
        decoder.base(input_ids=batch, use_cache=False)
    if len(arities) != len(decoder.blocks):
        raise not_replayed(f"{len(decoder.blocks)} blocks, {len(arities)} calls")
    return states, arities


def _check_arguments(args: tuple, kwargs: dict, batch: Tensor) -> None:
    if not args or not isinstance(args[0], Tensor) or args[0].shape[:2] != batch.shape or args[0].dim() != 3:
        raise not_replayed("hidden states are not the first argument of its blocks")


def _pass_through(
    decoder: Decoder, batch: Tensor, arities: list[int | None], pool: Pool
) -> tuple[Tensor, list[Arguments]]:
    """Call the model with blocks that do nothing; returns the first one's inputs and what each was given besides."""
    first, given = [], []

    def make(number: int, forward: Callable) -> Callable:
        def run(hidden, *args, **kwargs):
            if number == 0:
                first.append(hidden.clone())
            given.append(pool((args, kwargs)))
            arity = arities[number]
            return hidden if arity is None else (hidden, *[None] * (arity - 1))

        return run

    with _replaced(decoder, make):
        decoder.base(input_ids=batch, use_cache=False)
    return first[0], given


def _compare(
    decoder: Decoder, states: list[Tensor], first: Tensor, given: list[Arguments], device: torch.device | None
) -> None:
    """Raise UserError unless the blocks alone give the hidden states that the model has between them."""
    hidden = first
    for number, block in enumerate(decoder.blocks):
        if not _same(hidden, states[number]):
            raise not_replayed(f"hidden states differ before block {number}")
        with on_device(block, device) as there:
            hidden = call(block, hidden, given[number], there).to(first.device)
    if not _same(hidden, states[-1]):
        raise not_replayed("hidden states differ after the last block")


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal but for rounding; what is not finite is looked at where it matters."""
    allowed = 32 * torch.finfo(a.dtype).eps * float(b.nan_to_num(0, 0, 0).abs().max())
    return torch.allclose(a, b, rtol=0, atol=allowed, equal_nan=True)


def not_replayed(reason: str) -> UserError:
    """The error for a model whose blocks cannot be run alone."""
    return UserError(Fault("model", "", f"cannot be replayed block by block ({reason}); {FITS}"))
