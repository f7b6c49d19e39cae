"""The gradient of a batch as a CUDA graph that a GPU repeats by itself.

Starting the operations of a step takes the host several milliseconds, in which a fast GPU could have done it twice. A
CUDA graph is started as a whole. It is used only after it was seen to give the gradient of the operations it was made
of; which way was taken, and why not the other, is told and recorded. Not yet run on a GPU: it is used only where it is
asked for.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from junkdna.errors import Fault, UserError
from junkdna.training.fast.resident import Resident, Shape
from junkdna.training.step import random_state, set_random_state

log = logging.getLogger(__name__)

RECORDED_AT, WORTH = 4, 50
"""A shape gets its graph when it has come RECORDED_AT times, if it can be expected to come WORTH times more: recording
takes as long as starting the operations of some 50 steps (estimate; docs/speed-log.md)."""

MOST_GRAPHS = 16
"""Each holds gradients of its own; further shapes go operation by operation."""

WARM_UP = 2
TOLERANCE, FLOOR = {"no": 1e-4, "bf16": 0.1}, 1e-3
"""By precision, the largest difference of a graph's gradients from those of its operations, each in units of its norm,
or of FLOOR times the largest norm if that is more: kernels may take sums in another order. With deterministic kernels,
none."""


@dataclass
class Recorded:
    """A graph: where it reads the examples' numbers, what repeats it, and where it leaves loss and gradients."""

    examples: Tensor
    repeat: Callable[[], None]
    loss: Tensor
    gradients: list[Tensor | None]


class Graphs:
    """One graph per shape of batch, for one process and one batch a step, with batches made on the device.

    Shapes without a graph take the same operations one by one: the numbers are the same either way. The update is no
    part of a graph.
    """

    def __init__(self, model: nn.Module, resident: Resident, accelerator, steps: int, trouble: str | None = None):
        """``steps``: how many will be taken in all. ``trouble``: why no graph is to be made, if none is."""
        self.model, self.resident, self.accelerator = model, resident, accelerator
        self.steps, self.trouble = steps, trouble
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.taken = self.repeated = 0
        self.forget()

    def __call__(self, indices: np.ndarray, weight: float = 1.0, last: bool = True) -> Tensor:
        """Make the gradient of the mean loss of some examples the parameters'; return that loss, 0-d, detached."""
        shape = self.resident.shape(indices)
        examples = self.resident.upload(indices)
        self._met[shape] += 1
        self.taken += 1
        if shape not in self.graphs and self._is_worth(shape):
            self._try_to_record(shape, examples)
        self._before[shape] = examples
        if shape not in self.graphs:
            return self._operations(examples, shape)
        self.repeated += 1
        return self._repeat(self.graphs[shape], examples)

    def describe(self) -> str:
        words = f"as {len(self.graphs)} CUDA graphs: {self.repeated} of {self.taken}, the rest operation by operation"
        return words if self.trouble is None else f"{words} ({self.trouble})"

    def forget(self) -> None:
        self.graphs: dict[Shape, Recorded] = {}
        self._met: Counter[Shape] = Counter()
        self._before: dict[Shape, Tensor] = {}
        self._record = CudaGraphs()  # a new one: the memory of graphs that are gone cannot be recorded in again

    def _operations(self, examples: Tensor, shape: Shape) -> Tensor:
        """Compute the gradient operation by operation."""
        with self.accelerator.autocast():
            loss = self.model(**self.resident.batch(examples, shape)).loss
        loss.backward()
        return loss.detach()

    def _repeat(self, graph: Recorded, examples: Tensor) -> Tensor:
        graph.examples.copy_(examples)
        graph.repeat()
        for parameter, gradient in zip(self.parameters, graph.gradients):
            parameter.grad = gradient
        return graph.loss.clone()  # the next step of this shape overwrites it

    def _is_worth(self, shape: Shape) -> bool:
        """Whether a graph of a shape is wanted, will pay, and fits."""
        if self.trouble is not None or len(self.graphs) == MOST_GRAPHS or self._met[shape] < RECORDED_AT:
            return False
        share = self._met[shape] / self._met.total()
        if share * (self.steps - self.taken) < WORTH:
            return False
        if self.resident.device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(self.resident.device)
        return free > 4 * sum(p.numel() * p.element_size() for p in self.parameters)

    def _try_to_record(self, shape: Shape, examples: Tensor) -> None:
        """Record a graph for a shape and compare it with its operations. Leaves gradients and random state as they
        were.

        Raises UserError if CUDA refuses: it leaves the process in no state to go on.
        """
        before = random_state(self.resident.device)
        try:
            made = self._make(shape, self._before[shape])
            difference = self._difference(made, shape, examples, before)
            exactly = torch.are_deterministic_algorithms_enabled()
            if difference <= (0.0 if exactly else TOLERANCE[self.accelerator.mixed_precision]):
                self.graphs[shape] = made
            else:
                self.trouble = f"the gradient of one for {shape} differed by {difference:.1g}"
        except torch.OutOfMemoryError:
            self.trouble = f"no memory for one for {shape}"
        except RuntimeError as error:
            reason = (str(error).splitlines() or ["?"])[0]
            reason = f"CUDA refused to record a step ({reason}); leave it out: only dropout draws other numbers"
            raise UserError(Fault("cuda_graphs", "", reason)) from error
        if self.trouble:
            log.warning("no CUDA graph: %s; these steps go operation by operation", self.trouble)
        self._drop_gradients()
        set_random_state(before, self.resident.device)

    def _make(self, shape: Shape, examples: Tensor) -> Recorded:
        static = examples.clone()

        def operations() -> tuple[Tensor, list[Tensor | None]]:
            self._drop_gradients()
            loss = self._operations(static, shape)
            return loss, [parameter.grad for parameter in self.parameters]

        repeat, (loss, gradients) = self._record(operations)
        return Recorded(static, repeat, loss, gradients)

    def _difference(self, graph: Recorded, shape: Shape, examples: Tensor, random: dict) -> float:
        """Largest distance of a graph's loss and gradients from those of its operations, with equal random bits;
        relative.

        ``examples`` are others than those it was recorded with. Infinite if it draws more or fewer random bits.
        """
        device = self.resident.device
        set_random_state(random, device)
        loss = self._repeat(graph, examples)
        drawn = random_state(device)
        self._drop_gradients()
        set_random_state(random, device)
        exact = self._operations(examples, shape)
        if any(not torch.equal(state, drawn[name]) for name, state in random_state(device).items()):
            return math.inf
        pairs = [(loss, exact), *zip(graph.gradients, (parameter.grad for parameter in self.parameters))]
        if any((a is None) != (b is None) for a, b in pairs):
            return math.inf
        pairs = [(a, b) for a, b in pairs if b is not None]
        apart = torch.stack([(a - b).norm() for a, b in pairs])
        size = torch.stack([b.norm() for _, b in pairs])
        found = float((apart / size.clamp(min=FLOOR * float(size[1:].max()))).max())
        return found if math.isfinite(found) else math.inf

    def _drop_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


class CudaGraphs:
    """Records functions as CUDA graphs that share their working memory; no two of them run at once."""

    _stream = None
    """One for all recordings: libraries keep a workspace for every stream."""

    def __init__(self):
        self._pool = None

    def __call__(self, function: Callable):
        """Return what repeats the function's operations, on the same memory, and what the function returned."""
        CudaGraphs._stream = stream = CudaGraphs._stream or torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream):  # libraries make their plans and workspaces before the recording
                for _ in range(WARM_UP):
                    function()
        finally:
            torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=stream):
            returned = function()
        self._pool = graph.pool()
        return graph.replay, returned
