"""Curves that differ in settings, and what stands beside them: names, pairs, looks, metrics, copies."""

import json
import shutil

import pytest

from junkdna.report import __main__ as report
from junkdna.report import claims, collect, figures, published, scales, summary
from junkdna.report.names import natural
from junkdna.runs import seals
from made_up_runs import make_run, make_toy

PATTERNS = ("dense", "0.3", "0.6", "0.9")


def sweep(root, task, loss, *, name="", start=0.9, seeds=(1, 2, 3), **settings):
    """Runs of three seeds whose accuracy falls by ``loss`` times their sparsity."""
    for seed in seeds:
        for pattern in PATTERNS:
            lost = 0 if pattern == "dense" else float(pattern) * loss * (1 + seed / 100)
            folder = root / f"{task}-{name}-{pattern}-{seed}"
            make_run(root, task, pattern, seed, start + seed / 1000 - lost, folder=folder, **settings)


def cells_of(root, metric=None):
    return summary.normalise(collect.collect([str(root)], metric)[0], False)


def mean_gaps(root, metric=None):
    made = claims.claims(cells_of(root, metric))
    return made[made["claim"] == "mean gap"]


def test_a_pair_that_differs_in_one_setting_says_the_others(tmp_path):
    lost = {(1e-5, 3): 0.02, (2e-5, 3): 0.06, (1e-5, 5): 0.30, (2e-5, 5): 0.05}
    for (rate, epochs), loss in lost.items():
        sweep(tmp_path, "sst2", loss, name=f"{rate}-{epochs}", learning_rate=rate, num_train_epochs=epochs)
    gaps = mean_gaps(tmp_path)
    assert len(gaps) == 4 and not gaps.duplicated(["curve", "a", "b"]).any()
    signs = {
        (row.curve.removeprefix("sparse transfer, unstructured, "), row.a.partition(", ")[2]): row.estimate > 0
        for row in gaps.itertuples()
    }
    assert signs == {
        ("num_train_epochs 3", "learning_rate 1e-05"): True,
        ("num_train_epochs 5", "learning_rate 1e-05"): False,
        ("learning_rate 1e-05", "num_train_epochs 3"): True,
        ("learning_rate 2e-05", "num_train_epochs 3"): False,
    }
    assert report.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    table = [line for line in (tmp_path / "out/claims.md").read_text().splitlines() if " - sst2" in line]
    largest = [line.split("|")[9].split()[0] for line in table[:4]]
    assert sorted(largest, key=float) == sorted(
        (f"{100 * row.estimate:+.1f}" for row in gaps_at_09(tmp_path)), key=float
    )


def gaps_at_09(root):
    made = claims.claims(cells_of(root))
    return list(made[(made["claim"] == "gap") & (made["pattern"] == "0.9")].itertuples())


def test_a_control_with_another_rate_leaves_the_comparison_of_the_tasks(tmp_path):
    sweep(tmp_path, "sst2", 0.1, learning_rate=5e-5)
    sweep(tmp_path, "rte", 0.3, learning_rate=1e-4)
    (alone,) = mean_gaps(tmp_path).itertuples()
    assert alone.remark.endswith("settings differ: learning_rate")
    sweep(tmp_path, "sst2", 0.2, name="slow", learning_rate=1e-5)
    found = {(row.a, row.b): row.estimate for row in mean_gaps(tmp_path).itertuples()}
    rte = "rte 100 %, learning_rate 0.0001"
    assert found[rte, "sst2 100 %, learning_rate 5e-05"] == pytest.approx(alone.estimate)
    assert {(rte, "sst2 100 %, learning_rate 1e-05"), (rte, "sst2 100 %, learning_rate 5e-05")} < found.keys()
    sweep(tmp_path, "rte", 0.2, name="slow", learning_rate=1e-5)  # now there is a partner of the same rate
    assert (rte, "sst2 100 %, learning_rate 1e-05") not in {(row.a, row.b) for row in mean_gaps(tmp_path).itertuples()}


def test_curves_of_two_metrics_are_not_compared_at_one_task(tmp_path):
    for percentage, f1 in ((10.0, False), (100.0, True)):
        for seed in (1, 2, 3):
            for pattern in PATTERNS:
                value = 0.9 - (0 if pattern == "dense" else float(pattern) / 5) + seed / 1000
                extra = {"eval_f1": value - 0.1} if f1 else None
                make_run(tmp_path, "mrpc", pattern, seed, value, percentage=percentage, extra=extra)
    cells = cells_of(tmp_path, "f1")
    made = claims.claims(cells)
    assert not (made["claim"] == "mean gap").any()
    (said,) = made.loc[made["claim"] == "left out", "remark"]
    assert said == "not compared with mrpc 100 %, whose metric is f1, and this one's accuracy"
    titles = {panel.get_title() for panel in figures.draw(summary.points(cells), None, False).axes}
    assert any("accuracy; f1" in title for title in titles)


