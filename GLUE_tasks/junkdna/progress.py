"""What is shown while a run goes on: a bar on a terminal, a plain line now and then in a file."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

BAR_EVERY = 0.5
LINE_EVERY = 30.0
"""Seconds between updates. The loss is read only then: reading it makes the host wait for the device."""


class Progress:
    """Steps, loss, learning rate, tokens per second (real tokens, padding not counted) and time left."""

    def __init__(self, steps: int, label: str = "", enabled: bool = True, stream=None):
        """``enabled=False`` shows nothing (every process but the first)."""
        self.steps, self.label, self.enabled = steps, label, enabled
        self.stream = stream or sys.stderr
        self.bar = None
        if enabled and self.stream.isatty():
            self.bar = tqdm(total=steps, desc=label, file=self.stream, unit="step", dynamic_ncols=True, leave=False)
        self.started = self.shown = time.perf_counter()
        self.tokens = 0

    def step(self, number: int, loss, learning_rate: float, tokens: int) -> None:
        """Note that step ``number`` (from 1) is done; ``loss`` is a 0-d tensor, ``tokens`` those of this step."""
        self.tokens += tokens
        now = time.perf_counter()
        if not self.enabled or now - self.shown < (BAR_EVERY if self.bar is not None else LINE_EVERY):
            return
        self.shown = now
        rate = self.tokens / (now - self.started)
        if self.bar is not None:
            self.bar.set_postfix_str(
                f"loss {float(loss):.3f}, lr {learning_rate:.1e}, {rate:,.0f} tokens/s", refresh=False
            )
            self.bar.update(number - self.bar.n)
            return
        left = (now - self.started) / number * (self.steps - number)
        tell(
            f"{self.label} step {number}/{self.steps}, loss {float(loss):.4f}, lr {learning_rate:.2e}, "
            f"{rate:,.0f} tokens/s, {left:.0f} s left"
        )

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        if self.bar is not None:
            self.bar.close()


def tell(text: str) -> None:
    """Print a line on standard output without disturbing a bar."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()
