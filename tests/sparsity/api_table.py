"""The combinations of test_api_table: every optimizer, kind, dtype and loop, on a model of a few hundred weights.

python api_table.py FILE     as one of two processes (RANK and WORLD_SIZE say which): writes the outcomes to FILE
"""

from __future__ import annotations

import copy
import gc
import hashlib
import itertools
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
from torch import nn

import junkdna as jd
from junkdna.sparsity.hold import check_same_on_all

STEPS, BATCHES = 20, 2
"""Optimizer steps, and batches accumulated in each. The state is saved and loaded in the middle."""

KINDS = ("sparse", "frozen")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
INTEGERS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


class Net(nn.Module):
    """Returns its loss as the Trainer wants it."""

    def __init__(self):
        super().__init__()
        self.table, self.first, self.last = nn.Embedding(11, 12), nn.Linear(12, 17), nn.Linear(17, 5)
        self.norm = nn.LayerNorm(17)

    def forward(self, x, labels):
        hidden = torch.tanh(self.norm(self.first(self.table(x).mean(1))))
        return {"loss": nn.functional.cross_entropy(self.last(hidden).float(), labels)}


def new_model(dtype):
    torch.manual_seed(3)
    return Net().to(dtype)


def batches(rank=0):
    """Batches for all steps; different ones for every process."""
    generator = torch.Generator().manual_seed(10 + rank)
    while True:
        x = torch.randint(0, 11, (4, 6), generator=generator)
        yield {"x": x, "labels": torch.randint(0, 5, (4,), generator=generator)}


def eps(dtype):
    return 1e-3 if dtype == torch.float16 else 1e-8  # 1e-8 is 0 in fp16


def matrices(model):
    return [parameter for parameter in model.parameters() if parameter.dim() == 2]


def muon(model, dtype):
    others = [parameter for parameter in model.parameters() if parameter.dim() != 2 and parameter.requires_grad]
    found = [torch.optim.Muon(matrices(model), lr=0.02, weight_decay=0.1, momentum=0.9)]
    return found + ([torch.optim.AdamW(others, lr=1e-2, eps=eps(dtype))] if others else [])


OPTIMIZERS = {
    "SGD": lambda model, dtype: [torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)],
    "Adam": lambda model, dtype: [torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=0.1, eps=eps(dtype))],
    "AdamW": lambda model, dtype: [torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1, eps=eps(dtype))],
    "Adafactor": lambda model, dtype: [torch.optim.Adafactor(model.parameters(), lr=0.1, weight_decay=0.1)],
    "Muon": muon,
    "LBFGS": lambda model, dtype: [
        torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=1, line_search_fn="strong_wolfe")
    ],
}


class Case:
    """One combination: the masks, the weights at the start, and what must be true at the end."""

    def __init__(self, optimizer: str, kind: str, dtype: str):
        self.names = optimizer, kind, dtype
        self.optimizer, self.kind, self.dtype = optimizer, kind, DTYPES[dtype]
        model = new_model(self.dtype)
        self.masks = jd.make_masks(jd.find_scope(model), jd.Unstructured(0.5))
        self.start = {name: model.get_parameter(name).detach().clone() for name in self.masks}

    def new_optimizers(self, model):
        return OPTIMIZERS[self.optimizer](model, self.dtype)

    def check(self, weights) -> str:
        """Compare every held weight bit by bit; many of the others must have moved. Returns a digest of the weights."""
        moved = total = 0
        for name, mask in self.masks.items():
            found = weights[name].detach()
            expected = self.start[name] if self.kind == "frozen" else torch.zeros_like(found)
            bits = INTEGERS[self.dtype]
            wrong = int((found.view(bits) != expected.view(bits))[~mask].sum())
            assert not wrong, f"{wrong} held weights of {name} are not exact"
            moved += int((found != self.start[name])[mask].sum())
            total += int(mask.sum())
        assert moved > 0.25 * total, f"only {moved} of {total} kept weights moved"
        return hashlib.sha256(
            b"".join(weights[name].detach().float().numpy().tobytes() for name in self.masks)
        ).hexdigest()


def train(model, optimizers, draw, steps, backward=torch.Tensor.backward):
    """Plain steps, with a closure where the optimizer wants one."""
    for _ in range(steps):
        step = [next(draw) for _ in range(BATCHES)]

        def gradients(step=step):
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss = torch.zeros(())
            for batch in step:
                part = model(**batch)["loss"] / BATCHES
                backward(part)
                loss += part.detach()
            if torch.distributed.is_initialized():
                torch.distributed.all_reduce(loss)  # the line search must go the same way everywhere
            return loss

        if isinstance(getattr(optimizers[0], "optimizer", optimizers[0]), torch.optim.LBFGS):
            optimizers[0].step(gradients)
            continue
        gradients()
        for optimizer in optimizers:
            optimizer.step()


