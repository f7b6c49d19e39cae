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
        "labels": list(data.task.label_names),
        "metrics": list(data.task.metrics),
    }


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
