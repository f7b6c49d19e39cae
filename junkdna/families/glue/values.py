"""What a cell may hold: a text or a label. A missing value is missing, whatever it is written as."""

from __future__ import annotations

import math
import re
import unicodedata

from junkdna.families import textfiles
from junkdna.families.glue.tables import Table

MISSING = {
    *("NA", "<NA>", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A", "None", "<none>", "<null>", "NaT"),
    *("-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN"),
}
"""What data frames and spreadsheets write where a value is missing; ``nan`` and ``null`` are so in any case."""

LONGEST_MARK = 20
"""Characters. No mark of a missing value is longer."""

LARGEST = float.fromhex("0x1.fffffep127")
"""The largest number of fp32."""

LONGEST_LABEL = 200
"""Characters. What is longer is not the name of a class, and not a number that can be learnt."""


def is_missing(value) -> bool:
    """Whether a cell holds nothing."""
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    if not isinstance(value, str):
        return False
    text = value.strip()
    if len(text) > LONGEST_MARK:
        return False
    return not text or text in MISSING or text.lstrip("+-").casefold() in ("nan", "null")


def texts(table: Table, place: int, name: str, words_stay: bool = False) -> list[str]:
    """Return a column's texts; raises UserError with row and column.

    With ``words_stay`` nothing is missing: a text may be empty, and ``n/a`` is a text.
    """
    found = table.column(place)
    for index, value in enumerate(found):
        if not words_stay and is_missing(value):
            raise table.wrong(index, _nothing(name, value))
        _check_kind(table, index, name, value)
    return [str(value) for value in found]


def labels(table: Table, place: int, name: str) -> list[str]:
    """Return a column's labels as text, so that 1 (a class) and 1.0 (a score) stay apart; raises UserError."""
    found = table.column(place)
    for index, value in enumerate(found):
        if is_missing(value):
            raise table.wrong(index, _nothing(name, value))
        _check_kind(table, index, name, value)
        if isinstance(value, (str, int)) and len(label := _label(value)) > LONGEST_LABEL:
            raise table.wrong(index, f"has a {name!r} of {len(label)} characters; is it the right column?")
    return [_label(value) for value in found]


def _nothing(name: str, value) -> str:
    said = "" if value is None or not str(value).strip() else f": {str(value).strip()} stands for a missing value"
    return f"has no {name!r}{said}"


def _check_kind(table: Table, index: int, name: str, value) -> None:
    """Refuse what is neither text nor a number, and text that cannot be written as UTF-8."""
    if isinstance(value, str):
        try:
            textfiles.check_whole(value, name)
        except ValueError as error:
            raise table.wrong(index, str(error)) from None
    elif not isinstance(value, (int, float)):
        raise table.wrong(index, f"has a {name!r} that is neither text nor number")
    elif isinstance(value, float) and math.isinf(value):
        raise table.wrong(index, f"has a {name!r} that is not a finite number")


def _label(value) -> str:
    return str(value).strip() if not isinstance(value, bool) else str(int(value))


def is_int(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", text) is not None


def is_float(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None


def score(text: str) -> float | None:
    """A label as a number that is finite in fp32, in which losses are computed, or None."""
    return float(text) if is_float(text) and abs(float(text)) <= LARGEST else None


def spelling(label: str) -> int | str:
    """What labels have in common that differ in case, the way a sign is written, leading zeros or white space only."""
    label = label.replace("\N{MINUS SIGN}", "-")
    if is_int(label):
        return int(label)
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())
