"""A cell: one run as one frozen, fully resolved configuration, built and validated before anything is loaded.

Its JSON form is what ``run.json`` stores under ``settings`` and what a repeated run is compared with.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path

from junkdna.errors import UserError, did_you_mean
from junkdna.sparsity.patterns import NM, Pattern, PerMatrix, Unstructured, parse_nm, decimal_text

SPARSE_INITS = {
    "sparse_unstructured": "one global ranking by magnitude, the smallest go",
    "sparse_nm": "N:M, the N largest of every M neighbouring inputs stay",
    "dense": "nothing is pruned",
    "random": "control: the same count at random, drawn with --seed",
    "one_shot_smallgm": "control: one global ranking, the LARGEST go",
    "uniform_weight": "control: the same fraction of every matrix, by magnitude",
}
"""Canonical values of ``--sparse_init`` with their meaning."""

SLUGS = {"random": "random-", "one_shot_smallgm": "smallgm-", "uniform_weight": "uniform-"}
TEMPLATE_FIELDS = ("method", "task_name", "sparsity", "pattern", "validation_split_percentage", "seed", "model")
TEMPLATE_WORDS = " ".join(f"{{{name}}}" for name in TEMPLATE_FIELDS)
DEFAULT_OUTPUT = "./{model}/{method}/{task_name}/{pattern}/{validation_split_percentage}/{seed}/"

NO_EFFECT_ON_RESULT = frozenset(
    [
        *("per_device_eval_batch_size", "with_tracking", "report_to", "push_to_hub", "hub_model_id", "output_dir"),
        *("checkpointing_steps", "resume_from_checkpoint", "deterministic", "no_cuda_graphs"),
    ]
)
"""Settings in which two runs of the same result may differ."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run. Field names are the flags' names; ``junkdna.flags`` documents unit, range and default of each."""

    task_name: str | None
    glue_dir: str | None
    train_file: str | None
    validation_file: str | None
    validation_split_percentage: Decimal
    max_length: int
    pad_to_max_length: bool
    max_train_samples: int | None
    max_eval_samples: int | None

    model_name_or_path: str
    model_revision: str
    ignore_mismatched_sizes: bool

    sparse_init: str
    sparsity: Decimal | None
    nm_ratio: str | None
    mask_file: str | None
    noembed: bool
    prune_exclude: tuple[str, ...]
    freeze_weights: bool
    freeze_weights_frompretrain: bool

    per_device_train_batch_size: int
    per_device_eval_batch_size: int
    num_processes: int
    learning_rate: float
    weight_decay: float
    num_train_epochs: int
    max_train_steps: int | None
    gradient_accumulation_steps: int
    lr_scheduler_type: str
    num_warmup_steps: int | None
    seed: int
    mixed_precision: str
    deterministic: bool
    no_cuda_graphs: bool
    with_tracking: bool
    report_to: str
    checkpointing_steps: int | str | None
    resume_from_checkpoint: str | None

    method: str
    output_dir: str
    save_model: bool
    push_to_hub: bool
    hub_model_id: str | None

    @property
    def pattern(self) -> Pattern | None:
        """What is removed; None where nothing is (dense) or where a mask file says it."""
        if self.mask_file or self.sparse_init == "dense":
            return None
        if self.sparse_init == "sparse_nm":
            return parse_nm(self.nm_ratio)
        return (PerMatrix if self.sparse_init == "uniform_weight" else Unstructured)(self.sparsity)

    @property
    def dense(self) -> bool:
        return self.sparse_init == "dense"

    @property
    def transfer(self) -> str:
        return transfer_name(self.sparse_init, self.freeze_weights, self.freeze_weights_frompretrain)

    @property
    def pattern_slug(self) -> str:
        """The pattern as a folder name: 0.5, 2of8, dense, random-0.5, mask-NAME."""
        if self.dense:
            return "dense"
        if self.mask_file:
            return f"mask-{Path(self.mask_file).stem}"
        pattern = self.pattern
        if isinstance(pattern, NM):
            return pattern.slug
        return SLUGS.get(self.sparse_init, "") + decimal_text(pattern.sparsity)

    @property
    def task_label(self) -> str:
        """The task's name, or for files of one's own the file's stem, or its folder's name when the stem is 'train'."""
        return self.task_name or file_label(self.train_file)

    @property
    def repository(self) -> str:
        """Where ``--push_to_hub`` puts the run: the repository asked for, else one named after what the run is."""
        percentage = decimal_text(self.validation_split_percentage)
        parts = (Path(self.model_name_or_path).name, self.task_label, self.pattern_slug, percentage, str(self.seed))
        return self.hub_model_id or re.sub(r"[^\w.-]+", "-", "-".join(parts))

    def settings(self) -> dict:
        """Everything that may change the result, as JSON values."""
        return {f.name: _json(getattr(self, f.name)) for f in fields(self) if f.name not in NO_EFFECT_ON_RESULT}

    def options(self) -> dict:
        """The settings that change no result, as JSON values."""
        return {name: _json(getattr(self, name)) for name in sorted(NO_EFFECT_ON_RESULT)}


def transfer_name(sparse_init: str, freeze_weights: bool, freeze_weights_frompretrain: bool) -> str:
    """The paper's name of what is done with the removed weights (section 2.2 of its GLUE experiments)."""
    if sparse_init == "dense":
        return "dense transfer"
    if freeze_weights:
        return "sparse transfer"
    return "dense transfer with freezing" if freeze_weights_frompretrain else "sparse-to-dense transfer"


def file_label(train_file: str) -> str:
    """Name a task after its training file."""
    path = Path(train_file)
    stem = path.stem
    return path.absolute().parent.name if stem.lower() == "train" else stem


def _json(value):
    if isinstance(value, Decimal):
        return float(value)
    return list(value) if isinstance(value, tuple) else value


def output_dir(template: str, values: dict[str, str]) -> str:
    """Fill an output folder's template; raises UserError for a field that does not exist."""
    try:
        parts = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise UserError(f"--output_dir {template}: is no valid template: {error}") from None
    for name, form, conversion in parts:
        if form or conversion:
            raise UserError(f"--output_dir {template}: write {{{name}}} without a format")
        if name not in TEMPLATE_FIELDS:
            raise UserError(
                f"--output_dir {template}: unknown field {{{name}}}{did_you_mean(name, TEMPLATE_FIELDS)}; "
                f"allowed: {TEMPLATE_WORDS}"
            )
    if not template.strip():
        raise UserError("--output_dir: is empty; give a folder")
    return template.format(**values)
