"""Trees of runs that were made up, so that every number of a report can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

from junkdna.runs import records, seals

SETTINGS = {
    "model_name_or_path": "some/encoder", "train_file": None, "validation_file": None, "glue_dir": "glue",
    "nm_ratio": None, "mask_file": None, "noembed": True, "prune_exclude": [], "freeze_weights": True,
    "freeze_weights_frompretrain": False, "learning_rate": 2e-5, "weight_decay": 0.0, "num_train_epochs": 3,
    "max_train_steps": None, "num_processes": 1, "per_device_train_batch_size": 32, "gradient_accumulation_steps": 1,
    "lr_scheduler_type": "linear", "num_warmup_steps": None, "mixed_precision": "no", "max_length": 128,
    "max_train_samples": None, "max_eval_samples": None, "model_revision": "main", "pad_to_max_length": False,
    "ignore_mismatched_sizes": False, "save_model": False, "method": "made_up",
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
    newest=False,
    **more,
) -> Path:
    """Write one GLUE cell's folder: ``pattern`` is 'dense', 'N:M' or a sparsity; ``value`` its first metric.

    ``more`` are settings. The record is of schema 1, or of schema 2 if ``newest``.
    """
    nm, dense = ":" in str(pattern), pattern == "dense"
    sparsity = sparsity_of(pattern)
    settings = SETTINGS | {
        "task_name": task, "validation_split_percentage": percentage, "seed": seed, "nm_ratio": pattern if nm else None,
        "sparse_init": "dense" if dense else "sparse_nm" if nm else "sparse_unstructured",
        "sparsity": None if dense or nm else sparsity,
    } | more  # fmt: skip
    folder = Path(folder or Path(root) / task / f"{percentage:g}" / str(pattern).replace(":", "of") / str(seed))
    folder.mkdir(parents=True)
    if status == "failed":
        write_failure(folder, {"schema": 1, "settings": settings}, error)
        return folder
    metric = METRICS.get(task, "accuracy")
    names = [metric, *(name.removeprefix("eval_") for name in extra or {} if name in ("eval_f1", "eval_spearmanr"))]
    data = {"metrics": names, "train": {"sha256": f"{task} {percentage}"},
            "eval": {"sha256": task, "majority": majority}, "eval_mm": {"majority": majority}}  # fmt: skip
    pruning = {"transfer": transfer_of(settings)} | pruning_of(sparsity, matrices)
    run = {"schema": 1, "status": status, "settings": settings, **provenance(commit, device), "data": data,
           "pruning": pruning}  # fmt: skip
    results = {f"eval_{metric}": value, "train_loss": 0.1, "epoch": 3, "step": 9} | (extra or {})
    write_run(folder, as_schema_2(run) if newest else run, results, sparsity)
    return folder


def transfer_of(settings: dict) -> str:
    """The paper's name of what is done with the removed weights."""
    if settings["sparse_init"] == "dense":
        return "dense transfer"
    if settings["freeze_weights"]:
        return "sparse transfer"
    return "dense transfer with freezing" if settings["freeze_weights_frompretrain"] else "sparse-to-dense transfer"


def as_schema_2(run: dict) -> dict:
    """A made-up GLUE run as the program writes it today, put together by hand: ``upgrade`` is tested against it."""
    old, data = run["settings"], run["data"]
    pattern = {"sparse_unstructured": "unstructured", "sparse_nm": "nm", "dense": "dense"}[old["sparse_init"]]
    gone = ("sparse_init", "validation_split_percentage")
    said = {"score": None if pattern == "dense" else "magnitude", "sparsity_pattern": pattern}
    settings = {name: value for name, value in old.items() if name not in gone} | said
    settings["train_percentage"] = old["validation_split_percentage"]
    chance = {"accuracy": data["eval"]["majority"], "matthews_correlation": 0.0, "pearson": 0.0}
    metrics = [
        {"name": name, "key": f"eval_{name}", "better": "higher", "chance": chance.get(name), "main": i == 0}
        for i, name in enumerate(data["metrics"])
    ]
    axes = {"task": old["task_name"], "data": f"{old['validation_split_percentage']:g} %"}
    of_schema_2 = {"schema": 2, "family": "glue", "axes": axes, "treatment": run["pruning"]["transfer"]}
    return run | of_schema_2 | {"metrics": metrics, "settings": settings, "roles": ROLES}


