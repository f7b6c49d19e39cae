"""A command line becomes values, each checked on its own; every fault is collected.

Importable without torch or transformers, so that ``--help`` and every complaint come at once.
"""

from __future__ import annotations

import argparse
import os
import re
import sys

from junkdna.errors import UNSEEN, Fault, Faults, UserError, did_you_mean, escaped, visible
from junkdna.runs.family import Family
from junkdna.runs.settings import Flag, flags
from junkdna.runs.speech import say

FIRST, LAST = ("data", "model", "pruning", "training"), ("output", "several jobs")
"""Groups at the beginning and at the end of the help; the others stand between them."""

NAME = re.compile(r"-+[\w-]*")
"""The part of a word that is a flag's name. What follows it may be a secret: ``--hub_token=...``."""

NEGATIVE = re.compile(r"-(\.?\d|inf|s?nan)", re.IGNORECASE)
"""How a negative number begins, which is a value; argparse itself takes -1e5 and -inf for flags."""

ELSEWHERE = {
    "--lr": "--learning_rate",
    "--batch_size": "--per_device_train_batch_size",
    "--epochs": "--num_train_epochs",
    "--model": "--model_name_or_path",
    "--max_seq_length": "--max_length",
    "--grad_accum": "--gradient_accumulation_steps",
}
"""What other programs call flags that have a longer name here."""

GONE = {
    "--hub_token": "a token on a command line ends up in shell histories and logs; run 'hf auth login' or set HF_TOKEN",
}
"""Historical flags that no family has, beside those of its own."""


def read(family: Family, argv: list[str], faults: Faults) -> dict:
    """Return the flags' values by field, those of ``many`` as lists; what is wrong goes to ``faults``."""
    return vars(parser(family, faults).parse_args(argv))


def parser(family: Family, faults: Faults) -> Parser:
    """Return the parser of a family's flags: those of its cell and of its command."""
    declared = flags(family.cell, family.command)
    titles = sorted(dict.fromkeys(title for title, _, _ in declared), key=_place)
    made = Parser(family.description, faults, family.gone | GONE)
    groups = {title: made.add_argument_group(title) for title in titles}
    for title, name, flag in declared:
        _add(groups[title], name, flag, faults)
    return made


def _place(title: str) -> int:
    order = [*FIRST, None, *LAST]
    return order.index(title if title in order else None)


