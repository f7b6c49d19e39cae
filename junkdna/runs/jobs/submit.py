"""Starting jobs, asking how they are and ending them, on this machine or on a Slurm cluster: all that knows submitit.

A job is a process that runs its part of a grid (see ``job``).
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path

from junkdna.errors import Fault, UserError
from junkdna.runs.cell import Cell
from junkdna.runs.jobs.job import JobSpec
from junkdna.runs.request import Request

ASK_EVERY = 15.0
"""Seconds between questions to a cluster's queue."""

NO_LIMIT = 10 * 365 * 24 * 60
A_DAY = 24 * 60
"""Minutes: submitit ends a local job after 2 and a Slurm job after 5 unless it is told."""

PATIENCE = 60.0
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
        """What it returned; None if it was cut off before it could."""
        import submitit

        if not self.handle.paths.result_pickle.exists():
            return None
        try:
            return self.handle.result()
        except submitit.core.utils.UncompletedJobError:  # it raised; its log has the traceback
            return None


DEVICE = re.compile(r"\d+|(GPU|MIG)-.+")
"""An entry of CUDA_VISIBLE_DEVICES that may be a GPU."""


def gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES calls them, without loading torch.

    As CUDA does, it ends the list at the first entry that is no GPU. A GPU that is divided (MIG) counts as its parts.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return list(itertools.takewhile(DEVICE.fullmatch, (name.strip() for name in visible.split(","))))
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found: list[list[str]] = []
    for line in listing.splitlines():
        if line.startswith("GPU "):
            found.append([str(len(found))])
        elif found and (part := re.search(r"UUID: (MIG-[^)]+)\)", line)):
            found[-1].append(part[1])
    return [name for whole, *parts in found for name in parts or [whole]]


# --- starting --------------------------------------------------------------------------------------------------------


def start(request: Request, specs: list[JobSpec], folder: Path, team: list[Job]) -> None:
    """Start the jobs and add each to ``team`` at once, so that an interrupt finds it there.

    ``folder`` is where the jobs' files go. Raises UserError if the cluster refuses the jobs.
    """
    import submitit

    executor = _executor(request, folder)
    said_aside = folder / "submitit.log"
    if request.launcher == "local":
        for number, spec in enumerate(specs, start=1):
            with _stderr_to(said_aside), _interrupts_blocked():
                handle = executor.submit(spec)
            team.append(Job(f"job {number} (process {handle.job_id})", handle, spec.request.cells))
        return
    try:
        with _stderr_to(said_aside):
            handles = executor.submit_array(specs)  # one job, or an array of them
    except submitit.core.utils.FailedJobError as error:
        said = [line for line in str(error).splitlines() if "error" in line.lower()] or [str(error)]
        raise UserError(Fault("launcher", "slurm", said[-1])) from None
    team += [Job(f"job {handle.job_id}", handle, spec.request.cells) for handle, spec in zip(handles, specs)]


@contextmanager
def _interrupts_blocked():
    """Start processes that a terminal's Ctrl-C does not reach: submitit would kill its job a second after it. The job
    lets interrupts in again when it can answer them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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


def _executor(request: Request, folder: Path):
    """Make submitit's executor, with a Python that finds the program from any folder and whatever a cluster exports."""
    import submitit

    paths = [str(Path(__file__).resolve().parents[3]), *os.environ.get("PYTHONPATH", "").split(":")]
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


def environments(jobs: int) -> list[dict[str, str | None]]:
    """Return what each local job's environment has that this process's has not: a GPU of its own, and its CPU
    threads.
    """
    # submitit empties the variable; without NVIDIA GPUs it is to stay as it was
    devices = gpus() or [os.environ.get("CUDA_VISIBLE_DEVICES")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // jobs))
    return [{"CUDA_VISIBLE_DEVICES": devices[i % len(devices)], "OMP_NUM_THREADS": threads} for i in range(jobs)]


# --- how they are, and their end -------------------------------------------------------------------------------------


def watch(launcher: str, team: list[Job]):
    """Return a function that gives the states of the jobs that have not ended."""
    return Queue(team).states if launcher == "slurm" else lambda: _local_states(team)


def _local_states(team: list[Job]) -> list[str]:
    """Return the states of the local jobs that have not ended."""
    return ["running" for job in team if job.handle.state == "RUNNING"]


class Queue:
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


def end(team: list[Job]) -> None:
    """End the local jobs, gently and then not: they have time for a checkpoint, which submitit would not give them."""
    import psutil  # comes with accelerate

    family, workers = [], []
    for job in team:
        with suppress(psutil.NoSuchProcess):
            controller = psutil.Process(int(job.handle.job_id))
            workers += controller.children()
            family += [controller, *controller.children(recursive=True)]
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.send_signal(signal.SIGINT)
    psutil.wait_procs(workers, timeout=PATIENCE)
    _, stubborn = psutil.wait_procs(family, timeout=5)
    for process in stubborn:
        process.kill()
