"""Reading a task: the standard GLUE download, the Hub, or csv and json-lines files of one's own."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

from junkdna.errors import Fault, Faults, UserError
from junkdna.families.encoder.examples import Examples, TaskData
from junkdna.families.glue import tasks as glue
from junkdna.models import hub

csv.field_size_limit(1 << 24)  # some passages are longer than csv's own limit of 128 KiB


# --- GLUE ------------------------------------------------------------------------------------------------------------


def read_glue_dir(folder: str, name: str) -> TaskData:
    """Read a task from a folder in the layout of the standard GLUE download (tab-separated, quotes are characters)."""
    task, root = glue.TASKS[name], Path(folder)
    evals = {key: _read_tsv(root / task.folder / file, task) for key, _, file in task.evals}
    train = _read_tsv(root / task.folder / "train.tsv", task)
    return TaskData(train, evals, task.labels, task.metrics, f"{root / task.folder}")


def _read_tsv(path: Path, task: glue.Task) -> Examples:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--glue_dir: {path} cannot be read: {error}") from None
    if isinstance(task.tsv_label, str):
        header = rows.pop(0) if rows else []
        missing = [column for column in (*task.tsv_columns, task.tsv_label) if column not in header]
        if missing:
            raise UserError(
                f"--glue_dir: {path} has no column {missing[0]!r} (its columns: {' '.join(header) or 'none'})"
            )
        where = [header.index(column) for column in (*task.tsv_columns, task.tsv_label)]
    else:
        where = [*task.tsv_columns, task.tsv_label]
    whole = [row for row in rows if len(row) > max(where)]
    if not whole:
        raise UserError(
            f"--glue_dir: {path} has no row of {max(where) + 1} tab-separated columns ({len(rows)} rows in all)"
        )
    texts = [tuple(row[i] for i in where[:-1]) for row in whole]
    labels = [_glue_label(row[where[-1]], task, path) for row in whole]
    return Examples(texts, labels, skipped=len(rows) - len(whole))


def _glue_label(text: str, task: glue.Task, path: Path) -> int | float:
    if task.regression:
        if not _is_float(text):
            raise UserError(f"--glue_dir: {path} has a label {text!r} that is not a number")
        return float(text)
    if text in task.labels:
        return task.labels.index(text)
    if text.isdecimal() and int(text) < len(task.labels):
        return int(text)
    raise UserError(f"--glue_dir: {path} has a label {text!r}; allowed: {' '.join(task.labels)}")


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
    return TaskData(examples("train"), evals, task.labels, task.metrics, f"{glue.HUB_NAME} at {commit}, {name}")


# --- files of one's own ----------------------------------------------------------------------------------------------


def read_files(train_file: str, validation_file: str) -> TaskData:
    """Read csv or json-lines files with text columns and ``label``; float labels mean regression.

    Labels are numbered in sorted order of those in the training file (numbers by value).
    """
    faults = Faults()
    files = [
        faults.collect(_read_rows, flag, path)
        for flag, path in (("train_file", train_file), ("validation_file", validation_file))
    ]
    faults.raise_any()
    train, evals = files
    if len(train.texts[0]) != len(evals.texts[0]):
        raise UserError(
            f"{evals.where}: has {len(evals.texts[0])} text column(s), {train.where} has {len(train.texts[0])}"
        )
    scores = [label for label in train.labels if _is_float(label) and not _is_int(label)]
    if scores:
        examples, names, metrics = _regression(train, evals, scores[0]), (), ("pearson", "spearmanr")
    else:
        (*examples, names), metrics = _classification(train, evals), ("accuracy",)
    return TaskData(examples[0], {"eval": examples[1]}, names, metrics, f"{train_file}, {validation_file}")


@dataclass(frozen=True)
class File:
    """One file as it was read: the flag with its path, the rows' texts and their labels, as text."""

    where: str
    texts: list[tuple[str, ...]]
    labels: list[str]


def _regression(train: File, evals: File, score: str) -> list[Examples]:
    """Return the examples of both files with numbers for labels; ``score`` is one of them."""
    for label in train.labels:
        if not _is_float(label):
            raise UserError(
                f"{train.where}: has label {label!r} beside the number {score}; give numbers only (regression) or "
                "names only (classes)"
            )
    for label in evals.labels:
        if not _is_float(label):
            raise UserError(f"{evals.where}: label {label!r} is not a number, but the training labels are (regression)")
    return [Examples(file.texts, [float(label) for label in file.labels]) for file in (train, evals)]


def _classification(train: File, evals: File) -> tuple[Examples, Examples, tuple[str, ...]]:
    """Return the examples of both files with classes for labels, and the classes' names."""
    names = sorted(set(train.labels), key=lambda label: (0, int(label), label) if _is_int(label) else (1, 0, label))
    if len(names) < 2:
        raise UserError(f"{train.where}: all rows have the same label {names[0]!r}; two or more are needed")
    if len(names) > max(100, len(train.labels) // 2):
        raise UserError(
            f"{train.where}: has {len(names)} different labels in {len(train.labels)} rows; is 'label' the right "
            "column?"
        )
    unknown = sorted(set(evals.labels) - set(names))
    if unknown:
        raise UserError(
            f"{evals.where}: has label {unknown[0]!r}, which {train.where} lacks; its labels: {' '.join(names[:20])}"
        )
    index = {label: i for i, label in enumerate(names)}
    made = [Examples(file.texts, [index[label] for label in file.labels]) for file in (train, evals)]
    return made[0], made[1], tuple(names)


def _read_rows(flag: str, path: str) -> File:
    """Read one file."""
    where = f"--{flag} {path}"
    try:
        rows = _csv_rows(path) if Path(path).suffix.lower() == ".csv" else _json_rows(path)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{where}: cannot be read: {error}") from None
    if not rows:
        raise UserError(f"{where}: has no rows")
    names = list(rows[0])
    if "label" not in names:
        raise UserError(f"{where}: has no column 'label' (its columns: {', '.join(map(repr, names))})")
    columns = [name for name in ("sentence1", "sentence2") if name in names]
    if "sentence1" not in columns:
        columns = [name for name in names if name != "label"][:2]
    if not columns:
        raise UserError(f"{where}: has no text column beside 'label'")
    for number, row in enumerate(rows, start=1):
        for name in (*columns, "label"):
            value = row.get(name)
            if value is None or (name == "label" and str(value).strip() == ""):
                raise UserError(f"{where}: row {number} has no {name!r}")
            if not isinstance(value, (str, int, float)):
                raise UserError(f"{where}: row {number} has a {name!r} that is neither text nor number")
    texts = [tuple(str(row[name]) for name in columns) for row in rows]
    return File(where, texts, [_label(row["label"]) for row in rows])


def _csv_rows(path: str) -> list[dict]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        names = list(reader.fieldnames or [])
        rows = list(reader)
    if len(set(names)) < len(names):
        raise ValueError(f"two columns have the same name ({', '.join(map(repr, names))})")
    for number, row in enumerate(rows, start=1):
        if None in row:  # where DictReader puts what is left over
            raise ValueError(f"row {number} has more than {len(names)} columns; is a comma in its text not quoted?")
    return rows


def _json_rows(path: str) -> list[dict]:
    rows = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON: {error.msg}") from None
            if not isinstance(rows[-1], dict):
                raise ValueError(f"line {number} is not a JSON object (json lines: one object a line)")
    return rows


def _label(value) -> str:
    """A label as a string; numbers keep the difference between 1 (a class) and 1.0 (a score)."""
    return str(value).strip() if not isinstance(value, bool) else str(int(value))


def _is_int(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", text) is not None


def _is_float(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None