class Parser(argparse.ArgumentParser):
    """argparse that collects faults instead of stopping at the first, and never guesses an abbreviated flag.

    ``gone`` are historical flags that cannot be honoured, with the reason. The value of such a flag, and of one that
    does not exist, may be a secret and is never repeated.
    """

    def __init__(self, description: str, faults: Faults, gone: dict[str, str] | None = None, prog: str | None = None):
        super().__init__(prog=prog or program(), description=description, allow_abbrev=False, add_help=True)
        self._negative_number_matcher = NEGATIVE
        self.faults = faults
        self.gone = gone or {}

    def error(self, message: str):
        raise UserError(*self.faults, message.removeprefix("argument "))

    def parse_args(self, argv=None):
        words = list(sys.argv[1:] if argv is None else argv)
        if not self._get_positional_actions():
            words = self._join(words)
        words = self._without_gone(words)
        self._check_characters(words)
        self._check_lone(words)
        namespace, unknown = self.parse_known_args(words)
        self._refuse(unknown)
        return namespace

    @property
    def known(self) -> list[str]:
        return [option for action in self._actions for option in action.option_strings]

    def _join(self, words: list[str]) -> list[str]:
        """Take a lone ``--`` and the flag's name after it for that flag: the paper's scripts have it so."""
        known, joined, kept = {*self.known, *self.gone}, [], []
        words = list(words)
        while words:
            word = words.pop(0)
            if word != "--":
                kept.append(word)
                continue
            name = re.match(r"\w*", words[0] if words else "")[0]
            # a line that ends in a backslash glues the next one to it: freeze_weights--noembed
            parts = words[0].split("--") if name and "=" not in words[0] else words[:1]
            parts = [f"--{part}" for part in parts]
            if name and all(NAME.match(part)[0] in known for part in parts):
                words[:1] = parts
                joined.append(NAME.match(parts[0])[0])
            else:
                hint = did_you_mean(f"--{name}", known) if name else ""
                raise UserError(*self.faults, f"--: stands alone; write a flag's name right after it{hint}")
        if joined:
            say(f"note: a lone -- belongs to the flag after it: {' '.join(joined)}", sys.stderr)
        return kept

    def _without_gone(self, words: list[str]) -> list[str]:
        """Drop historical flags, however they are spelled, together with their values, and note why."""
        known, kept, dropping = set(self.known), [], False
        for word in words:
            name = NAME.match(word)[0] if word[:1] == "-" and not NEGATIVE.match(word) else ""
            if name in known:
                dropping = False
            elif dropping and not name.startswith("--"):
                continue  # a value, of whatever form
            elif reason := self._refused(name, word[len(name) :]):
                self.faults.append(f"{name}: {reason}")
                dropping = True
            elif name:
                dropping = False
            if not dropping:
                kept.append(word)
        return kept

    def _refused(self, name: str, rest: str) -> str:
        """Why a name, in whatever case, with dashes or misspelled, is refused here; "" where argparse will see to it.

        ``rest`` is what follows the name in its word.
        """
        plain = _plain(name)
        if plain in self.gone:
            return self.gone[plain]
        hint = did_you_mean(plain, [*self.known, *self.gone])
        meant = next((gone for gone in self.gone if hint == f" (did you mean {gone}?)"), None)
        if name and meant:
            return f"no such flag; if {meant} is meant: {self.gone[meant]}"
        # argparse takes -help_me=1 for -h and repeats the rest, and "--name value" in one word for a value
        here = len(name) > 1 and (name[1] != "-" or rest[:1] not in ("", "="))
        return f"no such flag{hint}" if here else ""

    def _check_characters(self, words: list[str]) -> None:
        """Refuse control characters and broken text: a value goes to terminals, job scripts, tables and pages."""
        of, found_so_far = "", len(self.faults)
        for word in words:
            name = NAME.match(word) if word.startswith("--") else None
            of = name[0] if name else of
            found = UNSEEN.search(word)
            if found and of:
                what = "is not valid UTF-8" if "\ud800" <= found[0] <= "\udfff" else "holds the control character"
                value = (word if not name else word.partition("=")[2]) if of in self.known else ""
                character = "" if what.endswith("8") else f" {escaped(found[0])}"
                self.faults.append(Fault(of.lstrip("-"), visible(value), f"{what}{character}; leave it out"))
        if len(self.faults) > found_so_far:
            self.faults.raise_any()

    def _check_lone(self, words: list[str]) -> None:
        """Refuse ``--flag=--``: argparse would drop the value, and give an empty list. It does refuse a switch's."""
        switches = {name for action in self._actions if action.nargs == 0 for name in action.option_strings}
        for word in words:
            name, equals, value = word.partition("=")
            if equals and value == "--" and name in self.known and name not in switches:
                self.error(f"{name} --: is not a value; give one")

    def _refuse(self, unknown: list[str]) -> None:
        """Note the words that belong to no flag, without what may be the value of one."""
        known = [*self.known, *self.gone]
        after_flag = False
        for word in unknown:
            name = NAME.match(word)
            if name:
                self.faults.append(f"{name[0]}: no such flag{_meant(_plain(name[0]), known)}")
            elif not after_flag:  # else it is the value of the unknown flag before it
                self.faults.append(f"{word}: is not the value of any flag")
            after_flag = bool(name) or after_flag


def _meant(name: str, known: list[str]) -> str:
    """A hint at the flag that may be meant: what other programs call so, or else the nearest name."""
    usual = ELSEWHERE.get(name)
    return f" (did you mean {usual}?)" if usual in known else did_you_mean(name, known)


def _plain(name: str) -> str:
    """A flag's name in the spelling of the program: lower case, underscores."""
    return "--" + name.lstrip("-").lower().replace("-", "_")


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
