"""Reading a reasoning task: from its original files, from the Hub, or from files of your own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from junkdna.errors import Fault, UserError
from junkdna.families.reasoning import choices, folds, problems, rows, tables
from junkdna.families.reasoning.choices import Choices
from junkdna.families.reasoning.problems import Problems
from junkdna.families.reasoning.rows import Row
from junkdna.families.reasoning.tasks import CHOICE, EQUATION, SIZES, TASKS, Task
from junkdna.models import hub

COLLECTIONS = {CHOICE: Choices, EQUATION: Problems}


@dataclass(frozen=True)
class Data:
    """Both splits of a task, of the same kind: ``Choices`` with equally many choices, or ``Problems``."""

    kind: str
    train: Choices | Problems
    eval: Choices | Problems

    @property
    def num_choices(self) -> int:
        """Choices of each question; 0 for word problems."""
        return self.train.num_choices if self.kind == CHOICE else 0


# --- the original files ----------------------------------------------------------------------------------------------


def read_dir(folder: str, name: str, size: str = "xl", fold: int = 0) -> Data:
    """Read a task below a folder that holds ``commonsenseqa``, ``winogrande``, ``mawps`` and ``svamp``.

    ``size`` is WinoGrande's, ``fold`` that of MAWPS. Raises UserError.
    """
    task = TASKS[name]
    root = Path(folder) / task.folder
    if name == "mawps":
        return Data(EQUATION, *folds.read(root / Path(task.files[0]).parts[0], fold))
    train, other = (root / file.format(size=_size(size)) for file in task.files)
    if name == "winogrande" and not train.exists() and size == "xl":
        packed = root / "winogrande_xl.zip"  # the largest one is to be had as an archive only, with some copies
        where = f"--data_dir: {packed if packed.exists() else train}"
        return _data(task, where, tables.from_zip(where, packed, "train"), *_file(other))
    return _data(task, *_file(train), *_file(other))


def _size(size: str) -> str:
    if size not in SIZES:
        raise UserError(Fault("winogrande_size", size, f"no such size; allowed: {' '.join(SIZES)}"))
    return size


def _file(path: Path) -> tuple[str, list[Row]]:
    where = f"--data_dir: {path}"
    return where, rows.read(where, path)


def _data(task: Task, train_where: str, train: list[Row], eval_where: str, other: list[Row]) -> Data:
    of = COLLECTIONS[task.kind].of
    made = [rows.each(where, found, task.make) for where, found in ((train_where, train), (eval_where, other))]
    origins = (where.removeprefix("--data_dir: ") for where in (train_where, eval_where))
    return Data(task.kind, *map(of, made, origins))


# --- the Hub ---------------------------------------------------------------------------------------------------------


def read_hub(name: str, size: str = "xl") -> Data:
    """Read a task from the Hub, or from its local cache when the Hub is out of reach. Raises UserError."""
    task = TASKS[name]
    if task.hub is None:
        reason = "the Hub has no copy with the split that is used here; give --data_dir, or files of your own with"
        raise UserError(Fault("task_name", name, f"{reason} --train_file and --validation_file"))
    found = []
    for pattern in (file.format(size=_size(size)) for file in task.hub_files):
        try:
            files, commit = hub.fetch_files(task.hub, pattern)
        except UserError as error:
            reason = f"{error.faults[0].reason}; give --data_dir with a local copy, or files of your own"
            raise UserError(Fault("task_name", name, reason)) from None
        found += [f"{task.hub} at {commit}, {pattern}", tables.from_parquet(files)]
    return _data(task, *found)


# --- files of your own -----------------------------------------------------------------------------------------------


def read_files(train_file: str, validation_file: str) -> Data:
    """Read two files of one kind, which the first row of the training file shows. Raises UserError.

    Word problems have an ``equation`` (csv or json lines, see ``problems.problem``); everything else is multiple choice
    (json lines, see ``choices.own``).
    """
    wheres = (f"--train_file {train_file}", f"--validation_file {validation_file}")
    found = [rows.read(where, path) for where, path in zip(wheres, (train_file, validation_file))]
    kind = EQUATION if {"equation", "Equation"} & set(found[0][0].cells) else CHOICE
    for where, path in zip(wheres, (train_file, validation_file)):
        if kind == CHOICE and rows.is_csv(path):
            reason = "has no column 'equation'; csv files hold word problems (text, numbers, equation, answer), "
            raise UserError(f"{where}: {reason}questions with choices are read from json lines")
    make = problems.problem if kind == EQUATION else choices.own
    made = [COLLECTIONS[kind].of(rows.each(where, part, make), where) for where, part in zip(wheres, found)]
    data = Data(kind, *made)
    if kind == CHOICE and data.eval.num_choices != data.num_choices:
        reason = f"its rows have {data.eval.num_choices} choices, those of {wheres[0]} {data.num_choices}"
        raise UserError(f"{wheres[1]}: {reason}; both must have as many")
    return data
