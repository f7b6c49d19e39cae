"""A tree of runs as one table: a row per cell, finished or not, with every setting and metric."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from junkdna.errors import UserError
from junkdna.runs import records
from junkdna.runs.cell import file_label, transfer_name
from junkdna.sparsity.patterns import parse_nm

DONE, UNFINISHED, FAILED = "done", "running (unfinished)", "failed"
NO_VALUE = "finished without a value"
"""The run went through and its metric is null or not a number, as where a loss diverged."""

TRAINING = [
    *("learning_rate", "weight_decay", "num_train_epochs", "max_train_steps", "per_device_train_batch_size"),
    *("num_processes", "gradient_accumulation_steps", "lr_scheduler_type", "num_warmup_steps", "mixed_precision"),
    *("max_length", "max_train_samples", "max_eval_samples", "model_revision"),
]
SCOPE = ["noembed", "prune_exclude", "mask_file"]
"""Settings in which the runs of one curve, and (training) the dense run they are normalised by, must agree."""

KINDS = {
    "sparse_unstructured": "unstructured",
    "sparse_nm": "N:M",
    "dense": "",
    "one_shot_smallgm": "largest first",
    "uniform_weight": "uniform",
}
"""What is removed, in the words of a curve's name; other values of ``--sparse_init`` stand for themselves."""

LOCAL = ["glue_dir", "train_file", "validation_file", "mask_file"]
"""Settings that are paths of one machine: once the curves are told apart, they are called by their last part."""

GENERIC = re.compile(r"model|checkpoint|snapshots|[0-9a-f]{40}")
"""Last parts of a model's path that say nothing; the part before them names it."""

CHANCE_ZERO = ("matthews_correlation", "pearson", "spearmanr")
"""Metrics that are 0 for a model that has learned nothing."""


def collect(roots: list[str], metric: str | None = None):
    """Return (one row per cell as a DataFrame, folders whose records cannot be read).

    ``metric`` takes the place of a task's first one wherever a run has it. Raises UserError if a folder is missing, if no
    run is finished, or if no run has the metric.
    """
    import pandas as pd

    rows, unreadable, seen = [], [], set()
    for root in roots:
        if not os.path.isdir(root):
            raise UserError(f"RUNS {root}: no such folder")
        for folder in folders(root):
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            name = place(folder, root, len(roots) > 1)
            cell = read_cell(folder, metric)
            if isinstance(cell, str):
                unreadable.append(f"{name}: {cell}" if cell else name)
            else:
                rows.append({"folder": name} | cell)
    if not any(row["status"] == DONE for row in rows):
        raise UserError(f"RUNS {' '.join(roots)}: no finished run in there")
    if metric and not any(row["metric"] == metric for row in rows):
        known = sorted({name.removeprefix("eval_") for row in rows for name in row if name.startswith("eval_")})
        raise UserError(f"--metric {metric}: no run has it; allowed: {' '.join(known)}")
    cells = pd.DataFrame(rows)
    name_models(cells)
    tell_apart(cells)
    name_files(cells)
    order = ["model", "task", "percentage", "transfer", "kind", "curve", "sparsity", "seed"]
    ascending = [name != "kind" for name in order]  # unstructured before N:M
    return cells.sort_values(order, ascending=ascending, kind="stable", ignore_index=True), unreadable


