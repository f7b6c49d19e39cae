"""The one table of metrics, computed locally: no download, and no file that parallel runs could share.

The training loop calls ``scores``. ``metric_class`` offers the same table to users of ``evaluate``, which otherwise
fetches the script of its GLUE metric from the Hub at every start. Nothing heavier than numpy is loaded until a metric
is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Metric:
    """One metric: how it is computed, which direction is better, and what a model that knows nothing reaches.

    ``compute(predictions, references)`` gets two 1-d arrays of equal length: class indices (int64) if ``kind`` is
    "int64", or values (float64) if it is "float32". Values are first rounded to float32, since that is what a model
    puts out. ``better`` is "higher" or "lower". ``chance`` is a constant, a function of the references, or None where
    it is unknown.
    """

    name: str
    compute: Callable[[np.ndarray, np.ndarray], float]
    better: str = "higher"
    chance: Callable[[np.ndarray], float] | float | None = None
    kind: str = "int64"

    def __call__(self, predictions, references) -> float:
        """Return the metric of 1-d predictions against references.

        Raises ValueError if a metric of class indices gets numbers that are not whole.
        """
        return float(self.compute(self._cast(predictions), self._cast(references)))

    def chance_on(self, references) -> float | None:
        """Return what chance reaches on these references, or None if that is unknown."""
        return float(self.chance(np.asarray(references))) if callable(self.chance) else self.chance

    def _cast(self, numbers) -> np.ndarray:
        numbers = np.asarray(numbers)
        cast = numbers.astype(self.kind)
        if self.kind == "float32":
            return cast.astype("float64")
        if not np.array_equal(cast, numbers):
            raise ValueError(f"{self.name} compares class indices, and these are not whole numbers: {numbers}")
        return cast


def scores(names: Iterable[str], predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Return the named metrics of 1-d predictions against references (class indices, or floats for correlations).

    A correlation with a constant is undefined. It is returned as 0, as for a model that has collapsed.
    """
    return {name: METRICS[name](predictions, references) for name in names}


@dataclass(frozen=True)
class Measure:
    """What a family measures of what a model writes: a name, "higher" or "lower" for what is better, what it says."""

    name: str
    better: str
    words: str


# --- the metrics -----------------------------------------------------------------------------------------------------


def _matthews(predictions, references) -> float:
    from sklearn.metrics import matthews_corrcoef

    return matthews_corrcoef(references, predictions)


def _accuracy(predictions, references) -> float:
    return np.mean(predictions == references)


def _majority(references) -> float:
    """Return the share of the most frequent label."""
    return np.unique(references, return_counts=True)[1].max() / len(references)


def _f1(predictions, references) -> float:
    from sklearn.metrics import f1_score

    return f1_score(references, predictions, zero_division=0.0)


def _correlation(which: str):
    def correlate(predictions, references) -> float:
        import scipy.stats

        if np.ptp(predictions) == 0 or np.ptp(references) == 0:
            return 0.0
        return getattr(scipy.stats, which)(predictions, references).statistic

    return correlate


METRICS = {
    metric.name: metric
    for metric in (
        Metric("matthews_correlation", _matthews, chance=0.0),
        Metric("accuracy", _accuracy, chance=_majority),
        Metric("f1", _f1),
        Metric("pearson", _correlation("pearsonr"), chance=0.0, kind="float32"),
        Metric("spearmanr", _correlation("spearmanr"), chance=0.0, kind="float32"),
    )
}


# --- for users of evaluate -------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def metric_class():
    """Return the table as a subclass of ``evaluate.Metric``; importing ``evaluate`` takes seconds.

    ``metric_class()(config_name="accuracy+f1")`` computes both; its ``compute`` returns a dict of floats.
    """
    import datasets
    import evaluate

    class Metrics(evaluate.Metric):
        """The metrics that ``config_name`` names, joined by "+"; ``compute`` returns a dict of floats."""

        def _info(self):
            kinds = {METRICS[name].kind for name in self.config_name.split("+")}
            value = datasets.Value("float32" if "float32" in kinds else "int64")
            return evaluate.MetricInfo(
                description="GLUE metrics, computed locally",
                citation="Wang et al. 2019, arXiv 1804.07461",
                features=datasets.Features({"predictions": value, "references": value}),
                inputs_description="",
            )

        def _download_and_prepare(self, dl_manager):
            """Nothing to download."""

        def _compute(self, predictions, references):
            return scores(self.config_name.split("+"), predictions, references)

    return Metrics