ROLES = {
    **dict.fromkeys(["task_name", "train_percentage"], "axis"),
    **dict.fromkeys(["train_file", "validation_file", "glue_dir"], "source"),
    **dict.fromkeys(["max_length", "max_train_samples", "max_eval_samples"], "data"),
    **dict.fromkeys(["model_name_or_path", "model_revision"], "model"),
    **dict.fromkeys(["score", "sparsity_pattern", "sparsity", "nm_ratio"], "pattern"),
    **dict.fromkeys(["mask_file", "noembed", "prune_exclude"], "scope"),
    **dict.fromkeys(["freeze_weights", "freeze_weights_frompretrain"], "treatment"),
    **dict.fromkeys(
        ["learning_rate", "weight_decay", "num_train_epochs", "max_train_steps", "num_processes"], "training"
    ),
    **dict.fromkeys(["per_device_train_batch_size", "gradient_accumulation_steps", "lr_scheduler_type"], "training"),
    **dict.fromkeys(["num_warmup_steps", "mixed_precision"], "training"),
    **dict.fromkeys(["pad_to_max_length", "ignore_mismatched_sizes", "save_model"], "layout"),
    **{"seed": "seed", "method": "label"},
}


# --- a family that is not GLUE ---------------------------------------------------------------------------------------

PERPLEXITY = {"name": "perplexity", "key": "test_perplexity", "better": "lower", "chance": 100.0, "main": True}
MATCH = {"name": "exact_match", "key": "test_exact_match", "better": "higher", "chance": None, "main": False}
TOY_ROLES = {
    "task": "axis", "book": "axis", "model_name_or_path": "model", "shots": "data", "calibration": "scope",
    "score": "pattern", "sparsity_pattern": "pattern", "sparsity": "pattern", "nm_ratio": "pattern", "seed": "seed",
    "batch": "layout",
}  # fmt: skip


def make_toy(root, task, pattern, seed, value, *, book="open", status="done", folder=None, matrices=None, roles=None,
             **more) -> Path:  # fmt: skip
    """Write a cell of a made-up family of schema 2: axes task and book, one-shot, perplexity; ``more`` are settings."""
    nm, dense = ":" in str(pattern), pattern == "dense"
    sparsity = sparsity_of(pattern)
    settings = {
        "task": task, "book": book, "model_name_or_path": "some/decoder", "shots": 0, "calibration": 128, "batch": 8,
        "score": None if dense else "magnitude",
        "sparsity_pattern": "dense" if dense else "nm" if nm else "unstructured",
        "sparsity": None if dense or nm else sparsity, "nm_ratio": pattern if nm else None, "seed": seed,
    } | more  # fmt: skip
    name = str(pattern).replace(":", "of")
    folder = Path(folder or Path(root) / "toy" / task / book / str(settings["score"]) / name / str(seed))
    folder.mkdir(parents=True)
    run = {"schema": 2, "family": "toy", "axes": {"task": task, "book": book}, "treatment": "one-shot",
           "roles": TOY_ROLES | (roles or {}), "settings": settings}  # fmt: skip
    if status == "failed":
        write_failure(folder, run, "boom")
        return folder
    data = {"test": {"sha256": f"{task} test"}}
    run |= {"metrics": [MATCH, PERPLEXITY], "status": status, "data": data, **provenance("abc", "cpu")}
    run |= {"pruning": pruning_of(sparsity, matrices)}
    write_run(folder, run, {"test_perplexity": value, "test_exact_match": 1 / value}, sparsity)
    return folder


# --- questions -------------------------------------------------------------------------------------------------------

QA_METRICS = {
    "containment": ("higher", 0.02), "exact_match": ("higher", 0.01), "two_way_containment": ("higher", 0.05),
    "f1": ("higher", 0.03), "empty": ("lower", None), "perplexity": ("lower", None),
}  # fmt: skip
"""Direction and chance; the first is the main one, the last is of no question."""

QA_ROLES = {
    **dict.fromkeys(["task_name", "book", "context_characters", "shots"], "axis"), "model_name_or_path": "model",
    **dict.fromkeys(["score", "use_variant", "sparsity_pattern", "sparsity", "nm_ratio"], "pattern"),
    "calibration": "scope", "max_eval_samples": "data", "perplexity": "data", "batch_size": "layout",
    "seed": "seed",
}  # fmt: skip


