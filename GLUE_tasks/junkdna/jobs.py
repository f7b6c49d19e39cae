"""A grid as several jobs, on this machine or on a Slurm cluster: start them through submitit, wait, say how it went.

A job is one process on one GPU that runs its share of the cells in turn, through the same code as a grid in this process.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from junkdna import launch, records
from junkdna.cell import Cell
from junkdna.dealing import deal, work
from junkdna.errors import Faults, UserError
from junkdna.grid import Shared, is_done, print_plan
from junkdna.progress import LINE_EVERY, tell
from junkdna.request import Request
from junkdna.share import Share, is_done_since, started

LOOK_EVERY = 1.0
ASK_EVERY = 15.0
"""Seconds between looks at the runs' folders, and between questions to a cluster's queue."""

NO_LIMIT = 10 * 365 * 24 * 60
A_DAY = 24 * 60
"""Minutes: submitit ends a local job after 2 and a Slurm job after 5 unless it is told."""

PATIENCE = 10.0
"""Seconds that a local job has to end by itself."""


@dataclass
class Job:
    """A job that was started: its name for the user, submitit's handle of it, and its cells."""

    name: str
    handle: object
    cells: tuple[Cell, ...]

    @property
    def log(self) -> Path:
        return self.handle.paths.stdout

    def result(self) -> dict | None:
        """What its share returned; None if it was cut off before it could."""
        import submitit

        if not self.handle.paths.result_pickle.exists():
            return None
        try:
            return self.handle.result()
        except submitit.core.utils.UncompletedJobError:  # it raised; its log has the traceback
            return None


# --- before anything is loaded ---------------------------------------------------------------------------------------


def preflight(request: Request) -> None:
    """Check that this machine can start the jobs; raises UserError with every fault."""
    faults = Faults()
    if request.launcher == "slurm":
        missing = [name for name in ("sbatch", "srun", "squeue") if not shutil.which(name)]
        if missing:
            faults.append(f"--launcher slurm: {missing[0]} is not on the PATH; give the command on a login node")
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
    one = request.launcher == "slurm" or len(request.cells) == 1 or launch.under_a_launcher()
    return 1 if one else max(1, len(gpus()))


def gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES calls them, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(i) for i, _ in enumerate(line for line in listing.splitlines() if line.startswith("GPU "))]


def shares(request: Request, shared: Shared) -> list[tuple[Cell, ...]]:
    """Deal the cells that are not finished to jobs; an empty list means that this process runs them itself."""
    jobs = _wanted(request)
    if request.launcher == "local" and jobs == 1:
        return []
    cells = [cell for cell in request.cells if cell.push_to_hub or not is_done(cell, request)]
    jobs = min(jobs, len(cells))
    if jobs == 0 or (request.launcher == "local" and jobs == 1):
        return []
    works = [0 if is_done(cell, request) else work(cell, shared) for cell in cells]
    return [tuple(cells[i] for i in share) for share in deal(cells, works, jobs)]


def print_dealt(request: Request, shared: Shared) -> None:
    """Say what would run and where, and in which job."""
    print_plan(request)
    for number, cells in enumerate(shares(request, shared), start=1):
        examples = sum(work(cell, shared) for cell in cells)
        print(f"job {number}: {_runs(cells)}, about {examples:,} training examples, in this order")
        for cell in cells:
            print(f"        {cell.output_dir}")


def _runs(cells) -> str:
    return f"{len(cells)} run{'s' if len(cells) != 1 else ''}"


# --- running ---------------------------------------------------------------------------------------------------------


def run(request: Request, dealt: list[tuple[Cell, ...]], run_cell: Callable) -> int:
    """Start the jobs and wait for them; return the exit code: 0, 1 (runs failed or are missing), 130 (interrupted)."""
    replaced = [c for c in request.cells if request.overwrite_output_dir and records.finished(c.output_dir)]
    before = {cell.output_dir: started(cell) for cell in replaced}
    skipped = {cell.output_dir for cell in request.cells if is_done(cell, request)}
    folder = _make_folder(request)
    team: list[Job] = []
    try:
        with _terminate_as_interrupt():
            _start(request, dealt, run_cell, before, folder, team)
            for job in team:
                tell(f"{job.name}: {_runs(job.cells)}, log {job.log}")
            _wait(request.launcher, team, before)
    except BaseException as error:
        if request.launcher == "local":
            _end(team)
            print("the jobs were ended; repeat the command for what is missing", file=sys.stderr)
            raise
        if not isinstance(error, KeyboardInterrupt):
            raise
        ids = " ".join(dict.fromkeys(job.handle.job_id.split("_")[0] for job in team))
        print(f"interrupted; the jobs go on; to end them: scancel {ids}" if ids else "interrupted", file=sys.stderr)
        return 130
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


