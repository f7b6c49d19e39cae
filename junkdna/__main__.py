"""The command ``junkdna``, also as ``python -m junkdna``: calls the command of an experiment or of the report."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys

from junkdna import __version__
from junkdna.errors import did_you_mean, one_line

COMMANDS = {
    "glue": (
        "GLUE_tasks.Glue_prune_oneshot",
        "prune an encoder once, fine-tune it with the mask held, evaluate on GLUE",
    ),
    "qa": (
        "QA_tasks.QA_prune_oneshot",
        "prune a causal language model once, layer by layer, ask it questions with and without a text",
    ),
    "translation": (
        "Translation_tasks.Translation_prune_oneshot",
        "prune a translation model once, have it translate as it is or fine-tuned",
    ),
    "reasoning": (
        "Reasoning_tasks.Reasoning_prune_oneshot",
        "prune an encoder once, fine-tune it to choose answers or to write equations",
    ),
    "report": ("junkdna.report.__main__", "turn finished runs into tables, figures, claims and one HTML page"),
}
"""Module, with a function ``main(argv) -> exit code``, and what the command does. Only the chosen one is imported."""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit code (2 for a mistake of the user's)."""
    name, *rest = list(sys.argv[1:] if argv is None else argv) or [""]
    if name in ("-h", "--help", ""):
        print(overview())
        return 0 if name else 2
    if name == "--version":
        print(f"junkdna {__version__}")
        return 0
    if name not in COMMANDS:
        name = re.match("[^=]*", name)[0]  # what follows may be a secret
        near = did_you_mean(name, COMMANDS)
        print(f"error: {one_line(name)}: no such command{near}; known: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    command = importlib.import_module(COMMANDS[name][0])
    sys.argv = [f"{program()} {name}", *rest]  # the command's own usage says what the user has typed
    return command.main(rest)


def overview() -> str:
    """Return what ``--help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {says}" for name, (_, says) in COMMANDS.items()]
    return "\n".join(
        [f"usage: {program()} COMMAND ...", "", "commands:", *lines, "", f"{program()} COMMAND --help lists its flags."]
    )


def program() -> str:
    """Return what the user has typed to get here: ``junkdna`` or ``python -m junkdna``."""
    name = os.path.basename(sys.argv[0])
    return "python -m junkdna" if name == "__main__.py" else name


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends what is not under way yet, without a traceback
    sys.exit(main())
