"""Parallel text: the same sentences in two languages."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

CODE = re.compile(r"[a-z]{2,3}|[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+")
"""A language: as people write it, or a model's own code such as ``deu_Latn``."""

UNSEEN = {"Cc", "Cf", "Zl", "Zp", "Zs"}
"""Unicode's categories of what leaves no mark on paper."""


def languages(pair: str) -> tuple[str, str]:
    """Return source and target of "en-de"; raises ValueError with the reason."""
    codes = pair.split("-")
    if len(codes) != 2:
        raise ValueError("is not a pair of languages, source-target, such as en-de")
    for code in codes:
        if not CODE.fullmatch(code):
            small = code.lower()
            near = f" (did you mean {small}?)" if small != code and CODE.fullmatch(small) else ""
            raise ValueError(
                f"{code!r} is not a language{near}; write two or three lower-case letters, as in en-de, or a model's "
                "own code with an underscore, as in eng_Latn-deu_Latn"
            )
    if codes[0] == codes[1]:
        raise ValueError("names one language twice; give two")
    return codes[0], codes[1]


@dataclass(frozen=True)
class Parallel:
    """The rows of one split of one pair that have text on both sides: row i of ``target`` translates row i of
    ``source``. A text is as the file has it, without the line's end.

    ``origin`` says where they are from, ``lines`` how many rows were read, ``empty`` how many of those were kept out
    because a side has no text.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    origin: str
    lines: int
    empty: int

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all rows, so that two runs can be seen to have read the same."""
        digest = hashlib.sha256()
        for row in zip(self.source, self.target):
            digest.update(json.dumps(row).encode() + b"\n")
        return digest.hexdigest()

    def recurring(self, train: Parallel) -> int:
        """How many rows are rows of ``train`` too, both sides alike."""
        known = set(zip(train.source, train.target))
        return sum(row in known for row in zip(self.source, self.target))

    def first(self, count: int | None) -> Parallel:
        """The first ``count`` rows, all for None; what is said of the files stays."""
        if count is None or count >= len(self):
            return self
        return replace(self, source=self.source[:count], target=self.target[:count])


def gather(rows: Iterable[tuple[str, str]], origin: str, most: int | None = None) -> Parallel:
    """Return the (source, target) rows that have text on both sides; stops after ``most`` (1 or more) of them."""
    sources, targets, lines = [], [], 0
    for source, target in rows:
        lines += 1
        if has_text(source) and has_text(target):
            sources.append(source)
            targets.append(target)
            if len(sources) == most:
                break
    return Parallel(tuple(sources), tuple(targets), origin, lines, lines - len(sources))


def has_text(text: str) -> bool:
    """Whether anything of a text can be seen: spaces, control and zero-width characters cannot."""
    return any(unicodedata.category(character) not in UNSEEN for character in text)