def _start(request: Request, dealt, run_cell: Callable, before: dict, folder: Path, team: list[Job]) -> None:
    """Start one job per share and add it to ``team`` at once, so that an interrupt finds it there."""
    import submitit

    program = Path(inspect.getfile(run_cell)).resolve()
    executor = _executor(request, program.parent, folder)
    environments = _environments(len(dealt)) if request.launcher == "local" else [{}] * len(dealt)
    todo = [
        Share(replace(request, cells=cells), program.stem, os.getcwd(), environment, before)
        for cells, environment in zip(dealt, environments)
    ]
    said_aside = folder / "submitit.log"
    if request.launcher == "local":
        for number, share in enumerate(todo, start=1):
            with _stderr_to(said_aside):
                handle = executor.submit(share)
            team.append(Job(f"job {number} (process {handle.job_id})", handle, share.request.cells))
        return
    try:
        with _stderr_to(said_aside):
            handles = executor.submit_array(todo)  # one job, or an array of them
    except submitit.core.utils.FailedJobError as error:
        said = [line for line in str(error).splitlines() if "error" in line.lower()] or [str(error)]
        raise UserError(f"--launcher slurm: {said[-1]}") from None
    team += [Job(f"job {handle.job_id}", handle, share.request.cells) for handle, share in zip(handles, todo)]


@contextmanager
def _stderr_to(path: Path):
    """Write what is said here, and later by processes that are started here, on standard error to a file.

    sbatch's complaint would come twice, and submitit's own processes die of Ctrl-C with a traceback.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with open(path, "a") as file:
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stderr(file):
                yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _executor(request: Request, root: Path, folder: Path):
    """Make submitit's executor, with a Python that finds the program from any folder and whatever a cluster exports."""
    import submitit

    paths = [str(root), str(Path(__file__).resolve().parent.parent), *os.environ.get("PYTHONPATH", "").split(":")]
    path = ":".join(dict.fromkeys(filter(None, paths)))
    python = f"env PYTHONPATH={shlex.quote(path)} {shlex.quote(sys.executable)}"
    name = request.launcher
    made = submitit.AutoExecutor(folder, name, **{f"{name}_python": python, f"{name}_max_num_timeout": 10_000})
    made.update_parameters(name="junkdna", stderr_to_stdout=True)
    if name == "local":
        made.update_parameters(timeout_min=NO_LIMIT)
    else:
        made.update_parameters(**_slurm_parameters(dict(request.slurm)))
    return made


def _slurm_parameters(given: dict) -> dict:
    """Turn the --slurm_ flags into submitit's parameters."""
    options = {"requeue": True} | {name.replace("_", "-"): value for name, value in given.pop("additional", ())}
    if "no-requeue" in options:
        del options["requeue"]
    parameters = {"time": A_DAY} | given | {"additional_parameters": options}
    if "cpus_per_task" in given:  # srun no longer takes it over from sbatch (Slurm 22.05)
        parameters["srun_args"] = [f"--cpus-per-task={given['cpus_per_task']}"]
    return {f"slurm_{name}": value for name, value in parameters.items()}


