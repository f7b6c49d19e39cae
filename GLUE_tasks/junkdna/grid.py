"""Many cells in one process: what they share is loaded once, what is finished is skipped, what fails does not spread.

A single run is a grid of one cell and goes through the same code.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from junkdna import checkpoint, data, hub, launch, records
from junkdna.cell import Cell
from junkdna.data import Examples, Features, TaskData
from junkdna.errors import Faults, UserError
from junkdna.request import Request

DONE, FAILED, SKIPPED = "done", "failed", "skipped"


class Shared:
    """What cells have in common, kept for as long as the next cell asks for the same.

    Of each kind only the latest is kept, so that memory does not grow with the number of cells.
    """

    def __init__(self):
        self._kept: dict[str, tuple[tuple, object]] = {}

    def _keep(self, kind: str, key: tuple, make: Callable):
        if self._kept.get(kind, (None, None))[0] != key:
            self._kept.pop(kind, None)  # free it before its successor is made
            self._kept[kind] = (key, make())
        return self._kept[kind][1]

    def accelerator(self, cell: Cell):
        """The device, or this process's share of several; the same for all cells."""
        return self._keep("accelerator", (), lambda: make_accelerator(cell))

    def whole_data(self, cell: Cell) -> TaskData:
        """All rows of the cell's task."""
        key = (cell.task_name, cell.glue_dir, cell.train_file, cell.validation_file)
        return self._keep("data", key, lambda: read_data(cell))

    def data(self, cell: Cell) -> TaskData:
        """The rows that the cell uses."""
        whole = self.whole_data(cell)
        return data.cut(whole, cell.validation_split_percentage, cell.max_train_samples, cell.max_eval_samples)

    def find_model(self, cell: Cell) -> None:
        """Ask the Hub once for a model that is called by its name there; raises UserError if it cannot be had."""
        name, revision = cell.model_name_or_path, cell.model_revision
        if not checkpoint.is_folder(name):
            self._keep("model's name", (name, revision), lambda: hub.find_model(name, revision))

    def checkpoint(self, cell: Cell) -> checkpoint.Checkpoint:
        task = self.whole_data(cell)
        key = (cell.model_name_or_path, cell.model_revision, cell.ignore_mismatched_sizes, task.label_names)
        return self._keep(
            "checkpoint",
            key,
            lambda: checkpoint.Checkpoint(
                cell.model_name_or_path,
                cell.model_revision,
                task.num_labels,
                not task.label_names,
                task.label_names,
                cell.ignore_mismatched_sizes,
                cell.max_length,
            ),
        )

    def features(self, cell: Cell, split: str, examples: Examples) -> Features:
        """The tokenised examples of one split."""
        tokenizer = self.checkpoint(cell).tokenizer
        key = (
            cell.task_name,
            cell.glue_dir,
            cell.train_file,
            cell.validation_file,
            cell.max_length,
            len(examples),
            cell.model_name_or_path,
            cell.model_revision,
        )
        return self._keep(f"features {split}", key, lambda: data.tokenise(examples, tokenizer, cell.max_length))


def read_data(cell: Cell) -> TaskData:
    """Read a cell's task from where its flags say."""
    if cell.train_file:
        return data.read_files(cell.train_file, cell.validation_file)
    return data.read_glue_dir(cell.glue_dir, cell.task_name) if cell.glue_dir else data.read_hub(cell.task_name)


def make_accelerator(cell: Cell):
    """Make the process's accelerator: CUDA, else Apple's, else the CPU. Raises UserError for a precision it cannot do."""
    import accelerate
    import torch

    try:
        accelerator = accelerate.Accelerator(
            mixed_precision=cell.mixed_precision,
            log_with=cell.report_to if cell.with_tracking else None,
            project_dir=cell.output_dir if cell.with_tracking else None,
            cpu=not torch.accelerator.is_available(),  # unless told, it takes several CPU processes for unrelated ones
        )
    except (ValueError, RuntimeError) as error:
        flag = "--report_to " + cell.report_to if cell.with_tracking else "--mixed_precision " + cell.mixed_precision
        raise UserError(f"{flag}: {error}") from None
    if accelerator.num_processes != cell.num_processes:
        raise RuntimeError(
            f"{cell.num_processes} processes were started, accelerate joined {accelerator.num_processes}"
        )
    if cell.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise UserError("--mixed_precision fp16: needs a GPU; on a CPU use bf16 or no")
    return accelerator


