"""The metrics against formulas written out."""

import numpy as np
import pytest

from junkdna.families import metrics

PREDICTED, TRUE = np.array([1, 1, 0, 1, 0, 0, 1, 0]), np.array([1, 0, 0, 1, 1, 0, 1, 1])
TP, FP, FN, TN = 3, 1, 2, 2


def test_classification_by_hand():
    found = metrics.compute(("accuracy", "f1"), PREDICTED, TRUE)
    assert found == {"accuracy": 5 / 8, "f1": pytest.approx(2 * TP / (2 * TP + FP + FN))}
    expected = (TP * TN - FP * FN) / np.sqrt((TP + FP) * (TP + FN) * (TN + FP) * (TN + FN))
    assert metrics.compute(("matthews_correlation",), PREDICTED, TRUE)["matthews_correlation"] == pytest.approx(
        expected
    )


def test_correlations_by_hand():
    x, y = np.array([0.1, 0.4, 0.2, 0.9]), np.array([1.0, 2.0, 5.0, 9.0])
    found = metrics.compute(("pearson", "spearmanr"), x, y)
    assert found["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    assert found["spearmanr"] == pytest.approx(np.corrcoef([0, 2, 1, 3], [0, 1, 2, 3])[0, 1], abs=1e-6)


def test_a_collapsed_model_scores_zero_not_nan():
    constant = np.zeros(8)
    assert metrics.scores(("pearson", "spearmanr"), constant, np.arange(8.0)) == {"pearson": 0.0, "spearmanr": 0.0}
    assert metrics.scores(("matthews_correlation", "f1"), constant, TRUE) == {"matthews_correlation": 0.0, "f1": 0.0}


def test_nothing_is_written_to_a_shared_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metric = metrics.metric_class()(config_name="accuracy", keep_in_memory=True, cache_dir=str(tmp_path / "cache"))
    assert metric.compute(predictions=PREDICTED, references=TRUE) == {"accuracy": 5 / 8}
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
