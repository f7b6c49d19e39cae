"""Settings that are flags: a field of a dataclass, declared once, is a flag, a line of ``--help`` and a part of the
record.

A family's cell is a dataclass whose fields are made by ``flag``. Each has a role, which decides what else the field is:

=============  ========================================================================================================
``axis``       what the run is of (task, language pair); ``Cell.axes`` says it in words
``source``     where the data lies; compared when a run is repeated, free to differ between the runs of a report
``data``       how the data is cut; never averaged over, and equal to that of the dense run that normalises
``model``      which weights; as ``data`` (the model itself stands in the report's first column)
``training``   how the model is trained; as ``data``
``scope``      what may be pruned; never averaged over
``pattern``    what is removed: the points of a curve, or its kind
``treatment``  how removed weights are held: the kind of a curve
``fold``       which part of the data is asked, a whole number or None; what a point is averaged over before seeds
``seed``       what a point is averaged over
``layout``     changes a result by rounding at most; a report names what differs
``label``      a name that the user gave
``option``     changes no result, or by rounding where a run must be able to go on with another; never compared
=============  ========================================================================================================
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from junkdna.errors import did_you_mean
from junkdna.models import folder
from junkdna.sparsity.patterns import decimal_text

ROLES = (
    "axis",
    "source",
    "data",
    "model",
    "training",
    "scope",
    "pattern",
    "treatment",
    "fold",
    "seed",
    "layout",
    "label",
    "option",
)


@dataclass(frozen=True)
class Flag:
    """How a field is given on the command line; ``flag`` explains the parameters."""

    read: Callable[[str], object]
    names: tuple[str, ...]
    help: str
    metavar: str | None
    default: object
    many: bool
    switch: bool
    extend: bool


def flag(
    read: Callable[[str], object] = str,
    *,
    role: str,
    help: str,
    default: object = None,
    names: tuple[str, ...] = (),
    metavar: str | None = None,
    many: bool = False,
    extend: bool = False,
):
    """Declare a dataclass field that is a flag.

    ``read`` turns the flag's text into a value; it raises ValueError with the reason, or UserError with a complete
    fault. ``names`` takes the place of ``--<field>``. With ``many`` the flag takes several values, and every
    combination is a run of its own: the field holds one of them, and ``default`` is a single value. With ``extend`` the
    field holds all that was given, as a tuple. A ``default`` of False makes a switch. ``help`` gives unit, range and
    default.
    """
    assert role in ROLES, role
    made = Flag(read, names, help, metavar, default, many, switch=default is False, extend=extend)
    return dataclasses.field(default=default, metadata={"flag": made, "role": role})


def derived(role: str, make: Callable[[], object]):
    """Declare a field that is recorded as a setting but is not a flag; ``make`` gives its value."""
    return dataclasses.field(default_factory=make, metadata={"role": role})


def flags(*groups: type) -> list[tuple[str, str, Flag]]:
    """Return (group's title, field's name, flag) of every flag of some dataclasses: the family's own, then the common
    ones.
    """
    found = []
    for group in groups:
        owners = [owner for owner in group.__mro__ if dataclasses.is_dataclass(owner)]
        common = [owner for owner in owners if owner.__module__.startswith("junkdna.runs.")]
        for owner in [*(owner for owner in owners if owner not in common), *reversed(common)]:
            inherited = {
                field.name
                for base in owner.__bases__
                if dataclasses.is_dataclass(base)
                for field in dataclasses.fields(base)
            }
            for name in (field.name for field in dataclasses.fields(owner) if field.name not in inherited):
                if made := group.__dataclass_fields__[name].metadata.get("flag"):
                    found.append((owner.title, name, made))
    return found


def roles(cell: type) -> dict[str, str]:
    """Return the role of every field of a dataclass."""
    return {field.name: field.metadata["role"] for field in dataclasses.fields(cell)}


def defaults(cell: type) -> dict[str, object]:
    """Return the value, as JSON knows it, that every field has if nothing is said."""
    return {
        field.name: as_json(field.default if field.default is not dataclasses.MISSING else field.default_factory())
        for field in dataclasses.fields(cell)
    }


def changed(given: Mapping[str, object], cell: type, names: Iterable[str]) -> Iterator[str]:
    """Yield those of some flags whose values are not the defaults of a cell, as they are typed: "--fold 0 1"."""
    usual = {field.name: field.default for field in dataclasses.fields(cell)}
    for name in names:
        values = given[name] if isinstance(given[name], list) else [given[name]]
        if any(value is not None and value is not False and value != usual[name] for value in values):
            words = (f"{value:g}" if isinstance(value, float) else str(value) for value in values if value is not True)
            yield " ".join([f"--{name}", *words])


def as_json(value):
    """A setting's value as JSON knows it."""
    if isinstance(value, Decimal):
        return float(value)
    return list(value) if isinstance(value, tuple) else value