# --- the loops -------------------------------------------------------------------------------------------------------


def plain(case: Case, held: bool = True, wrap=lambda model: model, rank: int = 0):
    """A loop of one's own; ``wrap`` makes it one of several processes. Saved and loaded in the middle."""
    saved, draw = None, batches(rank)
    for _ in range(2):
        model = new_model(case.dtype)
        holder = jd.hold(model, case.masks, case.kind) if held else None
        wrapped = wrap(model)
        optimizers = case.new_optimizers(model)
        if saved:
            model.load_state_dict(saved["model"])
            for optimizer, state in zip(optimizers, saved["optimizers"]):
                optimizer.load_state_dict(state)
            if held:
                holder.load_state_dict(saved["held"])
        if held:
            holder.attach(*optimizers)
        train(wrapped, optimizers, draw, STEPS // 2)
        if held:
            holder.verify()
        saved = copy.deepcopy(
            {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "held": holder.state_dict() if held else None,
            }
        )
    return {name: whole(parameter) for name, parameter in model.named_parameters()}


def whole(parameter):
    return parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter


def trainer(case: Case, held: bool = True):
    """The Hugging Face Trainer, stopped after half of the steps and resumed from its checkpoint by another one."""
    import transformers

    draw = batches()
    rows = [{name: value[i] for name, value in next(draw).items()} for _ in range(STEPS * BATCHES) for i in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        for steps in (STEPS // 2, STEPS):
            model = new_model(case.dtype)
            if case.optimizer == "Muon":  # the only optimizer here, and it takes matrices alone
                for parameter in model.parameters():
                    parameter.requires_grad = parameter.dim() == 2
            arguments = transformers.TrainingArguments(
                folder, use_cpu=True, max_steps=steps, save_steps=STEPS // 2, per_device_train_batch_size=4,
                gradient_accumulation_steps=BATCHES, report_to=[], disable_tqdm=True, logging_strategy="no",
                lr_scheduler_type="constant", save_strategy="steps", remove_unused_columns=False,
            )  # fmt: skip
            (optimizer,) = case.new_optimizers(model)
            made = transformers.Trainer(
                model, arguments, train_dataset=rows, optimizers=(optimizer, None),
                callbacks=[jd.HoldMasks(case.masks, case.kind)] if held else [],
            )  # fmt: skip
            made.train(resume_from_checkpoint=steps == STEPS)
            assert made.state.global_step == steps
    return dict(model.named_parameters())


def accelerated(case: Case, held: bool = True, rank: int = 0):
    """accelerate, with its own accumulation, saved and loaded by save_state and load_state."""
    from accelerate import Accelerator

    draw, folder = batches(rank), Path(os.environ["TABLE_FOLDER"]) / "-".join(map(str, (held, *case.names)))
    for part in range(2):
        model = new_model(case.dtype)
        holder = jd.hold(model, case.masks, case.kind) if held else None
        own = case.optimizer == "LBFGS"  # a closure accumulates by itself
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=1 if own else BATCHES)
        assert accelerator.num_processes == int(os.environ["WORLD_SIZE"])
        wrapped, *optimizers = accelerator.prepare(model, *case.new_optimizers(model))
        if part:
            accelerator.load_state(folder)
        if held:
            holder.attach(*optimizers)
        if own:
            train(wrapped, optimizers, draw, STEPS // 2, accelerator.backward)
        for _ in range(0 if own else STEPS // 2 * BATCHES):
            with accelerator.accumulate(wrapped):
                accelerator.backward(wrapped(**next(draw))["loss"])
                if held and accelerator.sync_gradients:
                    holder.before_step()
                accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
        if held:
            holder.verify()
        if not part:
            accelerator.save_state(folder)
            accelerator.wait_for_everyone()
        accelerator.free_memory()
    return dict(model.named_parameters())


def ddp(case: Case, held: bool = True, rank: int = 0):
    return plain(case, held, nn.parallel.DistributedDataParallel, rank)


def fsdp2(case: Case, held: bool = True, rank: int = 0):
    from torch.distributed.fsdp import fully_shard

    def shard(model):
        fully_shard(model.first)
        return fully_shard(model)

    return plain(case, held, shard, rank)


# --- what else takes two processes -----------------------------------------------------------------------------------


def told(action) -> str:
    """Return what the library says to it, or "nothing"."""
    try:
        action()
        return "nothing"
    except (jd.UserError, jd.MaskBroken) as error:
        return f"{type(error).__name__}: {error}"


def divided_first(kind: str) -> str:
    """Hold after ``fully_shard``, in the optimizer that moves most: every process has a part of the mask."""
    from torch.distributed.fsdp import fully_shard

    case = Case("Muon", kind, "fp32")
    model = fully_shard(new_model(case.dtype))
    holder = jd.hold(model, case.masks, kind)
    optimizers = case.new_optimizers(model)
    holder.attach(*optimizers)
    train(model, optimizers, batches(), STEPS)
    holder.verify()
    case.check({name: whole(parameter) for name, parameter in model.named_parameters()})
    with torch.no_grad():
        model.first.weight.to_local()[:] += 1  # some weight of each process must be noticed
    return told(holder.verify)


def evaluated_between(kind: str) -> str:
    """An evaluation leaves the weights of FSDP2 gathered, in copies that are thrown away: masks are not theirs."""
    from torch.distributed.fsdp import fully_shard

    case = Case("AdamW", kind, "fp32")
    model = fully_shard(new_model(case.dtype))
    optimizers, draw = case.new_optimizers(model), batches()

    def evaluate():
        with torch.no_grad():
            model(**next(draw))

    evaluate()
    holder = jd.hold(model, case.masks, kind)
    evaluate()
    holder.attach(*optimizers)
    for _ in range(3):
        train(model, optimizers, draw, STEPS)
        evaluate()
        gathered = dict(model.named_parameters())
        assert not any(hasattr(gathered[name], "device_mesh") for name in case.masks), "nothing was gathered"
        holder.verify()
    train(model, optimizers, draw, 1)
    case.check({name: whole(parameter) for name, parameter in model.named_parameters()})
    return "held"


def flattened(keep_names: bool, kind: str = "sparse") -> list[str]:
    """FSDP1, before and after: refused by ``hold`` and by ``attach``."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    case = Case("AdamW", kind, "fp32")
    model = new_model(case.dtype)
    holder = jd.hold(model, case.masks, kind)
    flat = FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=keep_names)
    optimizers = case.new_optimizers(flat)
    return [told(lambda: jd.hold(flat, case.masks, kind)), told(lambda: holder.attach(*optimizers))]


def others(rank: int) -> dict[str, object]:
    def wrapped():
        return nn.parallel.DistributedDataParallel(new_model(torch.float32))

    masks = Case("AdamW", "sparse", "fp32").masks
    other = {name: mask if rank == 0 else ~mask for name, mask in masks.items()}
    return {
        "divided first": [divided_first(kind) for kind in KINDS],
        "evaluated between": [evaluated_between(kind) for kind in KINDS],
        "flattened": [flattened(keep_names) for keep_names in (False, True)],
        "same masks": [told(lambda: check_same_on_all(masks)), told(lambda: jd.hold(wrapped(), masks, "sparse"))],
        "other masks": [told(lambda: check_same_on_all(other)), told(lambda: jd.hold(wrapped(), other, "sparse"))],
    }


# --- all of them -----------------------------------------------------------------------------------------------------


def outcome(loop, case: Case, **more) -> str:
    """Return "held" and a digest of the weights, or why not.

    "refused: ..." where the library says no, "impossible: ..." where the same fails without masks.
    """
    try:
        return f"held {case.check(loop(case, **more))}"
    except jd.UserError as error:
        return f"refused: {error}"
    except Exception as error:
        if isinstance(error, (AssertionError, jd.MaskBroken)):
            return f"BROKEN: {error}"
        told = traceback.format_exc()
        try:
            loop(case, held=False, **more)
        except Exception as again:
            if type(again) is type(error):
                return f"impossible: {type(error).__name__}: {error}"
        return f"BROKEN: {told}"


def outcomes(loop, **more) -> dict[str, str]:
    found = {}
    outcome(loop, Case("SGD", "sparse", "fp32"), **more)  # imports what the loop needs
    gc.freeze()  # accelerate collects garbage each time, which with torch loaded takes longer than the steps
    for names in itertools.product(OPTIMIZERS, KINDS, DTYPES):
        started = time.perf_counter()
        found["/".join((loop.__name__, *names))] = outcome(loop, Case(*names), **more)
        if os.environ.get("TABLE_TIMES"):
            print(loop.__name__, *names, round(time.perf_counter() - started, 2), file=sys.stderr)
    return found


def main() -> None:
    """What needs two processes."""
    rank = int(os.environ["RANK"])
    torch.distributed.init_process_group("gloo")
    found = {}
    for loop in (accelerated, ddp, fsdp2):
        found |= outcomes(loop, rank=rank)
    found["others"] = others(rank)
    mine = Path(sys.argv[1])
    mine.with_suffix(".partial").write_text(json.dumps(found))
    mine.with_suffix(".partial").rename(mine)
    while len(list(mine.parent.glob("[01].json"))) < 2:
        time.sleep(0.05)  # to leave earlier would end the other's connections
    os._exit(0)  # the threads of gloo sometimes abort a process that ends in the usual way


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