# --- before anything is loaded ---------------------------------------------------------------------------------------


def preflight(request: Request, shared: Shared) -> None:
    """Check all that can be checked without torch and without the Hub; raises one UserError with every fault."""
    faults = Faults()
    for cell in request.cells:
        num_labels = task = None
        if cell.task_name is None or cell.glue_dir:
            task = faults.collect(shared.data, cell)
            num_labels = task.num_labels if task else None
        faults.collect(
            checkpoint.check_folder, cell.model_name_or_path, num_labels, cell.max_length, cell.ignore_mismatched_sizes
        )
        faults.collect(records.check_folder, cell, request.overwrite_output_dir)
        if task:
            faults.collect(records.check_data, cell, task.train, request.overwrite_output_dir)
    faults.raise_any()


def is_done(cell: Cell, request: Request) -> bool:
    """Whether a cell is finished and is to be left as it is."""
    return not request.overwrite_output_dir and records.finished(cell.output_dir) is not None


def print_plan(request: Request) -> None:
    """Say what would run, where it would go, and what is done."""
    for cell in request.cells:
        what = cell.pattern or ("dense" if cell.dense else f"mask file {cell.mask_file}")
        state = "done" if is_done(cell, request) else "to run"
        print(
            f"{state:6}  {cell.output_dir}  [{cell.task_label}, {float(cell.validation_split_percentage):g} % of the "
            f"training data, {what}, {cell.transfer}, seed {cell.seed}]"
        )


# --- running ---------------------------------------------------------------------------------------------------------


def run(request: Request, shared: Shared, run_cell: Callable[[Cell, Shared, tuple[str, ...]], None]) -> int:
    """Run every cell that is not finished; return the exit code (0, or 1 if a cell of several failed).

    A single run's failure is raised, so that a user's mistake ends with code 2 and a bug with its traceback.
    """
    states: dict[str, list[Cell]] = {DONE: [], FAILED: [], SKIPPED: []}
    several = len(request.cells) > 1
    for number, cell in enumerate(request.cells, start=1):
        if several:
            say(f"\n[{number}/{len(request.cells)}] {cell.output_dir}")
        try:
            state = _run_one(cell, request, shared, run_cell)
        except Exception as error:
            # other processes may not have failed: going on without them could hang them all
            if not several or cell.num_processes > 1:
                raise
            say(f"error: {error}" if isinstance(error, UserError) else traceback.format_exc(), sys.stderr)
            state = FAILED
        states[state].append(cell)
    if several:
        say(f"\n{len(states[DONE])} done, {len(states[SKIPPED])} were done before, {len(states[FAILED])} failed")
        for cell in states[FAILED]:
            say(f"failed: {cell.output_dir}")
    return 1 if states[FAILED] else 0


def _run_one(cell: Cell, request: Request, shared: Shared, run_cell: Callable) -> str:
    """Run a cell unless it is finished, and upload it if that is asked for."""
    done_before = is_done(cell, request)
    if done_before:
        say(f"already done: {cell.output_dir} (--overwrite_output_dir runs it again)")
    else:
        run_cell(cell, shared, request.argv)
    if cell.push_to_hub and launch.is_main_process():
        if done_before:
            hub.check_login(cell.repository)
        say(f"uploaded  {hub.push(cell.output_dir, cell.repository)}")
    return SKIPPED if done_before else DONE


def say(text: str, stream=None) -> None:
    """Print from the main process only."""
    if launch.is_main_process():
        print(text, file=stream, flush=True)
