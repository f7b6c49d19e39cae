"""Masks held while the Hugging Face Trainer trains. Importing this file imports transformers."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from junkdna.errors import Fault, UserError
from junkdna.sparsity.hold import Held, MaskBroken, check_same_on_all, hold
from junkdna.sparsity.locate import unwrapped
from junkdna.sparsity.masks import fingerprint
from junkdna.sparsity.optimizers import innermost


class HoldMasks(TrainerCallback):
    """``Trainer(..., callbacks=[HoldMasks(masks, "sparse")])``: masks are held in every step of that Trainer.

    The weights are zeroed, or their values frozen, when the Trainer is made. Held weights are verified before every
    evaluation and save, and at the end. Goes on after ``resume_from_checkpoint``: each checkpoint has a file with the
    frozen values, as large as these. It is read where the weights are not those of the given model, from a checkpoint
    in the Trainer's ``output_dir``; for one elsewhere the model must be given as it was at first. ``held`` is the
    ``Held`` at work, once there is one. Raises what ``hold``, ``Held.attach`` and ``Held.verify`` raise, and UserError
    for DeepSpeed and FSDP1, and if the processes were given different masks.
    """

    def __init__(self, masks: Mapping[str, Tensor], kind: str = "sparse"):
        self.masks, self.kind = dict(masks), kind
        self.held: Held | None = None
        self._verified: int | None = None

    def on_init_end(self, args, state, control, model: nn.Module | None = None, **others) -> None:
        """Hold the masks before a checkpoint is loaded, so that frozen values are those of the given model."""
        if model is not None and not args.fsdp:  # FSDP may give most processes a model without values up to here
            self._hold(model)

    def on_train_begin(self, args, state, control, model: nn.Module, optimizer, **others) -> None:
        """Attach to the torch optimizer inside the wrappers of accelerate."""
        if args.deepspeed:
            reason = "masks cannot be held in its optimizer, which trains flattened copies; use DDP or FSDP2"
            raise UserError(Fault("deepspeed", "", reason))
        if isinstance(innermost(optimizer), torch.optim.LBFGS):
            raise UserError(Fault("optimizer", "LBFGS", "needs a closure, which the Trainer does not give it"))
        check_same_on_all(self.masks)
        if self.held is None or unwrapped(self.held.model) is not unwrapped(model):
            if self.kind == "free" and state.global_step:  # a resumed run: what has grown again must not be lost
                return
            self._hold(model)
        try:
            self.held.attach(optimizer)
        except MaskBroken:
            if self.kind != "frozen" or not state.global_step or not self._saved(args, state).is_file():
                raise
            self.held.load_state_dict(_read(self._saved(args, state)))
            self.held.attach(optimizer)

    def on_step_end(self, args, state, control, **others) -> None:
        if control.should_save or control.should_evaluate:
            self._verify(state)

    def on_epoch_end(self, args, state, control, **others) -> None:
        if control.should_save or control.should_evaluate:
            self._verify(state)

    def on_evaluate(self, args, state, control, **others) -> None:
        self._verify(state)

    def on_save(self, args, state, control, **others) -> None:
        """Verify, and save frozen values: those of a fresh head are drawn anew in another process."""
        self._verify(state)
        if self.kind != "frozen" or self.held is None or not args.should_save:
            return
        saved = self._saved(args, state)
        if saved.parent.is_dir():
            partial = saved.with_suffix(".partial")
            torch.save(self.held.state_dict(), partial)
            partial.replace(saved)

    def on_train_end(self, args, state, control, **others) -> None:
        """Verify once more: the best checkpoint may have been loaded. Then let go of the optimizer."""
        if self.held is not None:
            self.held.verify()
            self.held.detach()

    def _hold(self, model: nn.Module) -> None:
        self.held, self._verified = hold(unwrapped(model), self.masks, self.kind), None

    def _verify(self, state) -> None:
        """Verify, unless it was done after the same step."""
        if self.held is not None and self._verified != state.global_step:
            self.held.verify()
            self._verified = state.global_step

    def _saved(self, args, state) -> Path:
        """Where the frozen values of a checkpoint are; other masks beside these have a file of their own."""
        name = f"held-{fingerprint(self.masks)[:12]}.pt"
        return Path(args.output_dir) / f"checkpoint-{state.global_step}" / name


def _read(path: Path) -> dict:
    """The saved state of a Held; raises UserError if it is damaged."""
    try:
        return torch.load(path, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0] or "it is empty"
        raise UserError(Fault("resume_from_checkpoint", path, f"cannot be read: {reason}")) from None
