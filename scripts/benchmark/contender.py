"""What a process with a model in training is asked to do, whichever way it trains."""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmark import measure
from junkdna.families import metrics


class Contender:
    """Answers requests. A way of training brings the attributes and the three methods below.

    ``model``; ``device``; ``features`` (of the training examples); ``scope`` (name -> matrix that may be pruned).
    """

    peak: measure.Peak

    def train_step(self, examples: np.ndarray) -> torch.Tensor:
        """Take one optimizer step on the examples of these numbers; return its mean loss."""
        raise NotImplementedError

    def evaluate_all(self) -> tuple[dict[str, float], np.ndarray]:
        """Return the validation metrics and the outputs (examples, labels) they were computed from."""
        raise NotImplementedError

    def mask_tensors(self):
        """Return what holds the mask while training."""
        raise NotImplementedError

    # --- requests ----------------------------------------------------------------------------------------------------

    def facts(self) -> dict:
        return {
            "examples": len(self.features),
            "device": self.device.type,
            "device_name": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None,
            "threads": torch.get_num_threads(),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "masked_weights": sum(p.numel() for p in self.scope.values()),
            "attention": self.model.config._attn_implementation,
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
        }

    def taken(self) -> str:
        """How steps were taken."""
        return "operation by operation"

    def sizes(self, batches: list[list[int]]) -> list[dict]:
        """Of each batch: real tokens, tokens when padded to the longest example, floating-point operations of a
        step.
        """
        found = []
        for batch in batches:
            lengths = [int(n) for n in self.features.lengths[batch]]
            padded = max(lengths) * len(lengths)
            found.append({"tokens": sum(lengths), "padded": padded, "flops": measure.step_flops(self.model, lengths)})
        return found

    def dropout(self, on: bool) -> None:
        """Switch all dropout off, or on again as the model's configuration says."""
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                if not hasattr(module, "configured"):
                    module.configured = module.p
                module.p = module.configured if on else 0.0

    def steps(self, batches: list[list[int]]) -> dict:
        """Take a step on each batch; return the seconds that all took, the processor's seconds, and every loss."""
        self.model.train()
        measure.synchronise(self.device)
        started, cpu = time.perf_counter(), time.process_time()
        losses = [self.train_step(np.array(batch)) for batch in batches]
        measure.synchronise(self.device)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        return {"seconds": seconds, "cpu": cpu, "losses": [float(loss) for loss in losses]}

    def evaluate(self) -> dict:
        """Validation metrics, the outputs behind them, and the seconds that it took."""
        zeros = np.zeros(2, dtype=int)
        metrics.scores(("accuracy", "matthews_correlation"), zeros, zeros)  # their libraries load at first use
        started = time.perf_counter()
        found, outputs = self.evaluate_all()
        return {"metrics": found, "outputs": outputs.tolist(), "seconds": time.perf_counter() - started}

    def reset_peak(self) -> None:
        self.peak = measure.Peak(self.device)

    def memory(self) -> dict:
        """Bytes at most since ``reset_peak``, and those that hold the mask."""
        mask = measure.held(self.mask_tensors(), known=list(self.model.parameters()))
        return {"peak": self.peak.bytes(), "mask": mask}

    def matmul(self, size: int, bf16: bool) -> float:
        """Floating-point operations per second of a matrix product with this process's settings."""
        return measure.matmul_rate(self.device, torch.bfloat16 if bf16 else torch.float32, size)
