"""Reading a GLUE task: from the standard GLUE download, or from the Hub."""

from __future__ import annotations

import csv
from pathlib import Path

from junkdna.errors import Fault, UserError
from junkdna.families import textfiles
from junkdna.families.encoder.examples import Examples, TaskData
from junkdna.families.glue import tables, values
from junkdna.families.glue import tasks as glue
from junkdna.models import hub

# --- the standard download -------------------------------------------------------------------------------------------


def read_glue_dir(folder: str, name: str) -> TaskData:
    """Read a task from a folder in the layout of the standard GLUE download (tab-separated, quotes are characters)."""
    task, root = glue.TASKS[name], Path(folder)
    evals = {key: _read_tsv(root / task.folder / file, task) for key, _, file in task.evals}
    train = _read_tsv(root / task.folder / "train.tsv", task)
    columns = tuple(map(_column_name, task.tsv_columns)), _column_name(task.tsv_label)
    return TaskData(train, evals, task.metrics, f"{root / task.folder}", task.labels, *columns)


def _column_name(column: str | int) -> str:
    return column if isinstance(column, str) else f"column {column + 1}"


def _read_tsv(path: Path, task: glue.Task) -> Examples:
    """Read one file. Its columns are found by name in its own header, so that they may stand in another order."""
    where = f"--glue_dir: {path}"
    try:
        rows = list(textfiles.csv_rows(textfiles.read(path), delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, ValueError) as error:
        raise UserError(f"{where} cannot be read: {textfiles.reason_of(error)}") from None
    wanted = (*task.tsv_columns, task.tsv_label)
    header = []
    if isinstance(task.tsv_label, str):
        header = rows.pop(0)[1] if rows else []
        _check_header(where, header, wanted)
    places = [header.index(column) if header else column for column in wanted]
    needed = max(places) + 1
    some = [(i, line, row) for i, (line, row) in enumerate(rows, start=1) if len(row) > 1 or "".join(row).strip()]
    whole = [entry for entry in some if len(entry[2]) >= needed]
    if not whole:
        raise UserError(f"{where} has no row of {needed} tab-separated columns ({len(some)} rows in all)")
    numbers, lines, cells = map(list, zip(*(whole if task.short_rows else some)))
    table = tables.Table(where, tuple(header), cells, lines, numbers)
    for index, row in enumerate(table.rows):
        if len(row) < needed:
            raise table.wrong(index, f"has {len(row)} tab-separated columns, and the task needs {needed}")
    for index, row in enumerate(table.rows if header else ()):
        if tables.is_header(row, header):
            raise table.wrong(index, tables.AGAIN)
    names = [_column_name(column) for column in wanted]
    texts = [values.texts(table, place, name, task.odd_texts) for place, name in zip(places[:-1], names)]
    labels = values.labels(table, places[-1], names[-1])
    known = {label: _glue_label(label, task) for label in dict.fromkeys(labels)}
    for label, number in known.items():
        if number is None:
            allowed = (
                " that is not a finite number (of fp32)" if task.regression else f"; allowed: {' '.join(task.labels)}"
            )
            raise table.wrong(labels.index(label), f"has a label {label!r}{allowed}")
    return Examples(list(zip(*texts)), [known[label] for label in labels], skipped=len(some) - len(whole))


def _check_header(where: str, header: list[str], wanted: tuple[str, ...]) -> None:
    said = f"(its columns: {' '.join(header) or 'none'})"
    for column in wanted:
        if column not in header:
            raise UserError(f"{where} has no column {column!r} {said}")
        if header.count(column) > 1:
            raise UserError(f"{where} has column {column!r} twice {said}")


def _glue_label(text: str, task: glue.Task) -> int | float | None:
    """A label's number, or None for one that the task does not have."""
    if task.regression:
        return values.score(text)
    if text in task.labels:
        return task.labels.index(text)
    return int(text) if text.isdecimal() and int(text) < len(task.labels) else None


# --- the Hub ---------------------------------------------------------------------------------------------------------


def read_hub(name: str) -> TaskData:
    """Read a task from ``nyu-mll/glue`` on the Hub, or from its local cache when the Hub is out of reach."""
    task = glue.TASKS[name]
    try:
        splits = hub.load_dataset(glue.HUB_NAME, name)
    except UserError as error:
        others = "give --glue_dir with a local copy, or files of your own with --train_file and --validation_file"
        raise UserError(Fault("task_name", name, f"{error.faults[0].reason}; {others}")) from None

    def examples(split: str) -> Examples:
        columns = splits[split]
        texts = list(zip(*(columns[column] for column in task.columns)))
        return Examples(texts, list(columns["label"]))

    evals = {key: examples(split) for key, split, _ in task.evals}
    commit = Path(splits["train"].cache_files[0]["filename"]).parent.name  # the cache keeps each commit in a folder
    source = f"{glue.HUB_NAME} at {commit}, {name}"
    return TaskData(examples("train"), evals, task.metrics, source, task.labels, task.columns)
