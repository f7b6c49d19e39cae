"""An encoder's data: read once per source, cut to what a cell uses, tokenised once per model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from junkdna.errors import Fault, UserError
from junkdna.families.encoder import examples
from junkdna.families.encoder.examples import Rows, Splits, TaskData
from junkdna.families.encoder.settings import EncoderCell
from junkdna.runs import schema
from junkdna.runs.shared import Shared
from junkdna.runs.speech import say

if TYPE_CHECKING:
    from junkdna.families.encoder.objective import Objective
    from junkdna.training.tokens import Features

SPLITS = {"train": "training data", "eval": "validation data", "eval_mm": "mismatched validation data"}
LABELS, COLUMNS = "label names", "columns"
"""What the parts of a data set's identity are called."""

Read = Callable[[EncoderCell], Splits]


@dataclass(frozen=True)
class Data:
    """A cell's rows: ``whole`` is all of the task, ``task`` what the cell uses of it."""

    whole: Splits
    task: Splits


def load(cell: EncoderCell, shared: Shared, read: Read) -> Data:
    """Return a cell's rows; ``read`` reads all of its task. Raises UserError for data that cannot be used."""
    whole = shared.keep("data", cell.source, lambda: read(cell))
    sizes = (cell.percentage, cell.max_train_samples, cell.max_eval_samples)
    return Data(whole, shared.keep("cut", (*cell.source, *sizes), lambda: examples.cut(whole, *sizes)))


def tokenise(cell: EncoderCell, shared: Shared, data: Data, tokenizer, objective: Objective) -> dict[str, Features]:
    """Return the tokenised examples of every split; of a split that grows from cell to cell only what is new is
    done.
    """
    splits = {"train": data.task.train, **data.task.evals}
    return {name: _features(cell, shared, tokenizer, name, split, objective) for name, split in splits.items()}


def _features(cell: EncoderCell, shared: Shared, tokenizer, name: str, split: Rows, objective: Objective) -> Features:
    from junkdna.training import tokens

    def more(rows: Rows) -> Features:
        try:
            return objective.tokenise(rows, tokenizer)
        except tokens.NoTokens as error:
            row = len(split) - len(rows) + error.row // objective.each + 1
            where = "training" if name == "train" else "validation"
            reason = (
                f"its tokenizer produces no tokens for row {row} of the {where} data, {error.shown}; leave the row "
                "out, or give a tokenizer that marks the ends of a text"
            )
            raise UserError(Fault("model", cell.model_name_or_path, reason)) from None

    kind, model = f"features {name}", (cell.model_name_or_path, cell.model_revision)
    key, each = (*cell.source, cell.max_length, *model, objective.reads), objective.each
    kept = shared.keep(kind, key, lambda: more(split))
    if len(kept) < each * len(split):
        kept = shared.put(kind, key, kept.followed_by(more(split.since(len(kept) // each))))
    return kept.first(each * len(split))


# --- what a record says of it ----------------------------------------------------------------------------------------


def about(data: Data, features: dict[str, Features], objective: Objective) -> dict:
    """The record's section on data, as far as it is the same for every objective."""

    def split(whole: Rows, used: Rows, tokens: Features) -> dict:
        return {
            "rows": len(whole),
            "used": len(used),
            "sha256": used.fingerprint,
            "at_max_length": truncated(tokens, objective.each),
            "skipped": whole.skipped,
            **objective.about_split(used),
        }

    splits = {"train": split(data.whole.train, data.task.train, features["train"])}
    for key, used in data.task.evals.items():
        splits[key] = split(data.whole.evals[key], used, features[key])
    return {"source": data.task.source, **splits, "metrics": list(data.task.metrics)}


def truncated(features: Features, each: int = 1) -> int:
    """Number of examples of which a sequence reaches the maximum length; one has ``each`` sequences."""
    return int((features.lengths.reshape(-1, each) >= features.max_length).any(axis=1).sum())


# --- what decides whether a finished run is this one -----------------------------------------------------------------


def check_done(cell: EncoderCell, shared: Shared, read: Read) -> None:
    """Raise UserError if the finished run in a cell's folder was made of other rows than the cell would use."""
    wanted, stored = fingerprints(load(cell, shared, read).task), stored_fingerprints(schema.read_run(cell.output_dir))
    differ = [name for name, value in wanted.items() if stored.get(name, value) != value]
    if differ:
        raise UserError(
            f"--output_dir {cell.output_dir}: holds this run on other {' and '.join(differ)} (the files have "
            "changed since); choose another folder, or --overwrite_output_dir"
        )
    unknown = [name for name in wanted if name not in stored and name != COLUMNS]
    if unknown:
        say(
            f"warning: {cell.output_dir}: its record does not say its {' and '.join(unknown)}: not compared", sys.stderr
        )


def fingerprints(task: Splits) -> dict:
    """What a run's numbers depend on in its data, by names that a user understands: the rows of every split as they
    are used; of texts with labels also the classes and the columns.
    """
    splits = {"train": task.train, **task.evals}
    rows = {SPLITS.get(key, f"{key} data"): split.fingerprint for key, split in splits.items()}
    return rows | ({LABELS: list(task.label_names), COLUMNS: task.columns} if isinstance(task, TaskData) else {})


def stored_fingerprints(run: dict | None) -> dict:
    """The same of a record, as far as it says it: those of earlier versions do not say their columns."""
    about = (run or {}).get("data") or {}
    digests = {key: split["sha256"] for key, split in about.items() if isinstance(split, dict) and "sha256" in split}
    said = {SPLITS.get(key, f"{key} data"): digest for key, digest in digests.items()}
    return said | {name: about[key] for name, key in ((LABELS, "labels"), (COLUMNS, "columns")) if key in about}
