"""GLUE as a family of experiments: what its flags say together, what its grid is made of, and where its rows come
from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

from junkdna.errors import Faults, UserError
from junkdna.families.encoder import checks, data, examples
from junkdna.families.encoder.examples import TaskData
from junkdna.families.finding import find, find_model
from junkdna.families.glue import files, reading, tasks
from junkdna.families.glue.cell import Command, GlueCell
from junkdna.families.glue.columns import LABEL
from junkdna.runs import groups, pruning
from junkdna.runs.journal import Journal
from junkdna.runs.shared import Shared
from junkdna.sparsity.patterns import decimal_text

NEVER_USED = "had no effect in this experiment (masks are made once and never updated); leave it out"


class Glue:
    """Fine-tune a pruned encoder on a GLUE task (Settings 1 and 4 and the True Gem of the paper)."""

    entry = "GLUE_tasks.Glue_prune_oneshot"
    description = (
        "Prune a pre-trained encoder once, fine-tune it on a task with the mask held, evaluate after every epoch, and "
        "record. --task_name, --sparsity, --nm_ratio, --validation_split_percentage and --seed take several values. "
        "The program runs every combination."
    )
    cell = GlueCell
    command = Command
    gone = {  # noqa: RUF012 -- read only, as all of the contract
        "--fix": NEVER_USED,
        "--sparse_mode": NEVER_USED,
        "--update_frequency": NEVER_USED,
        "--initial_prune_time": NEVER_USED,
        "--final_prune_time": NEVER_USED,
        "--use_slow_tokenizer": "the installed transformers has fast tokenizers only; leave it out",
    }

    def __init__(self, run: Callable[[GlueCell, Shared, Journal], None]):
        """``run`` is the method, from data to results."""
        self._run = run

    def run(self, cell: GlueCell, shared: Shared, journal: Journal) -> None:
        """Find what comes from the Hub before the method imports the libraries."""
        find(cell, shared, find_model, partial(data.load, read=read))
        self._run(cell, shared, journal)

    def check(self, given: dict, faults: Faults) -> None:
        _check_sources(given, faults)
        _check_columns(given, faults)
        _check_percentages(given, faults)
        groups.check_holding(given, faults)
        groups.check_training(given, faults)
        if given["cuda_graphs"] and given["no_cuda_graphs"]:
            faults.append("--cuda_graphs --no_cuda_graphs: give one of them")

    def patterns(self, given: dict, faults: Faults) -> list[dict]:
        return pruning.settings(given, faults)

    def variants(self, given: dict) -> Iterator[dict]:
        for task in given["task_name"] or [None]:
            for percentage in _percentages(given, task):
                yield {"task_name": task, "train_percentage": percentage}

    def preflight(self, cell: GlueCell, shared: Shared, faults: Faults) -> None:
        task = None
        if cell.task_name is None or cell.glue_dir:
            loaded = faults.collect(data.load, cell, shared, read)
            task = loaded and loaded.task
        labels = task.num_labels if task else None
        faults.collect(
            checks.check_folder, cell.model_name_or_path, labels, cell.max_length, cell.ignore_mismatched_sizes
        )

    def check_done(self, cell: GlueCell, shared: Shared) -> None:
        if cell.task_name is not None and not cell.glue_dir:
            return  # the Hub's rows have a commit
        data.check_done(cell, shared, read)

    def work(self, cell: GlueCell, shared: Shared) -> int:
        if cell.max_train_steps:
            return cell.max_train_steps * cell.per_device_train_batch_size * cell.gradient_accumulation_steps
        if cell.task_name and not cell.glue_dir:
            rows = examples.prefix_size(cell.train_percentage, tasks.TASKS[cell.task_name].train_rows)
            rows = min(rows, cell.max_train_samples or rows)
        else:
            try:
                rows = len(data.load(cell, shared, read).task.train)
            except UserError:  # it will fail in its job, and say why
                return 0
        return rows * cell.num_train_epochs

    def loads(self, cell: GlueCell) -> tuple:
        return (*cell.source, cell.model_name_or_path, cell.model_revision)


def read(cell: GlueCell) -> TaskData:
    """Read a cell's task from where its flags say."""
    if cell.train_file:
        return files.read_files(cell.train_file, cell.validation_file, cell.text_columns, cell.label_column)
    return reading.read_glue_dir(cell.glue_dir, cell.task_name) if cell.glue_dir else reading.read_hub(cell.task_name)


# --- what flags say together -----------------------------------------------------------------------------------------


def _check_sources(given: dict, faults: Faults) -> None:
    files = checks.check_sources(given, "glue_dir", "a GLUE task", faults)
    for name in files:
        suffix = Path(given[name]).suffix.lower()
        if suffix not in (".csv", ".json", ".jsonl"):
            faults.append(f"--{name} {given[name]}: must end in .csv, .json or .jsonl (json lines)")
        if not os.path.isfile(given[name]):
            faults.append(f"--{name} {given[name]}: no such file")
    if given["glue_dir"]:
        _check_glue_dir(given["glue_dir"], given["task_name"] or [], faults)


def _check_columns(given: dict, faults: Faults) -> None:
    """Refuse names of columns that cannot all be read, or that go with no file."""
    texts, label = given["text_columns"], given["label_column"]
    said = f"--text_columns {' '.join(texts)}"
    for flag, value in ((said, texts), (f"--label_column {label}", label)):
        if value and not (given["train_file"] or given["validation_file"]):
            faults.append(f"{flag}: goes with --train_file and --validation_file; the columns of GLUE tasks are known")
    if len(texts) > 2:
        faults.append(f"{said}: {len(texts)} columns; give one or two")
    if len(set(texts)) < len(texts):
        faults.append(f"{said}: names one column twice")
    if (label or LABEL) in texts:
        faults.append(f"{said}: {label or LABEL} is the label's column; --label_column names another")
    if any(not name.strip() for name in texts) or (label is not None and not label.strip()):
        faults.append("--text_columns and --label_column: a column without a name is not read; give it one in the file")


def _check_glue_dir(folder: str, names: list[str], faults: Faults) -> None:
    if not os.path.isdir(folder):
        faults.append(f"--glue_dir {folder}: no such folder")
        return
    for name in filter(None, names):
        task = tasks.TASKS[name]
        for file in ["train.tsv", *(file for _, _, file in task.evals)]:
            path = os.path.join(folder, task.folder, file)
            if not os.path.isfile(path):
                faults.append(f"--glue_dir {folder}: {path} is missing (needed for --task_name {name})")


def _check_percentages(given: dict, faults: Faults) -> None:
    """Refuse percentages for tasks that are not asked for, and tasks that are left without one."""
    wanted = given["task_name"] or [None]
    for task, percentage in _of_tasks(given):
        if task is not None and task not in wanted:
            faults.append(
                f"--validation_split_percentage {task}={decimal_text(percentage)}: --task_name does not name this task"
            )
    for task in wanted:
        if not _percentages(given, task):
            faults.append(f"--validation_split_percentage: gives no percentage for --task_name {task}")


def _percentages(given: dict, task: str | None) -> list[Decimal]:
    """The percentages of a task: its own, or else those that are for no task in particular."""
    pairs = _of_tasks(given)
    return [p for name, p in pairs if name == task] or [p for name, p in pairs if name is None]


def _of_tasks(given: dict) -> list[tuple[str | None, Decimal]]:
    """All percentages, each with the task that it is for; None: for all that have none of their own."""
    values = filter(None, given["train_percentage"])
    return [value if isinstance(value, tuple) else (None, value) for value in values]
