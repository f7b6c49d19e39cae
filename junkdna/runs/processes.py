"""Several processes: who this one is, and the one launcher that starts too few."""

from __future__ import annotations

import os
import sys

from junkdna.errors import UserError

RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where torchrun (and with it ``accelerate launch``) and the MPI launchers leave their numbers."""


def _from_environment(names: tuple[str, ...], default: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name)), default)


def world_size() -> int:
    """Number of processes of this run."""
    return _from_environment(SIZES, 1)


def is_main_process() -> bool:
    """Whether this is the process that prints and writes; one that is alone is, whatever rank an environment holds."""
    return world_size() == 1 or _from_environment(RANKS, 0) == 0


def under_accelerate() -> bool:
    """Whether ``accelerate launch`` started this process, if only one of it."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ


def under_a_launcher() -> bool:
    """Whether torchrun, ``accelerate launch`` or an MPI launcher started this process, if only one of it."""
    return under_accelerate() or any(name in os.environ for name in RANKS)


def start_the_others(argv: list[str]) -> None:
    """Under ``accelerate launch --cpu --num_processes N``, become a launcher of N processes; otherwise do nothing.

    accelerate (1.15) starts a single process there unless it is given an MPI host file, and leaves no other trace than
    an address for the others: a run of one process would silently pass for one of N.
    """
    alone = world_size() == 1 and not any(name in os.environ for name in RANKS)
    if not (alone and "MASTER_ADDR" in os.environ and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"):
        return
    count = _asked_of_accelerate()
    if count is None:
        raise UserError(
            "--num_processes: accelerate launch --cpu started one process instead of several; start them with "
            "torchrun --nproc_per_node N Glue_prune_oneshot.py ..."
        )
    environment = {k: v for k, v in os.environ.items() if k not in ("MASTER_ADDR", "MASTER_PORT")}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    sys.stdout.flush()
    script = sys.argv[0]  # or what the user has typed, "junkdna glue" (see junkdna/__main__.py)
    program = [script] if os.path.exists(script) else ["-m", "junkdna", script.split()[-1]]
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count), *program, *argv]
    os.execve(sys.executable, [sys.executable, *command], environment)


def _asked_of_accelerate() -> int | None:
    """Return the number of processes on the command line of the launcher above this process, if it can be read."""
    import psutil  # comes with accelerate

    try:
        words = psutil.Process().parent().cmdline()
    except (psutil.Error, AttributeError):
        return None
    for i, word in enumerate(words):
        name, _, value = word.replace("-", "_").partition("=")
        if name == "__num_processes":
            value = value or (words[i + 1] if i + 1 < len(words) else "")
            return int(value) if value.isdigit() else None
    return None
