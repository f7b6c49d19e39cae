"""Metrics of what was predicted of every example, for many resamples at once: each from sums over the examples.

A metric that is not made of sums, such as a rank correlation, is not here, and has no interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """``counts(predictions, labels)``, two float64 (n,), gives what each example adds, float64 (n, numbers); ``value``
    makes the metric, float64 (...), of sums of that (..., numbers).
    """

    counts: Callable[[np.ndarray, np.ndarray], np.ndarray]
    value: Callable[[np.ndarray], np.ndarray]


def _agreement(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.stack([predictions == labels, np.ones(len(labels))], axis=1).astype("float64")


def _accuracy(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def _pairs(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each example's cell of the table of predictions by labels."""
    classes, place = np.unique(np.concatenate([predictions, labels]), return_inverse=True)
    one = np.eye(len(classes))
    said, true = one[place[: len(labels)]], one[place[len(labels) :]]
    return (said[:, :, None] * true[:, None, :]).reshape(len(labels), -1)


def _matthews(sums: np.ndarray) -> np.ndarray:
    """Matthews' correlation of a table of counts; 0 if either side has one class only (Gorodkin 2004, R_K)."""
    classes = round(sums.shape[-1] ** 0.5)
    table = sums.reshape(*sums.shape[:-1], classes, classes)
    total, right = sums.sum(axis=-1), np.trace(table, axis1=-2, axis2=-1)
    said, true = table.sum(axis=-1), table.sum(axis=-2)
    spread = (total**2 - (said**2).sum(axis=-1)) * (total**2 - (true**2).sum(axis=-1))
    above = right * total - (said * true).sum(axis=-1)
    return np.divide(above, np.sqrt(spread), out=np.zeros_like(above), where=spread > 0)


def _hits(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Found, said and true of the class 1."""
    said, true = predictions == 1, labels == 1
    return np.stack([said & true, said, true], axis=1).astype("float64")


def _f1(sums: np.ndarray) -> np.ndarray:
    both = sums[..., 1] + sums[..., 2]
    return np.divide(2 * sums[..., 0], both, out=np.zeros_like(both), where=both > 0)


def _moments(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    x, y = predictions - predictions.mean(), labels - labels.mean()  # sums of squares far from 0 would lose digits
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def _pearson(sums: np.ndarray) -> np.ndarray:
    """Pearson's correlation; 0 if either side is constant."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    across, one, other = n * xy - x * y, n * xx - x * x, n * yy - y * y
    varied = (one > SMALLEST * n * xx) & (other > SMALLEST * n * yy)
    return np.divide(across, np.sqrt(np.where(varied, one * other, 1.0)), out=np.zeros_like(across), where=varied)


SMALLEST = 1e-12
"""A variance is 0 up to this share of the mean square."""

SCORES = {
    "accuracy": Score(_agreement, _accuracy),
    "matthews_correlation": Score(_pairs, _matthews),
    "f1": Score(_hits, _f1),
    "pearson": Score(_moments, _pearson),
}
"""By the names that runs give these metrics."""
