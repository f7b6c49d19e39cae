"""Predictions and metrics of a model on whole splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from junkdna.errors import Fault, UserError
from junkdna.training.tokens import Features, parts

LabelOrder = tuple[int, ...] | None
"""The model's index of each of the task's labels; None where the two agree."""


def collator(tokenizer, to: Callable[[int], int] = int) -> Callable[[list[dict]], dict]:
    """Return a function that makes padded tensors of a list of inputs: as long as ``to`` makes of the longest's tokens,
    by default no longer.
    """
    from transformers import DataCollatorWithPadding

    def collate(inputs: list[dict]) -> dict:
        longest = max(len(example["input_ids"]) for example in inputs)
        pad = DataCollatorWithPadding(tokenizer, padding="max_length", max_length=int(to(longest)))
        return dict(pad([{name: ids.tolist() for name, ids in example.items()} for example in inputs]))

    return collate


def with_model_labels(features: Features, label_order: LabelOrder) -> Features:
    """Return the features with labels numbered as the model numbers them."""
    if label_order is None:
        return features
    return replace(features, labels=[label_order[label] for label in features.labels])


def evaluator(
    splits: dict[str, Features],
    judge: Callable[[str, np.ndarray], dict[str, float]],
    collate: Callable,
    batch_size: int,
    accelerator,
) -> Callable[[nn.Module], dict[str, float]]:
    """Return a function that evaluates a model on all splits: {"eval_accuracy": ..., "eval_mm_accuracy": ...}.

    ``judge`` gets a split's key and the model's outputs, float32 (sequences, numbers), and returns its metrics by name.
    """

    def evaluate(model: nn.Module) -> dict[str, float]:
        found = {}
        for key, features in splits.items():
            outputs = predict(model, features, collate, batch_size, accelerator)
            if not np.isfinite(outputs).all():
                reason = "training diverged, the model's outputs are not finite; a lower learning rate may help"
                raise UserError(Fault("learning_rate", "", reason))
            found |= {f"{key}_{name}": value for name, value in judge(key, outputs).items()}
        return found

    return evaluate


def as_labels(outputs: np.ndarray, label_order: LabelOrder = None) -> np.ndarray:
    """Turn (examples, labels) outputs into the task's class indices, or (examples, 1) into values."""
    if outputs.shape[1] == 1:
        return outputs[:, 0]
    best = outputs.argmax(axis=1)
    return best if label_order is None else np.argsort(label_order)[best]


@torch.inference_mode()
def predict(model: nn.Module, features: Features, collate: Callable, batch_size: int, accelerator) -> np.ndarray:
    """Return the model's outputs for every example, in order: float32 (examples, labels), the same on every process.

    Batches are made of inputs of similar length and dealt to the processes; every example counts once.
    """
    model.eval()
    lengths = features.lengths
    by_length = np.argsort(-lengths, kind="stable")
    mine = by_length[accelerator.process_index :: accelerator.num_processes]
    rows = []
    for start in range(0, len(mine), batch_size):
        for part in parts(collate, lengths, mine[start : start + batch_size]):
            batch = collate(features.rows(part))
            with accelerator.autocast():
                logits = model(**{name: value.to(accelerator.device) for name, value in batch.items()}).logits
            rows.append(logits.float().cpu().numpy())
    if accelerator.num_processes == 1:
        shares = [(mine, np.concatenate(rows))]
    else:
        from accelerate.utils import gather_object

        shares = gather_object([(mine, np.concatenate(rows) if rows else None)])
    outputs = np.concatenate([part for _, part in shares if part is not None])
    where = np.concatenate([indices for indices, _ in shares])
    ordered = np.empty_like(outputs)
    ordered[where] = outputs
    return ordered
