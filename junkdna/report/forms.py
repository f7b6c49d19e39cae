"""The form of tables: Markdown, CSV, numbers and intervals as text."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from junkdna.errors import visible

if TYPE_CHECKING:
    from pandas import DataFrame

MARKS = re.compile(r"[\\`*|~$]|(?<![^\W_])_|_(?![^\W_])|(?<=\])\(")
"""What Markdown takes for a mark: of underscores those at a word's edge, of brackets those of a link."""

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?( ?%)?")


@dataclass(frozen=True)
class Table:
    """Names of columns, rows of text, and the numbers of the columns whose cells stand to the right."""

    head: list[str]
    rows: list[list[str]]
    right: frozenset[int]

    def markdown(self) -> str:
        rule = "|".join("---:" if i in self.right else "---" for i in range(len(self.head)))
        head, *rows = ("| " + " | ".join(map(escape, row)) + " |" for row in (self.head, *self.rows))
        return "\n".join([head, f"|{rule}|", *rows]) + "\n"


def table(head: str | Sequence[str], rows: list[list], right: Sequence[str] = ()) -> Table:
    """A table of these columns, a list or "one | other" as text; ``right`` names those of numbers."""
    names = head.split(" | ") if isinstance(head, str) else list(head)
    return Table(
        names,
        [[str(text) for text in row] for row in rows],
        frozenset(i for i, name in enumerate(names) if name in right),
    )


def bounds(low: float | None, high: float | None, form: str, scale: float = 1, *, none: str = "none") -> str:
    """An interval, or ``none`` where there is none; an open end is 'never'."""
    if low is None or low != low:
        return none
    return "[" + ", ".join("never" if math.isinf(end) else form.format(scale * end) for end in (low, high)) + "]"


def escape(text: object) -> str:
    """Text that stays inside its table cell, on one line, and is shown as it is: nothing in it is Markdown or HTML."""
    return MARKS.sub(r"\\\g<0>", html.escape(" ".join(visible(text, keep="\n\t").split()), quote=False))


FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How text begins that a spreadsheet takes for a formula; the last four are the wide forms."""


def csv(frame: DataFrame) -> str:
    """A frame as CSV in which no text is a formula: such text stands behind an apostrophe. Numbers stay numbers."""
    import pandas as pd

    safe = frame.rename(columns=harmless)
    for at, kind in enumerate(safe.dtypes):
        if kind.kind not in "biuf":
            column = [harmless(value) for value in safe.iloc[:, at]]
            safe.isetitem(at, pd.Series(column, index=safe.index, dtype=object))
    return safe.to_csv(index=False)


def harmless(value):
    """A cell's value without control characters, and not to be taken for a formula."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = visible(value)
    if text.lstrip().startswith(FORMULA) and not NUMBER.fullmatch(text):
        return f"'{text}"
    return text if isinstance(value, str) or text != str(value) else value


def number(value: float | None, form: str) -> str:
    """A number, or nothing where there is none (one seed has no deviation)."""
    return "" if value is None or value != value else form.format(value)
