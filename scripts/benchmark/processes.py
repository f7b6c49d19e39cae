"""Processes that are measured: a command run to its end, or a process that answers one request at a time.

Each way runs in processes of its own, since what the product sets for a whole process (its matrix library, glibc's
memory, accelerate's precision) would favour or hamper the reference beside it. Taking turns then is asking them in
turn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmark import ROOT


def environment(device: str, threads: int | None) -> dict[str, str]:
    """Environment variables of a measured process: one GPU or none, no network, so many threads."""
    values = dict(os.environ)
    values["PYTHONPATH"] = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    values |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    values["CUDA_VISIBLE_DEVICES"] = (
        "" if device == "cpu" else os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    )
    if threads:
        values |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return values


# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """A command that ended well: ``started`` (seconds since 1970), ``seconds`` it took, ``cpu`` seconds of all its
    threads, ``peak`` bytes of memory.
    """

    started: float
    seconds: float
    cpu: float
    peak: int


def run(words: list[str], env: dict[str, str], cwd: Path) -> Finished:
    """Run ``python WORDS`` to its end; raises RuntimeError with the end of its output if it fails."""
    with tempfile.TemporaryFile() as log:
        wall, started = time.time(), time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], env=env, cwd=cwd, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)  # waits, and says how much memory this one process took
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with code {process.returncode}:\n{_end_of(log)}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Finished(wall, seconds, usage.ru_utime + usage.ru_stime, peak)


def _end_of(log) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")[-3000:]


# --- asking: the side that measures ----------------------------------------------------------------------------------


class Worker:
    """A process that serves requests; ``ask`` sends one and waits for the answer."""

    def __init__(self, words: list[str], env: dict[str, str]):
        self.words = words
        with ExitStack() as stack:
            self.log = stack.enter_context(tempfile.TemporaryFile())
            self.process = subprocess.Popen(
                [sys.executable, *words],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
            )
            self.close_log = stack.pop_all().close

    def ask(self, what: str, **arguments):
        """Return the answer; raises RuntimeError with the end of the process's output if there is none."""
        try:
            self.process.stdin.write(json.dumps({"what": what, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended; why is in its log
        if not (line := self.process.stdout.readline()):
            code = self.process.wait()
            ended = f"was killed by signal {-code}, for want of memory perhaps" if code < 0 else "gave no answer"
            raise RuntimeError(f"{' '.join(self.words)} {ended}, asked for {what!r}:\n{_end_of(self.log)}")
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error) -> None:
        with suppress(BrokenPipeError):  # it has ended before, and `ask` said so
            self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.close_log()


# --- answering: the side that is measured ----------------------------------------------------------------------------


def private_output():
    """Return the standard output for answers alone; what the libraries print goes to the log."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def serve(target, answers) -> None:
    """Answer requests with the methods of ``target`` of those names, until there are no more."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(target, request.pop("what"))(**request)
        except Exception:
            traceback.print_exc()
            raise SystemExit(1) from None
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
