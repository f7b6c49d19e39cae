"""Commands in processes of their own that begin with the libraries loaded, which is most of what a start takes.

A server imports the libraries once and forks for every command. Such a process is signalled, killed and waited for as
any other. Tests of what comes before ``main``, or of variables that a library reads when it is imported, start Python.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

import pytest

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["warm_libraries"])


@dataclass(frozen=True)
class Finished:
    """How a command ended: negative codes are signals, as in ``subprocess``."""

    returncode: int
    stdout: str
    stderr: str


class Warm:
    """``main(argv)`` in a process of its own, in a folder; ``main`` is a function of a module, or of an entry."""

    def __init__(self, main: Callable[[list[str]], int], argv: list, folder: Path):
        self._out, self._err = (folder / f".{name}-{time.monotonic_ns()}" for name in ("out", "err"))
        self._out.touch()
        self._err.touch()
        _serve()
        where = str(folder), str(self._out), str(self._err), os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = CONTEXT.Process(target=_go, args=(main, list(map(str, argv)), *where))
        self.process.start()
        self.pid = self.process.pid

    def said(self) -> str:
        """What it has printed so far."""
        return self._out.read_text()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.process.exitcode

    def wait(self, timeout: float = 300) -> Finished:
        """Wait for its end."""
        self.process.join(timeout)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            raise TimeoutError(f"still running after {timeout} s: {self.said()}{self._err.read_text()}")
        done = Finished(code, self.said(), self._err.read_text())
        self._out.unlink()
        self._err.unlink()
        return done


def run(main: Callable[[list[str]], int], argv: list, folder: Path) -> Finished:
    """Run a command to its end."""
    return Warm(main, argv, folder).wait()


def _serve() -> None:
    """Start the server if there is none; it sees one thread, this process's path, and no Hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        forkserver.ensure_running()


def _go(main, argv: list[str], folder: str, out: str, err: str, environment: dict[str, str]) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.exit(main(argv))
