"""Which objective a task has."""

from __future__ import annotations

from junkdna.families.encoder.data import Data
from junkdna.families.encoder.objective import Objective
from junkdna.families.reasoning.cell import ReasoningCell
from junkdna.families.reasoning.choosing import MultipleChoice
from junkdna.families.reasoning.solving import WordProblems
from junkdna.families.reasoning.tasks import CHOICE, EQUATION

OBJECTIVES = {CHOICE: MultipleChoice, EQUATION: WordProblems}


def objective_of(cell: ReasoningCell, data: Data) -> Objective:
    """Make a cell's objective; its rows say which one."""
    return OBJECTIVES[data.task.kind](cell, data)
