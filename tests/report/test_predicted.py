"""Metrics of predictions, from sums over examples: those of the libraries, for every resample, and in the report."""

import json

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import f1_score, matthews_corrcoef

from junkdna.report import answers, collect, predicted, summary
from junkdna.report.reading import Odd
from made_up_runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")  # in small resamples

RIGHT = {
    "accuracy": lambda said, true: np.mean(said == true),
    "matthews_correlation": lambda said, true: matthews_corrcoef(true, said),
    "f1": lambda said, true: f1_score(true, said, zero_division=0.0),
    "pearson": lambda said, true: scipy.stats.pearsonr(said, true).statistic if np.ptp(said) and np.ptp(true) else 0.0,
}


def drawn(name, classes=2, rows=40):
    """Predictions that are right, or near, about half of the time."""
    draw = np.random.default_rng(0)
    if name == "pearson":
        labels = np.round(draw.uniform(0, 5, rows), 2)
        return 1e4 + labels + draw.normal(0, 1, rows), labels  # far from 0, where squares lose digits
    labels = draw.integers(0, classes, rows)
    return np.where(draw.random(rows) < 0.5, labels, draw.integers(0, classes, rows)).astype(float), labels.astype(
        float
    )


@pytest.mark.parametrize(
    ("name", "classes"), [*((name, 2) for name in RIGHT), ("accuracy", 3), ("matthews_correlation", 3)]
)
def test_resamples_score_as_the_libraries_score_their_examples(name, classes):
    said, true = drawn(name, classes)
    score = predicted.SCORES[name]
    counts = score.counts(said, true)
    assert score.value(counts.sum(axis=0)) == pytest.approx(RIGHT[name](said, true), abs=1e-9)
    draw = np.random.default_rng(1)
    picks = [draw.integers(0, 40, size) for size in [2, 3, 5] * 20 + [40] * 40]
    values = score.value(np.array([counts[picked].sum(axis=0) for picked in picks]))
    assert values.shape == (100,) and len(set(values.round(6))) > 10
    assert values == pytest.approx([RIGHT[name](said[picked], true[picked]) for picked in picks], abs=1e-7)


@pytest.mark.parametrize("name", RIGHT)
def test_one_answer_to_all_examples_has_a_value(name):
    _, true = drawn(name)
    said = np.full(len(true), true[0])
    score = predicted.SCORES[name]
    assert score.value(score.counts(said, true).sum(axis=0)) == pytest.approx(RIGHT[name](said, true), abs=1e-9)


# --- in a report -----------------------------------------------------------------------------------------------------


def write(folder, said, true, task="rte"):
    rows = zip(said.tolist(), true.tolist())
    lines = [{"id": f"{task}/{i}", "prediction": one, "label": label} for i, (one, label) in enumerate(rows)]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_curve_of_one_seed_has_intervals_over_its_examples(tmp_path):
    said, true = drawn("accuracy", rows=400)
    better = np.where(np.arange(400) % 3, true, said)
    for pattern, what in (("dense", better), ("0.5", said)):
        write(make_run(tmp_path, "rte", pattern, 41, float(np.mean(what == true)), newest=True), what, true)
    cells = summary.normalise(collect.collect([str(tmp_path)])[0])
    point = summary.points(cells).set_index("pattern").loc["0.5"]
    draw = np.random.default_rng(5).integers(0, 400, (20_000, 400))
    ratios = (said == true)[draw].mean(axis=1) / (better == true)[draw].mean(axis=1)
    assert [point["ratio_low"], point["ratio_high"]] == pytest.approx(np.percentile(ratios, [2.5, 97.5]), abs=0.006)
    assert (point["questions"], point["unit"], point["note"]) == (400, "examples", "")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"id": "0", "prediction": "x", "label": 1}], "line 1: prediction is not a number"),
        ([{"id": "0", "prediction": 1}], "line 1: label is not a number"),
        ([{"id": "0", "prediction": 1, "label": 0}], "1 examples with accuracy of 0, and the run's result is 1"),
        (
            [{"id": "0", "prediction": 1, "label": 1}, {"id": "1", "scores": {"accuracy": 1}}],
            "some lines have a prediction, and some have none",
        ),
    ],
)
def test_damaged_lines_are_named(lines, words, tmp_path):
    (tmp_path / answers.FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(Odd, match=words):
        answers.read(tmp_path, "accuracy", 1.0)


def test_a_metric_that_is_not_made_of_sums_has_no_interval(tmp_path):
    write(tmp_path, *drawn("pearson"))
    assert answers.read(tmp_path, "spearmanr", 0.5) is None
    assert answers.read(tmp_path, "pearson", RIGHT["pearson"](*drawn("pearson"))).unit == "examples"
