"""What cells have in common, kept for as long as the next cell asks for the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

T = TypeVar("T")


class Shared:
    """A store that knows no kind. Of each kind only the latest is kept, so that memory does not grow with the cells,
    unless they make up kinds of their own.
    """

    def __init__(self):
        self._kept: dict[str, tuple[Hashable, object]] = {}
        self._read: dict[str, str] = {}

    def keep(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was last made of a kind if its key is the same; otherwise let go of it and make it anew."""
        if kind not in self._kept or self._kept[kind][0] != key:
            self._kept.pop(kind, None)  # free it before its successor is made
            self._kept[kind] = (key, make())
        return self._kept[kind][1]

    def put(self, kind: str, key: Hashable, value: T) -> T:
        """Keep a value in place of the last one of its kind."""
        self._kept[kind] = (key, value)
        return value

    def renew(self, read: Mapping[str, str]) -> list[str]:
        """Let go of everything if a file is not what it was when the last cell looked; return the names of those.

        ``read`` holds the digests of the files that a cell is about to read, by name.
        """
        changed = [name for name, digest in read.items() if self._read.get(name, digest) != digest]
        self._read |= read
        if changed:
            self._kept.clear()
        return changed
