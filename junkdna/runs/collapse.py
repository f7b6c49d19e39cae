"""Runs that have collapsed: what they give every example is the same answer, or as good as that."""

from __future__ import annotations

MARGIN = 0.02
"""Two points: so far above what one answer to all examples reaches, a run has learned nothing."""

HAIR = 1e-9
"""What rounding may add to a difference."""


def collapsed(value: float, floor: float | None) -> bool:
    """Whether a main metric is no more than ``MARGIN`` above ``floor``, what one answer to all reaches (None: not
    known).
    """
    return floor is not None and value <= floor + MARGIN + HAIR
