"""BLEU and chrF++ from what the sentences count, for many resamples at once, exactly as sacreBLEU has them."""

from __future__ import annotations

import numpy as np

BLEU_COUNTS = 10
"""Numbers that a sentence counts for BLEU: n-grams that agree (n = 1 to 4), n-grams of the output, both lengths."""

BETA = 2
"""How much more recall weighs than precision in chrF."""


def bleu(sums: np.ndarray) -> np.ndarray:
    """Return BLEU (0 to 100), float64 (...), of sums over sentences (..., 10), with sacreBLEU's smoothing "exp".

    The last axis is [n-grams of 1 to 4 words that agree, n-grams of the output, length of the output, length of the
    reference]. Sums, not means: the smoothing of an order without agreement depends on how many n-grams there are.
    """
    sums = np.asarray(sums, "float64")
    if sums.shape[-1] != BLEU_COUNTS:
        raise ValueError(f"BLEU needs {BLEU_COUNTS} numbers a sentence, and these are {sums.shape[-1]}")
    agree, total, length, wanted = sums[..., :4], sums[..., 4:8], sums[..., 8], sums[..., 9]
    lacking = agree == 0
    halvings = np.cumsum(lacking, axis=-1)
    scored = (total > 0).all(axis=-1) & ~lacking.all(axis=-1)  # all others are 0
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(lacking, 0.5**halvings, agree) / total
        brevity = np.exp(np.minimum(0, 1 - wanted / length))
        return np.where(scored, 100 * brevity * np.exp(np.log(precision).mean(axis=-1)), 0.0)


def chrf(sums: np.ndarray) -> np.ndarray:
    """Return chrF (0 to 100), float64 (...), of sums over sentences (..., 3 x orders): chrF++ with 8 orders.

    The last axis is [n-grams of the output, of the reference, in both] for each order. Orders that either side lacks
    do not count.
    """
    sums = np.asarray(sums, "float64")
    if not sums.shape[-1] or sums.shape[-1] % 3:
        raise ValueError(f"chrF needs three numbers for each order, and these are {sums.shape[-1]}")
    output, reference, both = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
    counts = (output > 0) & (reference > 0)
    orders = np.maximum(counts.sum(axis=-1), 1)
    precision = np.divide(both, output, out=np.zeros_like(both), where=counts).sum(axis=-1) / orders
    recall = np.divide(both, reference, out=np.zeros_like(both), where=counts).sum(axis=-1) / orders
    weighted = BETA**2 * precision + recall
    return np.divide(
        100 * (1 + BETA**2) * precision * recall, weighted, out=np.zeros_like(weighted), where=weighted > 0
    )


SCORES = {"bleu": bleu, "chrf": chrf}
"""By the names that runs give these metrics and their statistics."""
