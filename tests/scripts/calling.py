"""Calls of the scripts as a user makes them, and what they print, read by the real parser."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import Glue_prune_oneshot
import QA_prune_oneshot
import Reasoning_prune_oneshot
import Translation_prune_oneshot
from junkdna.runs import request

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = {
    str(ROOT / "GLUE_tasks/Glue_prune_oneshot.py"): Glue_prune_oneshot.FAMILY,
    str(ROOT / "QA_tasks/QA_prune_oneshot.py"): QA_prune_oneshot.FAMILY,
    str(ROOT / "Reasoning_tasks/Reasoning_prune_oneshot.py"): Reasoning_prune_oneshot.FAMILY,
    str(ROOT / "Translation_tasks/Translation_prune_oneshot.py"): Translation_prune_oneshot.FAMILY,
}
VARIABLES = ("MODEL", "TASKS", "SPARSITIES", "RATIOS", "PERCENTAGES", "SEEDS", "GLUE_DIR", "RUNS", "EXTRA")
VARIABLES += ("TRAINING", "DRY_RUN", "METHODS", "BOOKS", "DATA_FILE")
VARIABLES += ("ZERO_SHOT", "FEW_SHOT", "PAIRS", "MIX", "DATA_DIR", "CHOOSER", "SOLVER", "CHOICES", "PROBLEMS", "SIZES")
VARIABLES += ("FOLDS", "OF_CHOICES", "OF_PROBLEMS", "MODELS", "OUT")
"""What the scripts take from the environment; that of whoever runs the tests must not reach them."""


def planned(printed: str) -> tuple[list, list[tuple[str, str]]]:
    """Return the cells of the commands that a dry run printed, by the real parser, and the (state, folder) it
    listed.
    """
    cells = []
    for line in printed.splitlines():
        if line.startswith("python "):
            _, program, *argv = shlex.split(line)
            cells += request.parse(ENTRIES[program], argv).cells
    return cells, re.findall(r"^(done|to run) +(\S+)  \[", printed, re.MULTILINE)
