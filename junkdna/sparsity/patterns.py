"""What is removed: a pattern is a typed value, and one function owns the rounding.

Sparsity is the fraction of weights removed, in [0, 1), kept as the decimal that was typed so that 0.7 of 10 is 7 and
never 6.999. Nothing here knows about tensors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from numbers import Integral

from junkdna.errors import Fault, UserError

MAX_GROUP = 64
"""Largest M of an N:M pattern."""

PLACES = 12
"""Decimal places of a sparsity."""

USUAL_GROUP = 8
"""M of the N:M pattern that a sparsity alone stands for."""


def removed_count(sparsity: Decimal | Fraction, size: int) -> int:
    """Return how many of ``size`` weights a sparsity removes: sparsity x size to the nearest integer, halves up."""
    return int(Fraction(sparsity) * size + Fraction(1, 2))


def parse_sparsity(text: str | float | Decimal | Fraction) -> Decimal:
    """Read a sparsity as an exact decimal in [0, 1); raises UserError otherwise.

    A float counts as the decimal that Python prints for it: 0.7 is exactly 7/10. One with more than 12 decimal places,
    as arithmetic makes them, is rounded to 12, and so is a Fraction. Text that has more is refused.
    """
    try:
        value = Decimal(text.numerator) / text.denominator if isinstance(text, Fraction) else Decimal(str(text))
        if isinstance(text, Fraction | float):
            value = round(value, PLACES) or value  # what would be rounded to 0 is refused below
    except InvalidOperation:
        value = Decimal("NaN")
    if not (value.is_finite() and 0 <= value < 1):
        raise UserError(Fault("sparsity", text, "must be a number in [0, 1), the fraction of weights removed"))
    if value.as_tuple().exponent < -PLACES:
        raise UserError(Fault("sparsity", text, f"has more than {PLACES} decimal places"))
    return value.normalize() + 0 if value else Decimal(0)


def decimal_text(value: Decimal) -> str:
    """Return a decimal without exponent or trailing zeros: 0.5, 10, 12.5."""
    return format(value.normalize(), "f") if value else "0"


def _as_integer(value: object) -> object:
    """An integer of another library, as numpy's, as Python's; anything else as it is."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


@dataclass(frozen=True, init=False)
class _BySparsity:
    """A pattern that removes a fraction of the weights: ``sparsity`` in [0, 1), as float, text, Decimal or Fraction.

    It is kept as the decimal that was typed. Raises UserError if it is not in that range.
    """

    sparsity: Decimal

    def __init__(self, sparsity: str | float | Decimal | Fraction):
        object.__setattr__(self, "sparsity", parse_sparsity(sparsity))


class Unstructured(_BySparsity):
    """Remove a fraction of all weights in scope by one global ranking (paper, section 2: one-shot magnitude)."""

    def __str__(self) -> str:
        return f"unstructured, {float(self.sparsity):.4%} removed by one global ranking"


class PerMatrix(_BySparsity):
    """Remove the same fraction of every matrix, each ranked on its own (a control)."""

    def __str__(self) -> str:
        return f"uniform, {float(self.sparsity):.4%} removed from every matrix"


class PerRow(_BySparsity):
    """Remove the same fraction of every row, each ranked on its own; a row holds the inputs of one output."""

    def __str__(self) -> str:
        return f"per row, {float(self.sparsity):.4%} removed from every row"


@dataclass(frozen=True, init=False)
class PerBlock(_BySparsity):
    """Remove the same fraction of every block of ``columns`` input columns, all rows together (SparseGPT's unit).

    The last block holds the columns that are left. Raises UserError unless ``columns`` is an integer of 1 or more.
    """

    columns: int = 128

    def __init__(self, sparsity: str | float | Decimal | Fraction, columns: int = 128):
        super().__init__(sparsity)
        columns = _as_integer(columns)
        if type(columns) is not int or columns < 1:
            raise UserError(Fault("columns", columns, "must be an integer of 1 or more, the input columns of a block"))
        object.__setattr__(self, "columns", columns)

    def __str__(self) -> str:
        return f"per block, {float(self.sparsity):.4%} removed from every {self.columns} input columns"


@dataclass(frozen=True)
class NM:
    """Keep ``keep`` of every ``of`` neighbouring input columns of each row; 1 <= keep <= of <= 64, of >= 2.

    Raises UserError for other numbers.
    """

    keep: int
    of: int

    def __post_init__(self):
        object.__setattr__(self, "keep", _as_integer(self.keep))
        object.__setattr__(self, "of", _as_integer(self.of))
        if type(self.keep) is not int or type(self.of) is not int:
            raise UserError(Fault("nm", self.ratio, "N and M must be integers"))
        if not (2 <= self.of <= MAX_GROUP and 1 <= self.keep <= self.of):
            reason = f"N:M keeps N of every M weights, with 1 <= N <= M and 2 <= M <= {MAX_GROUP}"
            raise UserError(Fault("nm", self.ratio, reason))

    @property
    def sparsity(self) -> Fraction:
        """Exact fraction removed."""
        return Fraction(self.of - self.keep, self.of)

    @property
    def ratio(self) -> str:
        """As it is typed: 2:8."""
        return f"{self.keep}:{self.of}"

    @property
    def slug(self) -> str:
        """Name for folders and axes: 2of8."""
        return f"{self.keep}of{self.of}"

    def __str__(self) -> str:
        return f"N:M, keep {self.keep} of every {self.of} ({float(self.sparsity):.4%} removed)"


Pattern = Unstructured | PerMatrix | PerRow | PerBlock | NM


def check_pattern(pattern: object) -> None:
    """Raise UserError unless it is a pattern."""
    if not isinstance(pattern, Pattern):
        kinds = ", ".join(kind.__name__ for kind in Pattern.__args__)
        raise UserError(Fault("pattern", pattern, f"must be one of {kinds}, such as Unstructured(0.5)"))


def parse_nm(text: str) -> NM:
    """Read ``2:8`` (keep 2 of every 8) or the historical two digits ``68`` (prune 6 of every 8); the same value."""
    text = str(text).strip()
    if ratio := re.fullmatch(r"(\d{1,3}):(\d{1,3})", text):
        return NM(int(ratio[1]), int(ratio[2]))
    if re.fullmatch(r"\d\d", text):
        pruned, of = int(text[0]), int(text[1])
        if of >= 2 and pruned < of:
            return NM(of - pruned, of)
        reason = (
            f"two digits mean 'prune the first of every second', here {pruned} of {of}; "
            "at least one must be kept and M must be 2 or more (68 is the same as 2:8)"
        )
        raise UserError(Fault("nm", text, reason))
    reason = "write N:M with N kept of every M (2:8), or two digits (68: prune 6 of 8)"
    raise UserError(Fault("nm", text, reason))


def nm_from_sparsity(sparsity: Decimal) -> NM:
    """Return the N:8 pattern whose sparsity is exactly ``sparsity``; raises UserError listing the possible ones."""
    of = USUAL_GROUP
    pruned = Fraction(sparsity) * of
    if pruned.denominator != 1:
        possible = ", ".join(f"{decimal_text(Decimal(i) / of)} ({of - i}:{of})" for i in range(of))
        reason = f"is not a whole number of {of}ths, as an N:M pattern needs; possible: {possible}; or give the ratio"
        raise UserError(Fault("sparsity", decimal_text(sparsity), reason))
    return NM(of - int(pruned), of)