def make_qa(root, pattern, hits, *, method="magnitude", book="open", seed=0, task="trivia_qa", variant=False,
            context="3072", shots="0", ids=None, perplexity=20.0, perplexity_text="wikitext2", folder=None,
            made_of=None, **more) -> Path:  # fmt: skip
    """Write a cell of the family that asks questions, with its predictions.

    ``hits`` holds 0 or 1 per question: exact match, containment and both-way containment are all these. ``ids`` are
    the questions' names, by default their numbers; ``made_of`` is the identity, beside the weights; ``more`` are
    settings.
    """
    nm, dense = ":" in str(pattern), pattern == "dense"
    sparsity = sparsity_of(pattern)
    settings = {
        "task_name": task, "book": book, "context_characters": context, "shots": int(shots), "seed": seed,
        "model_name_or_path": "some/decoder", "score": None if dense else method, "use_variant": variant,
        "sparsity_pattern": "dense" if dense else "nm" if nm else "unstructured",
        "sparsity": None if dense or nm else sparsity, "nm_ratio": pattern if nm else None,
        "calibration": "c4" if method in ("wanda", "sparsegpt") and not dense else None, "max_eval_samples": 2000,
        "batch_size": 8, "perplexity": perplexity_text,
    } | more  # fmt: skip
    name = f"{method}{'_variant' * variant}" if not dense else "dense"
    place = Path(root) / "qa" / task / book / context / shots / name / str(pattern).replace(":", "of") / str(seed)
    folder = Path(folder or place)
    folder.mkdir(parents=True)
    axes = {"task": task, "book": book, "context": context if book == "open" else "none", "shots": shots}
    metrics = [
        {"name": metric, "key": "perplexity" if metric == "perplexity" else f"eval_{metric}", "better": better,
         "chance": chance, "main": metric == "containment"} for metric, (better, chance) in QA_METRICS.items()
    ]  # fmt: skip
    run = {"schema": 2, "family": "qa", "axes": axes, "treatment": "one-shot", "roles": QA_ROLES, "status": "done",
           "settings": settings, "metrics": metrics, "data": {"eval": {"sha256": task}}, **provenance("abc", "cpu"),
           "pruning": pruning_of(sparsity, None)}  # fmt: skip
    if made_of is not None:
        run["identity"] = {"settings": f"{seed}", "model_weights": "w", **made_of}
    hits = [float(hit) for hit in hits]
    rate = sum(hits) / len(hits)
    results = {"eval_empty": 0.0, "eval_samples": len(hits), "perplexity": perplexity}
    results |= {f"eval_{name}": rate for name in ("containment", "exact_match", "two_way_containment", "f1")}
    write_run(folder, run, results, sparsity)
    names = range(len(hits)) if ids is None else ids
    same = ("containment", "exact_match", "two_way_containment", "f1")
    lines = [
        {"id": str(one), "prompt_sha256": "p", "raw": " x\n", "answer": "x", "ended": "line",
         "scores": dict.fromkeys(same, hit) | {"empty": 0.0}} for one, hit in zip(names, hits)
    ]  # fmt: skip
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


# --- folds ---

PROBLEM_ROLES = {
    **dict.fromkeys(["task_name", "train_percentage"], "axis"), "model_name_or_path": "model", "fold": "fold",
    **dict.fromkeys(["score", "sparsity_pattern", "sparsity", "nm_ratio"], "pattern"), "seed": "seed",
    "learning_rate": "training", "freeze_weights": "treatment",
}  # fmt: skip


