"""An encoder's data: read once per source, cut to what a cell uses, tokenised once per model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from junkdna.errors import Fault, UserError
from junkdna.families.encoder import examples
from junkdna.families.encoder.examples import Examples, TaskData
from junkdna.families.encoder.settings import EncoderCell
from junkdna.runs.shared import Shared

if TYPE_CHECKING:
    from junkdna.families.encoder.model import Classifier
    from junkdna.training.tokens import Features

SPLITS = {"train": "training data", "eval": "validation data", "eval_mm": "mismatched validation data"}
LABELS, COLUMNS = "label names", "columns"
"""What the parts of a data set's identity are called."""

SHOWN = 10
"""Classes that are named on the screen."""

Read = Callable[[EncoderCell], TaskData]


@dataclass(frozen=True)
class Data:
    """A cell's rows: ``whole`` is all of the task, ``task`` what the cell uses of it."""

    whole: TaskData
    task: TaskData


def load(cell: EncoderCell, shared: Shared, read: Read) -> Data:
    """Return a cell's rows; ``read`` reads all of its task. Raises UserError for data that cannot be used."""
    whole = shared.keep("data", cell.source, lambda: read(cell))
    sizes = (cell.percentage, cell.max_train_samples, cell.max_eval_samples)
    return Data(whole, shared.keep("cut", (*cell.source, *sizes), lambda: examples.cut(whole, *sizes)))


def tokenise(cell: EncoderCell, shared: Shared, data: Data, model: Classifier) -> dict[str, Features]:
    """Return the tokenised examples of every split; of a split that grows from cell to cell only what is new is
    done.
    """
    splits = {"train": data.task.train, **data.task.evals}
    return {name: _features(cell, shared, model.tokenizer, name, split) for name, split in splits.items()}


def _features(cell: EncoderCell, shared: Shared, tokenizer, name: str, split: Examples) -> Features:
    from junkdna.training import tokens

    def more(rows: Examples) -> Features:
        try:
            return tokens.tokenise(rows.texts, rows.labels, tokenizer, cell.max_length)
        except tokens.NoTokens as error:
            row = len(split) - len(rows) + error.row + 1
            where = "training" if name == "train" else "validation"
            reason = (
                f"its tokenizer makes no token of row {row} of the {where} data, {error.shown}; leave the row out, or "
                "give a tokenizer that marks the ends of a text"
            )
            raise UserError(Fault("model", cell.model_name_or_path, reason)) from None

    kind, key = f"features {name}", (*cell.source, cell.max_length, cell.model_name_or_path, cell.model_revision)
    kept = shared.keep(kind, key, lambda: more(split))
    if len(kept) < len(split):
        kept = shared.put(kind, key, kept.followed_by(more(split.since(len(kept)))))
    return kept.first(len(split))


# --- what a record says of it ----------------------------------------------------------------------------------------


def about(data: Data, features: dict[str, Features]) -> dict:
    """The record's section on data."""

    def split(whole: Examples, used: Examples, tokens: Features) -> dict:
        return {
            "rows": len(whole),
            "used": len(used),
            "sha256": used.fingerprint,
            "at_max_length": tokens.truncated,
            "skipped": whole.skipped,
            "majority": used.majority,
        }

    splits = {"train": split(data.whole.train, data.task.train, features["train"])}
    for key, used in data.task.evals.items():
        splits[key] = split(data.whole.evals[key], used, features[key])
    return {
        "source": data.task.source,
        **splits,
        "columns": columns(data.task),
        "kind": data.task.kind,
        "labels": list(data.task.label_names),
        "metrics": list(data.task.metrics),
    }


def columns(task: TaskData) -> dict:
    """The columns that were read, by their roles."""
    return {"texts": list(task.text_columns), "label": task.label_column}


def columns_in_words(task: TaskData) -> str:
    """Which columns were read as what, and the kind of task: "text 'a', label 'b': 2 classes 0, 1"."""
    texts = " and ".join(map(repr, task.text_columns))
    kind = "regression"
    if task.label_names:
        shown = [name if name.isprintable() else repr(name) for name in task.label_names[:SHOWN]]
        more = ", ..." if len(task.label_names) > SHOWN else ""
        kind = f"{len(task.label_names)} classes {', '.join(shown)}{more}"
    return f"{'texts' if len(task.text_columns) > 1 else 'text'} {texts}, label {task.label_column!r}: {kind}"


# --- what decides whether a finished run is this one -----------------------------------------------------------------


def identity(task: TaskData) -> dict:
    """What a run's numbers depend on in its data, by names that a user understands: the rows of every split as they
    are used, the classes and the columns.
    """
    splits = {"train": task.train, **task.evals}
    rows = {SPLITS.get(key, f"{key} data"): split.fingerprint for key, split in splits.items()}
    return {**rows, LABELS: list(task.label_names), COLUMNS: columns(task)}


def stored_identity(run: dict | None) -> dict:
    """The same of a record, as far as it says it: those of earlier versions do not say their columns."""
    about = (run or {}).get("data") or {}
    digests = {key: split["sha256"] for key, split in about.items() if isinstance(split, dict) and "sha256" in split}
    said = {SPLITS.get(key, f"{key} data"): digest for key, digest in digests.items()}
    return said | {name: about[key] for name, key in ((LABELS, "labels"), (COLUMNS, "columns")) if key in about}


def measures(task: TaskData) -> list[dict]:
    """What is measured on every split, the first metric on the first split being the main one."""
    from junkdna.families.metrics import METRICS

    return [
        {
            "name": f"{key.removeprefix('eval')}_{name}".removeprefix("_"),
            "key": f"{key}_{name}",
            "better": METRICS[name].better,
            "chance": METRICS[name].chance_on(split.labels),
            "main": (key, name) == ("eval", task.metrics[0]),
        }
        for key, split in task.evals.items()
        for name in task.metrics
    ]
