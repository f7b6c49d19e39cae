"""Which part of a model a parameter is, from its name alone, for any architecture: its layer and its kind of matrix."""

from __future__ import annotations

from collections.abc import Iterable

SILENT = ("weight", "self", "dense", "default")
"""Parts of a name that say nothing about what the matrix does."""


def parts(names: Iterable[str]) -> dict[str, tuple[str, int | None]]:
    """Return for every parameter of one model its kind of matrix and its layer; None outside the layers.

    The first number in a name is the layer; all numbers are taken out of the kind, so that the matrices of a layer that
    differ in a further number (experts, say) are one kind. The parts of a name that all names share are left out, as
    are those in SILENT unless two kinds would then be called the same.
    """
    split = {name: name.split(".") for name in names}
    layers = {name: next((int(part) for part in said if part.isdigit()), None) for name, said in split.items()}
    paths = {name: tuple(part for part in said if not part.isdigit()) for name, said in split.items()}
    kinds = labels(set(paths.values()), stacks({name: split[name] for name in split if layers[name] is not None}))
    return {name: (kinds[paths[name]], layers[name]) for name in split}


def stacks(split: dict[str, list[str]]) -> set[tuple[str, ...]]:
    """What stands before the layer's number in the names: one stack of layers, or several (encoder and decoder)."""
    return {tuple(said[: next(i for i, part in enumerate(said) if part.isdigit())]) for said in split.values()}


def labels(paths: set[tuple[str, ...]], before: set[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Short names of the kinds, each its own: without the only stack's path, and without what says nothing."""
    inner = {path: cut(path, before) for path in paths}
    short = {path: tuple(part for part in said if part not in SILENT) or said for path, said in inner.items()}
    words = {path: " ".join(unique(said)).replace("_", " ") for path, said in short.items()}
    taken = list(words.values())
    return {path: said if taken.count(said) == 1 else ".".join(path) for path, said in words.items()}


def cut(path: tuple[str, ...], before: set[tuple[str, ...]]) -> tuple[str, ...]:
    """A path without the part before the layers; of several stacks the last word of it that differs is kept."""
    for stack in sorted(before, key=len, reverse=True):
        if path[: len(stack)] == stack and len(path) > len(stack):
            differing = [part for part in stack if any(part not in other for other in before)]
            rest = path[len(stack) :]
            meaningful = [part for part in rest if part not in SILENT]
            return (*differing, *rest) if meaningful else (*(differing or stack), *rest)
    roots = {stack[0] for stack in before if stack}
    return path[1:] if len(path) > 2 and path[0] in roots else path


def unique(words: tuple[str, ...]) -> list[str]:
    """Words without those that the next one says too: 'embeddings', 'word_embeddings'."""
    return [word for word, after in zip(words, [*words[1:], ""]) if word not in after]
