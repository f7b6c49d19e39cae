"""Mistakes of the user, as opposed to mistakes of the program.

A fault names a setting, its value and the reason. The library says it in the words of a Python caller (``sparsity 1.5:
…``); ``junkdna.runs.speech`` puts it in those of the command line (``--sparsity 1.5: …``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with what was asked for.

    ``setting`` is the parameter's name, ``value`` what was given ("" if that says nothing), ``reason`` what is wrong
    with it and what is allowed.
    """

    setting: str
    value: object
    reason: str

    def __str__(self) -> str:
        return one_line(f"{self.setting} {self.value}".rstrip() + f": {self.reason}")


class UserError(ValueError):
    """One or more faults in what the user asked for, each a ``Fault`` or a line ready to be printed.

    An entry point prints them and exits with code 2. Anything else that is raised is a bug and keeps its traceback.
    """

    def __init__(self, *faults: Fault | str):
        self.faults = [fault if isinstance(fault, Fault) else one_line(fault) for fault in faults]
        super().__init__("; ".join(map(str, self.faults)))


class Faults(list):
    """Collects the faults of one check, so that the user sees all of them at once."""

    def collect(self, function, *args, **kwargs):
        """Call ``function``; keep the faults of a ``UserError`` and return None in its place."""
        try:
            return function(*args, **kwargs)
        except UserError as error:
            self.extend(error.faults)
            return None

    def raise_any(self) -> None:
        """Raise one ``UserError`` with every fault collected so far, each once, in order."""
        if self:
            raise UserError(*dict.fromkeys(self))


def one_line(text: object) -> str:
    """Text with every run of white space made a single space."""
    return " ".join(str(text).split())


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean X?)" for the nearest known word, or "" when nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""