def as_text(value) -> str:
    """A setting's value as part of a folder's name."""
    return decimal_text(value) if isinstance(value, Decimal) else str(value)


# --- readers of values -----------------------------------------------------------------------------------------------


MOST = 10**9
"""Largest whole number where a flag says nothing else: counts of rows, steps and the like fit any integer of torch."""

DECIMALS = 12
"""Decimal places of an exact number: a record holds it as a float, which must mean the same number when read back."""


def number(kind: type, least=None, most=None, above: bool = False, below: bool = False) -> Callable[[str], object]:
    """Return a reader of numbers of one kind in a range; ``above`` leaves the lower end out, ``below`` the
    upper one.
    """
    bounds = [f"{'>' if above else '>='} {least}"] if least is not None else []
    bounds += [f"{'<' if below else '<='} {most}"] if most is not None else []
    allowed = f"{'a whole number' if kind is int else 'a number'} {' and '.join(bounds)}".strip()

    def read(text: str):
        try:
            value = kind(text)
            fits = math.isfinite(value)
        except (ValueError, InvalidOperation, OverflowError):
            fits = False
        low = fits and least is not None and (value < least or (above and value == least))
        high = fits and most is not None and (value > most or (below and value == most))
        if fits and most is None and kind is int and value > MOST:
            raise ValueError(f"must be {allowed} and <= {MOST}")
        if not fits or low or high:
            raise ValueError(f"must be {allowed}")
        if kind is Decimal and value.as_tuple().exponent < -DECIMALS:
            raise ValueError(f"has more than {DECIMALS} decimal places")
        return value

    return read


def one_of(allowed: Iterable[str], aliases: dict[str, str] | None = None) -> Callable[[str], str]:
    """Return a reader of one name out of several, with a hint for the nearest."""
    allowed = tuple(allowed)

    def read(text: str) -> str:
        name = (aliases or {}).get(text, text)
        if name not in allowed:
            raise ValueError(f"unknown{did_you_mean(text, allowed)}; allowed: {' '.join(allowed)}")
        return name

    return read


def regex(text: str) -> str:
    """Read a regular expression."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python may read in another way
            re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a valid regular expression: {error}") from None
    return text


def path(text: str) -> str:
    """Read the name of a file or folder; ``~`` is the home folder, also where the shell leaves it (``--flag=~/x``).

    ``data/`` and ``./data`` become ``data``: one file has one name in records.
    """
    if not text.strip():
        raise ValueError("is empty; give a file or folder")
    return plain_path(os.path.expanduser(text))


def model(text: str) -> str:
    """Read the name of a model: of a folder that holds one as ``path`` does, of any other as it is.

    ``./roberta-base`` without a model in it must not become the Hub's ``roberta-base``.
    """
    plain = path(text)
    return plain if folder.is_folder(plain) else os.path.expanduser(text)


def plain_path(value):
    """A path without redundant slashes and dots; anything else as it is."""
    return str(Path(value)) if isinstance(value, str) and "/" in value else value
