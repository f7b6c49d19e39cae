"""Equations in prefix form, ``/ + number0 number1 2.0``: every operator stands before its two operands.

The form needs no brackets, and says by itself where it ends. A token is an operator, a number slot (``number0`` is the
problem's first number), or a constant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal

from junkdna.runs.collapse import ROUNDING

OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}

TOLERANCE = 0.01
"""How far a value may be from the answer: answers are rounded to two decimals."""

SLOT = re.compile(r"number(0|[1-9][0-9]*)")
CONSTANT = re.compile(r"-?[0-9]+(\.[0-9]+)?")

FORM = "an equation is written in prefix form, the operator before its two operands, as in '+ number0 number1'"


def parse(text: str, numbers: int | None = None) -> tuple[str, ...]:
    """Return the tokens of a well-formed equation, constants in one spelling (``12`` as ``12.0``).

    ``numbers``: how many numbers the problem has (None: not known). Raises ValueError with the reason: an unknown
    token, an operator that lacks an operand, tokens after the end, a slot without number.
    """
    tokens = tuple(map(_token, text.split()))
    if not tokens:
        raise ValueError(f"it is empty; {FORM}")
    missing = 1
    for place, token in enumerate(tokens):
        if not missing:
            raise ValueError(f"it ends before {tokens[place]!r}, token {place + 1} of {len(tokens)}; {FORM}")
        missing += 1 if token in OPERATORS else -1
        slot = slot_of(token)
        if slot is not None and numbers is not None and slot >= numbers:
            raise ValueError(f"the slot {token!r} has no number, there are {numbers}, counted from number0")
    if missing:
        raise ValueError(f"{missing} operand(s) are missing at its end; {FORM}")
    return tokens


def _token(word: str) -> str:
    if word in OPERATORS or SLOT.fullmatch(word):
        return word
    if CONSTANT.fullmatch(word) and math.isfinite(number := float(word)):
        return format(Decimal(str(number)), "f")  # never with an exponent, which would be no constant
    allowed = f"an operator ({' '.join(OPERATORS)}), a number slot (number0, number1, ...) or a finite number"
    raise ValueError(f"{word!r} is not {allowed}; {FORM}")


def slot_of(token: str) -> int | None:
    """The index of the number that a slot stands for; None for other tokens."""
    found = SLOT.fullmatch(token)
    return int(found[1]) if found else None


def value(tokens: Sequence[str], numbers: Sequence[float]) -> float | None:
    """Return what an equation gives with these numbers; None if it is malformed or divides by zero.

    Malformed is all that ``parse`` refuses, so that whatever a model writes has a value or None. A value that is not
    finite is None too.
    """
    stack: list[float] = []
    for token in reversed(tokens):
        if token in OPERATORS:
            if len(stack) < 2:
                return None
            left, right = stack.pop(), stack.pop()
            if token == "/" and right == 0:
                return None
            stack.append(OPERATORS[token](left, right))
        elif (slot := slot_of(token)) is not None:
            if slot >= len(numbers):
                return None
            stack.append(numbers[slot])
        elif CONSTANT.fullmatch(token):
            stack.append(float(token))
        else:
            return None
    return stack[0] if len(stack) == 1 and math.isfinite(stack[0]) else None


def same(a: float | None, b: float | None) -> bool:
    """Whether two values differ by ``TOLERANCE`` at most, rounding aside; None equals nothing."""
    return a is not None and b is not None and abs(a - b) <= TOLERANCE + ROUNDING
