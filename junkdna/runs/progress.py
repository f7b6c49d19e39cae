"""What is shown while a run goes on: a bar on a terminal, a plain line now and then in a file."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from junkdna.runs.speech import say

BAR_EVERY = 0.5
LINE_EVERY = 30.0
"""Seconds between updates. The loss is read only then: reading it makes the host wait for the device."""


class Progress:
    """Steps, loss, learning rate, tokens per second (real tokens, padding not counted) and time left."""

    def __init__(
        self,
        steps: int,
        label: str = "",
        enabled: bool = True,
        stream=None,
        place: tuple[int, int] = (1, 1),
        done: int = 0,
    ):
        """``enabled=False`` shows nothing (every process but the first).

        Of several cells, ``place`` (number from 1, how many) makes one bar over all of them, this cell's steps being a
        part of it. ``done`` steps were taken before.
        """
        self.steps, self.label, self.enabled, self.done = steps, label, enabled, done
        self.stream = stream or sys.stderr
        self.number, self.cells = place
        self.bar = None
        if enabled and self.stream.isatty():
            self.bar = self._bar()
        self.started = self.shown = time.perf_counter()
        self.tokens = 0

    def _bar(self) -> tqdm:
        shape = {"total": self.steps, "initial": self.done, "desc": self.label, "unit": "step"}
        if self.cells > 1:
            shape = {
                "total": self.cells,
                "initial": self.number - 1 + self.done / self.steps,
                "desc": f"cell {self.number} of {self.cells}: {self.label}",
                "bar_format": "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            }
        return tqdm(**shape, file=self.stream, dynamic_ncols=True, leave=False, mininterval=0, miniters=0)

    def step(self, number: int, loss, learning_rate: float, tokens: int) -> None:
        """Note that step ``number`` (from 1) is done; ``loss`` is a 0-d tensor, ``tokens`` those of this step."""
        self.tokens += tokens
        if self._due():
            rate = self.tokens / (time.perf_counter() - self.started)
            short = f"loss {float(loss):.3f}, lr {learning_rate:.1e}, {rate:,.0f} tokens/s"
            long = f"loss {float(loss):.4f}, lr {learning_rate:.2e}, {rate:,.0f} tokens/s"
            self._show(number, "step", short if self.bar is not None else long)

    def reach(self, number: int, unit: str) -> None:
        """Note that ``number`` of the steps are done, which are called ``unit``."""
        if self._due():
            self._show(number, unit, "")

    def _due(self) -> bool:
        """Whether it is time to show something."""
        now = time.perf_counter()
        if not self.enabled or now - self.shown < (BAR_EVERY if self.bar is not None else LINE_EVERY):
            return False
        self.shown = now
        return True

    def _show(self, number: int, unit: str, words: str) -> None:
        if self.bar is not None:
            if self.cells > 1:
                words = ", ".join(filter(None, [f"{unit} {number}/{self.steps}", words]))
            self.bar.set_postfix_str(words, refresh=False)
            reached = number if self.cells == 1 else self.number - 1 + number / self.steps
            self.bar.update(reached - self.bar.n)
            return
        left = (self.shown - self.started) / (number - self.done) * (self.steps - number)
        where = f"[{self.number}/{self.cells}] " if self.cells > 1 else ""
        said = ", ".join(filter(None, [f"{unit} {number}/{self.steps}", words, f"{left:.0f} s left"]))
        say(f"{where}{self.label} {said}")

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        if self.bar is not None:
            self.bar.close()
