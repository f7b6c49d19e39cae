"""A command line becomes values, each checked on its own; every fault is collected.

Importable without torch or transformers, so that ``--help`` and every complaint come at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable

from junkdna.errors import Fault, Faults, UserError, did_you_mean
from junkdna.runs.family import Family
from junkdna.runs.settings import Flag, flags

FIRST, LAST = ("data", "model", "pruning", "training"), ("output", "several jobs")
"""Groups at the beginning and at the end of the help; the others stand between them."""


def read(family: Family, argv: list[str], faults: Faults) -> dict:
    """Return the flags' values by field, those of ``many`` as lists; what is wrong goes to ``faults``."""
    return vars(parser(family, faults).parse_args(_without_gone(argv, family.gone, faults)))


def parser(family: Family, faults: Faults) -> Parser:
    """Return the parser of a family's flags: those of its cell and of its command."""
    declared = flags(family.cell, family.command)
    titles = sorted(dict.fromkeys(title for title, _, _ in declared), key=_place)
    made = Parser(family, faults)
    groups = {title: made.add_argument_group(title) for title in titles}
    for title, name, flag in declared:
        _add(groups[title], name, flag, faults)
    return made


def _place(title: str) -> int:
    order = [*FIRST, None, *LAST]
    return order.index(title if title in order else None)


class Parser(argparse.ArgumentParser):
    """argparse that collects faults instead of stopping at the first, and never guesses an abbreviated flag."""

    def __init__(self, family: Family, faults: Faults):
        super().__init__(prog=program(), description=family.description, allow_abbrev=False, add_help=True)
        self.faults = faults

    def error(self, message: str):
        raise UserError(*self.faults, message.removeprefix("argument "))

    def parse_args(self, argv=None):
        namespace, unknown = self.parse_known_args(argv)
        known = [option for action in self._actions for option in action.option_strings]
        after_flag = False
        for word in unknown:
            is_flag = word.startswith("-")
            if is_flag:
                self.faults.append(f"{word}: no such flag{did_you_mean(word.split('=')[0], known)}")
            elif not after_flag:  # else it is the value of the unknown flag before it
                self.faults.append(f"{word}: is not the value of any flag")
            after_flag = is_flag or after_flag
        return namespace


def program() -> str:
    """What the user has called: the name of the script."""
    return os.path.basename(sys.argv[0])


def _add(group, name: str, flag: Flag, faults: Faults) -> None:
    names = flag.names or (f"--{name}",)
    if flag.switch:
        group.add_argument(*names, dest=name, action="store_true", help=flag.help)
        return
    several = flag.many or flag.extend
    default = flag.default
    if several:
        default = [default] if flag.many and default is not None else list(default or ())
    group.add_argument(
        *names,
        dest=name,
        metavar=flag.metavar or name.upper(),
        nargs="+" if several else None,
        action="extend" if flag.extend else "store",
        default=default,
        type=_collecting(flag, names[0].lstrip("-"), faults),
        help=flag.help,
    )


def _collecting(flag: Flag, name: str, faults: Faults):
    """Wrap a flag's reader so that what it raises is collected."""

    def read(text: str):
        try:
            return flag.read(text)
        except UserError as error:
            faults.extend(error.faults)
        except ValueError as error:
            faults.append(Fault(name, text, str(error)))
        return None

    return read


def _without_gone(argv: Iterable[str], gone: dict[str, str], faults: Faults) -> list[str]:
    """Drop historical flags together with their value, and note why; a value may be a secret and is not repeated."""
    kept, skip_value = [], False
    for word in argv:
        name = word.split("=")[0]
        if name in gone:
            faults.append(f"{name}: {gone[name]}")
            skip_value = "=" not in word
        elif not (skip_value and not word.startswith("-")):
            kept.append(word)
            skip_value = False
    return kept
