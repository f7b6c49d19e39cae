"""From flags to cells: what they say together is checked, and the product of their lists becomes the cells of a run."""

from __future__ import annotations

import itertools
import os
import sys
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from junkdna.runs import cell as cells
from junkdna.runs import commandline as flags
from junkdna.families.glue import tasks as glue
from junkdna.runs import processes as launch
from junkdna.runs.cell import Cell
from junkdna.errors import Faults
from junkdna.sparsity.patterns import nm_from_sparsity, decimal_text

DEFAULT_SPARSITY = Decimal("0.2")
DENSE = {"sparse_init": "dense", "sparsity": None, "nm_ratio": None}
IRRELEVANT_WHEN_DENSE = {
    "freeze_weights": False,
    "freeze_weights_frompretrain": False,
    "noembed": False,
    "prune_exclude": (),
    "mask_file": None,
}
"""A dense run is the same whatever the pruned runs beside it are."""


@dataclass(frozen=True)
class Request:
    """What a command line asks for: cells in the order in which they run, and how to go about them."""

    cells: tuple[Cell, ...]
    dry_run: bool
    overwrite_output_dir: bool
    argv: tuple[str, ...]
    launcher: str = "local"
    num_jobs: int | None = None
    """None: as many as there are GPUs on this machine, or one on a cluster."""
    jobs_dir: str | None = None
    slurm: tuple[tuple[str, object], ...] = ()
    """The --slurm_ flags that were given, without that prefix."""


