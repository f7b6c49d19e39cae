"""Both ways of making a mask, each in a process of its own, on the CPU: that is where the product makes its masks.

python -m benchmark.masking reference|product FOLDER     answers requests about the model in FOLDER
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
import transformers

from benchmark import measure
from benchmark.processes import private_output, serve
from junkdna.sparsity import masks
from junkdna.sparsity.census import choose_masks
from junkdna.sparsity.patterns import NM, Pattern, Unstructured, parse_nm, parse_sparsity
from junkdna.sparsity.scope import find_scope
from junkdna.training import device as hardware

CPU = torch.device("cpu")


class Masking:
    """A model's matrices (embeddings left out), and masks made of them."""

    def __init__(self, way: str, folder: str):
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.way = way
        self.model = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, trust_remote_code=False, dtype=torch.float32
        )
        for parameter in self.model.parameters():
            parameter.data = parameter.data.clone()  # the file's own pages would count as memory when first read
        self.scope = find_scope(self.model, embeddings=False).matrices
        if way == "product":
            hardware.keep_freed_memory()
        self._make({"small": torch.randn(64, 64)}, Unstructured(parse_sparsity("0.5")))  # libraries load at first use

    def _make(self, weights: dict[str, torch.Tensor], pattern: Pattern) -> dict[str, torch.Tensor]:
        if self.way == "product":
            return masks.make_masks(weights, pattern)
        from benchmark import reference

        if isinstance(pattern, NM):
            return reference.nm_masks(weights, pattern)
        return reference.unstructured_masks(weights, float(pattern.sparsity))

    # --- requests ----------------------------------------------------------------------------------------------------

    def make(self, pattern: str, save: str | None = None) -> dict:
        """Make the masks of ``pattern`` ("0.5" or "2:8"); write them to ``save`` if asked.

        Returns seconds, the bytes of the masks, and the most that was held beside them and what there was before.
        """
        hardware.give_back_freed_memory()
        peak = measure.Peak(CPU)
        started = time.perf_counter()
        made = self._make(self.scope, parse(pattern))
        seconds = time.perf_counter() - started
        size = sum(mask.nbytes for mask in made.values())
        extra = peak.extra()
        if save:
            np.savez(save, **{name: np.packbits(mask.numpy().astype(bool).reshape(-1)) for name, mask in made.items()})
        return {"seconds": seconds, "masks": size, "extra": None if extra is None else max(extra - size, 0)}

    def prune(self, pattern: str) -> float:
        """Seconds of all that the product does between loading and training: masks, counts, fingerprint."""
        started = time.perf_counter()
        choose_masks(find_scope(self.model, embeddings=False), parse(pattern), seed=41)
        return time.perf_counter() - started

    def compare(self, pattern: str, reference: str, product: str) -> dict:
        """Count where two saved masks differ, and how many of these differences the reference's rule does not explain.

        The reference drops the threshold weight and all its equals, and rounds the count down: the product may keep
        those and one weight more. In N:M groups the two may differ where magnitudes are equal.
        """
        wanted = parse(pattern)
        ours, theirs = np.load(product), np.load(reference)
        unexplained = different = 0
        values = []
        for name, weight in self.scope.items():
            magnitudes = weight.detach().abs().reshape(-1).numpy()
            a, b = (np.unpackbits(file[name], count=magnitudes.size).view(bool) for file in (theirs, ours))
            different += int((a != b).sum())
            if isinstance(wanted, NM):
                groups = np.flatnonzero((a != b).reshape(-1, wanted.of).any(axis=1))
                sets = [
                    np.sort(np.where(mask, magnitudes, 0).reshape(-1, wanted.of)[groups], axis=1) for mask in (a, b)
                ]
                unexplained += int((sets[0] != sets[1]).sum())
            else:
                unexplained += int((a & ~b).sum())
                values.append(magnitudes[b & ~a])
        if not isinstance(wanted, NM):
            kept_more = np.concatenate(values)
            unexplained += max(int((kept_more != kept_more.max(initial=0)).sum()) - 1, 0)  # all but one: the threshold
        return {
            "weights": sum(w.numel() for w in self.scope.values()),
            "different": different,
            "unexplained": unexplained,
        }


def parse(pattern: str) -> Pattern:
    return parse_nm(pattern) if ":" in pattern else Unstructured(parse_sparsity(pattern))


if __name__ == "__main__":
    serve_to = private_output()
    serve(Masking(*sys.argv[1:]), serve_to)
