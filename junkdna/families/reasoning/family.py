"""Reasoning as a family of experiments: what its flags say together, and what its grid is made of."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from junkdna.errors import Fault, Faults, UserError
from junkdna.families.encoder import checks, data
from junkdna.families.encoder.examples import Splits
from junkdna.families.finding import find, find_model
from junkdna.families.reasoning import choices, reading, tasks
from junkdna.families.reasoning.cell import OF_EQUATIONS, Command, ReasoningCell
from junkdna.families.reasoning.tasks import CHOICE, EQUATION, FOLDS, METRICS, TASKS
from junkdna.models import folder
from junkdna.runs import groups, pruning, settings
from junkdna.runs.journal import Journal
from junkdna.runs.shared import Shared


@dataclass(frozen=True)
class ReasoningData(Splits):
    """Both splits of a task: of ``Choices``, or of ``Problems``; ``kind`` is CHOICE or EQUATION."""

    kind: str = CHOICE


class Reasoning:
    """Fine-tune a pruned encoder on multiple choice or word problems (Setting 4 of the paper)."""

    entry = "Reasoning_tasks.Reasoning_prune_oneshot"
    description = (
        "Prune a pre-trained encoder once, fine-tune it with the mask held to choose among answers (CommonsenseQA, "
        "WinoGrande) or, with a fresh decoder, to write equations (MAWPS, SVAMP), evaluate after every epoch, and "
        "record. --task_name, --sparsity, --nm_ratio, --winogrande_size, --num_choices, --fold and --seed take several "
        "values. The program runs every combination."
    )
    cell = ReasoningCell
    command = Command
    gone = {  # noqa: RUF012 -- read only, as all of the contract
        "--glue_dir": "--data_dir is its name here",
        "--cuda_graphs": "is for GLUE; leave it out",
    }

    def __init__(self, run: Callable[[ReasoningCell, Shared, Journal], None]):
        """``run`` is the method, from data to results."""
        self._run = run

    def run(self, cell: ReasoningCell, shared: Shared, journal: Journal) -> None:
        """Find what comes from the Hub before the method imports the libraries."""
        find(cell, shared, find_model, partial(data.load, read=read))
        self._run(cell, shared, journal)

    def check(self, given: dict, faults: Faults) -> None:
        _check_sources(given, faults)
        _check_choices(given, faults)
        _check_useful(given, faults)
        groups.check_holding(given, faults)
        groups.check_training(given, faults)

    def patterns(self, given: dict, faults: Faults) -> list[dict]:
        return pruning.settings(given, faults)

    def variants(self, given: dict) -> Iterator[dict]:
        for task in given["task_name"] or [None]:
            sizes = given["winogrande_size"] if task == "winogrande" else [None]
            folds = (given["fold"] or FOLDS) if task == "mawps" else [None]
            counts = [None] if task and TASKS[task].kind == EQUATION else given["num_choices"] or [None]
            for size, fold, count in itertools.product(sizes, folds, counts):
                yield {"task_name": task, "winogrande_size": size, "fold": fold, "num_choices": count}

    def preflight(self, cell: ReasoningCell, shared: Shared, faults: Faults) -> None:
        loaded = faults.collect(data.load, cell, shared, read) if _is_here(cell) else None
        kind = loaded.whole.kind if loaded else cell.kind
        faults.collect(_check_model, cell, kind)
        if kind == CHOICE and cell.task_name is None:
            _refuse(vars(cell), OF_EQUATIONS, "word problems", faults)

    def check_done(self, cell: ReasoningCell, shared: Shared) -> None:
        if _is_here(cell):
            data.check_done(cell, shared, read)

    def work(self, cell: ReasoningCell, shared: Shared) -> int:
        """Sequences that the encoder will read in training; 0 for files that cannot be read."""
        if cell.task_name:
            rows = tasks.train_rows(cell.task_name, cell.winogrande_size)
            each = cell.num_choices or TASKS[cell.task_name].num_choices or 1
        else:
            try:
                train = data.load(cell, shared, read).whole.train
            except UserError:  # it will fail in its job, and say why
                return 0
            rows, each = len(train), train.num_choices if isinstance(train, choices.Choices) else 1
        if cell.max_train_steps:
            return each * cell.max_train_steps * cell.per_device_train_batch_size * cell.gradient_accumulation_steps
        return each * min(rows, cell.max_train_samples or rows) * cell.num_train_epochs

    def loads(self, cell: ReasoningCell) -> tuple:
        return (*cell.source, cell.model_name_or_path, cell.model_revision)


def _is_here(cell: ReasoningCell) -> bool:
    """Whether a cell's rows lie on this machine."""
    return cell.task_name is None or cell.data_dir is not None


