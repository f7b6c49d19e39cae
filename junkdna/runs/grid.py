"""Many cells in one process: what they share is loaded once, what is finished is skipped, what fails does not spread.

A single run is a grid of one cell and goes through the same code.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from junkdna.errors import Faults, UserError
from junkdna.models import hub
from junkdna.runs import checkpoints, identity, lock, processes, provenance, records, schema, seals, stopping, upkeep
from junkdna.runs.cell import Cell
from junkdna.runs.family import Family
from junkdna.runs.journal import Journal
from junkdna.runs.request import Request
from junkdna.runs.shared import Shared
from junkdna.runs.speech import as_flag, in_one_line, say

DONE, FAILED, SKIPPED, ELSEWHERE = "done", "failed", "skipped", "running elsewhere"

Before = Mapping[str, str | None]
"""When each finished run that is to be replaced had started, by its folder."""


@dataclass(frozen=True)
class Outcome:
    """How one cell ended: its folder, one of the words above, and why it failed or was left to another process."""

    folder: str
    state: str
    reason: str = ""


# --- before anything is loaded ---------------------------------------------------------------------------------------


def preflight(family: Family, request: Request, shared: Shared) -> None:
    """Check all that can be checked without torch and without the Hub; raises one UserError with every fault.

    Of several cells, those whose data or model cannot be used are left to fail by themselves, as long as there are
    others.
    """
    folders, contents, usable, unknown = Faults(), Faults(), False, []
    for cell in request.cells:
        own = Faults()
        family.preflight(cell, shared, own)
        fits = _check_folder(cell, request, own, folders)
        contents.extend(fault for fault in own if fault not in contents)
        usable = usable or not own
        if not request.overwrite_output_dir:
            folders.collect(checkpoints.check, cell)
            if fits and not own and records.is_whole(cell.output_dir):
                folders.collect(family.check_done, cell, shared)
                run = schema.read_run(cell.output_dir)
                if folders.collect(identity.check_files, cell, run) is False:
                    unknown.append(cell.output_dir)
    if unknown:
        others = f" and {len(unknown) - 1} more" if unknown[1:] else ""
        said = "its results, mask, model and tokenizer were not checked for changes"
        say(f"warning: {unknown[0]}{others}: finished by an earlier version; {said}", sys.stderr)
    Faults([*([] if usable else contents), *folders]).raise_any()
    for fault in contents:
        say(f"warning: {as_flag(fault)}", sys.stderr)


def _check_folder(cell: Cell, request: Request, own: Faults, folders: Faults) -> bool:
    """Check a cell's folder; a damaged run fails by itself, any other fault is one of the command."""
    try:
        records.check_folder(cell, request.overwrite_output_dir)
    except seals.Damaged as error:
        own.extend(error.faults)
    except UserError as error:
        folders.extend(error.faults)
        return False
    return True


def is_done(cell: Cell, request: Request) -> bool:
    """Whether a cell is finished and is to be left as it is. A damaged one is not, and fails when its turn comes."""
    with suppress(seals.Damaged):
        return not request.overwrite_output_dir and records.finished(cell.output_dir) is not None
    return False


def to_replace(request: Request) -> dict[str, str | None]:
    """When each finished run that ``--overwrite_output_dir`` is to replace had started; see ``Before``.

    An attempt to replace it may have been cut off: it waits in ``.previous/`` then, and will come back.
    """
    found: dict[str, str | None] = {}
    for cell in request.cells if request.overwrite_output_dir else ():
        if records.is_whole(cell.output_dir):
            found[cell.output_dir] = records.started(cell)
        elif (waiting := records.glance(Path(cell.output_dir, records.PREVIOUS, schema.RUN))) is not None:
            found[cell.output_dir] = waiting.get("started")
    return found


def is_done_since(cell: Cell, before: Before) -> bool:
    """Whether a cell is finished, and not damaged, by another run than the one that is to be replaced."""
    folder = cell.output_dir
    with suppress(seals.Damaged):
        another = folder not in before or records.started(cell) != before[folder]
        return another and records.finished(folder) is not None
    return False


def print_plan(request: Request) -> None:
    """Say what would run, where it would go, and what is done."""
    for cell in request.cells:
        what = cell.what
        state = "done" if is_done(cell, request) else "to run"
        if state == "to run" and not request.overwrite_output_dir and records.damage(cell.output_dir):
            state = "broken"
        if state == "to run" and not request.overwrite_output_dir and (path := checkpoints.find(cell)):
            what = f"{what}, from {path.name}"
        axes = ", ".join(cell.axes.values())
        say(f"{state:6}  {cell.output_dir}  [{axes}, {what}, {cell.treatment}, seed {cell.seed}]")


def pass_over_checkpoints(request: Request) -> None:
    """Have ``--overwrite_output_dir`` start again. What was reached before stays until the new run has begun."""
    checkpoints.replace(cell.output_dir for cell in request.cells if request.overwrite_output_dir)


def discard_checkpoints(request: Request) -> None:
    """The same for jobs, once per command: a job that is queued again goes on from its own."""
    for cell in request.cells if request.overwrite_output_dir and processes.is_main_process() else ():
        with suppress(lock.Taken), lock.held(cell.output_dir):
            upkeep.tidy(cell.output_dir)
            checkpoints.drop(Path(cell.output_dir))


# --- running ---------------------------------------------------------------------------------------------------------


