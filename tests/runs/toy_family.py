"""The smallest experiment: prune a row of numbers, and add up what is left, one round after the other.

Everything that a family must bring, and nothing else (see ``junkdna.runs.family``). It is also an entry of its own.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace

from junkdna.runs import main as runs
from junkdna.runs import pruning
from junkdna.runs.cell import Cell, Command
from junkdna.runs.checkpoints import Checkpoints
from junkdna.runs.settings import flag, number, one_of

MODEL = "model.safetensors"
KINDS = {"even": 0, "odd": 1}


@dataclass(frozen=True, kw_only=True)
class ToyCell(Cell):
    title = "data"
    family = "toy"

    kind: str = flag(
        one_of(KINDS), role="axis", many=True, default="even", metavar="KIND", help="even or odd; default even"
    )
    rounds: int = flag(number(int, 1), role="training", default=3, metavar="N", help="additions, >= 1; default 3")
    pause: float = flag(number(float, 0), role="option", default=0.0, help="seconds after a round, >= 0; default 0")

    @property
    def axes(self) -> dict[str, str]:
        return {"numbers": self.kind}


class Sum:
    """What is trained: a sum that grows. Checkpoints save and load it."""

    accelerator = SimpleNamespace(num_processes=1, is_main_process=True, wait_for_everyone=lambda: None)

    def __init__(self):
        self.step, self.total = 0, 0.0

    def state(self) -> dict:
        return {"at": {"step": self.step}, "total": self.total}

    def load_state(self, state: dict) -> None:
        self.step, self.total = state["at"]["step"], state["total"]


class Toy:
    entry = "toy_family"
    description = "Prune a row of numbers and add up what is left."
    cell, command = ToyCell, Command
    gone = {"--spin": "numbers do not spin; leave it out"}  # noqa: RUF012

    def check(self, given, faults):
        if given["rounds"] == 13:
            faults.append("--rounds 13: is bad luck; give another number")

    def patterns(self, given, faults):
        return pruning.settings(given, faults)

    def variants(self, given):
        return [{"kind": kind} for kind in given["kind"]]

    def preflight(self, cell, shared, faults): ...

    def check_done(self, cell, shared): ...

    def work(self, cell, shared):
        return cell.rounds

    def loads(self, cell):
        return cell.kind

    def run(self, cell, shared, journal):
        import torch

        from junkdna import choose_masks, find_scope

        model = torch.nn.Linear(100, 1, bias=False)
        numbers = shared.keep("numbers", cell.kind, lambda: torch.arange(KINDS[cell.kind], 200.0, 2)[None])
        model.weight.data.copy_(numbers)
        masks, census = {}, None
        if not cell.dense:
            masks, census = choose_masks(find_scope(model), cell.pattern, cell.score, cell.seed)
        kept = numbers * masks.get("weight", 1)
        growing = Sum()
        reads = {"mask": census and census.mask_hash, "numbers": str(float(numbers.sum()))}
        journal.made_of(reads)
        saved = Checkpoints(cell, reads, masks, growing)
        saved.go_on()
        journal.pruned(census)
        journal.measures([{"name": "total", "key": "eval_total", "better": "higher", "chance": 0.0, "main": True}])
        with journal.open({"device": "cpu"}, saved.resumed), journal.progress(cell.rounds, growing.step) as progress:
            while growing.step < cell.rounds:
                growing.step, growing.total = growing.step + 1, growing.total + float(kept.sum())
                progress.step(growing.step, growing.total, 0.0, numbers.numel())
                saved.save()
                time.sleep(cell.pause)
            sparsity = 0.0 if census is None else census.removed / census.size
            results = {"eval_total": growing.total, "sparsity": sparsity}
            journal.results(results, masks=masks, save=lambda folder: torch.save(growing.total, folder / MODEL))


FAMILY = Toy()

if __name__ == "__main__":
    sys.exit(runs.main(FAMILY))
