"""Which matrices a caller wants, by regular expressions on their names; each of which must match a matrix."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from junkdna.errors import Fault, UserError


class NameFilter:
    """``within`` is an expression that a matrix's name must contain, ``exclude`` holds those that it must not.

    ``of`` says in messages where the matrices are. Raises UserError if an expression is not valid.
    """

    def __init__(self, exclude: Iterable[str] = (), within: str | None = None, of: str = "the model"):
        texts = [exclude] if isinstance(exclude, str) else exclude or ()
        self._exclude = {text: _compiled("exclude", text) for text in texts}
        self._within = {} if within is None else {within: _compiled("within", within)}
        self._unused = {("exclude", text) for text in self._exclude} | {("within", text) for text in self._within}
        self._of = of

    def reason(self, names: Iterable[str]) -> str | None:
        """Why the matrix of these names is left out, None if it is not; notes the expressions that match it."""
        names = list(names)
        hits = [text for text, regex in self._exclude.items() if any(map(regex.search, names))]
        inside = [text for text, regex in self._within.items() if any(map(regex.search, names))]
        self._unused -= {("exclude", text) for text in hits} | {("within", text) for text in inside}
        if self._within and not inside:
            return f"not within {next(iter(self._within))}"
        return f"excluded by {hits[0]}" if hits else None

    def check_used(self) -> None:
        """Raise UserError naming every expression that no matrix has matched."""
        if self._unused:
            reason = f"matches no matrix of {self._of}"
            raise UserError(*(Fault(setting, text, reason) for setting, text in sorted(self._unused)))

    def check_left(self, matrices: Collection[str]) -> None:
        """Raise UserError if no matrix is left."""
        if not matrices:
            asked = " ".join(self._exclude or self._within)
            raise UserError(Fault("exclude", asked, "no matrix is left to prune"))


def _compiled(setting: str, text: str) -> re.Pattern:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError, TypeError) as error:
        raise UserError(Fault(setting, text, f"is not a valid regular expression: {error}")) from None