def parse(argv: list[str] | None = None) -> Request:
    """Turn a command line into validated cells.

    Raises UserError with every fault found in the flags and in the files and folders they name.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    faults = Faults()
    given = flags.read(argv, faults)
    faults.raise_any()
    request = _resolve(given, argv, faults)
    faults.raise_any()
    return request


def _resolve(given: dict, argv: list[str], faults: Faults) -> Request:
    """Check what the flags say together, and build the product of their lists."""
    _check_data(given, faults)
    _check_percentages(given, faults)
    _check_model(given, faults)
    _check_jobs(given, faults)
    patterns = _patterns(given, faults)
    if given["with_dense"] and DENSE not in patterns:
        patterns = [DENSE, *patterns]
    if given["freeze_weights"] and given["freeze_weights_frompretrain"]:
        faults.append(
            "--freeze_weights --freeze_weights_frompretrain: give one of them (sparse transfer or dense "
            "transfer with freezing) or neither (sparse-to-dense transfer)"
        )
    schedule, rate = given["lr_scheduler_type"], given["learning_rate"]
    if schedule == "constant" and given["num_warmup_steps"]:
        faults.append(
            f"--num_warmup_steps {given['num_warmup_steps']}: --lr_scheduler_type constant has no warm-up; "
            "constant_with_warmup has"
        )
    if schedule == "polynomial" and rate <= 1e-7:
        faults.append(f"--learning_rate {rate:g}: must be > 1e-07, where --lr_scheduler_type polynomial ends")
    if given["resume_from_checkpoint"] and given["overwrite_output_dir"]:
        faults.append("--resume_from_checkpoint --overwrite_output_dir: going on and starting again; give one of them")
    if given["hub_model_id"] and not given["push_to_hub"]:
        faults.append(f"--hub_model_id {given['hub_model_id']}: has no effect without --push_to_hub")
    faults.raise_any()
    portions = [(task, p) for task in given["task_name"] or [None] for p in _percentages(given, task)]
    product = itertools.product(portions, patterns, given["seed"])
    made = [_cell(given, task, percentage, pattern, seed, faults) for (task, percentage), pattern, seed in product]
    faults.raise_any()
    _check_folders(made, faults)
    if given["hub_model_id"] and len(made) > 1:
        faults.append(
            f"--hub_model_id {given['hub_model_id']}: {len(made)} runs would share this repository; leave it out"
        )
    if given["resume_from_checkpoint"] not in (None, "latest") and len(made) > 1:
        faults.append(
            f"--resume_from_checkpoint {given['resume_from_checkpoint']}: is one run's, {len(made)} are asked for; give latest, "
            "or leave it out: every run goes on from its own"
        )
    return Request(
        tuple(made),
        given["dry_run"],
        given["overwrite_output_dir"],
        tuple(argv),
        given["launcher"] or "local",
        given["num_jobs"],
        given["jobs_dir"],
        _slurm(given),
    )


def _check_data(given: dict, faults: Faults) -> None:
    files = [name for name in ("train_file", "validation_file") if given[name]]
    if given["task_name"] and files:
        faults.append(f"--task_name and --{files[0]}: two sources of data; give a task or files, not both")
    if not given["task_name"] and not files:
        faults.append("no data: give --task_name (a GLUE task) or --train_file with --validation_file")
    if len(files) == 1:
        missing = "validation_file" if files[0] == "train_file" else "train_file"
        faults.append(f"--{files[0]} {given[files[0]]}: needs --{missing} too")
    if given["glue_dir"] and files:
        faults.append(f"--glue_dir {given['glue_dir']}: goes with --task_name, not with --{files[0]}")
    for name in files:
        suffix = Path(given[name]).suffix.lower()
        if suffix not in (".csv", ".json", ".jsonl"):
            faults.append(f"--{name} {given[name]}: must end in .csv, .json or .jsonl (json lines)")
        if not os.path.isfile(given[name]):
            faults.append(f"--{name} {given[name]}: no such file")
    if given["glue_dir"] and not os.path.isdir(given["glue_dir"]):
        faults.append(f"--glue_dir {given['glue_dir']}: no such folder")
    elif given["glue_dir"]:
        for name in given["task_name"] or []:
            task = glue.TASKS[name]
            for file in ["train.tsv", *(file for _, _, file in task.evals)]:
                path = os.path.join(given["glue_dir"], task.folder, file)
                if not os.path.isfile(path):
                    faults.append(f"--glue_dir {given['glue_dir']}: {path} is missing (needed for --task_name {name})")


def _check_percentages(given: dict, faults: Faults) -> None:
    """Refuse percentages for tasks that are not asked for, and tasks that are left without one."""
    tasks = given["task_name"] or [None]
    for task, percentage in given["validation_split_percentage"]:
        if task is not None and task not in tasks:
            faults.append(
                f"--validation_split_percentage {task}={decimal_text(percentage)}: --task_name does not name this task"
            )
    for task in tasks:
        if not _percentages(given, task):
            faults.append(f"--validation_split_percentage: gives no percentage for --task_name {task}")


def _percentages(given: dict, task: str | None) -> list[Decimal]:
    """The percentages of a task: its own, or else those that are for no task in particular."""
    values = given["validation_split_percentage"]
    return [p for name, p in values if name == task] or [p for name, p in values if name is None]


def _check_model(given: dict, faults: Faults) -> None:
    if not given["model_name_or_path"]:
        faults.append("--model_name_or_path: is required, a Hub name (roberta-base) or a folder")
    if given["use_slow_tokenizer"]:
        faults.append("--use_slow_tokenizer: the installed transformers has fast tokenizers only; leave it out")


def _check_jobs(given: dict, faults: Faults) -> None:
    if given["launcher"] != "slurm":
        for name, _ in _slurm(given):
            faults.append(f"--slurm_{name}: goes with --launcher slurm")
    if launch.world_size() > 1 or launch.under_accelerate():
        for name in ("launcher", "num_jobs"):
            if given[name]:
                faults.append(
                    f"--{name} {given[name]}: torchrun and accelerate launch put several processes on one run; start "
                    "the command with plain python to spread runs over jobs"
                )


def _slurm(given: dict) -> tuple[tuple[str, object], ...]:
    return tuple((n.removeprefix("slurm_"), v) for n, v in given.items() if n.startswith("slurm_") and v)


def _patterns(given: dict, faults: Faults) -> list[dict]:
    """Return one set of pattern settings per value of --sparsity or --nm_ratio, checking that they agree."""
    init, sparsities, ratios = given["sparse_init"], given["sparsity"], given["nm_ratio"]
    none = {"sparse_init": init, "sparsity": None, "nm_ratio": None}
    if given["mask_file"]:
        for name in ("sparse_init", "sparsity", "nm_ratio"):
            if given[name]:
                faults.append(f"--mask_file {given['mask_file']}: says what is removed; leave out --{name}")
        if not os.path.isfile(given["mask_file"]):
            faults.append(f"--mask_file {given['mask_file']}: no such file")
        return [none | {"sparse_init": "mask_file"}]
    if ratios and init not in (None, "sparse_nm"):
        faults.append(f"--nm_ratio: goes with --sparse_init sparse_nm, not with {init}")
    if init == "dense":
        if any(sparsities or []):
            faults.append(f"--sparsity {_words(sparsities)}: --sparse_init dense prunes nothing; leave one of them out")
        return [DENSE]
    if ratios or init == "sparse_nm":
        return [none | {"sparse_init": "sparse_nm", "nm_ratio": ratio} for ratio in _ratios(sparsities, ratios, faults)]
    return [
        none | {"sparse_init": init or "sparse_unstructured", "sparsity": s} for s in sparsities or [DEFAULT_SPARSITY]
    ]


def _ratios(sparsities, ratios, faults: Faults) -> list[str]:
    """Return the N:M ratios meant by --nm_ratio, or by --sparsity as N of 8."""
    if not ratios:
        found = [faults.collect(nm_from_sparsity, s) for s in sparsities or [DEFAULT_SPARSITY]]
        return [f"{nm.keep}:{nm.of}" for nm in found if nm]
    for ratio in ratios:
        for sparsity in sparsities or []:
            if ratio.sparsity != Fraction(sparsity):
                faults.append(
                    f"--sparsity {decimal_text(sparsity)}: contradicts --nm_ratio {ratio.ratio}, which removes "
                    f"{float(ratio.sparsity):g}; leave --sparsity out"
                )
    return [f"{ratio.keep}:{ratio.of}" for ratio in ratios]


def _words(values) -> str:
    return " ".join(decimal_text(value) for value in values)


def _cell(given: dict, task, percentage, pattern: dict, seed: int, faults: Faults) -> Cell | None:
    """Build one cell and its folder's name."""
    values = {name: given[name] for name in Cell.__dataclass_fields__ if name in given}
    values |= pattern | {
        "task_name": task,
        "validation_split_percentage": percentage,
        "seed": seed,
        "prune_exclude": tuple(given["prune_exclude"]),
        "num_processes": launch.world_size(),
        "method": given["method"] or _method(given, pattern),
        "save_model": given["save_model"] or given["push_to_hub"],
    }
    if pattern["sparse_init"] == "dense":
        values |= IRRELEVANT_WHEN_DENSE
    draft = Cell(**values)
    fields = {
        "method": draft.method,
        "task_name": draft.task_label,
        "sparsity": decimal_text(draft.sparsity) if draft.sparsity is not None else draft.pattern_slug,
        "pattern": draft.pattern_slug,
        "validation_split_percentage": decimal_text(percentage),
        "seed": str(seed),
        "model": Path(draft.model_name_or_path.rstrip("/")).name,
    }
    folder = faults.collect(cells.output_dir, given["output_dir"], fields)
    return Cell(**values | {"output_dir": folder}) if folder is not None else None


def _method(given: dict, pattern: dict) -> str:
    """Name a kind of run in the manner of the paper's scripts: Glue_noembed_freeze_weights."""
    if pattern["sparse_init"] == "dense":
        return "Glue_dense"
    parts = ["Glue"]
    parts += ["noembed"] if given["noembed"] else []
    held = [name for name in ("freeze_weights", "freeze_weights_frompretrain") if given[name]]
    return "_".join(parts + (held or ["sparse_to_dense"]))


def _check_folders(made: list[Cell], faults: Faults) -> None:
    """Refuse two cells in one folder."""
    seen: dict[str, Cell] = {}
    for cell in made:
        other = seen.setdefault(os.path.abspath(cell.output_dir), cell)
        if other is not cell:
            differ = [name for name, value in cell.settings().items() if other.settings()[name] != value]
            wanted = " ".join(dict.fromkeys(f"{{{n}}}" if n in cells.TEMPLATE_FIELDS else "{pattern}" for n in differ))
            faults.append(
                f"--output_dir {cell.output_dir}: several runs would share this folder; "
                + (f"use {wanted} in it" if wanted else "the same run is asked for twice")
            )
            return