def _environments(jobs: int) -> list[dict[str, str | None]]:
    """Return what each local job's environment has that this process's has not: a GPU of its own, and its CPU threads."""
    # submitit empties the variable; without NVIDIA GPUs it is to stay as it was
    devices = gpus() or [os.environ.get("CUDA_VISIBLE_DEVICES")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // jobs))
    return [{"CUDA_VISIBLE_DEVICES": devices[i % len(devices)], "OMP_NUM_THREADS": threads} for i in range(jobs)]


# --- waiting ---------------------------------------------------------------------------------------------------------


def _wait(launcher: str, team: list[Job], before: dict) -> None:
    """Show how many runs are finished until no job is left."""
    left = {cell.output_dir: cell for job in team for cell in job.cells}
    total = len(left)
    states = _Queue(team).states if launcher == "slurm" else lambda: _processes(team)
    shown = time.monotonic()
    with tqdm(total=total, unit="run", dynamic_ncols=True, leave=False, disable=not sys.stderr.isatty()) as bar:
        while True:
            alive = states()  # asked before the folders, so that nothing finished is missed at the end
            for name, cell in list(left.items()):
                if is_done_since(cell, before.get(name)):
                    del left[name]
            said = ", ".join(f"{alive.count(state)} {state}" for state in dict.fromkeys(alive))
            bar.set_postfix_str(f"jobs: {said}", refresh=False)
            bar.update(total - len(left) - bar.n)
            bar.refresh()
            if bar.disable and alive and time.monotonic() - shown >= LINE_EVERY:
                shown = time.monotonic()
                tell(f"{total - len(left)}/{total} runs finished, jobs: {said}")
            if not alive:
                return
            time.sleep(LOOK_EVERY)


def _processes(team: list[Job]) -> list[str]:
    """Return the states of the local jobs that have not ended."""
    return ["running" for job in team if job.handle.state == "RUNNING"]


class _Queue:
    """The states of a cluster's jobs, from ``squeue``: it works where there is no accounting, which ``sacct`` needs."""

    def __init__(self, team: list[Job]):
        self.team = team
        self.ids = ",".join(dict.fromkeys(job.handle.job_id.split("_")[0] for job in team))
        self.asked = -ASK_EVERY
        self.known = {job.handle.job_id: "pending" for job in team}
        self.missed: dict[str, int] = {}

    def states(self) -> list[str]:
        """Return the states of the jobs that have not ended."""
        open_ = [job.handle.job_id for job in self.team if not job.handle.paths.result_pickle.exists()]
        if open_ and time.monotonic() - self.asked >= ASK_EVERY:
            self.asked = time.monotonic()
            self._ask()
        return [self.known[id_] for id_ in open_ if id_ in self.known]

    def _ask(self) -> None:
        command = ["squeue", "--noheader", "--array", "--jobs", self.ids, "--format", "%i %T"]
        try:
            asked = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            return
        if asked.returncode and "Invalid job id" not in asked.stderr:
            return  # the cluster does not answer now; the jobs are not gone
        listed = dict(line.split() for line in asked.stdout.splitlines() if line.strip())
        for id_ in list(self.known):
            self.missed[id_] = 0 if id_ in listed else self.missed.get(id_, 0) + 1
            if self.missed[id_] > 1:  # a job that is being queued again may be missing for a moment
                del self.known[id_]
            elif id_ in listed:
                self.known[id_] = listed[id_].lower()


@contextmanager
def _terminate_as_interrupt():
    """Treat the signal that ends a process like Ctrl-C, so that no job is left behind unknown."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def _end(team: list[Job]) -> None:
    """End the local jobs, gently and then not."""
    import psutil  # comes with accelerate

    family = []
    for job in team:
        try:
            controller = psutil.Process(int(job.handle.job_id))
            family += [controller, *controller.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        job.handle.cancel()
    _, stubborn = psutil.wait_procs(family, timeout=PATIENCE)
    for process in stubborn:
        process.kill()


def _summary(team: list[Job], before: dict, skipped: set[str]) -> int:
    """Say how each run went; return the exit code."""
    results = [job.result() for job in team]
    done, failed, missing = 0, [], []
    for job, result in zip(team, results):
        result = result or {"code": 1, "done": [], "failures": {}}
        for cell in job.cells:
            name = cell.output_dir
            if name in result["failures"]:
                failed.append(f"failed: {name}: {result['failures'][name]}; log {job.log}")
            elif name in result["done"] or is_done_since(cell, before.get(name)):
                done += name not in skipped  # a finished run is dealt when it is to be uploaded
            else:
                missing.append(f"not finished: {name}; log {job.log}")
    unfinished = f", {len(missing)} not finished" if missing else ""
    tell(f"\n{done} done, {len(skipped)} were done before, {len(failed)} failed{unfinished}")
    for line in failed + missing:
        tell(line)
    for job, result in zip(team, results):
        if result is None:
            tell(f"{job.name} was cut off; see {job.log}")
    if missing:
        tell("repeat the command to finish what is missing")
    return 1 if failed or missing or any(result is None or result["code"] for result in results) else 0
