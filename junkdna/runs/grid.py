"""Many cells in one process: what they share is loaded once, what is finished is skipped, what fails does not spread.

A single run is a grid of one cell and goes through the same code.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from junkdna.models import pretrained as checkpoint
from junkdna.families.glue import reading as data
from junkdna.models import hub
from junkdna.runs import processes as launch
from junkdna.runs import lock
from junkdna.runs import records
from junkdna.runs import checkpoints as resume
from junkdna.runs.cell import Cell
from junkdna.families.glue.reading import Examples, TaskData
from junkdna.errors import Faults, UserError
from junkdna.runs.request import Request
from junkdna.runs.speech import in_one_line

if TYPE_CHECKING:
    from junkdna.training.tokens import Features

DONE, FAILED, SKIPPED, ELSEWHERE = "done", "failed", "skipped", "running elsewhere"


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
        return self._keep("data", source(cell), lambda: read_data(cell))

    def data(self, cell: Cell) -> TaskData:
        """The rows that the cell uses."""
        whole = self.whole_data(cell)
        sizes = (cell.validation_split_percentage, cell.max_train_samples, cell.max_eval_samples)
        return self._keep("cut", (*source(cell), *sizes), lambda: data.cut(whole, *sizes))

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
        """The tokenised examples of one split. Of a split that grows from cell to cell, only what is new is tokenised."""
        from junkdna.training.tokens import tokenise

        tokenizer = self.checkpoint(cell).tokenizer
        kind = f"features {split}"
        key = (*source(cell), cell.max_length, cell.model_name_or_path, cell.model_revision)
        kept = self._keep(kind, key, lambda: tokenise(examples, tokenizer, cell.max_length))
        if len(kept) < len(examples):
            kept = kept.followed_by(tokenise(examples.since(len(kept)), tokenizer, cell.max_length))
            self._kept[kind] = (key, kept)
        return kept.first(len(examples))


def source(cell: Cell) -> tuple:
    """Where a cell's rows come from."""
    return (cell.task_name, cell.glue_dir, cell.train_file, cell.validation_file)


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
    """Check all that can be checked without torch and without the Hub; raises one UserError with every fault.

    Of several cells, those whose data or model cannot be used are left to fail by themselves, as long as there are others.
    """
    folders, contents, usable = Faults(), Faults(), False
    for cell in request.cells:
        own = Faults()
        task = _check_contents(cell, shared, own)
        contents.extend(fault for fault in own if fault not in contents)
        usable = usable or not own
        folders.collect(records.check_folder, cell, request.overwrite_output_dir)
        if not request.overwrite_output_dir:
            folders.collect(resume.check, cell)
        if task:
            folders.collect(records.check_data, cell, task.train, request.overwrite_output_dir)
    Faults([*([] if usable else contents), *folders]).raise_any()
    for fault in contents:
        say(f"warning: {fault}", sys.stderr)


def _check_contents(cell: Cell, shared: Shared, faults: Faults) -> TaskData | None:
    """Read a cell's local data and look at its model's files; return the data, if it is local and can be read."""
    task = None
    if cell.task_name is None or cell.glue_dir:
        task = faults.collect(shared.data, cell)
    labels = task.num_labels if task else None
    faults.collect(
        checkpoint.check_folder, cell.model_name_or_path, labels, cell.max_length, cell.ignore_mismatched_sizes
    )
    return task


def is_done(cell: Cell, request: Request) -> bool:
    """Whether a cell is finished and is to be left as it is."""
    return not request.overwrite_output_dir and records.finished(cell.output_dir) is not None


def print_plan(request: Request) -> None:
    """Say what would run, where it would go, and what is done."""
    for cell in request.cells:
        what = cell.pattern or ("dense" if cell.dense else f"mask file {cell.mask_file}")
        state = "done" if is_done(cell, request) else "to run"
        if state == "to run" and not request.overwrite_output_dir and (path := resume.find(cell)):
            what = f"{what}, from {path.name}"
        print(
            f"{state:6}  {cell.output_dir}  [{cell.task_label}, {float(cell.validation_split_percentage):g} % of the "
            f"training data, {what}, {cell.transfer}, seed {cell.seed}]"
        )


