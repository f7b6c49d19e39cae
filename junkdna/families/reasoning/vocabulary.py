"""The symbols that equations are written in, and their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from junkdna.families.reasoning.equations import OPERATORS, slot_of
from junkdna.families.reasoning.problems import Problem

PAD, START, END = 0, 1, 2
SPECIALS = ("<pad>", "<start>", "<end>")
"""Padding, what a decoder reads first, and what it writes last. Anywhere else they make an equation malformed."""


@dataclass(frozen=True)
class Vocabulary:
    """Symbols in the order of their ids: the specials, the operators, number slots, constants."""

    symbols: tuple[str, ...]

    @classmethod
    def of(cls, training: Iterable[Problem]) -> Vocabulary:
        """Make the vocabulary of the training equations; nothing is taken from what is asked later.

        It has all four operators, the slots up to the highest that an equation uses, and the constants, the more
        frequent ones first.
        """
        counts = Counter(token for row in training for token in row.equation if token not in OPERATORS)
        slots = max((slot_of(token) for token in counts if slot_of(token) is not None), default=-1) + 1
        constants = sorted((token for token in counts if slot_of(token) is None), key=lambda t: (-counts[t], t))
        return cls((*SPECIALS, *OPERATORS, *(f"number{index}" for index in range(slots)), *constants))

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each symbol."""
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    def encode(self, tokens: Sequence[str]) -> tuple[int, ...]:
        """Return the ids of an equation, ``END`` last; raises ValueError that names a token which it does not have."""
        for token in tokens:
            if token not in self.ids:
                raise ValueError(f"no training equation has {token!r}")
        return (*(self.ids[token] for token in tokens), END)

    def decode(self, ids: Iterable[int]) -> tuple[str, ...]:
        """Return the tokens up to the first ``END``, or all if there is none."""
        tokens = []
        for number in ids:
            if number == END:
                break
            tokens.append(self.symbols[number])
        return tuple(tokens)

    def unknown(self, problems: Iterable[Problem]) -> int:
        """Number of problems whose equation cannot be written in these symbols."""
        return sum(any(token not in self.ids for token in row.equation) for row in problems)

    @property
    def growth(self) -> tuple[int, ...]:
        """By how much each symbol changes the number of operands that are still to come: 1 for an operator, -1 for an
        operand, 0 for a special, which is neither.
        """
        plain = (1 if symbol in OPERATORS else -1 for symbol in self.symbols[len(SPECIALS) :])
        return (*(0 for _ in SPECIALS), *plain)

    def usable(self, numbers: int) -> tuple[bool, ...]:
        """Which symbols have a meaning in a problem with so many numbers: not the slots beyond.

        All of them if no operand would be left: nothing that could be written has a value then.
        """
        found = tuple(slot is None or slot < numbers for slot in map(slot_of, self.symbols))
        operands = (fits for fits, change in zip(found, self.growth) if change < 0)
        return found if any(operands) else (True,) * len(self)
