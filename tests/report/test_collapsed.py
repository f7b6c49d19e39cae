"""Runs that collapsed: the rule, and every place in which the report must say it."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from junkdna.report import __main__ as report
from junkdna.report import claims, collapsed, collect, figures, summary, tables
from junkdna.runs import collapse
from made_up_runs import make_problems, make_run, make_toy


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    pyplot.close("all")


FALL = {"dense": 0.9, "0.1": 0.88, "0.5": 0.8, "0.9": 0.7}


def cells_of(root, metric=None):
    return summary.normalise(collect.collect([str(root)], metric)[0])


def points_of(root):
    return summary.points(cells_of(root)).set_index("pattern")


def sweep(root, fallen=(), seeds=(1, 2, 3), task="sst2"):
    """Accuracies as in FALL, and 0.01 more for each seed; those of ``fallen`` (pattern, seed) at 0.51, chance 0.5."""
    for pattern, value in FALL.items():
        for seed in seeds:
            make_run(root, task, pattern, seed, 0.51 if (pattern, seed) in fallen else value + seed / 100)


# --- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "floor", "said"),
    [
        (0.52, 0.5, True), (0.5201, 0.5, False), (0.02, 0.0, True), (0.0201, 0.0, False), (-0.3, 0.0, True),
        (0.3, 0.5, True), (0.7, 0.68, True), (0.1, None, False), (float("nan"), 0.5, False),
    ],
)  # fmt: skip
def test_two_points_above_the_floor_are_collapsed_and_more_are_not(value, floor, said):
    assert collapse.collapsed(value, floor) is said


def test_the_record_says_it_and_of_earlier_ones_of_glue_it_is_worked_out(tmp_path):
    make_problems(tmp_path, "dense", 1, 0.9, collapsed=True)  # whatever its value
    make_problems(tmp_path, "0.1", 1, 0.0, collapsed=False)
    make_problems(tmp_path, "0.5", 1, 0.0)
    make_toy(tmp_path, "nq", "dense", 1, 100.0)  # at chance, of another family
    for newest in (False, True):
        more = {"newest": newest, "extra": {"eval_f1": 0.9}, "majority": 0.6}
        for pattern, value in (("dense", 0.63), ("0.5", 0.62)):
            make_run(tmp_path, "mrpc", pattern, 1, value, folder=tmp_path / f"{newest}/{pattern}", **more)
    make_run(tmp_path, "cola", "0.5", 1, 0.02, status="running")
    for metric in (None, "f1"):  # it is the main metric that collapses
        cells = cells_of(tmp_path, metric)
        said = cells.groupby(["task", "pattern"])["collapsed"].agg(set).to_dict()
        assert said == {
            ("mawps", "dense"): {True}, ("mawps", "0.1"): {False}, ("mawps", "0.5"): {None}, ("nq", "dense"): {None},
            ("mrpc", "dense"): {False}, ("mrpc", "0.5"): {True}, ("cola", "0.5"): {None},
        }  # fmt: skip


@pytest.mark.parametrize("said", ["yes", None, 1])
def test_a_record_that_says_anything_else_is_odd(said, tmp_path):
    make_problems(tmp_path, "0.5", 1, 0.5)
    folder = make_problems(tmp_path, "dense", 1, 0.9)
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"collapsed": said}))
    _, unreadable = collect.collect([str(tmp_path)])
    assert [one.reason for one in unreadable] == [f"run.json: collapsed is {json.dumps(said)}, not true or false"]


# --- means -----------------------------------------------------------------------------------------------------------


def test_a_mean_with_collapsed_seeds_names_them_and_says_what_the_others_are(tmp_path, capsys):
    sweep(tmp_path / "runs", {("0.5", 2), *(("0.9", seed) for seed in (1, 2, 3))})
    points = points_of(tmp_path / "runs")
    assert points.loc["0.5", "mean"] == pytest.approx((0.81 + 0.51 + 0.83) / 3)
    assert points["note"].to_dict() == {
        "dense": "", "0.1": "",
        "0.5": "collapsed: seed 2 (1 of 3 seeds averaged, mean of the others 0.8200)",
        "0.9": "collapsed: seed 1, 2, 3 (all 3 seeds averaged)",
    }  # fmt: skip
    assert points["collapsed"].to_dict() == {"dense": 0, "0.1": 0, "0.5": 1, "0.9": 3}
    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "| std | seeds | collapsed | of dense |" in text and "| 0.0000 | 3 | 3 |" in text
    assert collapsed.CAPTION.replace("\n", " ") in text and "no more than 2 points above" in text
    table = pd.read_csv(tmp_path / "out/summary.csv")
    assert table.set_index(["pattern", "seed"]).loc[("0.5", 2), "collapsed"] and table["collapsed"].sum() == 4


def test_where_nothing_has_collapsed_nothing_is_said_of_it(tmp_path):
    sweep(tmp_path)
    text = tables.means(summary.points(cells_of(tmp_path)))
    assert "ollapsed" not in text and "ollapsed" not in tables.claims(claims.both(cells_of(tmp_path)))


def test_one_seed_needs_no_count(tmp_path):
    sweep(tmp_path, {("0.5", 1)}, seeds=(1,))
    assert points_of(tmp_path).loc["0.5", "note"] == "collapsed: seed 1"


def test_a_dense_run_that_collapsed_is_said_wherever_it_normalises(tmp_path):
    sweep(tmp_path, {("dense", 2)})
    points = points_of(tmp_path)
    assert points.loc["dense", "note"] == "collapsed: seed 2 (1 of 3 seeds averaged, mean of the others 0.9200)"
    assert points.loc["0.5", "note"] == f"not normalised: {collapsed.BASE}: seed 2"
    assert points.loc["0.5", "normalised"] == pytest.approx((0.81 / 0.91 + 0.83 / 0.93) / 2)
    assert points.loc["0.5", ["base_collapsed", "normalised_seeds", "seeds"]].tolist() == [1, 2, 3]
    remarks = cells_of(tmp_path).set_index(["pattern", "seed"])["base_remark"]
    assert remarks["0.5", 2] == collapsed.BASE and remarks["0.5", 1] == remarks["dense", 2] == ""


# --- claims ----------------------------------------------------------------------------------------------------------


def test_claims_count_the_collapsed_runs_that_they_rest_on_and_leave_out_bad_bases(tmp_path):
    sweep(tmp_path, {("0.5", 2), ("0.9", 2)}, task="sst2")
    sweep(tmp_path, {("dense", 3), ("0.1", 1)}, task="qnli")
    make_run(tmp_path, "sst2", "0.7", 1, 0.5)  # collapsed, and of an incomplete case: in no claim
    made = claims.claims(cells_of(tmp_path)).set_index(["claim", "a"])
    falls = made.loc["monotone fall", "remark"]
    assert falls["sst2 100 %"].endswith("on 3 of 4 sparsities, 3 of 3 seeds; collapsed: 2 of 9 runs")
    assert falls["qnli 100 %"].endswith("; on 3 of 3 sparsities, 2 of 3 seeds; collapsed: 1 of 6 runs")
    (mean,) = made.loc["mean gap", "remark"]
    assert mean == "3 of 4 sparsities, 2 of 3 seeds; collapsed: 1 of 6 and 2 of 6 runs"
    gaps = made.loc["gap"].set_index("pattern")["remark"]
    assert gaps["0.5"] == "collapsed: 0 of 2 and 1 of 2 runs"


# --- the figure and the page -----------------------------------------------------------------------------------------


def rings(figure) -> list[list[tuple]]:
    """The ringed points of each panel."""
    return [
        [tuple(at) for line in panel.lines if line.get_gid() == collapsed.RING for at in zip(*line.get_data())]
        for panel in figure.axes
    ]


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_figure_rings_the_points_that_hold_collapsed_seeds(tmp_path):
    sweep(tmp_path, {("0.5", 2)})
    points = summary.points(cells_of(tmp_path))
    figure = figures.draw(points, None, False)
    ratio = points.set_index("pattern").loc["0.5", "ratio"]
    assert rings(figure) == [[(50.0, pytest.approx(100 * ratio))]]
    assert [text for text in legend(figure) if "ringed" in text] == [collapsed.RINGED]


def test_the_figure_rings_the_points_of_a_collapsed_base_and_says_so(tmp_path):
    sweep(tmp_path, {("dense", 1), ("dense", 2), ("0.5", 1)}, seeds=(1, 2))  # no base is better
    sweep(tmp_path, {("0.9", 2)}, task="rte")
    figure = figures.draw(summary.points(cells_of(tmp_path)), None, False)
    assert [[round(x) for x, _ in ring] for ring in rings(figure)] == [[90], [10, 50, 90]]
    assert [text for text in legend(figure) if "ringed" in text] == [collapsed.RINGED_BASE]


def test_a_ring_is_around_what_is_drawn_only_and_stays_on_the_axis(tmp_path):
    for seed, dense, half in ((1, 0.8, 0.4), (2, 0.0, 0.0)):  # seed 2 has no ratio: it is not in the point
        make_run(tmp_path / "cola", "cola", "dense", seed, dense)
        make_run(tmp_path / "cola", "cola", "0.5", seed, half)
    points = summary.points(cells_of(tmp_path / "cola"))
    assert points.set_index("pattern").loc["0.5", "collapsed"] == 1
    assert rings(figures.draw(points, None, False)) == [[]]
    make_run(tmp_path / "low", "cola", "dense", 1, 0.5)
    for pattern, value in (("0.1", 0.4), ("0.5", -0.5)):
        make_run(tmp_path / "low", "cola", pattern, 1, value)
    figure = figures.draw(summary.points(cells_of(tmp_path / "low")), None, False)
    assert rings(figure) == [[(50.0, figure.axes[0].get_ylim()[0])]] and np.isclose(figure.axes[0].get_ylim()[0], -20)


def test_a_curve_whose_bases_are_all_at_chance_makes_no_claim_and_is_named(tmp_path):
    for seed in (1, 2):
        for task, dense in (("sst2", 0.9), ("rte", 0.53)):
            for pattern, value in (("dense", dense), ("0.3", dense - 0.01), ("0.5", dense - 0.02)):
                make_run(tmp_path, task, pattern, seed, value, extra={"eval_samples": 400})
    assert report.main([str(tmp_path), "--out", str(tmp_path / "report")]) == 0
    claims = (tmp_path / "report" / "claims.md").read_text()
    table = pd.read_csv(tmp_path / "report" / "claims.csv")
    assert set(table.loc[table["claim"] == "left out", "a"]) == {table.loc[table["claim"] == "left out", "a"].iloc[0]}
    assert "rte" in table.loc[table["claim"] == "left out", "a"].iloc[0]
    assert not table.loc[table["claim"] != "left out", "a"].str.contains("rte").any()
    assert "its base is 0.5300, chance 0.5000" in claims and "left out: no claim" in claims
