"""A grid as several jobs: deal it, start the jobs, wait, say how each run went.

A job is one process on one GPU that runs its share of the cells in turn, through the same code as a grid in this
process.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from junkdna.errors import Faults, UserError
from junkdna.runs import processes
from junkdna.runs.cell import Cell
from junkdna.runs.family import Family
from junkdna.runs.grid import (
    DONE,
    ELSEWHERE,
    FAILED,
    SKIPPED,
    Before,
    Outcome,
    is_done,
    is_done_since,
    print_plan,
    to_replace,
)
from junkdna.runs.jobs import submit
from junkdna.runs.jobs.job import JobSpec
from junkdna.runs.jobs.schedule import deal
from junkdna.runs.progress import LINE_EVERY
from junkdna.runs.request import Request
from junkdna.runs.shared import Shared
from junkdna.runs.speech import say

LOOK_EVERY = 1.0
"""Seconds between looks at the runs' folders."""

MISSING = "not finished"
AFTER = ((MISSING, MISSING), (ELSEWHERE, "being run elsewhere"))
"""How a run may have ended beside those that are always counted, and how the summary calls it."""


# --- before anything is loaded ---------------------------------------------------------------------------------------


def preflight(request: Request) -> None:
    """Check that this machine can start the jobs; raises UserError with every fault."""
    faults = Faults()
    if request.launcher == "slurm":
        missing = [name for name in ("sbatch", "srun", "squeue") if not shutil.which(name)]
        if missing:
            faults.append(f"--launcher slurm: {missing[0]} is not on the PATH; run the command on a login node")
    jobs = min(_wanted(request), len(request.cells))
    if (request.launcher == "slurm" or jobs > 1) and importlib.util.find_spec("submitit") is None:
        flag = "--launcher slurm" if request.launcher == "slurm" else f"--num_jobs {jobs}"
        faults.append(f"{flag}: the package submitit is not installed; pip install submitit")
    if request.jobs_dir:
        here = Path(request.jobs_dir).absolute()
        inside = [c for c in request.cells if Path(c.output_dir).absolute() in (here, *here.parents)]
        if inside:
            faults.append(
                f"--jobs_dir {request.jobs_dir}: lies in {inside[0].output_dir}, a run's folder; choose another"
            )
    faults.raise_any()


def _wanted(request: Request) -> int:
    """Return the number of jobs asked for, or the default."""
    if request.num_jobs:
        return request.num_jobs
    one = request.launcher == "slurm" or len(request.cells) == 1 or processes.under_a_launcher()
    return 1 if one else max(1, len(submit.gpus()))


def deal_cells(family: Family, request: Request, shared: Shared) -> list[tuple[Cell, ...]]:
    """Deal the cells that are not finished to jobs; an empty list means that this process runs them itself."""
    jobs = _wanted(request)
    if request.launcher == "local" and jobs == 1:
        return []
    cells = [cell for cell in request.cells if cell.push_to_hub or not is_done(cell, request)]
    jobs = min(jobs, len(cells))
    if jobs == 0 or (request.launcher == "local" and jobs == 1):
        return []
    works = [0 if is_done(cell, request) else family.work(cell, shared) for cell in cells]
    dealt = deal(works, [family.loads(cell) for cell in cells], jobs)
    return [tuple(cells[i] for i in own) for own in dealt]


def print_dealt(family: Family, request: Request, shared: Shared) -> None:
    """Say what would run and where, and in which job."""
    print_plan(request)
    for number, cells in enumerate(deal_cells(family, request, shared), start=1):
        examples = sum(family.work(cell, shared) for cell in cells)
        say(f"job {number}: {_runs(cells)}, about {examples:,} examples, in this order")
        for cell in cells:
            say(f"        {cell.output_dir}")


def _runs(cells) -> str:
    return f"{len(cells)} run{'s' if len(cells) != 1 else ''}"


# --- running ---------------------------------------------------------------------------------------------------------