def make_problems(root, pattern, seed, value, *, fold=None, task="mawps", chance=0.0, hits=None, status="done",
                  collapsed=None, folder=None, commit="abc", **more) -> Path:  # fmt: skip
    """Write a cell of a family whose tasks may have folds; ``hits`` holds 0 or 1 per question and gives the value.

    ``collapsed`` is what the record says, if not None; ``more`` are settings.
    """
    nm, dense = ":" in str(pattern), pattern == "dense"
    sparsity = sparsity_of(pattern)
    settings = {
        "task_name": task, "train_percentage": 100.0, "model_name_or_path": "some/encoder", "fold": fold, "seed": seed,
        "score": None if dense else "magnitude", "learning_rate": 1e-5, "freeze_weights": True,
        "sparsity_pattern": "dense" if dense else "nm" if nm else "unstructured",
        "sparsity": None if dense or nm else sparsity, "nm_ratio": pattern if nm else None,
    } | more  # fmt: skip
    folder = Path(folder or Path(root) / task / str(fold) / str(pattern).replace(":", "of") / str(seed))
    folder.mkdir(parents=True)
    run = {"schema": 2, "family": "problems", "axes": {"task": task, "data": "100 %"}, "roles": PROBLEM_ROLES,
           "treatment": "dense transfer" if dense else "sparse transfer", "settings": settings}  # fmt: skip
    if status == "failed":
        write_failure(folder, run, "boom")
        return folder
    metric = {"name": "accuracy", "key": "eval_accuracy", "better": "higher", "chance": chance, "main": True}
    run |= {"metrics": [metric], "status": status, "data": {"eval": {"sha256": f"{task} {fold}"}},
            "pruning": pruning_of(sparsity, None), **provenance(commit, "cpu")}  # fmt: skip
    run |= {} if collapsed is None else {"collapsed": collapsed}
    value = value if hits is None else sum(hits) / len(hits)
    write_run(folder, run, {"eval_accuracy": value, "eval_samples": 100 if hits is None else len(hits)}, sparsity)
    if hits is not None:
        lines = [{"id": f"{fold}-{i}", "scores": {"accuracy": hit}} for i, hit in enumerate(hits)]
        (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


# --- translations ----------------------------------------------------------------------------------------------------

TRANSLATION_ROLES = {
    **dict.fromkeys(["pair", "train_pairs"], "axis"), "model_name_or_path": "model", "data_dir": "source",
    **dict.fromkeys(["score", "sparsity_pattern", "sparsity", "nm_ratio"], "pattern"), "seed": "seed",
    "num_train_epochs": "training", "num_beams": "data", "prune_after_training": "treatment",
}  # fmt: skip


def make_translation(root, pattern, texts, *, pair="en-de", shots="zero-shot", seed=0, treatment=None, chance=3.0,
                     folder=None, **more) -> Path:  # fmt: skip
    """Write a cell of the family that translates, with its predictions.

    ``texts`` has (sources, outputs, references) for every direction, by its name; ``more`` are settings.
    """
    from junkdna.families.translation import scores

    nm, dense = ":" in str(pattern), pattern == "dense"
    sparsity = sparsity_of(pattern)
    settings = {
        "pair": pair, "train_pairs": None, "model_name_or_path": "some/translator", "data_dir": "texts", "seed": seed,
        "score": None if dense else "magnitude",
        "sparsity_pattern": "dense" if dense else "nm" if nm else "unstructured",
        "sparsity": None if dense or nm else sparsity, "nm_ratio": pattern if nm else None,
        "num_train_epochs": 0 if shots == "zero-shot" else 3, "num_beams": 5, "prune_after_training": False,
    } | more  # fmt: skip
    treatment = treatment or ("one-shot" if shots == "zero-shot" else "dense transfer" if dense else "sparse transfer")
    place = Path(root) / "translation" / pair / shots / treatment.replace(" ", "_") / str(pattern).replace(":", "of")
    folder = Path(folder or place / str(seed))
    folder.mkdir(parents=True)
    run = {"schema": 2, "family": "translation", "axes": {"shots": shots, "pair": pair}, "treatment": treatment,
           "roles": TRANSLATION_ROLES, "status": "done", "settings": settings, **provenance("abc", "cpu"),
           "metrics": [{"name": name, "key": f"eval_{name}", "better": better, "chance": floor, "main": name == "bleu"}
                       for name, better, floor in (("bleu", "higher", chance), ("chrf", "higher", 10 + chance),
                                                   ("empty", "lower", None))],
           "data": {"test": {"sha256": pair}}, "pruning": pruning_of(sparsity, None)}  # fmt: skip
    lines, values = [], []
    for direction, (sources, outputs, references) in texts.items():
        scored = scores.score(outputs, references, direction.split("-")[1])
        empty = sum(not one for one in outputs) / len(outputs)
        values.append({"bleu": scored.bleu, "chrf": scored.chrf, "empty": empty})
        for number, (source, output, counts) in enumerate(zip(sources, outputs, scored.statistics)):
            lines.append({
                "id": f"{direction}/{number}", "direction": direction, "source_sha256": seals.digest(source.encode()),
                "output": output, "ended": "eos", "tokens": 3, "statistics": counts,
                "scores": {"empty": int(not output)},
            })  # fmt: skip
    results = {f"eval_{name}": sum(one[name] for one in values) / len(values) for name in values[0]}
    write_run(folder, run, results, sparsity)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


# --- files -----------------------------------------------------------------------------------------------------------


def provenance(commit: str, device: str) -> dict:
    return {
        "code": {"version": "0.1.0", "commit": commit, "changed": False},
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "hardware": {"device": device, "name": "a machine"},
        "model": {"weight_hash": "w"},
    }


def pruning_of(sparsity: float, matrices: list[dict] | None) -> dict:
    """What a record says of the mask; nothing of a dense run."""
    return {"sparsity": sparsity, "matrices": matrices or make_matrices(sparsity)} if sparsity else {}


def write_run(folder: Path, run: dict, results: dict, sparsity: float) -> None:
    """Write a run's record and, if it is done, its results."""
    write = records.write_record if "identity" in run else records.write_json  # the former seals it
    write(folder / "run.json", run)
    if run["status"] == "done":
        results = results | {"sparsity": sparsity, "zero_fraction": sparsity}
        records.write_json(folder / "all_results.json", results)


def write_failure(folder: Path, run: dict, error: str) -> None:
    """Write the record of an error."""
    failure = run | {"command": [], "error": error, "traceback": "…", "failed_at": "2026-01-01T00:00:00"}
    records.write_json(folder / "error.json", failure)


# --- numbers ---------------------------------------------------------------------------------------------------------


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
    """Write the dense runs (0.9, and 0.01 more for each later seed) and a run per pattern: dense - fall(...).

    ``fall`` takes task, sparsity and seed.
    """
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
