"""The way that a careful user does the work today: the libraries' own training, pruning, optimizer and attention.

Hugging Face's Trainer with fused AdamW, torch's fused attention and dynamic padding; autocast if asked; torch's
``prune`` reparametrises every pruned matrix, so that its mask holds by itself. One process for every run.

    python -m benchmark.modern FILE FLAGS...        one run; its moments and metrics are written to FILE
    python -m benchmark.modern --serve FLAGS...     answers requests, see ``contender``
"""

from __future__ import annotations

import itertools
import tempfile
import time

import numpy as np
import torch
import transformers
from torch.nn.utils import prune
from transformers import AutoModelForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from benchmark.padded import Padded, main
from junkdna.sparsity import masks
from junkdna.sparsity.scope import find_scope
from junkdna.training import recipe
from junkdna.training.tokens import Features


class InOrder(Trainer):
    """Sees the examples in the order in which every other way sees them."""

    def _get_train_sampler(self, *_):
        cell, count, epochs = self.cell, len(self.train_dataset), itertools.count()

        class Order:
            def __iter__(self):
                return iter(recipe.order(cell.seed, next(epochs), count).tolist())

            def __len__(self):
                return count

        return Order()


class Rows(torch.utils.data.Dataset):
    """Examples that are made into lists of numbers one at a time, as a dataset on the disk is read."""

    def __init__(self, run: Padded, features: Features):
        self.run, self.features = run, features

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, number: int) -> dict:
        (row,) = self.run.rows(self.features, [number])
        return row | {"labels": self.features.labels[number]}


class FirstStep(TrainerCallback):
    """Notes when the first step begins."""

    def __init__(self, moments: list):
        self.moments = moments

    def on_step_begin(self, args, state, control, **more):
        if not self.moments:
            self.moments.append(["first step", time.time()])


class Modern(Padded):
    """One run: a model with reparametrised matrices, and its Trainer."""

    def __init__(self, cell, serving: bool = False):
        super().__init__(cell)
        transformers.logging.set_verbosity_error()
        self.folder = tempfile.TemporaryDirectory()  # which the Trainer wants, and nothing is written to
        self.model = AutoModelForSequenceClassification.from_pretrained(
            cell.model_name_or_path, trust_remote_code=False, dtype=torch.float32
        )
        self.scope = find_scope(self.model, embeddings=not cell.noembed).matrices
        self.prune(serving)
        self.trainer = self.make_trainer()
        if serving:
            self.trainer.create_optimizer_and_scheduler(self.plan.steps)
            self.model = self.trainer.accelerator.prepare_model(self.model)

    def prune(self, serving: bool) -> None:
        """Remove weights; ``serving``: by the project's masks, so that steps that are compared differ in none."""
        modules = [(self.model.get_submodule(name.rpartition(".")[0]), "weight") for name in self.scope]
        if not serving:
            prune.global_unstructured(modules, prune.L1Unstructured, amount=float(self.cell.sparsity))
            return
        made = masks.make_masks(self.scope, self.cell.pattern)
        for name, (module, _) in zip(self.scope, modules):
            prune.custom_from_mask(module, "weight", made[name])

    def make_trainer(self) -> Trainer:
        cell, bf16 = self.cell, self.cell.mixed_precision == "bf16"
        arguments = TrainingArguments(
            output_dir=self.folder.name, bf16=bf16, use_cpu=self.device.type == "cpu", optim="adamw_torch_fused",
            learning_rate=cell.learning_rate, weight_decay=0.0, max_grad_norm=0.0, warmup_steps=self.plan.warmup_steps,
            per_device_train_batch_size=cell.per_device_train_batch_size, num_train_epochs=cell.num_train_epochs,
            per_device_eval_batch_size=cell.per_device_eval_batch_size, max_steps=cell.max_train_steps or -1,
            eval_strategy="epoch", save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
            seed=cell.seed,
        )  # fmt: skip
        InOrder.cell = cell
        return InOrder(
            self.model, arguments, self.pad, Rows(self, self.features), Rows(self, self.validation),
            compute_metrics=lambda found: self.scores(np.asarray(found.predictions)),
        )  # fmt: skip

    def train_step(self, examples: np.ndarray) -> torch.Tensor:
        """What the Trainer does in a step, and no more: it has no public method that takes one by itself."""
        loss = self.model(**self.batch(self.features, examples)).loss
        self.trainer.accelerator.backward(loss)
        self.trainer.optimizer.step()
        self.trainer.lr_scheduler.step()
        self.model.zero_grad()
        return loss.detach()

    def mask_tensors(self):
        """The masks, and the products of weights and masks that the modules compute with."""
        modules = [self.model.get_submodule(name.rpartition(".")[0]) for name in self.scope]
        return [tensor for module in modules for tensor in (module.weight_mask, module.weight)]

    def run(self, moments: list) -> dict[str, float]:
        self.trainer.add_callback(FirstStep(moments))
        self.trainer.train()
        last = [entry for entry in self.trainer.state.log_history if "eval_loss" in entry][-1]
        return {f"eval_{name}": last[f"eval_{name}"] for name in self.task.metrics}


if __name__ == "__main__":
    main(Modern)
