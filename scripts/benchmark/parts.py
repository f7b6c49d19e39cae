"""The comparisons. Each gives rows (a quantity, measured for every way) and checks (that the ways compute the same)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmark import ROOT, measure
from benchmark.processes import Finished, Worker, environment, run
from benchmark.work import Work
from junkdna.training.recipe import order

ENTRY = str(ROOT / "GLUE_tasks" / "Glue_prune_oneshot.py")
MIXED = {"fp32": "no", "bf16": "bf16"}
PLAIN, MODERN = "reference", "modern"
"""The ways of ``reference``, in fp32, and of ``modern``, in each precision beside the product."""

LOSS_LIMIT = 1e-4
OUTPUT_LIMIT = 1e-4
"""Largest differences, in fp32 with dropout off, of a step's loss and of a validation output after the last step."""
STEPS_PER_CALL = {"cpu": 3, "cuda": 10}
"""Steps are taken one after the other, as in training: the first after a pause is slower, and a GPU is waited for at
the end only.
"""
UNTIMED_ON_GPU = 2
"""How often they are taken before: libraries choose kernels, and the product records graphs, when batches first have a
size.
"""


@dataclass
class Bench:
    """What all parts share, and what they find."""

    steps: int
    rounds: int
    runs: int
    cells: int
    num_jobs: int
    device: str
    threads: int | None
    precisions: tuple[str, ...]
    baselines: tuple[str, ...]
    matmul_size: int
    folder: Path
    say: Callable[[str], None]
    rows: list[dict] = field(default_factory=list)
    checks: list[dict] = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    started: int = 0

    @property
    def ways(self) -> tuple[str, ...]:
        """All that are measured."""
        plain = (PLAIN,) if PLAIN in self.baselines else ()
        modern = (f"{MODERN} {precision}" for precision in self.precisions if MODERN in self.baselines)
        return (*plain, *modern, *self.precisions)

    @property
    def base(self) -> str:
        """The way that the others' numbers are compared with: the first of fp32, if there is one."""
        return next((way for way in self.ways if precision_of(way) == "fp32"), self.ways[0])

    @property
    def env(self) -> dict[str, str]:
        return environment(self.device, self.threads)

    def row(
        self,
        part: str,
        task: str,
        what: str,
        unit: str,
        values: dict[str, list],
        higher: bool = False,
        paired: bool = True,
    ) -> None:
        """Note one quantity: every way's measurements; ``paired`` if they were taken in turns.

        ``ratio`` is to the reference, ``modern_ratio`` to the modern way in the same precision. None is what could not
        be measured.
        """
        known = {way: [value for value in found if value is not None] for way, found in values.items()}
        for way, found in known.items():
            if not found:
                continue
            row = {"part": part, "task": task, "what": what, "unit": unit, "way": way, **measure.spread(found)}
            row |= {"higher_is_better": higher, "ratio": None, "modern_ratio": None, "values": found}
            others = {"ratio": PLAIN} if way != PLAIN else {}
            others |= {"modern_ratio": f"{MODERN} {precision_of(way)}"} if is_product(way) else {}
            for name, other in others.items():
                if known.get(other):
                    row[name] = measure.ratio(known[other], found, higher, paired)
            self.rows.append(row)

    def check(self, task: str, what: str, value: float, limit: float | None) -> None:
        """Note a difference; ``limit`` None means that it is reported only."""
        ok = None if limit is None else value <= limit
        self.checks.append({"task": task, "what": what, "value": value, "limit": limit, "ok": ok})

    def output_dir(self, name: str) -> Path:
        """The name of a fresh folder for a run."""
        self.started += 1
        return self.folder / f"run-{self.started}-{name.replace(', ', '-').replace(' ', '-')}"


def precision_of(way: str) -> str:
    """fp32 or bf16; of "bf16, 3 jobs" too."""
    return "bf16" if "bf16" in way else "fp32"


def is_product(way: str) -> bool:
    """Whether a way is the project's own, in a precision and perhaps as several jobs."""
    return way.split(",")[0] in MIXED


