"""Runs on the folds of one task: averaged within a seed, then over seeds."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from junkdna.report import __main__ as report
from junkdna.report import collect, differences, folds, published, reading, summary, tables
from junkdna.runs import settings
from made_up_runs import make_problems, make_run

VALUES = {"dense": 0.8, "0.1": 0.76, "0.5": 0.4}
LINE = ("problems", "encoder", (("task", "mawps"), ("data", "100 %")), "sparse transfer, unstructured")


def value_of(pattern, seed, fold):
    """Folds and seeds differ in what they score, and in how much of it they lose."""
    return VALUES[pattern] + seed / 50 + fold * (0.05 if pattern == "dense" else 0.01)


def sweep(root, held=(0, 1, 2), seeds=(1, 2), task="mawps", without=(), **more):
    """A run per pattern, seed and fold, but for those of ``without``, as (pattern, seed, fold)."""
    for pattern in VALUES:
        for seed in seeds:
            for fold in held:
                if (pattern, seed, fold) not in without:
                    make_problems(root, pattern, seed, value_of(pattern, seed, fold or 0), fold=fold, task=task, **more)


def runs_of(root):
    return collect.collect([str(root)])[0]


def seeds_of(root):
    return summary.normalise(folds.average(runs_of(root)))


def points_of(root, task="mawps"):
    points = summary.points(seeds_of(root))
    return points[points["task"] == task].set_index("pattern")


# --- means -----------------------------------------------------------------------------------------------------------


def test_a_seed_is_the_mean_of_its_folds_over_that_of_its_dense_runs(tmp_path):
    sweep(tmp_path)
    point = points_of(tmp_path).loc["0.5"]
    means = [[np.mean([value_of(name, seed, fold) for fold in range(3)]) for seed in (1, 2)] for name in VALUES]
    dense, half = np.array(means[0]), np.array(means[2])
    assert (point["mean"], point["std"]) == (pytest.approx(half.mean()), pytest.approx(half.std(ddof=1)))
    assert (point["seeds"], point["normalised_seeds"], point["expected"], point["note"]) == (2, 2, 2, "")
    assert (point["normalised"], point["ratio"]) == (pytest.approx((half / dense).mean()),) * 2
    assert point["normalised_std"] == pytest.approx((half / dense).std(ddof=1))
    other = [value_of("0.5", seed, fold) / value_of("dense", seed, fold) for seed in (1, 2) for fold in range(3)]
    assert abs(point["normalised"] - np.mean(other)) > 1e-4  # the mean of the folds' own shares is another number


def test_chance_is_averaged_too(tmp_path):
    for fold, chance in ((0, 0.1), (1, 0.3)):
        make_problems(tmp_path, "dense", 1, 0.8, fold=fold, chance=chance)
        make_problems(tmp_path, "0.5", 1, 0.5, fold=fold, chance=chance)
    assert points_of(tmp_path).loc["0.5", "above_chance"] == pytest.approx((0.5 - 0.2) / (0.8 - 0.2))


def test_every_run_keeps_its_row_with_its_fold_and_its_own_share(tmp_path):
    sweep(tmp_path / "runs")
    sweep(tmp_path / "runs", held=[None], task="svamp")
    make_run(tmp_path / "runs", "cola", "dense", 1, 0.5)
    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "summary.csv", keep_default_na=False)
    assert Counter(table["fold"]) == {"0": 6, "1": 6, "2": 6, "none": 6, "": 1}
    run = table.set_index(["fold", "pattern", "seed"]).loc[("2", "0.5", 1)]
    assert run["folder"] == "mawps/2/0.5/1"
    assert float(run["normalised"]) == pytest.approx(value_of("0.5", 1, 2) / value_of("dense", 1, 2))
    assert not {"whole", "collapsed_folds", "base_collapsed", "fold_asked"} & set(table)


# --- where it is said ------------------------------------------------------------------------------------------------


def test_the_axis_says_which_fold_or_of_how_many_the_mean_is(tmp_path):
    sweep(tmp_path / "one", held=[3])
    sweep(tmp_path / "three")
    sweep(tmp_path / "three", held=[None], task="svamp")
    for name, caption in (("one", "fold 3"), ("three", "fold mean of 3 where it applies")):
        points = summary.points(seeds_of(tmp_path / name))
        assert set(points.loc[points["task"] == "mawps", "settled"].map(dict).map(str)) == {
            str({"fold": caption.removeprefix("fold ").removesuffix(" where it applies")})
        }
        assert f"Everywhere: {caption}." in tables.means(points)
        assert set(points["place"].map(len)) == {2}  # tasks are compared, whatever their folds


def test_models_with_other_folds_stay_apart(tmp_path):
    sweep(tmp_path)
    sweep(tmp_path / "other", held=[0], model_name_or_path="some/another")
    points = summary.points(seeds_of(tmp_path))
    said = {(model, dict(place)["fold"]) for model, place in zip(points["model"], points["place"])}
    assert said == {("encoder", "mean of 3"), ("another", "0")} and set(points["note"]) == {""}


def test_a_single_fold_changes_no_number(tmp_path):
    sweep(tmp_path / "none", held=[None])
    sweep(tmp_path / "zero", held=[0])
    none, zero = (points_of(tmp_path / name).drop(columns="settled") for name in ("none", "zero"))
    pd.testing.assert_frame_equal(none, zero)
    cells = runs_of(tmp_path / "zero")
    assert folds.average(cells) is cells


def test_the_paper_s_curves_stand_beside_any_fold(tmp_path):
    sweep(tmp_path / "one", held=[3])
    sweep(tmp_path / "three")
    for name in ("one", "three"):
        points = summary.points(seeds_of(tmp_path / name)).assign(metric="value_accuracy")
        assert len(published.beside(points))


# --- what is not there -----------------------------------------------------------------------------------------------


def test_a_seed_that_lacks_a_fold_is_not_averaged_and_the_remark_says_which(tmp_path):
    sweep(tmp_path / "runs", without=[("0.5", 2, 1), ("0.1", 1, 0), ("0.1", 1, 2), ("dense", 2, 2)])
    make_problems(tmp_path / "runs", "0.1", 1, None, fold=0, status="failed")
    points = points_of(tmp_path / "runs")
    half = points.loc["0.5"]
    assert half["mean"] == pytest.approx(np.mean([value_of("0.5", 1, fold) for fold in range(3)]))
    assert (half["seeds"], half["expected"]) == (1, 2)
    assert half["note"] == "no mean over folds: seed 2 (fold 1 missing)"
    assert points.loc["dense", "note"] == "no mean over folds: seed 2 (fold 2 missing)"
    assert points.loc["0.1", "note"].split("; ") == [
        "no mean over folds: seed 1 (fold 2 missing, fold 0 failed (boom))",
        "not normalised: its base is missing: seed 2",
    ]
    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/summary.md").read_text()
    assert "| missing | encoder, mawps, 100 %, fold 1, sparse transfer, unstructured, 0.5, seed 2 |" in text
    assert text.count("| missing |") == 3 and "| failed | mawps/0/0.1/1 | boom |" in text


def test_a_fold_that_a_curve_lacks_at_all_is_missed_where_its_dense_run_has_it(tmp_path):
    sweep(tmp_path, without=[("0.5", seed, 2) for seed in (1, 2)])
    points = points_of(tmp_path)
    assert points.loc["0.5", "seeds"] == 0 and points.loc["0.5", "note"].count("(fold 2 missing)") == 2
    cells = summary.normalise(runs_of(tmp_path))
    where = (*LINE[:2], (*LINE[2], ("fold", "2")), LINE[3])
    assert summary.missing(cells) == [(where, "0.5", 1), (where, "0.5", 2)]


def test_of_two_runs_of_one_fold_neither_is_chosen_unless_they_agree_or_one_failed(tmp_path):
    sweep(tmp_path)
    before = points_of(tmp_path)
    make_problems(tmp_path, "0.5", 1, None, fold=0, status="failed", folder=tmp_path / "0")
    make_problems(tmp_path, "0.5", 2, value_of("0.5", 2, 1), fold=1, folder=tmp_path / "b")
    pd.testing.assert_frame_equal(points_of(tmp_path), before)
    make_problems(tmp_path, "0.5", 1, 0.1, fold=1, folder=tmp_path / "c")
    point = points_of(tmp_path).loc["0.5"]
    assert point["note"] == "no mean over folds: seed 1 (fold 1 more than once, with different values)"
    assert point["mean"] == pytest.approx(np.mean([value_of("0.5", 2, fold) for fold in range(3)]))


def test_folds_that_were_trained_in_another_way_are_not_one_mean(tmp_path):
    sweep(tmp_path, held=[0, 1])
    sweep(tmp_path, held=[2], learning_rate=5e-5)
    assert set(points_of(tmp_path)["seeds"]) == {0}
    notes = points_of(tmp_path).loc["0.5", "note"]
    assert "(fold 2 missing)" in notes and "(folds 0, 1 missing)" in notes


@pytest.mark.parametrize("fold", ["0", 1.5, True])
def test_a_fold_is_a_whole_number(fold, tmp_path):
    make_problems(tmp_path, "dense", 1, 0.5, fold=0)
    make_problems(tmp_path, "0.5", 1, 0.5, fold=fold)
    _, unreadable = collect.collect([str(tmp_path)])
    (one,) = unreadable
    assert one.reason == f"run.json: settings.fold is {json.dumps(fold)}, not a whole number or null"


def test_fold_is_a_role_of_settings():
    assert settings.ROLES[-5:] == ("fold", "seed", "layout", "label", "option")
    assert "``fold``" in settings.__doc__


# --- beside the means ------------------------------------------------------------------------------------------------


def test_a_collapsed_fold_is_named_and_its_seed_counts_as_collapsed(tmp_path):
    sweep(tmp_path, collapsed=False, without=[("0.5", 2, fold) for fold in range(3)])
    for fold in range(3):
        make_problems(tmp_path, "0.5", 2, 0.01 if fold else 0.5, fold=fold, collapsed=fold > 0)
    point = points_of(tmp_path).loc["0.5"]
    other = np.mean([value_of("0.5", 1, fold) for fold in range(3)])
    what = f"collapsed: seed 2 in folds 1, 2 (1 of 2 seeds averaged, mean of the others {other:.4f})"
    assert (point["collapsed"], point["note"]) == (1, what)


def test_data_differ_between_folds_and_code_must_not(tmp_path):
    sweep(tmp_path, held=[0, 1])
    assert not differences.mixed(summary.normalise(runs_of(tmp_path)))
    sweep(tmp_path, held=[2], commit="def")
    cells = summary.normalise(runs_of(tmp_path))
    lines = [line for line in differences.mixed(cells) if "unstructured" in line]
    assert lines == ["code_commit differs within a mean: encoder, mawps, 100 %, mean of 3, sparse transfer, "
                     "unstructured: 0.1 0.5"]  # fmt: skip
    assert set(differences.differences(cells)["where"]) == {"mawps 100 %"}


def hits(share, count, seed):
    return (np.random.default_rng(seed).random(count) < share).astype(float)


def test_with_one_seed_the_interval_is_over_the_questions_of_all_folds_drawn_within_each(tmp_path):
    made = {
        (pattern, fold): hits(share, count, 10 * fold + len(pattern))
        for pattern, share in (("dense", 0.8), ("0.5", 0.5)) for fold, count in ((0, 60), (1, 200))
    }  # fmt: skip
    for (pattern, fold), some in made.items():
        make_problems(tmp_path, pattern, 1, None, fold=fold, hits=some)
    point = points_of(tmp_path).loc["0.5"]
    draw = np.random.default_rng(0)
    picked = {fold: draw.integers(0, count, (4000, count)) for fold, count in ((0, 60), (1, 200))}
    half, dense = (
        np.mean([made[name, fold][picked[fold]].mean(axis=1) for fold in (0, 1)], axis=0) for name in ("0.5", "dense")
    )
    assert (point["questions"], point["unit"], point["note"]) == (260, "questions", "")
    for name, sample in (("value", half), ("ratio", half / dense)):
        found = [point[f"{name}_low"], point[f"{name}_high"]]
        assert found == pytest.approx(np.percentile(sample, [2.5, 97.5]), abs=0.01)


def test_a_fold_without_its_answers_costs_the_interval_and_the_remark_says_which(tmp_path):
    for fold in (0, 1):
        for pattern in ("dense", "0.5"):
            folder = make_problems(tmp_path, pattern, 1, None, fold=fold, hits=hits(0.5, 50, fold))
    (folder / "predictions.jsonl").unlink()
    point = points_of(tmp_path).loc["0.5"]
    assert point["questions"] == 0 and np.isnan(point["value_low"])
    assert point["note"] == "no interval: fold 1: predictions.jsonl is missing"


def test_the_page_draws_seeds_and_not_folds(tmp_path):
    sweep(tmp_path / "runs", without=[("0.5", 2, 1)])
    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "report.html").read_text()
    data = json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    rows = [dict(zip(data["columns"], row)) for row in data["rows"]]
    assert len(rows) == 6 and {row["fold"] for row in rows} == {"mean of 3"}
    assert Counter(row["status"] for row in rows) == {"done": 5, reading.INCOMPLETE: 1}
    assert rows[0]["folder"] == "mawps/0/dense/1 and 2 more"
    assert len(data["looks"]) == 1 and "Everywhere: fold mean of 3." in data["captions"]
