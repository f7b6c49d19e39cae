"""Mistakes of the user, as opposed to mistakes of the program.

A fault names a setting, its value and the reason. The library says it in the words of a Python caller (``sparsity 1.5:
…``); ``junkdna.runs.speech`` puts it in those of the command line (``--sparsity 1.5: …``).
"""

from __future__ import annotations

import difflib
import re
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
        return one_line(f"{self.setting} {shortened(str(self.value))}".rstrip() + f": {self.reason}")


class UserError(ValueError):
    """One or more faults in what the user asked for, each a ``Fault`` or a line ready to be printed.

    An entry point prints them and exits with ``code``: 2, or 1 if the run had begun. Anything else that is raised is a
    bug and keeps its traceback.
    """

    code = 2

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


UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that steer a terminal, a spreadsheet or a page instead of being shown, and halves of a character."""

SECRET = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
"""The form of a Hugging Face token."""

LONGEST = 240
"""Characters of a word that a message repeats at most."""


def visible(text: object, keep: str = "") -> str:
    """Text in which what is not shown as it is stands escaped (``\\x1b``), except ``keep``; a token is left out."""
    shown = UNSEEN.sub(lambda found: found[0] if found[0] in keep else escaped(found[0]), str(text))
    return SECRET.sub("hf_...", shown)


def escaped(character: str) -> str:
    """A character as Python writes it: ``\\n``, ``\\x1b``, ``\\u202e``."""
    return ascii(character)[1:-1]


def one_line(text: object) -> str:
    """Text with every run of white space made a single space, and nothing in it that is longer than a line or two."""
    return " ".join(map(shortened, visible(text, keep=SPACES).split()))


SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"
"""The white space among those characters."""


def shortened(word: str) -> str:
    """A word whose middle is left out where it is very long, as in a number of 400 digits."""
    if len(word) <= LONGEST:
        return word
    return f"{word[: LONGEST // 2]}...{word[-LONGEST // 4 :]} ({len(word)} characters)"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean X?)" for the nearest known word, or "" when nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""
