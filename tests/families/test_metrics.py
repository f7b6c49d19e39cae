"""The metrics against formulas written out, and the loop's function against the class for ``evaluate``."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from junkdna.families import metrics

PREDICTED, TRUE = np.array([1, 1, 0, 1, 0, 0, 1, 0]), np.array([1, 0, 0, 1, 1, 0, 1, 1])
TP, FP, FN, TN = 3, 1, 2, 2


def test_classification_by_hand():
    found = metrics.scores(("accuracy", "f1", "matthews_correlation"), PREDICTED, TRUE)
    matthews = (TP * TN - FP * FN) / np.sqrt((TP + FP) * (TP + FN) * (TN + FP) * (TN + FN))
    assert found == {
        "accuracy": 5 / 8,
        "f1": pytest.approx(2 * TP / (2 * TP + FP + FN)),
        "matthews_correlation": pytest.approx(matthews),
    }
    assert all(type(value) is float for value in found.values())


def test_correlations_by_hand():
    x, y = np.array([0.1, 0.4, 0.2, 0.9]), np.array([1.0, 2.0, 5.0, 9.0])
    found = metrics.scores(("pearson", "spearmanr"), x, y)
    assert found["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    assert found["spearmanr"] == pytest.approx(np.corrcoef([0, 2, 1, 3], [0, 1, 2, 3])[0, 1], abs=1e-6)


def test_a_collapsed_model_scores_zero_not_nan():
    constant = np.zeros(8)
    assert metrics.scores(("pearson", "spearmanr"), constant, np.arange(8.0)) == {"pearson": 0.0, "spearmanr": 0.0}
    assert metrics.scores(("matthews_correlation", "f1"), constant, TRUE) == {"matthews_correlation": 0.0, "f1": 0.0}


def test_class_indices_that_are_not_whole_are_refused():
    with pytest.raises(ValueError, match="accuracy compares class indices"):
        metrics.scores(("accuracy",), np.array([0.7, 0.2]), np.array([1, 0]))


def test_chance():
    chance = {name: metric.chance_on(TRUE) for name, metric in metrics.METRICS.items()}
    assert chance == {"accuracy": 5 / 8, "matthews_correlation": 0.0, "f1": None, "pearson": 0.0, "spearmanr": 0.0}
    assert {metric.better for metric in metrics.METRICS.values()} == {"higher"}
    assert all(name == metric.name for name, metric in metrics.METRICS.items())


def drawn(seed: int, kind: str, rows: int):
    """Predictions as the evaluator makes them, and references as a task has them."""
    draw = np.random.default_rng(seed)
    if kind == "values":
        return draw.normal(size=rows).astype(np.float32), draw.uniform(0, 5, rows).round(3)
    classes = 3 if kind == "three classes" else 2
    return draw.integers(0, classes, rows), draw.integers(0, classes, rows)


CASES = [
    (("pearson", "spearmanr"), "values"),
    (("spearmanr",), "values"),
    (("accuracy", "f1"), "two classes"),
    (("matthews_correlation",), "two classes"),
    (("accuracy", "matthews_correlation"), "three classes"),
]


@pytest.mark.parametrize("rows", [2, 37, 1500, 20_011])  # evaluate writes its inputs in pieces of 10,000
@pytest.mark.parametrize("names, kind", CASES)
def test_the_function_and_the_class_agree_to_the_bit(names, kind, rows):
    metric = metrics.metric_class()(config_name="+".join(names), keep_in_memory=True)
    for seed in range(3):
        predictions, references = drawn(seed, kind, rows)
        by_class = metric.compute(predictions=predictions, references=references)
        assert (
            metrics.scores(names, predictions, references) == by_class
        )  # equal floats are equal bits, but for 0 and NaN
        assert list(by_class) == list(names)


def test_values_are_rounded_to_float32_and_correlated_in_float64():
    """As ``evaluate`` hands them over, so that results recorded before the loop called the function are unchanged."""
    import scipy.stats

    predictions, references = drawn(0, "values", 37)
    rounded = references.astype(np.float32)
    assert np.any(rounded != references)
    found = metrics.scores(("pearson",), predictions, references)["pearson"]
    assert found == scipy.stats.pearsonr(predictions.astype(float), rounded.astype(float)).statistic
    assert found != scipy.stats.pearsonr(predictions, rounded).statistic


def test_nothing_is_written_to_a_shared_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metric = metrics.metric_class()(config_name="accuracy", keep_in_memory=True, cache_dir=str(tmp_path / "cache"))
    assert metric.compute(predictions=PREDICTED, references=TRUE) == {"accuracy": 5 / 8}
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_loading_the_table_loads_no_library_of_metrics():
    code = "import sys, junkdna.families.metrics\n"
    code += "print({'sklearn', 'scipy', 'evaluate', 'datasets', 'torch', 'pandas'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