def words(way: str, target: str, flags: list[str]) -> list[str]:
    """The arguments of python that run one way."""
    if way == PLAIN:
        return ["-m", "benchmark.reference", target, *flags]
    module = "product" if is_product(way) else MODERN
    return ["-m", f"benchmark.{module}", target, *flags, "--mixed_precision", MIXED[precision_of(way)]]


def in_turn(ways: Iterable[str], number: int) -> list[str]:
    """The ways in the order of round ``number``: each is first in its turn, so that being first favours none."""
    ways = list(ways)
    return [ways[(number + i) % len(ways)] for i in range(len(ways))]


# --- one training step -----------------------------------------------------------------------------------------------


@contextmanager
def training(bench: Bench, work: Work, steps: int) -> Iterator[dict[str, Worker]]:
    """All ways with the same model, mask and data, each in a process, about to take the first of so many steps."""
    with ExitStack() as stack:
        workers = {}
        for way in bench.ways:
            out = bench.output_dir(way)
            flags = work.flags(out, "--max_train_steps", str(steps))  # the rate rises and falls within them
            workers[way] = stack.enter_context(Worker(words(way, "--serve", flags), bench.env))
        yield workers


def batches(work: Work, examples: int, start: int, count: int) -> list[list[int]]:
    """The examples of ``count`` steps from step number ``start`` on, in the product's order."""
    per_epoch = -(-examples // work.batch_size)
    found, epoch, order_now = [], -1, None
    for step in range(start, start + count):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order_now = order(work.seed, epoch, examples)
        first = step % per_epoch * work.batch_size
        found.append(order_now[first : first + work.batch_size].tolist())
    return found


def step(bench: Bench, work: Work, timed: bool, memory: bool) -> None:
    """Steps with dropout off, whose losses are compared; then, dropout on, steps that are timed. All taken in turns."""
    on_gpu = bench.device == "cuda"
    at_once = STEPS_PER_CALL[bench.device]
    count = bench.steps if timed else 1
    timed_steps = bench.rounds * at_once
    with training(bench, work, count + timed_steps * (1 + UNTIMED_ON_GPU * on_gpu)) as workers:
        facts = {way: worker.ask("facts") for way, worker in workers.items()}
        bench.facts[f"step, {work.name}"] = facts
        examples = facts[bench.base]["examples"]
        compared = batches(work, examples, 0, count)
        for worker in workers.values():
            worker.ask("dropout", on=False)
        losses = _take(bench, workers, compared, at_once, work.name, "dropout off")["losses"]
        if timed:
            _compare(bench, work, workers, losses)
        for worker in workers.values():
            worker.ask("dropout", on=True)
            worker.ask("reset_peak")
        after = batches(work, examples, len(compared), timed_steps)
        for _ in range(UNTIMED_ON_GPU * on_gpu):
            _take(bench, workers, after, at_once, work.name, "untimed")
        found = _take(bench, workers, after, at_once, work.name, "dropout on")
        if memory:
            _memory_rows(bench, work, workers, facts)
        if timed:
            _step_rows(bench, work, workers, found)
            bench.facts[f"steps taken, {work.name}"] = {way: worker.ask("taken") for way, worker in workers.items()}


def _take(bench: Bench, workers: dict, questions: list, at_once: int, task: str, words: str) -> dict:
    """Have the ways take the same steps, ``at_once`` at a time, in turns; returns seconds and processor seconds per
    call, and losses per step.
    """
    seconds, cpu, losses = ({way: [] for way in workers} for _ in range(3))
    calls = [questions[i : i + at_once] for i in range(0, len(questions), at_once)]
    for number, call in enumerate(calls, start=1):
        for way in in_turn(workers, number):
            answer = workers[way].ask("steps", batches=call)
            seconds[way].append(answer["seconds"])
            cpu[way].append(answer["cpu"])
            losses[way] += answer["losses"]
        last = ", ".join(f"{way} {times[-1]:.3f} s" for way, times in seconds.items())
        bench.say(f"{task}: {words}, {number}/{len(calls)}: {last}")
    return {"seconds": seconds, "cpu": cpu, "losses": losses, "calls": calls}


def _compare(bench: Bench, work: Work, workers: dict[str, Worker], losses: dict[str, list[float]]) -> None:
    """Losses step by step, and outputs and metrics after the last of these steps."""
    ends = {way: worker.ask("evaluate") for way, worker in workers.items()}
    first = bench.base
    for way in bench.ways:
        if way == first:
            continue
        exact = precision_of(way) == precision_of(first) == "fp32"
        largest = max(abs(a - b) for a, b in zip(losses[first], losses[way]))
        words = f"{way}: largest difference of a loss over {len(losses[way])} steps, dropout off"
        bench.check(work.name, words, largest, LOSS_LIMIT if exact else None)
        pairs = zip(ends[first]["outputs"], ends[way]["outputs"])
        outputs = max(abs(x - y) for a, b in pairs for x, y in zip(a, b))
        words = f"{way}: largest difference of a validation output after these steps"
        bench.check(work.name, words, outputs, OUTPUT_LIMIT if exact else None)
        for name, value in ends[first]["metrics"].items():
            words = f"{way}: difference of {name} ({first} {value:.4f})"
            bench.check(work.name, words, abs(ends[way]["metrics"][name] - value), None)
    bench.row("step", work.name, "evaluation of the validation split", "s", _column(ends, "seconds"))


def _column(found: dict[str, dict], name: str) -> dict[str, list]:
    return {way: [answer[name]] for way, answer in found.items()}


def _memory_rows(bench: Bench, work: Work, workers: dict[str, Worker], facts: dict) -> None:
    used = {way: worker.ask("memory") for way, worker in workers.items()}
    weights = facts[bench.base]["masked_weights"]
    bench.row("memory", work.name, "held for the mask, per masked weight", "B",
              {way: [found["mask"] / weights] for way, found in used.items()})  # fmt: skip
    peaks = {way: [found["peak"] and found["peak"] / 1e6] for way, found in used.items()}
    bench.row("memory", work.name, "peak of the process while training", "MB", peaks)


def _step_rows(bench: Bench, work: Work, workers: dict[str, Worker], found: dict) -> None:
    sizes = [
        {name: sum(step[name] for step in call) for name in ("tokens", "padded", "flops")}
        for call in (workers[bench.base].ask("sizes", batches=call) for call in found["calls"])
    ]
    rates, best = _ceilings(bench, workers)
    seconds = found["seconds"]
    per_call = len(found["calls"][0])

    def row(what: str, unit: str, value: Callable, higher: bool) -> None:
        values = {way: [value(way, t, size) for t, size in zip(times, sizes)] for way, times in seconds.items()}
        bench.row("step", work.name, what, unit, values, higher)

    row("training step", "ms", lambda way, t, size: 1e3 * t / per_call, False)
    if bench.device == "cpu":
        cpu = {way: [1e3 * t / per_call for t in times] for way, times in found["cpu"].items()}
        bench.row("step", work.name, "training step, processor time", "ms", cpu)
    row("real tokens per second", "1/s", lambda way, t, size: size["tokens"] / t, True)
    row("model-FLOP utilisation", "%", lambda way, t, size: 100 * size["flops"] / t / best[way], True)
    bench.row("step", work.name, f"matrix product of {bench.matmul_size} squared", "GFLOP/s",
              {way: [r / 1e9 for r in found] for way, found in rates.items()}, True)  # fmt: skip
    bench.facts[f"batches, {work.name}"] = {
        name: measure.spread(size[name] / per_call for size in sizes) for name in ("tokens", "padded")
    }


def _ceilings(bench: Bench, workers: dict[str, Worker]) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Every way's matrix products, FLOP/s, taken in turns; and of each way the fastest that any reached in its
    precision.
    """
    rates: dict[str, list[float]] = {way: [] for way in workers}
    for number in range(bench.rounds):
        for way in in_turn(workers, number):
            rates[way].append(workers[way].ask("matmul", size=bench.matmul_size, bf16=precision_of(way) == "bf16"))
    same = {way: [other for other in rates if precision_of(other) == precision_of(way)] for way in rates}
    return rates, {way: max(rate for other in same[way] for rate in rates[other]) for way in rates}


# --- holding masks elsewhere -----------------------------------------------------------------------------------------


def hold(bench: Bench, work: Work) -> None:
    """What holding the mask takes of a step in loops that are not the project's, by its public API. On a CPU."""
    shares: dict[str, dict[str, list]] = {"a plain loop": {}, "the Trainer": {}}
    for precision in bench.precisions:
        flags = work.flags(bench.output_dir(f"holding {precision}"), "--mixed_precision", MIXED[precision])
        with Worker(["-m", "benchmark.holding", "--serve", *flags], bench.env) as worker:
            asked = batches(work, worker.ask("facts")["examples"], 0, bench.rounds + 1)
            took = {"a plain loop": worker.ask("loop", batches=asked)}
            took["the Trainer"] = worker.ask("trainer_steps", steps=len(asked))
        for name, steps in took.items():
            shares[name][precision] = [100 * held / whole for whole, held in steps[1:]]  # the first looks at the state
        bench.say(f"{work.name}: holding the mask, {precision}: " + ", ".join(
            f"{name} {measure.spread(found[precision])['median']:.1f} %" for name, found in shares.items()
        ))  # fmt: skip
    for name, found in shares.items():
        bench.row("hold", work.name, f"holding the mask, of a step of {name}", "%", found)


# --- masks -----------------------------------------------------------------------------------------------------------


def mask(bench: Bench, work: Work, patterns: dict[str, str]) -> None:
    """Make the same masks both ways, in turns; ``patterns`` maps a part's name to its pattern."""
    with ExitStack() as stack:
        workers = {
            way: stack.enter_context(Worker(["-m", "benchmark.masking", way, str(work.model)], bench.env))
            for way in (PLAIN, "product")
        }
        for part, pattern in patterns.items():
            _mask(bench, workers, part, pattern)


def _mask(bench: Bench, workers: dict[str, Worker], part: str, pattern: str) -> None:
    """One pattern. The first masks are saved and compared."""
    saved = {way: str(bench.folder / f"{part}-{way}.npz") for way in workers}
    answers: dict[str, list[dict]] = {way: [] for way in workers}
    whole = []
    for number in range(bench.rounds):
        for way in in_turn(workers, number):
            save = saved[way] if number == 0 else None
            answers[way].append(workers[way].ask("make", pattern=pattern, save=save))
        whole.append(workers["product"].ask("prune", pattern=pattern))
        last = ", ".join(f"{way} {found[-1]['seconds']:.3f} s" for way, found in answers.items())
        bench.say(f"mask {pattern}: {number + 1}/{bench.rounds}: {last}")
    seconds = {way: [answer["seconds"] for answer in found] for way, found in answers.items()}
    extra = {way: [a["extra"] and a["extra"] / 1e6 for a in found] for way, found in answers.items()}
    bench.row(part, pattern, "making the mask", "s", seconds)
    bench.row(part, pattern, "peak memory beside model and mask", "MB", extra)
    values = {PLAIN: seconds[PLAIN], "product": whole}
    bench.row(part, pattern, "the same, counts and hash included", "s", values)
    differ = workers[PLAIN].ask("compare", pattern=pattern, **saved)
    words = f"{part}: differences that the reference's dropped threshold does not explain, of {differ['different']}"
    bench.check(pattern, f"{words}, among {differ['weights']:,} weights", differ["unexplained"], 0)


# --- pruning layer by layer ------------------------------------------------------------------------------------------


def layerwise(bench: Bench, size: int, sparsity: str, ratio: str) -> None:
    """Prune one matrix both ways by every method, in turns."""
    with ExitStack() as stack:
        workers = {
            way: stack.enter_context(Worker(["-m", "benchmark.layerwise", way, str(size), sparsity, ratio], bench.env))
            for way in (PLAIN, "product")
        }
        for method in ("magnitude", "wanda", "sparsegpt"):
            for pattern in (sparsity, ratio):
                _layer(bench, workers, size, method, pattern)
        seconds = {way: [] for way in workers}
        for number in range(bench.rounds):
            for way in in_turn(workers, number):
                seconds[way].append(workers[way].ask("add"))
        bench.row("layerwise", f"{size} x {size}", f"adding {size + 64} tokens to the Hessian", "s", seconds)


def _layer(bench: Bench, workers: dict[str, Worker], size: int, method: str, pattern: str) -> None:
    """One method and pattern. The first results are saved and compared."""
    on, nm = f"{size} x {size}", ":" in pattern
    saved = {way: str(bench.folder / f"{method}-{'nm' if nm else 'un'}-{way}.npz") for way in workers}
    answers: dict[str, list[dict]] = {way: [] for way in workers}
    for number in range(bench.rounds):
        for way in in_turn(workers, number):
            save = saved[way] if number == 0 else None
            answers[way].append(workers[way].ask("prune", method=method, nm=nm, save=save))
        last = ", ".join(f"{way} {found[-1]['seconds']:.3f} s" for way, found in answers.items())
        bench.say(f"{method} {pattern}, {on}: {number + 1}/{bench.rounds}: {last}")
    for what, unit, name in (("pruning", "s", "seconds"), ("peak memory beside what is given", "copies", "copies")):
        values = {way: [answer[name] for answer in found] for way, found in answers.items()}
        bench.row("layerwise", on, f"{method} {pattern}: {what}", unit, values)
    if method == "sparsegpt" and not nm:  # the one weight too many per block changes those after it in its row
        workers[PLAIN].ask("prune", method=method, nm=nm, save=saved[PLAIN], exact=True)
    differ = workers[PLAIN].ask("compare", **saved)
    if method == "sparsegpt":
        words = f"{method} {pattern}: weights that one removes and the other keeps, both with exact counts"
        bench.check(on, words, differ["different"], max(4, 1e-5 * size**2))
        bench.check(on, f"{method} {pattern}: relative difference of the weights", differ["weights"], 1e-2)
    elif method == "magnitude" and not nm:
        words = f"{method} {pattern}: differences that the reference's dropped threshold does not explain"
        bench.check(on, f"{words}, of {differ['different']}", differ["elsewhere"], 0)
    else:
        bench.check(on, f"{method} {pattern}: weights that one removes and the other keeps", differ["different"], 0)


# --- whole commands --------------------------------------------------------------------------------------------------


def command(bench: Bench, work: Work) -> None:
    """The whole command, from its start to its end: one cell, all epochs, evaluation after each."""
    seconds, cpu, peaks, found = ({way: [] for way in bench.ways} for _ in range(4))
    for number in range(bench.runs):
        for way in in_turn(bench.ways, number):
            out = bench.output_dir(way)
            if not is_product(way):
                done, moments = _watched(bench, way, work.flags(out), out)
                metrics = moments["metrics"][0]
            else:
                done = run([ENTRY, *work.flags(out, "--mixed_precision", MIXED[way])], bench.env, bench.folder)
                results = json.loads((out / "all_results.json").read_text())
                metrics = {f"eval_{name}": results[f"eval_{name}"] for name in work.metrics}
            found[way].append(metrics)
            seconds[way].append(done.seconds)
            cpu[way].append(done.cpu)
            peaks[way].append(done.peak / 1e6)
            bench.say(f"{work.name}: whole command, {number + 1}/{bench.runs}: {way} {done.seconds:.1f} s")
    bench.row("command", work.name, f"whole command, epochs: {work.epochs}", "s", seconds)
    bench.row("command", work.name, "the same, processor time", "s", cpu)
    bench.row("command", work.name, "peak memory of the process (not of a GPU)", "MB", peaks)
    for name in work.metrics:
        values = {way: [metrics[f"eval_{name}"] for metrics in of_way] for way, of_way in found.items()}
        bench.row("command", work.name, f"{name} (dropout on: other draws)", "", values, True)


def _watched(bench: Bench, way: str, flags: list[str], out: Path) -> tuple[Finished, dict[str, list]]:
    """Run one way to its end; return what it took, and what it noted under every name."""
    file = out.with_name(f"{out.name}.json")
    done = run(words(way, str(file), flags), bench.env, bench.folder)
    noted: dict[str, list] = {}
    for name, value in json.loads(file.read_text()):
        noted.setdefault(name, []).append(value)
    return done, noted


def grid(bench: Bench, work: Work) -> None:
    """Cells that differ in their sparsity: the reference in a process each, the product in one, or in several at
    once.
    """
    sparsities = [f"{0.9 * (i + 1) / bench.cells:.4f}" for i in range(bench.cells)]
    limits = ("--max_train_steps", str(bench.steps))
    jobs = {f"{way}, {bench.num_jobs} jobs": way for way in bench.precisions if bench.num_jobs > 1}
    ways = (*bench.ways, *jobs)
    starts, gaps, cells, cpus = ({way: [] for way in ways} for _ in range(4))
    for number in range(bench.runs):
        for way in in_turn(ways, number):
            out = bench.output_dir(way)
            if not is_product(way):
                flags = [[*work.flags(out, *limits), "--sparsity", s] for s in sparsities]
                found = [_process_of_one(bench, way, one, out) for one in flags]
                starts[way] += [start for start, _ in found]
                gaps[way] = starts[way]  # the next cell is a new process
                cells[way] += [done.seconds for _, done in found]
                cpus[way] += [done.cpu for _, done in found]
            else:
                flags = [*work.flags(out / "{sparsity}", *limits), "--sparsity", *sparsities]
                if way in jobs:
                    flags += ["--num_jobs", str(bench.num_jobs), "--mixed_precision", MIXED[jobs[way]]]
                    seconds = run([ENTRY, *flags], bench.env, bench.folder).seconds
                else:
                    start, between, done = _process_of_all(bench, way, flags, out)
                    starts[way].append(start)
                    gaps[way] += between
                    cpus[way].append(done.cpu / bench.cells)
                    seconds = done.seconds
                cells[way].append(seconds / bench.cells)
            bench.say(f"{work.name}: grid, {number + 1}/{bench.runs}: {way} {cells[way][-1]:.2f} s a cell")
    name = work.name
    bench.row("grid", name, "start-up: from the process's start to the first step", "s", starts, paired=False)
    bench.row("grid", name, "from the end of a cell to the next one's first step", "s", gaps, paired=False)
    what = f"a cell of a grid of {bench.cells}, {bench.steps} steps each"
    bench.row("grid", name, what, "s", cells, paired=False)
    alone = {way: times for way, times in cpus.items() if way not in jobs}  # jobs are processes of their own
    bench.row("grid", name, "the same, processor time", "s", alone, paired=False)
    _grid_utilisation(bench, work, cells, jobs)


def _process_of_one(bench: Bench, way: str, flags: list[str], out: Path) -> tuple[float, Finished]:
    """Seconds from the start of a baseline's process to its first step, and how it ended."""
    done, moments = _watched(bench, way, flags, out)
    return moments["first step"][0] - done.started, done


def _process_of_all(bench: Bench, way: str, flags: list[str], out: Path) -> tuple[float, list[float], Finished]:
    """Seconds from the start of a product's process to its first step and between its cells, and how it ended."""
    done, moments = _watched(bench, way, flags, out)
    first_steps, ends = moments["first step"], moments["end"]
    if len(ends) != bench.cells:
        raise RuntimeError(f"a grid of {bench.cells} cells finished {len(ends)}")
    between = [step - end for end, step in zip(ends, first_steps[1:])]
    return first_steps[0] - done.started, between, done


def _grid_utilisation(bench: Bench, work: Work, cells: dict[str, list[float]], jobs: dict[str, str]) -> None:
    """Of a whole grid: the operations of training alone, over all the time that it took."""
    with training(bench, work, bench.steps) as workers:
        examples = workers[bench.base].ask("facts")["examples"]
        steps = workers[bench.base].ask("sizes", batches=batches(work, examples, 0, bench.steps))
        _, best = _ceilings(bench, workers)
    flops = sum(step["flops"] for step in steps)
    shares = {way: [100 * flops / t / best[jobs.get(way, way)] for t in times] for way, times in cells.items()}
    what = "model-FLOP utilisation of the grid, start-up and evaluation included"
    bench.row("grid", work.name, what, "%", shares, higher=True, paired=False)
