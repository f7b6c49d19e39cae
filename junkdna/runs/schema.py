"""Read the record of a run or of its error, and bring records of schema 1 up to schema 2.

Schema 1 is what the program wrote while GLUE was its only family. A record of schema 2 also says its family, axes,
treatment, roles and metrics, so that a reader needs no table of its own.
"""

from __future__ import annotations

import json
from pathlib import Path

from junkdna.runs import disk, seals
from junkdna.runs.pruning import SPELLINGS

SCHEMA = 2
RUN, ERROR = "run.json", "error.json"
CHECKPOINT = "checkpoint.json"
"""By this file a folder is known to be a checkpoint of this program."""

ROLES = {
    "training": "learning_rate weight_decay num_train_epochs max_train_steps per_device_train_batch_size num_processes "
    "gradient_accumulation_steps lr_scheduler_type num_warmup_steps mixed_precision",
    "data": "max_length max_train_samples max_eval_samples",
    "model": "model_revision model_name_or_path",
    "scope": "noembed prune_exclude mask_file",
    "axis": "task_name train_percentage",
    "source": "glue_dir train_file validation_file",
    "pattern": "score sparsity_pattern sparsity nm_ratio",
    "treatment": "freeze_weights freeze_weights_frompretrain",
    "seed": "seed",
    "layout": "pad_to_max_length ignore_mismatched_sizes save_model",
    "label": "method",
}
"""The roles of schema 1's settings, under their names in schema 2."""

PATTERNS = SPELLINGS | {"mask_file": (None, "mask_file")}
"""Schema 1's ``sparse_init`` as schema 2's ``score`` and ``sparsity_pattern``."""

MOVED = {"cuda_graphs": "training"}
"""Options of earlier records that are settings now, with their roles."""

CHANCE_ZERO = ("matthews_correlation", "pearson", "spearmanr")
"""Metrics that are 0 for a model that has learned nothing."""


# --- reading ---------------------------------------------------------------------------------------------------------


def read_run(folder: str | Path) -> dict | None:
    """Return a folder's ``run.json`` in schema 2, or None if there is none or it is not readable as a run's record.

    Raises DiskError if the disk does not give it, and Damaged if its content does not fit its seal.
    """
    return _upgraded(load(Path(folder) / RUN))


def read_error(folder: str | Path) -> dict | None:
    """Return a folder's ``error.json`` in schema 2, or None; one that holds no settings is returned as it is.

    Raises as ``read_run``.
    """
    return _upgraded(load(Path(folder) / ERROR))


def load(path: Path) -> dict | None:
    """Return a JSON file's object, or None if there is no such file or it holds no object.

    An error of the disk is not absence: it is raised, as DiskError. A record that does not fit its seal is Damaged.
    """
    content = disk.read_bytes(path)
    try:
        record = None if content is None else json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    seals.check(record, path)
    return record


def _upgraded(record: dict | None) -> dict | None:
    try:
        return None if record is None else upgrade(record)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


# --- schema 1 to 2 ---------------------------------------------------------------------------------------------------


def upgrade(run: dict) -> dict:
    """Return a record (``run.json`` or ``error.json``) in schema 2.

    One that holds no settings is returned as it is. The argument is not changed.

    Raises KeyError, TypeError or AttributeError for settings that schema 1 never wrote.
    """
    if not isinstance(run.get("settings"), dict):
        return run
    if run.get("schema", 1) >= SCHEMA:
        return _as_now(run)
    old = run["settings"]
    task = old["task_name"] or file_label(old["train_file"])
    treatment = (run.get("pruning") or {}).get("transfer") or _treatment(old)
    settings = _settings(old)
    roles = {name: role for role, names in ROLES.items() for name in names.split() if name in settings}
    said = {
        "schema": SCHEMA,
        "family": "glue",
        "axes": {"task": task, "data": f"{float(old['validation_split_percentage']):g} %"},
        "treatment": treatment,
        "roles": roles,
        "metrics": _metrics(run.get("data") or {}),
    }
    return said | {name: value for name, value in run.items() if name != "schema"} | {"settings": settings}


def _as_now(run: dict) -> dict:
    """A record of schema 2 with what such records have said otherwise since: some settings were options, and a closed
    book was said to show as much of a text as an open one.
    """
    settings, axes, roles = run["settings"], run.get("axes"), run.get("roles")
    options = run.get("options") if isinstance(run.get("options"), dict) else {}
    moved = [name for name in MOVED if name in options and name not in settings]
    if moved and isinstance(roles, dict):
        settings = settings | {name: options[name] for name in moved}
        run = run | {"settings": settings, "roles": roles | {name: MOVED[name] for name in moved}}
    if isinstance(axes, dict) and axes.get("book") == "closed" and "context" in axes:
        run = run | {"axes": axes | {"context": "none"}, "settings": settings | {"context_characters": None}}
    return run


def _settings(old: dict) -> dict:
    """Schema 1's settings under their new names, in the old order."""
    score, pattern = PATTERNS["mask_file" if old.get("mask_file") else old["sparse_init"]]
    settings = {}
    for name, value in old.items():
        if name == "sparse_init":
            settings |= {"score": score, "sparsity_pattern": pattern}
        else:
            settings["train_percentage" if name == "validation_split_percentage" else name] = value
    return settings


def _metrics(data: dict) -> list[dict]:
    """The metrics that a run of schema 1 has, the main one first; of the mismatched split too where there is one."""
    names = data.get("metrics") or []
    splits = [("eval", ""), *([("eval_mm", "mm_")] if "eval_mm" in data else [])]
    return [
        metric(
            f"{split}_{name}",
            name=prefix + name,
            chance=_chance(name, data.get(split) or {}),
            main=split == "eval" and name == names[0],
        )
        for split, prefix in splits
        for name in names
    ]


def metric(
    key: str, *, name: str | None = None, better: str = "higher", chance: float | None = None, main: bool = False
) -> dict:
    """What a record says of one metric. ``key`` is its key in the results, from which it is called if it has no name;
    ``better`` "higher" or "lower"; ``chance`` None where it is not known.
    """
    return {"name": name or key.removeprefix("eval_"), "key": key, "better": better, "chance": chance, "main": main}


def _chance(metric: str, split: dict) -> float | None:
    if metric == "accuracy":
        return split.get("majority")
    return 0.0 if metric in CHANCE_ZERO else None


def _treatment(old: dict) -> str:
    if old["sparse_init"] == "dense":
        return "dense transfer"
    if old["freeze_weights"]:
        return "sparse transfer"
    return "dense transfer with freezing" if old["freeze_weights_frompretrain"] else "sparse-to-dense transfer"


def file_label(train_file: str) -> str:
    """A task named after its training file, or after that file's folder if the file is called 'train'."""
    path = Path(train_file)
    return path.absolute().parent.name if path.stem.lower() == "train" else path.stem
