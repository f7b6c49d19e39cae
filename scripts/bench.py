"""Measure the project's command against two other ways of doing the same work, side by side.

    python scripts/bench.py --model roberta-base --glue_dir glue_data --tasks rte sst2 cola --out bench.json

All ways get the same bits, batches and seeds, and take turns, so that whatever else the machine does hits all. The
plain way is ``benchmark/reference.py``, the one with today's libraries ``benchmark/modern.py``. Prints a table, writes
everything to a JSON file; exit code 1 if a check failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

from benchmark import work as works
from benchmark.work import DEMO_TASKS, SIZES, Work
from junkdna.errors import Faults, UserError
from junkdna.families.encoder import checks
from junkdna.families.glue import tasks as glue
from junkdna.runs.speech import as_flag
from junkdna.sparsity.patterns import parse_nm, parse_sparsity

PARTS = ("step", "memory", "hold", "mask", "nm", "layerwise", "grid", "command")
PRECISIONS = ("fp32", "bf16")
BASELINES = ("reference", "modern")
GLUE_DEFAULT = ("rte", "sst2", "cola")
SMOKE = {
    "model": "tiny",
    "steps": 4,
    "rounds": 2,
    "runs": 1,
    "cells": 2,
    "num_jobs": 2,
    "epochs": 1,
    "matmul_size": 256,
    "matrix_size": 256,
}
SMOKE_LIMITS = ("--max_train_samples", "96", "--max_eval_samples", "64")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str):
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read and check the command line; raises UserError with every fault."""
    parser = Parser(description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--model", default="roberta-base", help=f"a folder, or random weights in the shape of {' | '.join(SIZES)}")
    add("--glue_dir", help="folder in the layout of the standard GLUE download; without it the demo's tasks are used")
    add("--tasks", nargs="+", help=f"GLUE tasks (default {' '.join(GLUE_DEFAULT)}), or the demo's (default easy)")
    add("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="what to measure; grid and command: first task")
    add("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS, help="of the product")
    add("--baselines", nargs="*", default=list(BASELINES), choices=BASELINES, help="beside it; masks: always reference")
    add("--batch_size", type=int, default=32, help="examples per step")
    add("--steps", type=int, default=50, help="steps whose losses are compared, and steps of each cell of the grid")
    add("--rounds", type=int, default=10, help="how often masks, matrix products and a few steps in a row are measured")
    add("--runs", type=int, default=3, help="how often whole processes are run (grid and command)")
    add("--cells", type=int, default=3, help="cells of the grid, of different sparsity")
    add("--cuda_graphs", action="store_true", help="on a GPU, measure the product with --cuda_graphs")
    add("--num_jobs", type=int, default=1, help="above 1: the grid also dealt to so many jobs that share the device")
    add("--epochs", type=int, default=3, help="of the whole command")
    add("--sparsity", default="0.5", help="fraction removed; in [0, 1)")
    add("--nm_ratio", default="2:8", help="N kept of every M, for the part nm")
    add("--seed", type=int, default=41, help="of order, head and dropout")
    add("--threads", type=int, help="threads of each process (default: torch's own choice)")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto: a GPU if there is one")
    add(
        "--matmul_size",
        type=int,
        help="side of the matrices that show what the machine can do (default 1024, GPU 8192)",
    )
    add("--matrix_size", type=int, default=4096, help="side of the matrix of the part layerwise; a multiple of M")
    add(
        "--smoke",
        action="store_true",
        help="everything at its smallest, to see that it works; the numbers mean nothing",
    )
    add("--out", default="bench.json", metavar="FILE.json", help="where the measurements go")
    if parser.parse_args(argv).smoke:
        parser.set_defaults(**SMOKE)
    asked = parser.parse_args(argv)
    _check(asked)
    return asked


def _check(asked: argparse.Namespace) -> None:
    faults = Faults()
    for name in (
        "batch_size",
        "steps",
        "rounds",
        "runs",
        "cells",
        "num_jobs",
        "epochs",
        "threads",
        "matmul_size",
        "matrix_size",
    ):
        value = getattr(asked, name)
        if value is not None and value < 1:
            faults.append(f"--{name} {value}: must be 1 or more")
    if asked.seed < 0:
        faults.append(f"--seed {asked.seed}: must be 0 or more")
    asked.sparsity = faults.collect(parse_sparsity, asked.sparsity)
    if asked.sparsity == 0:
        faults.append("--sparsity 0: there would be no mask to measure")
    if pattern := faults.collect(parse_nm, asked.nm_ratio):
        asked.nm_ratio = f"{pattern.keep}:{pattern.of}"
        if "layerwise" in asked.parts and asked.matrix_size % pattern.of:
            faults.append(f"--matrix_size {asked.matrix_size}: must be a multiple of the {pattern.of} of --nm_ratio")
    if asked.model not in SIZES:
        if Path(asked.model).is_dir():
            faults.collect(checks.check_folder, asked.model, None, 128, True)
        else:
            faults.append(f"--model {asked.model}: no such folder, and none of the sizes {' '.join(SIZES)}")
    if asked.glue_dir:
        asked.glue_dir = str(Path(asked.glue_dir).absolute())  # whole commands run in a folder of their own
    asked.tasks = asked.tasks or list(GLUE_DEFAULT if asked.glue_dir else DEMO_TASKS[:1])
    if asked.glue_dir:
        asked.tasks = [faults.collect(glue.task_name, task) or task for task in asked.tasks]
    elif unknown := [task for task in asked.tasks if task not in DEMO_TASKS]:
        faults.append(f"--tasks {unknown[0]}: without --glue_dir only the demo's tasks: {' '.join(DEMO_TASKS)}")
    folder = Path(asked.out).absolute().parent
    if not folder.is_dir() or Path(asked.out).is_dir():
        faults.append(f"--out {asked.out}: must be a file in a folder that exists")
    faults.raise_any()


def main(argv: list[str] | None = None) -> int:
    """Measure; return the exit code: 0, 1 (a check failed), 2 (a user's mistake)."""
    try:
        asked = parse(argv)
        tasks = {name: works.read(name, asked.glue_dir) for name in dict.fromkeys(asked.tasks)}
        device = settle_device(asked.device)
    except UserError as error:
        for fault in error.faults:
            print(f"error: {as_flag(fault)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = measure_all(asked, tasks, device, Path(folder))
    print(table(bench))
    Path(asked.out).write_text(json.dumps(report(asked, device, bench), indent=1) + "\n")
    print(f"written to {asked.out}")
    return 1 if any(check["ok"] is False for check in bench.checks) else 0


def settle_device(asked: str) -> str:
    """Return cpu or cuda; raises UserError if there is no GPU to be had."""
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here; use cpu")
    return asked if asked != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")


def measure_all(asked: argparse.Namespace, tasks: dict, device: str, folder: Path):
    """Prepare the work, then go through the parts."""
    from benchmark import parts

    bench = parts.Bench(
        steps=asked.steps,
        rounds=asked.rounds,
        runs=asked.runs,
        cells=asked.cells,
        num_jobs=asked.num_jobs,
        device=device,
        threads=asked.threads,
        precisions=tuple(asked.precisions),
        baselines=tuple(asked.baselines),
        matmul_size=asked.matmul_size or (8192 if device == "cuda" else 1024),
        folder=folder,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if "layerwise" in asked.parts:
        parts.layerwise(bench, asked.matrix_size, str(asked.sparsity), asked.nm_ratio)
    if asked.parts == ["layerwise"]:
        return bench
    texts = None
    if asked.glue_dir:
        texts = [" ".join(text) for task in tasks.values() for text in task.train.texts]
    models: dict[tuple, Path] = {}
    for number, (name, task) in enumerate(tasks.items()):
        known = models.get(task.label_names)
        path = models.setdefault(task.label_names, folder / f"model-{name}")
        work = Work(
            name=name,
            model=path,
            source=works.source(name, asked.glue_dir),
            batch_size=asked.batch_size,
            sparsity=asked.sparsity,
            seed=asked.seed,
            epochs=asked.epochs,
            metrics=task.metrics,
            limits=(*(SMOKE_LIMITS if asked.smoke else ()), *(["--cuda_graphs"] if asked.cuda_graphs else ())),
        )
        if known is None:
            works.prepare(work, asked.model, task, texts)
        measure_task(asked.parts, bench, work, number == 0, asked)
    return bench


def measure_task(wanted: list[str], bench, work: Work, first: bool, asked: argparse.Namespace) -> None:
    from benchmark import parts

    if "step" in wanted or "memory" in wanted:
        parts.step(bench, work, "step" in wanted, "memory" in wanted)
    if not first:
        return
    if "hold" in wanted and bench.device == "cpu":
        parts.hold(bench, work)
    patterns = {"mask": str(asked.sparsity), "nm": asked.nm_ratio}
    if patterns := {part: pattern for part, pattern in patterns.items() if part in wanted}:
        parts.mask(bench, work, patterns)
    if "grid" in wanted:
        parts.grid(bench, work)
    if "command" in wanted:
        parts.command(bench, work)


# --- what is shown and kept ------------------------------------------------------------------------------------------


def table(bench) -> str:
    """Everything measured as a Markdown table, and the checks under it."""
    lines = [
        "| part | on | what | way | median | min to max | better than plain by | than modern by |",
        "|---|---|---|---|---:|---|---:|---:|",
    ]
    for row in bench.rows:
        value, low, high = (
            f"{row[key]:,.4g}" if row[key] < 1e4 else f"{row[key]:,.0f}" for key in ("median", "min", "max")
        )
        lines.append(
            f"| {row['part']} | {row['task']} | {row['what']} | {row['way']} | {value} {row['unit']} | {low} to {high} "
            f"({row['n']}) | {times(row['ratio'])} | {times(row['modern_ratio'])} |"
        )
    lines.append("")
    for check in bench.checks:
        verdict = {True: "ok    ", False: "FAILED", None: "      "}[check["ok"]]
        limit = "" if check["limit"] is None else f" (limit {check['limit']:g})"
        lines.append(f"{verdict} {check['task']}: {check['what']}: {check['value']:.3g}{limit}")
    return "\n".join(lines)


def times(ratio: dict | None) -> str:
    """A ratio with its spread."""
    if ratio is None:
        return ""
    spread = f" ({ratio['min']:.2f} to {ratio['max']:.2f})" if ratio["n"] > 1 else ""
    return f"{ratio['median']:.2f}x{spread}"


def report(asked: argparse.Namespace, device: str, bench) -> dict:
    """Everything measured, with what it was measured on."""
    import platform

    from benchmark import measure
    from junkdna.runs import provenance
    from junkdna.training import device as hardware

    return {
        "schema": 1,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "code": provenance.code_version(),
        "settings": {name: _as_json(name, value) for name, value in vars(asked).items()},
        "machine": {
            "device": device,
            "cpu": hardware.cpu_name(),
            "cpu_count": os.cpu_count(),
            "platform": platform.platform(),
            "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        },
        "versions": provenance.versions(),
        "flop_formula": measure.FLOP_FORMULA,
        "utilisation": "model FLOPs per second over the fastest matrix product of the same precision, measured "
        "beside it",
        "memory": "the kernel's high-water mark (VmHWM), reset before; on a GPU torch's max_memory_reserved, of "
        "masks max_memory_allocated",
        "ratio": "above 1: better than the reference; of measurements taken in turns the median over pairs, else of "
        "medians; modern_ratio: the same, than the modern way in the same precision",
        "facts": bench.facts,
        "rows": bench.rows,
        "checks": bench.checks,
    }


def _as_json(name: str, value):
    """A setting; of paths their last part, so that the file says nothing of the machine's folders and can be shown."""
    if name in ("model", "glue_dir", "out") and value:
        return Path(value).name
    return str(value) if isinstance(value, Decimal) else value


if __name__ == "__main__":
    sys.exit(main())
