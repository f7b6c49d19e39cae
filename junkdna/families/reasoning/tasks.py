"""The reasoning tasks as data: where their files are, how a row is read, what is measured, and what chance reaches.

Nothing is read here: ``reading`` does that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from junkdna.errors import Fault, UserError, did_you_mean
from junkdna.families.reasoning import choices, problems
from junkdna.families.reasoning.choices import Choice
from junkdna.families.reasoning.problems import Problem
from junkdna.families.reasoning.rows import Row

CHOICE, EQUATION = "choice", "equation"
"""The two kinds of task: take one of several texts; write an equation."""

METRICS = {CHOICE: "accuracy", EQUATION: "value_accuracy"}
"""What is measured: the share of right choices; the share of problems whose answer the equation gives."""

SIZES = {"xs": 160, "s": 640, "m": 2558, "l": 10234, "xl": 40398}
"""Training rows of WinoGrande's nested training sets."""

FOLDS = range(5)
"""The folds of MAWPS."""


@dataclass(frozen=True)
class Task:
    """One task.

    ``folder`` is its place in ``--data_dir``; ``files`` are its training and its evaluation file there, and
    ``hub_files`` the same on the Hub, in which ``{size}`` stands for WinoGrande's. ``train_rows`` tells long runs from
    short ones before anything is fetched. ``hub`` is None where the Hub has no copy with the split that is used here.
    """

    name: str
    kind: str
    folder: str
    files: tuple[str, str]
    make: Callable[[Row], Choice | Problem]
    train_rows: int
    num_choices: int = 0
    hub: str | None = None
    hub_files: tuple[str, str] = ("", "")


TASKS = {
    task.name: task
    for task in (
        Task("commonsense_qa", CHOICE, "commonsenseqa", ("train_rand_split.jsonl", "dev_rand_split.jsonl"),
             choices.commonsense_qa, 9741, 5, "tau/commonsense_qa", ("data/train-*", "data/validation-*")),
        Task("winogrande", CHOICE, "winogrande", ("train_{size}.jsonl", "dev.jsonl"), choices.winogrande, SIZES["xl"],
             2, "allenai/winogrande", ("winogrande_{size}/train-*", "winogrande_{size}/validation-*")),
        Task("mawps", EQUATION, "mawps", ("cv_mawps/fold0/train.csv", "cv_mawps/fold{fold}/dev.csv"),
             problems.problem, 1537),
        Task("svamp", EQUATION, "svamp", ("mawps-asdiv-a_svamp/train.csv", "mawps-asdiv-a_svamp/dev.csv"),
             problems.problem, 3138),
    )
}  # fmt: skip


ALIASES = {"csqa": "commonsenseqa"}
"""Other names, squeezed."""


def task_name(text: str) -> str:
    """Return the name of a task that is written in any case, with or without "-" and "_" (CommonsenseQA)."""
    wanted = ALIASES.get(_squeezed(text), _squeezed(text))
    for name in TASKS:
        if _squeezed(name) == wanted:
            return name
    reason = f"no such task{did_you_mean(text.strip().lower(), TASKS)}; allowed: {' '.join(TASKS)}"
    raise UserError(Fault("task_name", text, reason))


def _squeezed(name: str) -> str:
    return name.strip().lower().replace("-", "").replace("_", "")


def train_rows(name: str, size: str = "xl") -> int:
    """Number of training rows of a task; ``size`` is WinoGrande's."""
    return SIZES[size] if name == "winogrande" else TASKS[name].train_rows


def chance(kind: str, num_choices: int = 0) -> float:
    """What a model reaches that knows nothing: it takes one of the choices at random, or writes no right equation."""
    return 1 / num_choices if kind == CHOICE else 0.0