def run(family: Family, request: Request, shared: Shared, before: Before | None = None) -> list[Outcome]:
    """Run every cell that is not finished; return how each ended. ``before`` is ``to_replace``, if it was earlier.

    A single run's failure is raised, so that a user's mistake ends with code 2 and a bug with its traceback. What
    another process is running is looked at again in the end, in case that one was killed; it is no failure.
    """
    several = len(request.cells) > 1
    # other processes may not have failed: going on without them could hang them all
    alone = not several or processes.world_size() > 1
    before = to_replace(request) if before is None else before
    outcomes: dict[int, Outcome] = {}

    def take(number: int, cell: Cell) -> None:
        if several:
            say(f"\n[{number}/{len(request.cells)}] {cell.output_dir}")
        outcomes[number] = _outcome(family, cell, request, shared, before, number, must_raise=alone)

    for number, cell in enumerate(request.cells, start=1):
        take(number, cell)
    if several:
        for number, cell in enumerate(request.cells, start=1):
            if outcomes[number].state == ELSEWHERE:
                take(number, cell)
        summarise(outcomes.values())
    return list(outcomes.values())


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """1 if one of several cells failed, else 0."""
    return int(any(outcome.state == FAILED for outcome in outcomes))


def _outcome(
    family: Family, cell: Cell, request: Request, shared: Shared, before: Before, number: int, *, must_raise: bool
) -> Outcome:
    """Run one cell; return how it ended."""
    several, folder = len(request.cells) > 1, cell.output_dir
    started = None if several else records.started(cell)
    try:
        return Outcome(folder, _run_one(family, cell, request, shared, before, (number, len(request.cells))))
    except lock.Taken as error:
        if must_raise:
            raise
        said = in_one_line(error)
        say(said, sys.stderr)
        return Outcome(folder, ELSEWHERE, said.removeprefix(f"--output_dir {folder}: "))
    except BrokenPipeError:  # whoever read the output has gone: no fault of the cell
        raise
    except Exception as error:
        if stopping.received():  # libraries turn what interrupts them into errors of their own
            raise stopping.Stopped(stopping.received()) from None
        begun = several or records.started(cell) != started  # a mistake in a single command leaves no folder
        if processes.is_main_process() and (begun or not isinstance(error, UserError)):
            records.write_error(cell, request.argv, error)
        if must_raise:
            raise
        mistake = isinstance(error, UserError)
        say(f"error: {in_one_line(error)}" if mistake else traceback.format_exc(), sys.stderr)
        return Outcome(folder, FAILED, in_one_line(error))


def summarise(outcomes: Iterable[Outcome]) -> None:
    """Print how many cells ended how, and why the others did not."""
    counts = Counter(outcome.state for outcome in outcomes)
    say(
        f"\n{counts[DONE]} done, {counts[SKIPPED]} were done before, {counts[FAILED]} failed"
        + (f", {counts[ELSEWHERE]} being run elsewhere" if counts[ELSEWHERE] else "")
    )
    for outcome in outcomes:
        if outcome.state in (FAILED, ELSEWHERE):
            say(f"{outcome.state}: {outcome.folder}" + (f": {outcome.reason}" if outcome.reason else ""))
    if counts[FAILED] or counts[ELSEWHERE]:
        say("repeat the command to finish what is missing")


def load_pytorch() -> None:
    """Import PyTorch, and answer to a signal only then: raised in the middle of its C++, it aborts the process."""
    with stopping.held_back():
        importlib.import_module("torch")


def _run_one(
    family: Family, cell: Cell, request: Request, shared: Shared, before: Before, place: tuple[int, int]
) -> str:
    """Run a cell unless it is finished, and upload it if that is asked for; raises lock.Taken."""
    # looked at again, since hours may have passed: the folder may have become another run's, or be finished by now
    records.check_folder(cell, request.overwrite_output_dir)
    if done := is_done_since(cell, before):
        if processes.is_main_process():
            upkeep.tidy_finished(cell.output_dir)
    else:
        with lock.held(cell.output_dir) if processes.is_main_process() else nullcontext():
            done = _run_locked(family, cell, request, shared, before, place)
    if done:
        _say_done(cell)
    if cell.push_to_hub and processes.is_main_process():
        if done:  # else it was checked before the run
            hub.check_login(cell.repository)
        say(f"uploaded  {hub.push(cell.output_dir, cell.repository, records.saved_model(cell.output_dir))}")
    return SKIPPED if done else DONE


def _run_locked(
    family: Family, cell: Cell, request: Request, shared: Shared, before: Before, place: tuple[int, int]
) -> bool:
    """Run a cell whose folder's lock is held; return True, and do nothing, if it has been finished meanwhile."""
    records.check_folder(cell, request.overwrite_output_dir)
    if processes.is_main_process():
        upkeep.tidy(cell.output_dir)
    if is_done_since(cell, before):
        return True
    if cell.push_to_hub:
        hub.check_login(cell.repository)
    provenance.look_up()
    if changed := shared.renew(identity.files(cell)):
        say(f"note: {' and '.join(changed)} changed since the last run; everything is read anew")
    load_pytorch()
    try:
        family.run(cell, shared, Journal(cell, request.argv, place))
    except checkpoints.Unusable as error:
        say(f"warning: {in_one_line(error)}; starting again", sys.stderr)
        family.run(cell, shared, Journal(cell, request.argv, place))
    return False


def _say_done(cell: Cell) -> None:
    """Say that a cell was finished before, and which of its files could not be written then."""
    lost = (records.glance(Path(cell.output_dir) / schema.RUN) or {}).get("unwritten") or {}
    lacking = "".join(f"without {name}, {why}; " for name, why in lost.items())
    say(f"already done: {cell.output_dir} ({lacking}--overwrite_output_dir runs it again)")
