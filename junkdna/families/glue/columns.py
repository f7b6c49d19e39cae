"""Which columns of a file are read: by name, and never by an unclear guess."""

from __future__ import annotations

import re
from dataclasses import dataclass

from junkdna.errors import UserError
from junkdna.families.glue.tables import Table, listed
from junkdna.families.glue.values import is_float

USUAL = ("sentence1", "sentence2")
LABEL = "label"
INDEX = re.compile(
    r"(?i:(.*[_ .-])?(id|idx|index|guid|uuid|uid)|unnamed:.*|row|no|nr|num|number|#|level_0)|[a-z0-9]+I[Dd]"
)
"""Names of columns that count rows or name them."""

NAMELESS = "a column has no name"


@dataclass(frozen=True)
class Columns:
    """The columns that are read: one or two texts, and the label."""

    texts: tuple[str, ...]
    label: str


def choose(train: Table, text_columns: tuple[str, ...], label_column: str | None) -> Columns:
    """Return the columns to read: those that are named, else sentence1[, sentence2] and label, else the one or two
    others where that is clear. Raises UserError.
    """
    label = label_column or LABEL
    if label not in train.columns:
        hint = "" if label_column else "; --label_column names another"
        raise UserError(f"{train.where}: has no column {label!r} (its columns: {listed(train.columns)}){hint}")
    for name in text_columns:
        if name not in train.columns:
            raise UserError(f"{train.where}: has no column {name!r} (its columns: {listed(train.columns)})")
    if text_columns:
        return Columns(text_columns, label)
    others = [name for name in train.columns if name != label]
    if USUAL[0] in others:
        _check_second(train, others)
        return Columns(tuple(name for name in USUAL if name in others), label)
    if not others:
        raise UserError(f"{train.where}: has no text column beside {label!r}")
    odd = {name: why for name in others if (why := _unlike_text(train, name, label, len(others)))}
    if odd or len(others) > 2:
        raise _unclear(train, label, others, odd)
    return Columns(tuple(others), label)


def _check_second(train: Table, others: list[str]) -> None:
    """Refuse another spelling of the second text's column: its texts would be left out without a word."""
    first, second = USUAL
    odd = next((name for name in others if name != second and _bare(name) == second), None)
    if odd is not None and second not in others:
        reason = f"has a column {odd!r}, which may be meant for {second}"
        raise UserError(
            f"{train.where}: {reason}; rename it, or say what is read with --text_columns {first} {_quoted(odd)}, or "
            f"--text_columns {first} alone"
        )


def _bare(name: str) -> str:
    return re.sub(r"[\s_.-]", "", name).casefold()


def _unlike_text(table: Table, name: str, label: str, candidates: int) -> str | None:
    """Why a column may not be a text, or None."""
    if not name.strip():
        return NAMELESS
    if INDEX.fullmatch(name.strip()):
        return "is an index by its name"
    if name.strip().casefold().startswith("label"):
        return "is a label by its name"
    values = table.values(name)
    if all(isinstance(value, (int, float)) or (isinstance(value, str) and is_float(value.strip())) for value in values):
        return "holds numbers only"
    if candidates > 1 and _says_label(values, table.values(label)):
        return f"says the same as {label!r}"
    return None


def _says_label(values: list, labels: list) -> bool:
    """Whether a column has one value for each label and no other: the label in other words."""
    pairs = {(str(value), str(label)) for value, label in zip(values, labels)}
    return len({v for v, _ in pairs}) == len({name for _, name in pairs}) == len(pairs) < len(values) and len(pairs) > 1


def _unclear(train: Table, label: str, others: list[str], odd: dict[str, str]) -> UserError:
    reason = f"{len(others)} columns may be texts"
    if odd:
        name, why = next(iter(odd.items()))
        reason = why if why == NAMELESS else f"column {name!r} {why}"
    likely = [name for name in others if name not in odd][:2]
    example = f", for example --text_columns {' '.join(map(_quoted, likely))}" if likely else ""
    return UserError(
        f"{train.where}: {reason}, so it is unclear which hold the texts (its columns: {listed(train.columns)}); "
        f"name them with --text_columns A [B], and the label with --label_column L if it is not {label!r}{example}"
    )


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"\w+", name) else repr(name)


def agree(columns: Columns, train: Table, other: Table, named: bool) -> None:
    """Refuse another file that lacks a column that is read, or has other columns; raises UserError.

    Where the texts are ``named`` by a flag, columns that are not read may differ.
    """
    read = (*columns.texts, columns.label)
    missing = [name for name in (read if named else train.columns) if name not in other.columns]
    missing = [name for name in missing if name.strip()]
    extra = [] if named else [name for name in other.columns if name not in train.columns]
    said = [f"has no column {name!r}, which {train.where} has" for name in missing[:1]]
    said += [f"has a column {name!r}, which {train.where} lacks" for name in extra[:1]]
    if said:
        way_out = "" if {*missing} & {*read} else "; --text_columns names the columns to read, and others may differ"
        raise UserError(f"{other.where}: {', and '.join(said)} (its columns: {listed(other.columns)}){way_out}")