def run(family: Family, request: Request, dealt: list[tuple[Cell, ...]]) -> int:
    """Start the jobs and wait for them; return the exit code: 0, 1 (runs failed or are missing), 130 (interrupted)."""
    before = to_replace(request)
    skipped = {cell.output_dir for cell in request.cells if is_done(cell, request)}
    environments = submit.environments(len(dealt)) if request.launcher == "local" else [{}] * len(dealt)
    handed_out = [
        JobSpec(replace(request, cells=cells), family.entry, os.getcwd(), environment, before)
        for cells, environment in zip(dealt, environments)
    ]
    folder = _make_folder(request)
    team: list[submit.Job] = []
    try:
        submit.start(request, handed_out, folder, team)
        for job in team:
            say(f"{job.name}: {_runs(job.cells)}, log {job.log}")
        _wait(request.launcher, team, before)
    except BaseException as error:
        if request.launcher == "local":
            submit.end(team)
            how = " without --overwrite_output_dir" * request.overwrite_output_dir
            say(f"the jobs were stopped; repeat the command{how} to finish what is missing", sys.stderr)
            raise
        if not isinstance(error, KeyboardInterrupt):
            raise
        ids = " ".join(dict.fromkeys(job.handle.job_id.split("_")[0] for job in team))
        say(f"interrupted; the jobs continue; to end them: scancel {ids}" if ids else "interrupted", sys.stderr)
        return getattr(error, "code", 130)
    return _summary(team, before, skipped)


def _make_folder(request: Request) -> Path:
    """Make a new folder for the jobs' files."""
    above = [os.path.dirname(os.path.abspath(cell.output_dir)) for cell in request.cells]
    base = Path(request.jobs_dir) if request.jobs_dir else Path(os.path.commonpath(above), ".jobs")
    folder = base.absolute() / f"{time.strftime('%Y-%m-%dT%H-%M-%S')}-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--jobs_dir {base}: cannot be written to: {error.strerror}") from None
    return folder


def _wait(launcher: str, team: list[submit.Job], before: dict) -> None:
    """Show how many runs are finished until no job is left."""
    left = {cell.output_dir: cell for job in team for cell in job.cells}
    total = len(left)
    states = submit.watch(launcher, team)
    shown = time.monotonic()
    with tqdm(total=total, unit="run", dynamic_ncols=True, leave=False, disable=not sys.stderr.isatty()) as bar:
        while True:
            alive = states()  # asked before the folders, so that nothing finished is missed at the end
            for name, cell in list(left.items()):
                with suppress(UserError):  # of a disk that does not answer at the moment
                    if is_done_since(cell, before):
                        del left[name]
            said = ", ".join(f"{alive.count(state)} {state}" for state in dict.fromkeys(alive))
            bar.set_postfix_str(f"jobs: {said}", refresh=False)
            bar.update(total - len(left) - bar.n)
            bar.refresh()
            if bar.disable and alive and time.monotonic() - shown >= LINE_EVERY:
                shown = time.monotonic()
                say(f"{total - len(left)}/{total} runs finished, jobs: {said}")
            if not alive:
                return
            time.sleep(LOOK_EVERY)


def _summary(team: list[submit.Job], before: dict, skipped: set[str]) -> int:
    """Say how each run went; return the exit code."""
    ended = {job.name: job.result() for job in team}
    outcomes = [(job, _outcome(cell, ended[job.name] or [], before, skipped)) for job in team for cell in job.cells]
    counts = Counter(outcome.state for _, outcome in outcomes)
    more = [f", {counts[state]} {words}" for state, words in AFTER if counts[state]]
    say(f"\n{counts[DONE]} done, {len(skipped)} were done before, {counts[FAILED]} failed{''.join(more)}")
    for job, outcome in outcomes:
        if outcome.state in (FAILED, ELSEWHERE, MISSING):
            said = f"{outcome.folder}: {outcome.reason}" if outcome.reason else outcome.folder
            say(f"{outcome.state}: {said}; log {job.log}")
    for job in team:
        if ended[job.name] is None:
            say(f"{job.name} was cut off; see {job.log}")
    if counts[FAILED] or counts[ELSEWHERE] or counts[MISSING]:
        say("repeat the command to finish what is missing")
    return 1 if counts[FAILED] or counts[MISSING] or None in ended.values() else 0


def _outcome(cell: Cell, ended: list[Outcome], before: Before, skipped: set[str]) -> Outcome:
    """How a cell ended: as its job says; of what that leaves open, as its folder does."""
    said = next((one for one in ended if one.folder == cell.output_dir), None)
    if said is not None and said.state in (FAILED, ELSEWHERE):
        return said
    if not is_done_since(cell, before):
        return Outcome(cell.output_dir, MISSING)
    # a finished run is dealt when it is to be uploaded
    return Outcome(cell.output_dir, SKIPPED if cell.output_dir in skipped else DONE)
