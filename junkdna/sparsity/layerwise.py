"""Prune a causal language model block by block: one walk for all methods.

A block's inputs come from the pruned blocks before it. The statistics of all its linear layers are collected in one
pass through the block as it is; then its matrices are pruned, and the pass is repeated to make the next block's
inputs. Only one block at a time need be on the device. Methods without calibration run no pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor, nn

from junkdna.errors import Fault, Faults, UserError
from junkdna.sparsity import replay, sparsegpt, wanda
from junkdna.sparsity.census import Census, Tally, asked_count, describe
from junkdna.sparsity.decoder import Decoder, decoder_scope, find_decoder
from junkdna.sparsity.inputs import Listening
from junkdna.sparsity.locate import unwrapped
from junkdna.sparsity.masks import Masks, Packed, check_weight, matrix_mask, nothing_removed
from junkdna.sparsity.methods import CALIBRATED, with_own_unit
from junkdna.sparsity.patterns import NM, Pattern, check_pattern
from junkdna.sparsity.scope import Scope, input_width
from junkdna.sparsity.scores import magnitude, random


@dataclass(frozen=True)
class Layerwise:
    """``masks``: name -> boolean tensor, True where kept; packed. ``census``: of the weights as they were.

    ``findings``: ``dead_columns`` (matrix -> inputs that were always 0) and ``damping`` (matrix -> how often its
    factorisation needed more damping), each only where not 0; ``samples`` and ``tokens`` of the calibration.
    ``seconds``: ``calibrate`` (all passes) and ``prune``.
    """

    masks: Masks
    census: Census
    findings: dict
    seconds: dict[str, float]


def prune_layerwise(
    model: nn.Module,
    pattern: Pattern,
    method: str = "wanda",
    *,
    inputs: Tensor | None = None,
    seed: int = 0,
    variant: bool = False,
    exclude: Iterable[str] = (),
    device: torch.device | str | None = None,
    batch_size: int = 1,
    on_block: Callable[[int, int], None] | None = None,
) -> Layerwise:
    """Prune the linear layers inside a model's decoder blocks in place; removed weights become exactly +0.0.

    ``pattern``: ``Unstructured(s)`` in the method's own unit (magnitude and random each matrix, magnitude_row and
    wanda each row, sparsegpt each block of 128 columns), ``NM``, or another unit spelled out. ``inputs``: int64
    (samples, tokens), for the methods of ``CALIBRATED``. ``seed`` is used by "random". ``variant``: Wanda's, in which
    rows lose different fractions of a matrix. ``exclude``: regular expressions, as in ``decoder_scope``. ``device``:
    where blocks are moved one at a time (None: where they are). ``on_block(done, total)`` is called after each block.

    Raises UserError for what does not fit together (before any weight is changed), for a model whose blocks cannot be
    run alone, and for inputs of a layer or new weights that are NaN or infinite (blocks before it are pruned then).
    """
    check_pattern(pattern)
    model = unwrapped(model)
    decoder, scope = find_decoder(model), decoder_scope(model, exclude)
    pattern = with_own_unit(pattern, method, variant)
    _check_fit(model, decoder, scope, pattern, method, inputs, batch_size)
    device = torch.device(device) if device is not None else None
    walk = _Walk(decoder, scope, pattern, method, seed, variant, device)
    with torch.no_grad(), _at_rest(model), _exact_products(), _own_precision(model, device):
        if method in CALIBRATED:
            with walk.clock("calibrate"):
                walk.replay = replay.record(decoder, inputs, batch_size, device)
            walk.findings |= {"samples": len(inputs), "tokens": inputs.numel()}
        for number in range(len(decoder.blocks)):
            walk.block(number, inputs)
            if on_block:
                on_block(number + 1, len(decoder.blocks))
    asked = asked_count(pattern, scope.as_matrices(), scope.transposed)
    score = "wanda_variant" if variant else method
    census = walk.tally.census(walk.masks, describe(pattern, score), score, asked)
    return Layerwise(walk.masks, census, walk.findings, walk.seconds)


# --- what is asked for -----------------------------------------------------------------------------------------------


def _check_fit(
    model: nn.Module,
    decoder: Decoder,
    scope: Scope,
    pattern: Pattern,
    method: str,
    inputs: Tensor | None,
    batch_size: int,
) -> None:
    """Raise UserError with all that does not fit together."""
    faults = Faults()
    if batch_size < 1:
        faults.append(Fault("batch_size", batch_size, "must be 1 or more"))
    for name, weight in scope.matrices.items():
        faults.collect(check_weight, name, weight)
    if isinstance(pattern, NM):
        faults.collect(_check_groups, scope, pattern)
    if pattern.sparsity > 0 and not asked_count(pattern, scope.as_matrices(), scope.transposed):
        faults.append(nothing_removed(pattern))
    if method in CALIBRATED:
        faults.collect(_check_inputs, model, inputs, method)
        if any(hasattr(block, "_orig_mod") for block in decoder.blocks):
            faults.append(Fault("model", "", f"its blocks are compiled one by one; use {method} before torch.compile"))
    faults.raise_any()


def _check_groups(scope: Scope, pattern: NM) -> None:
    """Raise UserError if M does not divide the inputs of every matrix, naming the first."""
    widths = {name: input_width(weight, name in scope.transposed) for name, weight in scope.matrices.items()}
    odd = [name for name, width in widths.items() if width % pattern.of]
    if odd:
        more = f" and of {len(odd) - 1} more" if odd[1:] else ""
        reason = f"{pattern.of} does not divide the {widths[odd[0]]} input columns of {odd[0]}{more}"
        raise UserError(Fault("nm", pattern.ratio, f"{reason}; exclude them or choose another M"))


def _check_inputs(model: nn.Module, inputs: Tensor | None, method: str) -> None:
    if inputs is None:
        raise UserError(Fault("inputs", "", f"{method} needs calibration samples: int64 (samples, tokens)"))
    if not isinstance(inputs, Tensor):
        reason = "must be one tensor, int64 (samples, tokens); join what a tokenizer or a loader gives with torch.cat"
        raise UserError(Fault("inputs", type(inputs).__name__, reason))
    if inputs.dtype != torch.int64 or inputs.dim() != 2 or not inputs.numel():
        shape = f"{inputs.dtype} {tuple(inputs.shape)}"
        raise UserError(Fault("inputs", shape, "must be int64 of shape (samples, tokens), neither of them 0"))
    config = getattr(model, "config", None)
    vocabulary = getattr(config, "vocab_size", None)
    if int(inputs.min()) < 0 or (vocabulary and int(inputs.max()) >= vocabulary):
        raise UserError(Fault("inputs", "", f"holds token ids outside the model's vocabulary of {vocabulary}"))
    positions = getattr(config, "max_position_embeddings", None)
    if positions and inputs.shape[1] > positions:
        raise UserError(Fault("inputs", "", f"has {inputs.shape[1]} tokens a sample, the model {positions} positions"))


# --- the walk --------------------------------------------------------------------------------------------------------


@dataclass
class _Walk:
    """The state of a walk: what is done, and what it needs."""

    decoder: Decoder
    scope: Scope
    pattern: Pattern
    method: str
    seed: int
    variant: bool
    device: torch.device | None
    replay: replay.Replay | None = None
    masks: Packed = field(default_factory=Packed)
    findings: dict = field(default_factory=lambda: {"dead_columns": {}, "damping": {}})
    seconds: dict[str, float] = field(default_factory=lambda: {"calibrate": 0.0, "prune": 0.0})

    def __post_init__(self):
        self.tally = Tally(self.scope, self.pattern)

    @contextmanager
    def clock(self, kind: str) -> Iterator[None]:
        """Add the time that passes to ``seconds``."""
        begun = perf_counter()
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds[kind] += perf_counter() - begun

    def block(self, number: int, inputs: Tensor | None) -> None:
        """Prune one block and bring the calibration samples through it."""
        block = self.decoder.blocks[number]
        linears = {name: m for name, m in self.decoder.linears(number).items() if name in self.scope.matrices}
        if self.replay is None:
            with self.clock("prune"):
                for name, linear in linears.items():
                    self._by_score(name, linear.weight, random(self.seed) if self.method == "random" else magnitude)
            return
        with replay.on_device(block, self.device) as there:
            with self.clock("calibrate"):
                statistics = self._collect(block, number, linears, there)
            with self.clock("prune"):
                prune = self._sparsegpt if self.method == "sparsegpt" else self._wanda
                while statistics:  # each is let go of after its layers
                    names, statistic = statistics.pop(0)
                    prune(names, linears, statistic, len(inputs))
            if number + 1 < len(self.decoder.blocks):
                with self.clock("calibrate"):
                    self.replay.through(block, number, there, keep=True)

    def _collect(self, block: nn.Module, number: int, linears: dict[str, nn.Module], there: torch.device) -> list:
        """Run the block as it is; returns (names, statistic) for each set of layers that get the same inputs."""
        kind = sparsegpt.Hessian if self.method == "sparsegpt" else wanda.ColumnSquares
        with Listening(linears, lambda columns: kind(columns, there)) as listening:
            self.replay.through(block, number, there, keep=False)
        return listening.found()

    def _wanda(self, names: list[str], linears: dict, sums: wanda.ColumnSquares, samples: int) -> None:
        squares = sums.mean(samples)
        self._check_finite(names, squares)
        dead = int((squares == 0).sum())
        make = wanda.variant_score if self.variant else wanda.score
        for name in names:
            if dead:
                self.findings["dead_columns"][name] = dead
            self._by_score(name, linears[name].weight, make(squares, name in self.scope.transposed))

    def _by_score(self, name: str, weight: nn.Parameter, score: Callable) -> None:
        mask = matrix_mask(name, weight, self.pattern, score, name in self.scope.transposed)
        self._keep_mask(name, mask)
        weight.masked_fill_(~mask.to(weight.device), 0)

    def _sparsegpt(self, names: list[str], linears: dict, hessian: sparsegpt.Hessian, samples: int) -> None:
        self._check_finite(names, hessian.total.diagonal())
        try:
            factor = sparsegpt.factor(hessian.finish(samples))
        except sparsegpt.NotPositive as error:
            raise UserError(Fault("model", "", f"{names[0]}: {error}")) from None
        for name in names:
            weight = linears[name].weight
            updated, mask, found = sparsegpt.prune(weight, factor, self.pattern, name in self.scope.transposed)
            for finding, count in found.items():
                if count:
                    self.findings[finding][name] = count
            if not bool(updated.isfinite().all()):
                reason = f"the updated weights of {name} do not fit in {weight.dtype}; load the model in fp32 or bf16"
                raise UserError(Fault("model", "", reason))
            self._keep_mask(name, mask)
            weight.copy_(updated)

    def _keep_mask(self, name: str, mask: Tensor) -> None:
        """Count and keep a mask, before its weights are changed."""
        self.tally.add(name, mask)
        self.masks[name] = mask

    def _check_finite(self, names: list[str], squares: Tensor) -> None:
        wrong = int((~squares.isfinite()).sum())
        if wrong:
            reason = (
                f"the inputs of {names[0]} are NaN or infinite in {wrong} of {squares.numel()} columns; nothing "
                "sensible can be pruned from them (a model in fp16 may need bf16 or fp32)"
            )
            raise UserError(Fault("model", "", reason))


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Have a model in eval mode for a while, without dropout; every module then returns to the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _own_precision(model: nn.Module, device: torch.device | None) -> Iterator[None]:
    """Leave an autocast around the call out: inputs and statistics are in the dtypes that they would have without."""
    kinds = {parameter.device.type for parameter in model.parameters()} | ({device.type} if device else set())
    with ExitStack() as stack:
        for kind in kinds - {"meta"}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def _exact_products() -> Iterator[None]:
    """Have fp32 matrix products in fp32 for a while where a GPU would take TF32; a CPU's setting is the caller's."""
    if not torch.cuda.is_available():
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