def test_what_has_lost_nothing_is_not_said_to_have_lost_more(tmp_path):
    sweep(tmp_path, "rte", -0.01)
    sweep(tmp_path, "sst2", -0.05)
    assert report.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/claims.md").read_text()
    assert "| rte 100 % ended lower |" in text and "lost more |" not in text


def test_curves_stand_in_the_order_of_their_numbers(tmp_path):
    rates = (1e-3, 1e-4, 2e-5, 1e-6)
    for rate in rates:
        sweep(tmp_path, "sst2", 0.1, name=str(rate), seeds=(1,), learning_rate=rate)
    cells = cells_of(tmp_path)
    names = list(dict.fromkeys(cells.loc[cells["kind"] != "dense", "curve"]))
    assert [float(name.rpartition(" ")[2]) for name in names] == sorted(rates)
    assert natural("learning_rate 1e-05") < natural("learning_rate 2e-05") < natural("learning_rate 0.001")


# --- the figure and the page -----------------------------------------------------------------------------------------


def test_a_published_curve_takes_the_look_of_a_curve_in_its_panel(tmp_path):
    sweep(tmp_path, "cola", 0.1, learning_rate=5e-5)
    sweep(tmp_path, "cola", 0.2, name="slow", learning_rate=1e-5)
    sweep(tmp_path, "stsb", 0.3, learning_rate=1e-4)
    points = summary.points(cells_of(tmp_path))
    theirs = published.beside(points)
    panels = {axes.get_title().split()[0]: axes for axes in figures.draw(points, theirs, False).axes}
    own = panels["stsb"].containers[0].lines[0]
    (paper,) = [line for line in panels["stsb"].lines if line.get_linewidth() == 0.9]
    assert paper.get_color() == own.get_color() and paper.get_marker() == own.get_marker()


def test_the_legend_stands_inside_the_picture_however_long_its_names(tmp_path):
    long = {"learning_rate": 1.7e-5, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 2}
    sweep(tmp_path, "rte", 0.1, **long)
    sweep(tmp_path, "rte", 0.2, name="other", learning_rate=2e-5, per_device_train_batch_size=32)
    figure = figures.draw(summary.points(cells_of(tmp_path)), None, False)
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1


def test_a_run_that_failed_does_not_turn_the_axis(tmp_path):
    for pattern, value in zip(PATTERNS, (10.0, 25.0, 30.0, 40.0)):
        make_toy(tmp_path, "wiki", pattern, 1, value)
    make_toy(tmp_path, "wiki", "0.3", 1, None, book="closed", status="failed")
    points = summary.points(cells_of(tmp_path))
    (panel,) = figures.draw(points, None, False).axes
    assert panel.get_yscale() == "log" and "more is worse" in panel.get_ylabel()
    shown = [text.get_text() for text in panel.get_yticklabels()]
    assert {"100", "200"} <= set(shown)  # within one decade


def test_names_of_axes_are_broken_where_they_are_longer_than_a_panel(tmp_path):
    for pattern, value in zip(PATTERNS, (10.0, 25.0, 30.0, 40.0)):
        make_toy(tmp_path, "wiki", pattern, 1, value)
    (panel,) = figures.draw(summary.points(cells_of(tmp_path)), None, False, "change").axes
    assert max(map(len, panel.get_ylabel().splitlines())) <= scales.LONG


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_a_report_s_is_not_replaced(tmp_path, capsys):
    sweep(tmp_path / "runs", "sst2", 0.1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/summary.md").write_text("my notes\n")
    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 2
    assert "has a summary.md that is not a report's" in capsys.readouterr().err
    assert (tmp_path / "out/summary.md").read_text() == "my notes\n" and len(list((tmp_path / "out").iterdir())) == 1
    (tmp_path / "out/summary.md").unlink()
    for _ in range(2):
        assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    (tmp_path / "out/points.json").unlink()  # as before there were points
    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0


def test_a_copy_of_a_run_counts_once(tmp_path):
    sweep(tmp_path / "runs", "sst2", 0.1)
    before = summary.points(cells_of(tmp_path / "runs")).drop(columns=["path", "draws", "base_draws"], errors="ignore")
    one = next(path for path in (tmp_path / "runs").iterdir() if "0.6" in path.name)
    record = json.loads((one / "run.json").read_text())
    (one / "run.json").write_text(json.dumps(record | {"seal": seals.of(record)}))
    shutil.copytree(one, tmp_path / "runs" / "copied")
    cells = cells_of(tmp_path / "runs")
    (copied,) = cells.loc[cells["status"] == "repeated", "error"]
    assert copied.startswith("a copy of ") and copied.endswith(", so it counts once")
    after = summary.points(cells)
    assert after["note"].tolist() == before["note"].tolist() and after["seeds"].tolist() == before["seeds"].tolist()
