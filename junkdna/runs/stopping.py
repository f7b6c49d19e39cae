"""Ctrl-C and the signal by which batch systems end a process: both end a run within seconds, and keep what was reached.

While a run trains, a signal is held back until the step is whole, so that a checkpoint can be written; while PyTorch is
imported, until it is there. Everywhere else it is raised at once. A second signal ends the process on the spot.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN_AFTER = 0.1
"""Seconds. ``timeout`` sends its signal twice in a row: to the process and to its group."""

_received: tuple[int, float] | None = None
_holding = 0


class Stopped(KeyboardInterrupt):
    """The user or the system ends the program. ``number`` is the signal's, ``kept`` names the checkpoint, if any."""

    def __init__(self, number: int, kept: str = ""):
        super().__init__(number)
        self.number, self.kept = number, kept

    @property
    def code(self) -> int:
        """The exit code that says so."""
        return 128 + self.number

    def words(self, overwrites: bool, several: bool) -> str:
        """What has happened, what is kept, and how to go on, in one line.

        ``overwrites``: the command starts again; ``several``: it is of several runs.
        """
        word = "terminated" if self.number == signal.SIGTERM else "interrupted"
        again = "the same command" + " without --overwrite_output_dir" * overwrites
        others = ", and leaves what it had not reached as it is" * (overwrites and several)
        if not self.kept:
            return f"{word}; finished runs are kept"
        return f"{word}; finished runs and {self.kept} are kept; {again} continues from there{others}"


@contextmanager
def listening(signals: tuple[int, ...] = SIGNALS) -> Iterator[None]:
    """Answer to these signals as this module says; afterwards as before."""
    global _received, _holding
    _received, _holding = None, 0
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _answer) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _answer(number: int, _frame) -> None:
    global _received
    now = time.monotonic()
    if _received is None:
        _received = (number, now)
        if not _holding:
            raise Stopped(number)
    elif now - _received[1] > AGAIN_AFTER:
        os._exit(128 + number)


def received() -> int | None:
    """The signal that has come, if one has."""
    return None if _received is None else _received[0]


@contextmanager
def held_back() -> Iterator[None]:
    """Hold a signal back; ``received`` tells of it. It is raised at the end, unless something else was."""
    global _holding
    _holding += 1
    try:
        yield
    finally:
        _holding = max(0, _holding - 1)
    if not _holding and received():
        raise Stopped(received())


@contextmanager
def at_once() -> Iterator[None]:
    """Within ``held_back``: let a signal be raised after all."""
    global _holding
    before, _holding = _holding, 0
    try:
        if received():
            raise Stopped(received())
        yield
    finally:
        _holding = before
