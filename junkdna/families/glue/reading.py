"""Reading the examples of a task, from the Hub, a GLUE folder or files of one's own.

Everything a reader returns is plain Python (texts and labels in file order), so that mistakes in local files are found
before torch is imported. What a percentage means is what ``datasets`` gives for ``train[:p%]``.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path

from junkdna.errors import Faults, UserError
from junkdna.families.glue import tasks as glue
from junkdna.sparsity.patterns import decimal_text

csv.field_size_limit(1 << 24)  # some passages are longer than csv's own limit of 128 KiB


@dataclass(frozen=True)
class Examples:
    """Texts (one or two strings each) and labels of one split, in file order.

    Labels are class indices, or floats for a regression. ``skipped`` counts rows of a GLUE file that lack columns (QQP
    has such rows; the Hub's copy leaves them out too).
    """

    texts: list[tuple[str, ...]]
    labels: list[int] | list[float]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, count: int | None) -> Examples:
        """The first ``count`` examples; all of them for None."""
        return replace(self, texts=self.texts[:count], labels=self.labels[:count])

    @property
    def majority(self) -> float:
        """Share of the most frequent label: the accuracy of a model that always says the same."""
        return Counter(self.labels).most_common(1)[0][1] / len(self)

    def since(self, start: int) -> Examples:
        """All examples from number ``start`` on."""
        return replace(self, texts=self.texts[start:], labels=self.labels[start:])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the texts and labels, so that two runs can be seen to have used the same data."""
        return hashlib.sha256(json.dumps([self.texts, self.labels]).encode()).hexdigest()


@dataclass(frozen=True)
class TaskData:
    """All splits of a task; ``label_names`` is empty for a regression; ``evals`` is keyed 'eval', 'eval_mm'."""

    train: Examples
    evals: dict[str, Examples]
    label_names: tuple[str, ...]
    metrics: tuple[str, ...]
    source: str

    @property
    def num_labels(self) -> int:
        return len(self.label_names) or 1


def prefix_size(percentage: Decimal, rows: int) -> int:
    """Return how many of ``rows`` the first ``percentage`` percent are, rounded as ``datasets`` rounds ``[:p%]``."""
    return round(float(percentage) * rows / 100.0)


def cut(data: TaskData, percentage: Decimal, max_train: int | None, max_eval: int | None) -> TaskData:
    """Keep the first ``percentage`` percent of the training rows, then at most ``max_*`` rows of each split."""
    size = prefix_size(percentage, len(data.train))
    if size == 0:
        raise UserError(
            f"--validation_split_percentage {decimal_text(percentage)}: "
            f"leaves no row of the {len(data.train)} training rows"
        )
    evals = {key: examples.first(max_eval) for key, examples in data.evals.items()}
    return replace(data, train=data.train.first(size).first(max_train), evals=evals)


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
            raise UserError(f"--glue_dir: {path} has a label {text!r} that is no number")
        return float(text)
    if text in task.labels:
        return task.labels.index(text)
    if text.isdecimal() and int(text) < len(task.labels):
        return int(text)
    raise UserError(f"--glue_dir: {path} has a label {text!r}; allowed: {' '.join(task.labels)}")


def read_hub(name: str) -> TaskData:
    """Read a task from ``nyu-mll/glue`` on the Hub, or from its local cache when the Hub is out of reach."""
    from junkdna.models import hub

    task = glue.TASKS[name]
    splits = hub.load_glue(name)

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
    training = faults.collect(_read_rows, "train_file", train_file)
    validation = faults.collect(_read_rows, "validation_file", validation_file)
    faults.raise_any()
    (train_texts, train_labels), (eval_texts, eval_labels) = training, validation
    if len(train_texts[0]) != len(eval_texts[0]):
        raise UserError(
            f"--validation_file {validation_file}: has {len(eval_texts[0])} text column(s), "
            f"--train_file {train_file} has {len(train_texts[0])}"
        )
    source = f"{train_file}, {validation_file}"
    scores = [label for label in train_labels if _is_float(label) and not _is_int(label)]
    if scores:
        for label in train_labels:
            if not _is_float(label):
                raise UserError(
                    f"--train_file {train_file}: has label {label!r} beside the number {scores[0]}; give "
                    "numbers only (regression) or names only (classes)"
                )
        for label in eval_labels:
            if not _is_float(label):
                raise UserError(
                    f"--validation_file {validation_file}: label {label!r} is no number, "
                    "but the training labels are (regression)"
                )
        train, evals = ([float(label) for label in labels] for labels in (train_labels, eval_labels))
        return TaskData(
            Examples(train_texts, train), {"eval": Examples(eval_texts, evals)}, (), ("pearson", "spearmanr"), source
        )
    names = sorted(set(train_labels), key=lambda label: (0, int(label), label) if _is_int(label) else (1, 0, label))
    if len(names) < 2:
        raise UserError(f"--train_file {train_file}: all rows have the same label {names[0]!r}; two or more are needed")
    if len(names) > max(100, len(train_labels) // 2):
        raise UserError(
            f"--train_file {train_file}: has {len(names)} different labels in {len(train_labels)} rows; "
            "is 'label' the right column?"
        )
    unknown = sorted(set(eval_labels) - set(names))
    if unknown:
        raise UserError(
            f"--validation_file {validation_file}: has label {unknown[0]!r}, which --train_file {train_file} "
            f"lacks; its labels: {' '.join(names[:20])}"
        )
    index = {label: i for i, label in enumerate(names)}
    return TaskData(
        Examples(train_texts, [index[label] for label in train_labels]),
        {"eval": Examples(eval_texts, [index[label] for label in eval_labels])},
        tuple(names),
        ("accuracy",),
        source,
    )


def _read_rows(flag: str, path: str) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the texts and the labels (as strings) of one file."""
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
    return [tuple(str(row[name]) for name in columns) for row in rows], [_label(row["label"]) for row in rows]


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
                raise ValueError(f"line {number} is no JSON: {error.msg}") from None
            if not isinstance(rows[-1], dict):
                raise ValueError(f"line {number} is no JSON object (json lines: one object a line)")
    return rows


def _label(value) -> str:
    """A label as a string; numbers keep the difference between 1 (a class) and 1.0 (a score)."""
    return str(value).strip() if not isinstance(value, bool) else str(int(value))


def _is_int(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", text) is not None


def _is_float(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None