def folders(root: str) -> list[Path]:
    """Every folder below ``root`` that holds a run's record or its error; what is hidden (``.previous``) is left out.

    Links are followed, each real folder once: a link to a folder above it would go round for ever.
    """
    found, seen = [], set()
    for folder, inner, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        inner[:] = [] if real in seen else sorted(name for name in inner if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        if records.RUN in files or records.ERROR in files:
            found.append(Path(folder))
    return found


def place(folder: Path, root: str, several: bool) -> str:
    """A run's folder as the report calls it: below its root, which is named only where there are several."""
    inside = folder.relative_to(root)
    return str(Path(Path(root).resolve().name) / inside if several or not inside.parts else inside)


def read_cell(folder: Path, metric: str | None = None) -> dict | str:
    """Return one cell as a flat row, or, if its settings cannot be read, the error that it left (or nothing)."""
    run, error = records.read(folder / records.RUN) or {}, records.read(folder / records.ERROR)
    results = records.finished(folder)
    if results is None and error is not None:
        status, run = FAILED, run | {"settings": error.get("settings") or run.get("settings")}
    else:
        status = UNFINISHED if results is None else DONE
    try:
        return row(folder, status, run, results or {}, str((error or {}).get("error", "")), metric)
    except (AttributeError, KeyError, TypeError, ValueError):
        return " ".join(str((error or {}).get("error", "")).split())


def row(folder: Path, status: str, run: dict, results: dict, error: str, metric: str | None) -> dict:
    """Return a readable cell as a flat row; the metrics of a cell that is not done are empty."""
    settings, data, pruning = run["settings"], run.get("data") or {}, run.get("pruning") or {}
    mode = settings["sparse_init"]
    transfer = pruning.get("transfer") or transfer_name(
        mode, settings["freeze_weights"], settings["freeze_weights_frompretrain"]
    )
    kind = "mask file" if settings.get("mask_file") else KINDS.get(mode, mode)
    if not (metric and f"eval_{metric}" in results):
        metric = data["metrics"][0] if data else None
    pattern, asked = pattern_of(settings, pruning)
    value = results[f"eval_{metric}"] if results else None
    value = float("nan") if value is None else float(value)
    if status == DONE and not math.isfinite(value):
        status, error = NO_VALUE, f"eval_{metric} is {results[f'eval_{metric}']}"
    return {
        "path": str(folder),
        "status": status,
        "error": " ".join(error.split()) if status in (FAILED, NO_VALUE) else "",
        "model": settings["model_name_or_path"],
        "task": settings["task_name"] or file_label(settings["train_file"]),
        "percentage": float(settings["validation_split_percentage"]),
        "curve": f"{transfer}, {kind}" if kind else transfer,
        "kind": kind or "dense",
        "transfer": transfer,
        "pattern": pattern,
        "sparsity": results.get("sparsity", asked),
        "seed": settings["seed"],
        "metric": metric,
        "value": value,
        "chance": chance(metric, data),
        **{name: value for name, value in results.items() if name != "sparsity"},
        **{
            ("sparsity_asked" if name == "sparsity" else name): value
            for name, value in settings.items()
            if name != "seed"
        },
        **provenance(run),
        "training": tuple(str(settings.get(name)) for name in TRAINING),
        "scope": tuple(str(settings.get(name)) for name in SCOPE),
    }


def pattern_of(settings: dict, pruning: dict) -> tuple[str, float]:
    """Return the pattern's label on the axis and the sparsity that was asked for."""
    if settings["sparse_init"] == "dense":
        return "dense", 0.0
    if settings.get("nm_ratio"):
        pattern = parse_nm(settings["nm_ratio"])
        return f"{pattern.keep}:{pattern.of}", float(pattern.sparsity)
    asked = settings["sparsity"] if settings["sparsity"] is not None else pruning.get("sparsity", float("nan"))
    return f"{asked:.4g}", float(asked)


def chance(metric: str | None, data: dict) -> float:
    """What a model that has learned nothing reaches: accuracy by the most frequent label, 0 for correlations, else unknown."""
    if metric in ("accuracy", "mm_accuracy"):
        return data["eval" if metric == "accuracy" else "eval_mm"]["majority"]
    return 0.0 if metric in CHANCE_ZERO else float("nan")


def provenance(run: dict) -> dict:
    """With which code, libraries, machine, weights and data a run was made, under names that say so."""
    data = run.get("data") or {}
    return {
        **{f"code_{name}": value for name, value in (run.get("code") or {}).items()},
        **{f"version_{name}": value for name, value in (run.get("versions") or {}).items()},
        **{f"hardware_{name}": value for name, value in (run.get("hardware") or {}).items() if name != "platform"},
        "weight_hash": (run.get("model") or {}).get("weight_hash"),
        "data_train_sha256": (data.get("train") or {}).get("sha256"),
        "data_eval_sha256": (data.get("eval") or {}).get("sha256"),
    }


# --- names -----------------------------------------------------------------------------------------------------------


def name_models(cells) -> None:
    """Call a model by the last telling part of its name, unless two models would then be called the same."""
    cells["model"] = shortened(cells["model"], telling)


def name_files(cells) -> None:
    """Call models, files and folders in the settings by their short names: a summary is read on other machines too."""
    cells["model_name_or_path"] = cells["model"]
    for name in set(LOCAL) & set(cells.columns):
        known = cells[name].notna()
        cells.loc[known, name] = shortened(cells.loc[known, name])


def telling(name: str) -> list[str]:
    """The parts of a model's name that are not generic: 'encoder' is the last of '/home/me/encoder/model'."""
    return [part.removeprefix("models--") for part in Path(name).parts if not GENERIC.fullmatch(part)] or [name]


def shortened(names, parts=lambda name: Path(name).parts) -> list[str]:
    """Names by as many of their last parts as keep them apart; whole, if none do."""
    known = {name: parts(name) for name in dict.fromkeys(names)}
    for count in range(1, max(map(len, known.values()), default=0) + 1):
        short = {name: "/".join(some[-count:]) for name, some in known.items()}
        if len(set(short.values())) == len(short):
            return [short[name] for name in names]
    return list(names)


def tell_apart(cells) -> None:
    """Put into each curve's name the settings in which it differs from another of its task and data; never average those.

    A setting that differs only between tasks or percentages stays out of the name: it mixes nothing, and ``summary`` reports it.
    """
    place = ["model", "task", "percentage"]
    for column, names in (("training", TRAINING), ("scope", SCOPE)):
        rows = cells if column == "training" else cells[cells["kind"] != "dense"]
        for i, name in enumerate(names):
            value = rows[column].map(lambda values, i=i: values[i])
            if name in LOCAL:
                value = value.map(dict(zip(value, shortened(value))))
            if (value.groupby([rows[key] for key in place]).nunique() > 1).any():
                cells.loc[rows.index, "curve"] += [f", {name} {text}" if text != "None" else "" for text in value]