def read(cell: ReasoningCell) -> ReasoningData:
    """Read a cell's task from where its flags say."""
    name, size, fold = cell.task_name, cell.winogrande_size or "xl", cell.fold or 0
    if name is None:
        found = reading.read_files(cell.train_file, cell.validation_file)
    elif cell.data_dir:
        found = reading.read_dir(cell.data_dir, name, size, fold)
    else:
        found = reading.read_hub(name, size)
    if found.kind == EQUATION and cell.num_choices:
        raise UserError(Fault("num_choices", cell.num_choices, "is for multiple choice, these are word problems"))
    splits = [found.train, found.eval]
    if cell.num_choices:
        splits = [choices.keep_choices(split, cell.num_choices, cell.seed) for split in splits]
    source = "; ".join(split.origin for split in splits)
    return ReasoningData(splits[0], {"eval": splits[1]}, (METRICS[found.kind],), source, found.kind)


# --- what flags say together -----------------------------------------------------------------------------------------


def _check_sources(given: dict, faults: Faults) -> None:
    files = checks.check_sources(given, "data_dir", " ".join(TASKS), faults)
    for name in files:
        if not os.path.isfile(given[name]):
            faults.append(f"--{name} {given[name]}: no such file")
    if given["data_dir"] and not os.path.isdir(given["data_dir"]):
        faults.append(f"--data_dir {given['data_dir']}: no such folder")
    for task in (TASKS[name] for name in given["task_name"] or [] if name):
        if task.hub is None and not (given["data_dir"] or files):
            faults.append(f"--task_name {task.name}: the Hub has no copy with its splits; give --data_dir")
        if (
            given["data_dir"]
            and os.path.isdir(given["data_dir"])
            and not (Path(given["data_dir"]) / task.folder).is_dir()
        ):
            faults.append(f"--data_dir {given['data_dir']}: has no folder {task.folder} (for --task_name {task.name})")


def _check_choices(given: dict, faults: Faults) -> None:
    """Refuse more choices than a task has."""
    for task in (TASKS[name] for name in given["task_name"] or [] if name and TASKS[name].kind == CHOICE):
        for count in given["num_choices"] or []:
            if count is not None and count > task.num_choices:
                faults.append(choices.not_so_many(count, task.name, task.num_choices))


def _check_useful(given: dict, faults: Faults) -> None:
    """Refuse flags that no task of the command looks at; files of one's own show their kind when they are read."""
    named = [name for name in given["task_name"] or [] if name]
    kinds = {TASKS[name].kind for name in named} or {CHOICE, EQUATION}
    if EQUATION not in kinds:
        _refuse(given, OF_EQUATIONS, "word problems", faults)
    elif "mawps" not in named:
        _refuse(given, ("fold",), "MAWPS", faults)
    if CHOICE not in kinds:
        _refuse(given, ("num_choices",), "multiple choice", faults)
    if "winogrande" not in named:
        _refuse(given, ("winogrande_size",), "WinoGrande", faults)


def _refuse(given: Mapping, names: Iterable[str], whose: str, faults: Faults) -> None:
    """Refuse values other than the default of flags that have no effect."""
    for said in settings.changed(given, ReasoningCell, names):
        faults.append(f"{said}: has no effect, it is of {whose}; leave it out")


def _check_model(cell: ReasoningCell, kind: str | None) -> None:
    """Refuse what a folder shows to be impossible: for word problems, heads that do not divide the encoder's width."""
    config = folder.check(cell.model_name_or_path)
    if config is None:
        return
    checks.check_encoder(config, cell.model_name_or_path, cell.max_length)
    width = config.get("hidden_size")
    if kind == EQUATION and isinstance(width, int) and width % cell.decoder_heads:
        raise UserError(Fault("decoder_heads", cell.decoder_heads, f"does not divide the encoder's width, {width}"))
