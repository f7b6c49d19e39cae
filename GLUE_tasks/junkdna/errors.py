"""Mistakes of the user, as opposed to mistakes of the program."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class UserError(Exception):
    """One or more faults in what the user asked for; each is a single line ready to be printed.

    The entry point prints them and exits with code 2. Anything else that is raised is a bug and keeps its traceback.
    """

    def __init__(self, *faults: str):
        self.faults = [" ".join(str(fault).split()) for fault in faults]
        super().__init__("; ".join(self.faults))


def explain(error: UserError | ModuleNotFoundError, speak: bool = True) -> int:
    """Tell the user of a mistake, or of a package that is not installed; return the exit code, 2.

    A module of the program itself that is missing is a bug: it is raised again. ``speak=False`` prints nothing.
    """
    if isinstance(error, UserError):
        faults = error.faults
    elif error.name is None or error.name.startswith("junkdna"):
        raise error
    else:
        faults = [f"the package {error.name} is not installed; pip install -r requirements.txt"]
    for fault in faults if speak else ():
        print(f"error: {fault}", file=sys.stderr)
    return 2


def in_one_line(error: Exception) -> str:
    """What went wrong, in one line; with the error's kind where it is no mistake of the user's."""
    if isinstance(error, UserError):
        return str(error)
    return " ".join([f"{type(error).__name__}:", *str(error).splitlines()[:1]])


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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean X?)" for the nearest known word, or "" when nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""