def discard_checkpoints(request: Request) -> None:
    """Have ``--overwrite_output_dir`` start again, once per command: a job that is queued again goes on from its own."""
    for cell in request.cells if request.overwrite_output_dir and launch.is_main_process() else ():
        with suppress(lock.Taken), lock.held(cell.output_dir):
            resume.drop(Path(cell.output_dir))


# --- running ---------------------------------------------------------------------------------------------------------


def run(request: Request, shared: Shared, run_cell: Callable) -> int:
    """Run every cell that is not finished; return the exit code (0, or 1 if one of several cells was not finished).

    ``run_cell(cell, shared, argv, place)`` runs one. A single run's failure is raised, so that a user's mistake ends with code
    2 and a bug with its traceback.
    """
    outcomes: list[tuple[Cell, str, str]] = []
    several = len(request.cells) > 1
    for number, cell in enumerate(request.cells, start=1):
        place = (number, len(request.cells))
        if several:
            say(f"\n[{number}/{len(request.cells)}] {cell.output_dir}")
        try:
            state, reason = _run_one(cell, request, shared, run_cell, place), ""
        except lock.Taken as error:
            if not several or cell.num_processes > 1:
                raise
            say(str(error), sys.stderr)
            state, reason = ELSEWHERE, ""
        except BrokenPipeError:  # whoever read the output has gone: no fault of the cell
            raise
        except Exception as error:
            if launch.is_main_process() and (several or not isinstance(error, UserError)):
                records.write_error(cell, request.argv, error)
            # other processes may not have failed: going on without them could hang them all
            if not several or cell.num_processes > 1:
                raise
            say(f"error: {error}" if isinstance(error, UserError) else traceback.format_exc(), sys.stderr)
            state, reason = FAILED, in_one_line(error)
        outcomes.append((cell, state, reason))
    if several:
        summarise(outcomes)
    return 0 if all(state in (DONE, SKIPPED) for _, state, _ in outcomes) else 1


def summarise(outcomes: list[tuple[Cell, str, str]]) -> None:
    """Print how many cells ended how, and why the others did not."""
    counts = Counter(state for _, state, _ in outcomes)
    say(
        f"\n{counts[DONE]} done, {counts[SKIPPED]} were done before, {counts[FAILED]} failed"
        + (f", {counts[ELSEWHERE]} being run elsewhere" if counts[ELSEWHERE] else "")
    )
    for cell, state, reason in outcomes:
        if state in (FAILED, ELSEWHERE):
            say(f"{state}: {cell.output_dir}" + (f": {reason}" if reason else ""))
    if counts[FAILED] or counts[ELSEWHERE]:
        say("the same command runs what is missing")


def _run_one(cell: Cell, request: Request, shared: Shared, run_cell: Callable, place: tuple[int, int]) -> str:
    """Run a cell unless it is finished, and upload it if that is asked for; raises lock.Taken."""
    # looked at again, since hours may have passed: the folder may have become another run's, or be finished by another process
    records.check_folder(cell, request.overwrite_output_dir)
    done_before = is_done(cell, request)
    if not done_before:
        with lock.held(cell.output_dir) if launch.is_main_process() else nullcontext():
            records.check_folder(cell, request.overwrite_output_dir)
            done_before = is_done(cell, request)
            if not done_before:
                run_cell(cell, shared, request.argv, place)
    if done_before:
        say(f"already done: {cell.output_dir} (--overwrite_output_dir runs it again)")
    if cell.push_to_hub and launch.is_main_process():
        if done_before:
            hub.check_login(cell.repository)
        say(f"uploaded  {hub.push(cell.output_dir, cell.repository)}")
    return SKIPPED if done_before else DONE


def say(text: str, stream=None) -> None:
    """Print from the main process only."""
    if launch.is_main_process():
        print(text, file=stream, flush=True)
