"""How much a weight matters: scores, of which the larger are kept.

A score is a function of a matrix's name and values. The selection ranks the *bits* of the scores: those of a
non-negative float32, read as an integer, order like the float. Magnitudes of half-precision weights are therefore
ranked exactly too.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from junkdna.errors import Fault, UserError, did_you_mean

Score = Callable[[str, Tensor], Iterable[Tensor] | Tensor]
"""Given a matrix's name and values (rank 2, as the model stores it), gives the scores of its weights, row by row.

They come as one tensor, or in chunks of any size. Each is a floating tensor without negative or NaN values, ranked in
float32, or an int32 tensor >= 0, ranked as it is. A score is asked two or three times and must give the same values
each time.
"""

CHUNK = 1 << 18
"""Weights looked at at a time, so that working memory stays at a few MB whatever the model's size."""

LARGEST_KEY = 0x7FFFFFFF
INFINITY_BITS = 0x7F800000


def magnitude(name: str, weight: Tensor) -> Iterator[Tensor]:
    """Absolute values in float32: one-shot magnitude pruning (paper, section 2)."""
    for chunk in weight.detach().reshape(-1).split(CHUNK):
        yield chunk.cpu().float().abs()


def largest(name: str, weight: Tensor) -> Iterator[Tensor]:
    """Falling absolute values: the control that removes the largest magnitudes."""
    for chunk in magnitude(name, weight):
        yield LARGEST_KEY - chunk.view(torch.int32)


def random(seed: int) -> Score:
    """Return a uniform score. It depends on ``seed`` and a matrix's name and shape only, so masks are nested.

    Raises UserError unless ``seed`` is an integer of 0 or more.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise UserError(Fault("seed", seed, "must be an integer of 0 or more"))

    def random(name: str, weight: Tensor) -> Iterator[Tensor]:
        generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
        for start in range(0, weight.numel(), CHUNK):
            yield torch.from_numpy(generator.integers(0, 1 << 31, min(CHUNK, weight.numel() - start), dtype=np.int32))

    return random


SCORES = ("magnitude", "largest", "random")


def named(name: str, seed: int = 0) -> Score:
    """Return the score of that name, one of ``SCORES``; ``seed`` is used by "random". Raises UserError otherwise."""
    if name not in SCORES:
        raise UserError(Fault("score", name, f"must be one of {', '.join(SCORES)}{did_you_mean(str(name), SCORES)}"))
    return {"magnitude": magnitude, "largest": largest}.get(name) or random(seed)


def score_name(score: Score) -> str:
    """The name under which a score is recorded and reported."""
    return getattr(score, "__name__", type(score).__name__)


def keys(score: Score, name: str, weight: Tensor) -> Iterator[np.ndarray]:
    """Yield a matrix's scores as int32 >= 0 in chunks of at most ``CHUNK``, which order like the scores.

    Raises UserError if they are not tensors, if there are not as many scores as weights, and if one is negative or NaN.
    """
    if not callable(score):
        reason = f"must be a function of a name and a matrix: {', '.join(SCORES[:-1])} or random(0) of this library"
        raise UserError(Fault("score", score, reason))
    scores = score(name, weight)
    if isinstance(scores, Tensor) and scores.dim() == 2 and scores.shape == weight.shape[::-1] != weight.shape:
        shapes = f"gives {tuple(scores.shape)} scores for the {tuple(weight.shape)} weights of {name}"
        raise UserError(Fault("score", score_name(score), shapes))
    given = 0
    for part in [scores] if isinstance(scores, Tensor) else _tensors(scores, score, name):
        given += part.numel()
        if given > weight.numel():
            break
        for chunk in part.detach().reshape(-1).split(CHUNK):
            yield _as_keys(chunk, score, name)
    if given != weight.numel():
        reason = (
            f"gives {'more' if given > weight.numel() else f'only {given:,}'} scores for the {weight.numel():,} weights"
        )
        raise UserError(Fault("score", score_name(score), f"{reason} of {name}"))


def _tensors(scores: object, score: Score, name: str) -> Iterator[Tensor]:
    """The parts of what a score has returned; raises UserError if it is not made of tensors."""
    known = isinstance(scores, Iterable) and not isinstance(scores, np.ndarray)
    for part in scores if known else [scores]:
        if not isinstance(part, Tensor):
            raise UserError(Fault("score", score_name(score), f"gives {type(part).__name__} for {name}; give tensors"))
        yield part


def _as_keys(chunk: Tensor, score: Score, name: str) -> np.ndarray:
    if chunk.dtype == torch.int32:
        found, limit = chunk.cpu().numpy(), LARGEST_KEY
    elif chunk.is_floating_point():
        found, limit = chunk.cpu().float().numpy().view(np.int32), INFINITY_BITS
    else:
        raise UserError(Fault("score", score_name(score), f"gives {chunk.dtype} for {name}; give floats or int32"))
    if found.size and found.view(np.uint32).max() > limit:  # as unsigned, what has its sign bit set is larger still
        if chunk.dtype == torch.int32 or bool(((chunk < 0) | chunk.isnan()).any()):
            raise UserError(Fault("score", score_name(score), f"gives negative or NaN values for {name}"))
        found = found & np.int32(LARGEST_KEY)  # -0.0
    return found
