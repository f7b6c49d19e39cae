"""GLUE's metrics, computed locally: no download, and no file that parallel runs could share.

``evaluate`` fetches the script of its GLUE metric from the Hub at every start; this is the same metric as a class.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def scores(names: tuple[str, ...], predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Return the named metrics of 1-d predictions against references (class indices, or floats for correlations).

    A correlation with a constant is undefined and returned as 0, as for a model that has collapsed.
    """
    return {name: float(METRICS[name](np.asarray(predictions), np.asarray(references))) for name in names}


def _matthews(predictions, references) -> float:
    from sklearn.metrics import matthews_corrcoef

    return matthews_corrcoef(references, predictions)


def _accuracy(predictions, references) -> float:
    return float(np.mean(predictions == references))


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
    "matthews_correlation": _matthews,
    "accuracy": _accuracy,
    "f1": _f1,
    "pearson": _correlation("pearsonr"),
    "spearmanr": _correlation("spearmanr"),
}


@lru_cache(maxsize=1)
def metric_class():
    """Return the ``evaluate.Metric``; ``evaluate`` takes seconds to import, so only when it is first needed."""
    import datasets
    import evaluate

    class Glue(evaluate.Metric):
        """Metrics of one task, named by ``config_name`` as 'accuracy+f1'; ``compute`` returns a dict of floats."""

        def _info(self):
            kind = "float32" if "pearson" in self.config_name else "int64"
            features = {"predictions": datasets.Value(kind), "references": datasets.Value(kind)}
            return evaluate.MetricInfo(
                description="GLUE metrics, computed locally",
                citation="Wang et al. 2019, arXiv 1804.07461",
                features=datasets.Features(features),
                inputs_description="",
            )

        def _download_and_prepare(self, dl_manager):
            """Nothing to download."""

        def _compute(self, predictions, references):
            return scores(tuple(self.config_name.split("+")), predictions, references)

    return Glue


def compute(names: tuple[str, ...], predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Return the named metrics through the ``evaluate.Metric``, held in memory."""
    metric = metric_class()(config_name="+".join(names), keep_in_memory=True)
    return metric.compute(predictions=predictions, references=references)
