"""Trees of runs that were made up, so that every number of a report can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

from junkdna.runs import records

SETTINGS = {
    "model_name_or_path": "some/encoder", "train_file": None, "validation_file": None, "glue_dir": "glue", "nm_ratio": None,
    "mask_file": None, "noembed": True, "prune_exclude": [], "freeze_weights": True, "freeze_weights_frompretrain": False,
    "learning_rate": 2e-5, "weight_decay": 0.0, "num_train_epochs": 3, "max_train_steps": None, "num_processes": 1,
    "per_device_train_batch_size": 32, "gradient_accumulation_steps": 1, "lr_scheduler_type": "linear", "num_warmup_steps": None,
    "mixed_precision": "no", "max_length": 128, "max_train_samples": None, "max_eval_samples": None, "model_revision": "main",
    "pad_to_max_length": False, "ignore_mismatched_sizes": False, "save_model": False, "method": "made_up",
}  # fmt: skip
METRICS = {"cola": "matthews_correlation", "stsb": "pearson"}


def make_run(
    root,
    task,
    pattern,
    seed,
    value,
    *,
    percentage=100.0,
    status="done",
    majority=0.5,
    commit="abc",
    device="cpu",
    error="out of memory",
    folder=None,
    extra=None,
    matrices=None,
    **more,
) -> Path:
    """Write one cell's folder: ``pattern`` is 'dense', 'N:M' or a sparsity; ``value`` its first metric; ``more`` are settings."""  # fmt: skip
    nm, dense = ":" in str(pattern), pattern == "dense"
    sparsity = sparsity_of(pattern)
    settings = SETTINGS | {
        "task_name": task, "validation_split_percentage": percentage, "seed": seed, "nm_ratio": pattern if nm else None,
        "sparse_init": "dense" if dense else "sparse_nm" if nm else "sparse_unstructured",
        "sparsity": None if dense or nm else sparsity,
    } | more  # fmt: skip
    folder = Path(folder or Path(root) / task / f"{percentage:g}" / str(pattern).replace(":", "of") / str(seed))
    folder.mkdir(parents=True)
    metric = METRICS.get(task, "accuracy")
    transfer = (
        "dense transfer" if dense
        else "sparse transfer" if settings["freeze_weights"]
        else "dense transfer with freezing" if settings["freeze_weights_frompretrain"] else "sparse-to-dense transfer"
    )  # fmt: skip
    if status == "failed":
        failure = {
            "schema": 1,
            "settings": settings,
            "command": [],
            "error": error,
            "traceback": "…",
            "failed_at": "2026-01-01T00:00:00",
        }
        records.write_json(folder / "error.json", failure)
        return folder
    run = {
        "schema": 1, "status": status, "settings": settings, "code": {"version": "0.1.0", "commit": commit, "changed": False},
        "versions": {"python": "3.11.7", "torch": "2.13.0"}, "hardware": {"device": device, "name": "a machine"},
        "model": {"weight_hash": "w"},
        "data": {"metrics": [metric], "train": {"sha256": f"{task} {percentage}"},
                 "eval": {"sha256": task, "majority": majority}, "eval_mm": {"majority": majority}},
        "pruning": {"transfer": transfer, "sparsity": sparsity, "matrices": matrices or make_matrices(sparsity)} if not dense else
                   {"transfer": transfer},
    }  # fmt: skip
    records.write_json(folder / "run.json", run)
    if status == "done":
        results = {
            f"eval_{metric}": value,
            "train_loss": 0.1,
            "sparsity": sparsity,
            "zero_fraction": sparsity,
            "epoch": 3,
            "step": 9,
        }
        records.write_json(folder / "all_results.json", results | (extra or {}))
    return folder


def sparsity_of(pattern: str) -> float:
    """The fraction that 'dense', 'N:M' or a sparsity stands for."""
    if pattern == "dense":
        return 0.0
    keep, of = map(int, pattern.split(":")) if ":" in pattern else (None, None)
    return 1 - keep / of if of else float(pattern)


def make_matrices(sparsity: float) -> list[dict]:
    """Four matrices, of which the deeper lose less."""
    removed = [round(1000 * min(1.0, sparsity * factor)) for factor in (1.2, 1.1, 0.9, 0.8)]
    return [
        {"name": f"encoder.layer.{i}.weight", "shape": [10, 100], "removed": n, "kept": 1000 - n, "head": i == 3}
        for i, n in enumerate(removed)
    ]


def make_sweep(root, tasks, patterns, seeds, fall, percentages=(100.0,), **more) -> None:
    """Write the dense runs (0.9, and 0.01 more for each later seed) and a run per pattern: dense - fall(task, sparsity, seed)."""
    for task in tasks:
        for percentage in percentages:
            for i, seed in enumerate(seeds):
                dense = 0.9 + 0.01 * i
                for pattern in ("dense", *patterns):
                    sparsity = sparsity_of(pattern)
                    value = dense - (fall(task, sparsity, seed) if sparsity else 0)
                    make_run(root, task, pattern, seed, value, percentage=percentage, **more)


def change(folder, **settings) -> None:
    """Change settings of a run that is there."""
    path = Path(folder) / "run.json"
    run = json.loads(path.read_text())
    run["settings"] |= settings
    path.write_text(json.dumps(run))
