"""How runs are divided among processes: the flags of jobs, on this machine or on Slurm."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from junkdna.errors import Faults
from junkdna.runs import processes
from junkdna.runs.settings import flag, number, one_of, path

LAUNCHERS = ("local", "slurm")
SECONDS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
TEN_YEARS = 10 * 365 * 86400
SLURM_TIMES = (
    r"(?P<minutes>\d{1,9})(:(?P<seconds>\d{1,9}))?",
    r"(?P<hours>\d{1,9}):(?P<minutes>\d{1,9}):(?P<seconds>\d{1,9})",
    r"(?P<days>\d{1,9})-(?P<hours>\d{1,9})(:(?P<minutes>\d{1,9})(:(?P<seconds>\d{1,9}))?)?",
)


def slurm_minutes(text: str) -> int:
    """Return the minutes, rounded up, of a time limit in any of sbatch's forms; raises ValueError."""
    found = next(filter(None, (re.fullmatch(form, text) for form in SLURM_TIMES)), None)
    parts = {name: int(value) for name, value in found.groupdict(default="0").items()} if found else {}
    seconds = sum(parts.get(name, 0) * unit for name, unit in SECONDS.items())
    if not 0 < seconds <= TEN_YEARS:
        raise ValueError("must be minutes, HH:MM:SS, D-HH or D-HH:MM, and > 0, at most ten years")
    return math.ceil(seconds / 60)


def slurm_option(text: str) -> tuple[str, str | bool]:
    """Return one of sbatch's options as (name, value); a name alone is a switch."""
    if not re.fullmatch(r"[A-Za-z][\w-]*(=.+)?", text):
        raise ValueError("must be KEY=VALUE, or KEY alone, without dashes in front")
    name, equals, value = text.partition("=")
    return name, value if equals else True


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """How the runs are divided among processes."""

    title = "several jobs"

    launcher: str | None = flag(
        one_of(LAUNCHERS),
        role="option",
        metavar="NAME",
        help="where the jobs run: local (this machine) or slurm; default local",
    )
    num_jobs: int | None = flag(
        number(int, 1),
        role="option",
        metavar="N",
        help="divide the unfinished runs among N jobs, each one process on one GPU. Default with local: one job per "
        "visible NVIDIA GPU, or this process alone if there is at most one. Default with slurm: 1",
    )
    jobs_dir: str | None = flag(
        path,
        role="option",
        metavar="DIR",
        help="folder for the jobs' logs; on slurm, all nodes must see it; default .jobs in the folder that holds "
        "all runs",
    )
    slurm_partition: str | None = flag(role="option", metavar="NAME", help="sbatch --partition; default the cluster's")
    slurm_account: str | None = flag(role="option", metavar="NAME", help="sbatch --account; default the cluster's")
    slurm_qos: str | None = flag(role="option", metavar="NAME", help="sbatch --qos; default the cluster's")
    slurm_constraint: str | None = flag(
        role="option", metavar="NAME", help="sbatch --constraint; default the cluster's"
    )
    slurm_time: int | None = flag(
        slurm_minutes,
        role="option",
        metavar="TIME",
        help="time limit of a job: minutes, HH:MM:SS, D-HH or D-HH:MM; a job that reaches it is queued again, and "
        "continues; default 1440 (a day)",
    )
    slurm_gres: str | None = flag(
        role="option", metavar="GRES", help="sbatch --gres; a job uses one GPU, so gpu:1; default none"
    )
    slurm_mem: str | None = flag(
        role="option", metavar="MEM", help="sbatch --mem, memory per node, for example 16G; default the cluster's"
    )
    slurm_cpus_per_task: int | None = flag(
        number(int, 1),
        role="option",
        metavar="N",
        help="sbatch --cpus-per-task, CPU cores of a job; default the cluster's",
    )
    slurm_setup: tuple[str, ...] = flag(
        role="option",
        metavar="LINE",
        extend=True,
        help="shell lines that a job runs first, for example 'module load cuda'; can be repeated; default none",
    )
    slurm_additional: tuple[tuple[str, object], ...] = flag(
        slurm_option,
        role="option",
        metavar="KEY=VALUE",
        extend=True,
        help="other sbatch options without their dashes, for example nodelist=node7 or exclusive; default none",
    )


def check_jobs(given: dict, faults: Faults) -> None:
    """Refuse flags of a cluster without one, and jobs inside a launcher of processes."""
    if given["launcher"] != "slurm":
        for name, _ in slurm_settings(given):
            faults.append(f"--slurm_{name}: needs --launcher slurm")
    if processes.world_size() > 1 or processes.under_accelerate():
        for name in ("launcher", "num_jobs"):
            if given[name]:
                faults.append(
                    f"--{name} {given[name]}: torchrun and accelerate launch put several processes on one run; start "
                    "the command with plain python to spread runs over jobs"
                )


def slurm_settings(given: dict) -> tuple[tuple[str, object], ...]:
    """The --slurm_ flags that were given, without that prefix."""
    return tuple((n.removeprefix("slurm_"), v) for n, v in given.items() if n.startswith("slurm_") and v)
