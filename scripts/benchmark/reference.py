"""The plain way to do the work, written out: what everything faster is compared with.

Attention as transformers writes it out, fp32, batches padded to their longest example, AdamW as torch makes it unless
told otherwise, every matrix multiplied by a float mask into a new tensor after every step, one process for every run.

    python -m benchmark.reference FILE FLAGS...        one run; its moments and metrics are written to FILE
    python -m benchmark.reference --serve FLAGS...     answers requests, see ``contender``
"""

from __future__ import annotations

import time

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup

from benchmark.padded import Padded, main
from junkdna.sparsity import masks
from junkdna.sparsity.patterns import NM
from junkdna.sparsity.scope import find_scope
from junkdna.training import recipe


@torch.no_grad()
def unstructured_masks(weights: dict[str, torch.Tensor], sparsity: float) -> dict[str, torch.Tensor]:
    """Float masks, 1 where the magnitude is above that of the last weight to be kept: it and its equals are lost."""
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    kept = int(len(magnitudes) * (1 - sparsity))
    threshold = torch.topk(magnitudes, kept, sorted=True).values[-1]
    return {name: (weight.abs() > threshold).float() for name, weight in weights.items()}


@torch.no_grad()
def nm_masks(weights: dict[str, torch.Tensor], pattern: NM) -> dict[str, torch.Tensor]:
    """Float masks, made group of columns by group of columns."""
    made = {}
    for name, weight in weights.items():
        magnitudes, mask = weight.abs(), torch.ones_like(weight)
        for column in range(0, weight.shape[1], pattern.of):
            group = magnitudes[:, column : column + pattern.of]
            lowest = torch.topk(group, pattern.of - pattern.keep, dim=1, largest=False).indices
            mask.scatter_(1, column + lowest, 0.0)
        made[name] = mask
    return made


class Reference(Padded):
    """One run: a model, its mask, its optimizer."""

    def __init__(self, cell, exact_masks: bool = False):
        """``exact_masks``: float copies of the project's masks, so that what is compared step by step differs in no
        weight.

        The plain rule loses the threshold's weight; in a small model that one weight shows in the losses.
        """
        super().__init__(cell)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            cell.model_name_or_path, trust_remote_code=False, attn_implementation="eager", dtype=torch.float32
        ).to(self.device)
        self.scope = find_scope(self.model, embeddings=not cell.noembed).matrices
        if exact_masks:
            made = masks.make_masks(self.scope, cell.pattern)
            self.masks = {name: mask.float().to(self.device) for name, mask in made.items()}
        else:
            self.masks = unstructured_masks(self.scope, float(cell.sparsity))
        self.apply_masks()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=cell.learning_rate, weight_decay=0.0)
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, self.plan.warmup_steps, self.plan.steps)

    def apply_masks(self) -> None:
        for name, weight in self.model.named_parameters():
            if name in self.masks:
                weight.data = weight.data * self.masks[name]

    def train_step(self, examples: np.ndarray) -> torch.Tensor:
        loss = self.model(**self.batch(self.features, examples)).loss
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.apply_masks()
        return loss.detach()

    def mask_tensors(self):
        return self.masks

    def run(self, moments: list) -> dict[str, float]:
        moments.append(["first step", time.time()])
        for epoch in range(self.plan.epochs):
            self.model.train()
            order = recipe.order(self.cell.seed, epoch, len(self.features))
            first = epoch * self.plan.steps_per_epoch
            for step in range(first, min(first + self.plan.steps_per_epoch, self.plan.steps)):
                start = (step - first) * self.plan.per_step
                self.train_step(order[start : start + self.plan.per_step])
            found, _ = self.evaluate_all()
        return found


if __name__ == "__main__":
    main(Reference)
