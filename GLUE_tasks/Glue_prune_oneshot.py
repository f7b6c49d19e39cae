"""Prune a pre-trained encoder once by magnitude, fine-tune it with the mask held, evaluate, record.

The experiment of "Junk DNA Hypothesis" (arXiv 2310.02277) on GLUE, read top to bottom: parse, load, prune, fine-tune,
evaluate, record. ``python Glue_prune_oneshot.py --help`` explains every flag; the library is in ``junkdna/``.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare clone: the library lies beside this folder

from junkdna.errors import Faults, UserError
from junkdna.models import hub
from junkdna.runs import grid, request
from junkdna.runs import processes as launch
from junkdna.runs.cell import Cell
from junkdna.runs.jobs import run as jobs
from junkdna.runs.speech import explain


def main(argv: list[str] | None = None) -> int:
    """Run what a command line asks for; return the exit code: 0, 1 (cells of a grid failed), 2 (a user's mistake)."""
    try:
        asked = request.parse(argv)
        jobs.preflight(asked)
        shared = grid.Shared()
        grid.preflight(asked, shared)
        if asked.dry_run:
            jobs.print_dealt(asked, shared)
            return 0
        grid.discard_checkpoints(asked)
        dealt = jobs.shares(asked, shared)
        if dealt:
            return jobs.run(asked, dealt, run_cell)
        launch.start_the_others(list(asked.argv))
        return grid.run(asked, shared, run_cell)
    except (UserError, ModuleNotFoundError) as error:
        return explain(error)
    except BrokenPipeError:  # whoever read the output has gone, as in  ... --dry_run | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 130


def run_cell(cell: Cell, shared: grid.Shared, argv: tuple[str, ...], place: tuple[int, int] = (1, 1)) -> None:
    """One run, at its ``place`` (number, how many) in a grid.

    The heavy libraries are imported here, so that ``--help`` and mistakes in flags answer at once.
    """
    clock = Clock()
    faults = Faults()
    if cell.push_to_hub:
        faults.collect(hub.check_login, cell.repository)
    faults.collect(shared.find_model, cell)
    task = faults.collect(shared.data, cell)
    faults.raise_any()
    clock.lap("data")

    from junkdna.runs import checkpoints as resume
    from junkdna.runs.journal import Logbook
    from junkdna.sparsity.census import check_same_on_all, prune
    from junkdna.sparsity.hold import KINDS, hold
    from junkdna.sparsity.scope import find_scope
    from junkdna.training import device as hardware
    from junkdna.training import predict as evaluation
    from junkdna.training.fast import packing
    from junkdna.training.fast.resident import Resident
    from junkdna.training.finetune import FineTuning, Recipe

    accelerator = shared.accelerator(cell)
    if accelerator.device.type == "cpu":
        hardware.use_fast_exact_matmul()
        hardware.keep_freed_memory()
    else:
        hardware.settle_determinism(cell.deterministic)
    checkpoint = shared.checkpoint(cell)
    splits = {"train": task.train, **task.evals}
    features = {name: shared.features(cell, name, examples) for name, examples in splits.items()}
    model = checkpoint.reset(cell.seed)
    clock.lap("load")

    masks, held, report = {}, None, {"transfer": cell.transfer}
    if not cell.dense:
        scope = find_scope(model, embeddings=not cell.noembed, exclude=cell.prune_exclude)
        score = {"one_shot_smallgm": "largest", "random": "random"}.get(cell.sparse_init, "magnitude")
        masks, census = prune(scope, cell.pattern, score, cell.seed, cell.mask_file, checkpoint.drawn)
        report |= census.as_dict()
        check_same_on_all(report["mask_hash"], accelerator)
        (kind,) = (kind for kind, transfer in KINDS.items() if transfer == cell.transfer)
        held = hold(model, masks, kind)
    clock.lap("prune")

    recipe = Recipe(
        batch_size=cell.per_device_train_batch_size,
        epochs=cell.num_train_epochs,
        learning_rate=cell.learning_rate,
        weight_decay=cell.weight_decay,
        schedule=cell.lr_scheduler_type,
        seed=cell.seed,
        max_steps=cell.max_train_steps,
        warmup_steps=cell.num_warmup_steps,
        accumulation=cell.gradient_accumulation_steps,
    )
    train = evaluation.with_model_labels(features["train"], checkpoint.label_order)
    resident = None
    if cell.pad_to_max_length or checkpoint.unpacked:
        collate = evaluation.collator(checkpoint.tokenizer, cell.max_length if cell.pad_to_max_length else None)
    else:
        start, heads, device = checkpoint.first_position, model.config.num_attention_heads, accelerator.device
        collate = packing.collator(start, heads, fused=device.type != "cpu")
        if device.type == "cuda":
            resident = Resident(train, start, heads, checkpoint.tokenizer.pad_token_id, device)
    evaluate = evaluation.evaluator(
        {key: features[key] for key in task.evals},
        task.metrics,
        checkpoint.label_order,
        collate,
        cell.per_device_eval_batch_size,
        accelerator,
    )
    tuning = FineTuning(model, train, collate, recipe, held, accelerator, resident, not cell.no_cuda_graphs)
    identity = {
        "schema": resume.SCHEMA,
        "settings": cell.settings(),
        "training_data": task.train.fingerprint,
        "model_weights": checkpoint.weight_hash,
        "mask": report.get("mask_hash"),
    }
    keeper = resume.Keeper(cell, identity, masks, tuning)
    try:
        keeper.go_on()
        whole = shared.whole_data(cell)
        log = Logbook(
            cell, argv, clock.started, checkpoint, whole, task, features, report, tuning, keeper.resumed, accelerator
        )
        try:
            log.start()
            with log.progress(place) as progress:
                tuning.run(evaluate, progress, log.epoch, keeper.save, cell.checkpointing_steps)
            tuning.verify()
            log.finish(masks, clock.laps)
        finally:
            log.close()
    finally:  # a cell that fails must not leave its optimiser or its tracker to the next
        tuning.close()
        hardware.give_back_freed_memory()


class Clock:
    """Wall time of a run's stages, in seconds."""

    def __init__(self):
        self.started = datetime.now(timezone.utc)
        self.last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Give the time since the last lap to ``name``."""
        now = time.perf_counter()
        self.laps[name] = round(now - self.last, 3)
        self.last = now


if __name__ == "__main__":
    sys.exit(main())
