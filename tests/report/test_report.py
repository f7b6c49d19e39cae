"""The report of trees of runs that were made up, so that every number can be worked out by hand."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from junkdna.report import __main__ as report
from junkdna.report import (
    claims,
    collect,
    differences,
    figures,
    looks,
    names,
    overlays,
    pairs,
    published,
    resampling,
    scales,
    summary,
    tables,
)
from made_up_runs import change, make_run, make_sweep

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs"
    for seed, dense, half in ((1, 0.8, 0.6), (2, 0.9, 0.72)):
        make_run(root, "sst2", "dense", seed, dense)
        make_run(root, "sst2", "0.5", seed, half)
    make_run(root, "cola", "0.5", 1, 0.7)  # no dense run beside it
    make_run(root, "cola", "0.9", 1, 0.0, status="running")
    return root


def cells_of(*roots, first=False, metric=None):
    return summary.normalise(collect.collect([str(root) for root in roots], metric)[0], first)


def points_of(*roots, **options):
    return summary.points(cells_of(*roots, **options)).set_index(["task", "pattern"])


def line_of(task, curve, data="100 %"):
    return "glue", "encoder", (("task", task), ("data", data)), curve


# --- means -----------------------------------------------------------------------------------------------------------


def test_means_are_normalised_seed_by_seed(runs, tmp_path, capsys):
    assert report.main([str(runs), "--out", str(tmp_path / "out")]) == 0
    half = points_of(runs).loc[("sst2", "0.5")]
    assert (half["mean"], half["seeds"]) == (pytest.approx(0.66), 2)
    assert half["std"] == pytest.approx(0.12 / 2**0.5)
    assert half["normalised"] == pytest.approx((0.6 / 0.8 + 0.72 / 0.9) / 2)
    assert half["normalised_std"] == pytest.approx(0.05 / 2**0.5)
    assert half["above_chance"] == pytest.approx((0.1 / 0.3 + 0.22 / 0.4) / 2)
    row = "| encoder | sst2 | 100 % | sparse transfer, unstructured | 0.5 | accuracy | 0.6600 | 0.0849 | 2 "
    row += "| 77.5% | 3.5% | 2 | 44.2% | 15.3% |  |"
    out = capsys.readouterr().out
    assert row in out and row in (tmp_path / "out/summary.md").read_text()
    assert "| 0.7000 |  | 1 |  |  | 0 |  |  | not normalised: its base is missing: seed 1 |" in out


def test_every_cell_is_a_row_of_the_csv(runs, tmp_path):
    make_run(runs, "cola", "0.8", 1, None, status="failed", error="boom")
    assert report.main([str(runs), "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "summary.csv")
    assert sorted(table["status"]) == ["done"] * 5 + ["failed", "running (unfinished)"]
    failed = table[table["status"] == "failed"].iloc[0]
    assert (failed["error"], failed["sparsity"]) == ("boom", 0.8) and np.isnan(failed["value"])
    assert {"learning_rate", "noembed", "code_commit", "version_torch", "hardware_device", "train_loss", "seed"} <= set(
        table
    )


def test_the_base_can_be_the_curve_s_own_first_point(tmp_path):
    for seed, first, half in ((1, 0.8, 0.4), (2, 0.9, 0.72)):
        make_run(tmp_path, "sst2", "0.1", seed, first)
        make_run(tmp_path, "sst2", "0.5", seed, half)
    assert np.isnan(points_of(tmp_path).loc[("sst2", "0.5"), "normalised"])  # there is no dense run
    point = points_of(tmp_path, first=True)
    assert point.loc[("sst2", "0.1"), "normalised"] == 1
    assert point.loc[("sst2", "0.5"), "normalised"] == pytest.approx((0.5 + 0.8) / 2)
    assert point.loc[("sst2", "0.5"), "above_chance"] == pytest.approx((-0.1 / 0.3 + 0.22 / 0.4) / 2)


def test_chance_is_that_of_the_metric(tmp_path):
    make_run(tmp_path, "cola", "dense", 1, 0.6)
    make_run(tmp_path, "cola", "0.5", 1, 0.3)
    make_run(tmp_path, "rte", "dense", 1, 0.5, majority=0.52, extra={"eval_f1": 0.8})  # dense is below chance
    make_run(tmp_path, "rte", "0.5", 1, 0.5, majority=0.52, extra={"eval_f1": 0.6})
    points = points_of(tmp_path)
    assert points.loc[("cola", "0.5"), ["normalised", "above_chance"]].tolist() == [0.5, 0.5]
    assert points.loc[("rte", "0.5"), "normalised"] == 1 and np.isnan(points.loc[("rte", "0.5"), "above_chance"])
    by_f1 = points_of(tmp_path, metric="f1").loc[("rte", "0.5")]
    assert by_f1["normalised"] == pytest.approx(0.75) and np.isnan(by_f1["above_chance"])  # nobody knows its chance
    assert points_of(tmp_path, metric="f1").loc[("cola", "0.5"), "metric"] == "matthews_correlation"


def test_a_base_that_is_missing_ambiguous_or_weak_is_named(tmp_path):
    samples = {"extra": {"eval_samples": 400}}  # two standard errors of chance 0.5: 0.05
    for seed, dense in ((1, 0.9), (2, 0.54)):
        make_run(tmp_path, "sst2", "dense", seed, dense, **samples)
    for seed in (1, 2, 3):
        make_run(tmp_path, "sst2", "0.5", seed, 0.5, **samples)
    point = points_of(tmp_path).loc[("sst2", "0.5")]
    assert (point["seeds"], point["normalised_seeds"], point["expected"]) == (3, 1, 3)
    assert point["note"].split("; ") == [
        "collapsed: seed 1, 2, 3 (all 3 seeds averaged)",
        "not normalised: its base is missing: seed 3",
        "not normalised: its base is not clearly above chance: seed 2",
        "every run exactly at chance",
    ]
    assert point["normalised"] == pytest.approx(0.5 / 0.9)  # of the seed with a clear base
    dense = line_of("sst2", "dense transfer")
    assert summary.missing(cells_of(tmp_path)) == [(dense, "dense", 3)]
    assert summary.missing(cells_of(tmp_path), first=True) == []
    make_run(tmp_path, "sst2", "dense", 1, 0.8, folder=tmp_path / "again")
    twice = points_of(tmp_path)
    words = "not normalised: its base occurs more than once, with different values: seed 1"
    assert words in twice.loc[("sst2", "0.5"), "note"] and words in twice.loc[("sst2", "dense"), "note"]
    assert twice.loc[("sst2", "0.5"), "normalised_seeds"] == 1
    make_run(tmp_path, "cola", "dense", 1, 0.04)
    make_run(tmp_path, "cola", "0.5", 1, 0.3)
    make_run(tmp_path, "stsb", "dense", 1, -0.1)
    make_run(tmp_path, "stsb", "0.5", 1, 0.3)
    notes = points_of(tmp_path)["note"]
    assert notes["cola", "0.5"] == "its base is not clearly above chance: seed 1"
    assert notes["stsb", "0.5"] == "not normalised: its base is not above 0: seed 1"


def test_nothing_in_the_summaries_is_a_path_of_this_machine(runs, tmp_path):
    local = {"model_name_or_path": str(tmp_path / "encoder_s/model"), "glue_dir": str(tmp_path / "glue")}
    make_run(runs, "rte", "0.5", 1, 0.6, mask_file=str(tmp_path / "a/mask.safetensors"), **local)
    make_run(runs, "rte", "0.5", 2, 0.6, mask_file=str(tmp_path / "b/mask.safetensors"), **local)
    make_run(runs, "rte", "0.9", 2, None, status="failed", **local)
    out = tmp_path / "out"
    assert report.main([str(runs), "--out", str(out)]) == 0
    for name in ("summary.csv", "summary.md", "claims.csv", "claims.md", "report.html"):
        assert str(tmp_path) not in (out / name).read_text(), name
    table = pd.read_csv(out / "summary.csv")
    rte = table[table["task"] == "rte"]
    assert set(rte["model"]) == set(rte["model_name_or_path"]) == {"encoder_s"}
    assert set(rte["mask_file"].dropna()) == {"a/mask.safetensors", "b/mask.safetensors"}
    assert "rte/100/0.5/1" in set(rte["folder"])
    shown = collect.collect([str(runs / "sst2"), str(runs / "rte")])[0]["folder"]
    assert {"sst2/100/0.5/1", "rte/100/0.5/1"} <= set(shown)


def test_several_roots_are_called_by_what_tells_them_apart(tmp_path):
    roots = [tmp_path / "MiniLM/sparse-100/cola", tmp_path / "MiniLM/more-100/cola", tmp_path / "mpnet/sparse-100/cola"]
    for number, root in enumerate(roots):
        make_run(root, "cola", "0.5", 1, 0.5, folder=root / "0.5/1", learning_rate=number)
        make_run(root, "cola", "0.5", 2, None, folder=root / "0.5/2", learning_rate=number, status="failed")
        (root / "bad").mkdir()
        (root / "bad/run.json").write_text("{")
    (tmp_path / "link").symlink_to(roots[1])
    given = [roots[0], tmp_path / "link", tmp_path / "mpnet/../mpnet/sparse-100/cola"]
    assert report.main([*map(str, given), "--out", str(tmp_path / "out")]) == 0
    table, text = pd.read_csv(tmp_path / "out/summary.csv"), (tmp_path / "out/summary.md").read_text()
    wanted = ["MiniLM/sparse-100/cola", "link", "mpnet/sparse-100/cola"]  # as they were given, wherever they lie
    assert sorted(table["folder"]) == sorted(f"{name}/0.5/{seed}" for name in wanted for seed in (1, 2))
    for name in wanted:
        assert f"| failed | {name}/0.5/2 |" in text and f"| unreadable | {name}/bad |" in text


@pytest.mark.parametrize(("roots", "called"), [
    (["a/runs"], [""]),
    (["a/sst2", "a/rte"], ["sst2", "rte"]),
    (["a/x/cola", "a/y/cola", "a/y/rte"], ["x/cola", "y/cola", "y/rte"]),
    (["a", "a/cola"], ["a", "a/cola"]),
    (["a/cola", "a/cola/"], ["cola", "cola"]),
    ([".", "a"], ["here", "here/a"]),
])  # fmt: skip
def test_what_a_root_is_called(roots, called, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert collect.told_apart(roots) == called


def test_a_model_s_folder_is_named_by_the_part_that_tells():
    parts = names.telling
    assert parts("/home/me/encoder/model")[-1] == "encoder" and parts("some/encoder")[-1] == "encoder"
    assert parts("hub/models--encoder/snapshots/" + "0a" * 20)[-1] == "encoder" and parts("model") == ["model"]
    assert names.shortened(["a/x", "b/x", "a/x"]) == ["a/x", "b/x", "a/x"] and names.shortened(["a/x", "b/y"]) == [
        "x",
        "y",
    ]


def test_nm_patterns_are_ordered_by_sparsity(tmp_path):
    make_sweep(tmp_path, ["qnli"], ["7:8", "4:8", "1:8", "2:4"], [1], lambda task, sparsity, seed: sparsity / 10)
    points = points_of(tmp_path)
    order = [pattern for _, pattern in points.index]
    assert order[:2] == ["dense", "7:8"] and set(order[2:4]) == {"4:8", "2:4"} and order[4:] == ["1:8"]
    assert points.loc[("qnli", "1:8"), "sparsity"] == 0.875 and set(points["kind"]) == {"dense", "N:M"}
    make_run(tmp_path, "qnli", "2:8", 1, 0.5, nm_ratio="68")  # the historical two digits
    assert ("qnli", "2:8") in points_of(tmp_path).index


def test_a_run_found_twice_counts_once(runs):
    assert len(cells_of(runs, runs)) == len(cells_of(runs / "sst2", runs, runs / "cola")) == 6


def test_models_of_the_same_last_name_stay_apart(tmp_path):
    make_run(tmp_path, "rte", "0.5", 1, 0.5, model_name_or_path="a/encoder", folder=tmp_path / "a")
    make_run(tmp_path, "rte", "0.5", 1, 0.7, model_name_or_path="b/encoder", folder=tmp_path / "b")
    assert set(summary.points(cells_of(tmp_path))["model"]) == {"a/encoder", "b/encoder"}


# --- what is not there, and what differs -----------------------------------------------------------------------------


def test_missing_and_failed_cells_stay_visible(tmp_path, capsys):
    root = tmp_path / "runs"
    make_sweep(root, ["sst2"], ["0.5"], [1, 2, 3], lambda task, sparsity, seed: 0.09)
    make_run(root, "sst2", "0.7", 1, 0.6)
    make_run(root, "sst2", "0.7", 2, None, status="failed", error="CUDA out | of\nmemory")
    for seed in (1, 2, 3):
        make_run(root, "sst2", "0.9", seed, None, status="failed", error="disk full")
    broken = root / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    point = points_of(root).loc[("sst2", "0.7")]
    assert (point["seeds"], point["expected"]) == (1, 3)
    assert point["note"] == "missing: seed 3; failed: seed 2 (CUDA out | of memory)"
    none = points_of(root).loc[("sst2", "0.9")]
    assert none["seeds"] == 0 and np.isnan(none["mean"])
    line = line_of("sst2", "sparse transfer, unstructured")
    assert summary.missing(cells_of(root)) == [(line, "0.7", 3)]
    assert report.main([str(root), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "summary.md").read_text()
    assert "| 1 of 3 |" in text and "| 0 of 3 |" in text and "failed: seed 1 (disk full)" in text
    assert "| failed | sst2/100/0.7/2 | CUDA out \\| of memory |" in text
    assert "| missing | encoder, sst2, 100 %, sparse transfer, unstructured, 0.7, seed 3 |" in text
    assert "| unreadable | broken |" in text
    assert f"failed: {root}/sst2/100/0.7/2 CUDA out | of memory" in capsys.readouterr().out


def test_a_run_without_a_value_and_an_error_without_settings_say_so(tmp_path):
    make_run(tmp_path, "sst2", "0.5", 1, 0.6)
    make_run(tmp_path, "sst2", "0.5", 2, None)
    folder = make_run(tmp_path, "sst2", "0.5", 3, None)
    (folder / "all_results.json").write_text('{"eval_accuracy": NaN, "sparsity": 0.5}')
    (tmp_path / "early").mkdir()
    (tmp_path / "early/error.json").write_text('{"error": "no such task"}')
    cells, unreadable = collect.collect([str(tmp_path)])
    assert cells["status"].tolist() == ["done", "finished without a value", "finished without a value"]
    assert unreadable == ["early: no such task"]
    note = points_of(tmp_path).loc[("sst2", "0.5"), "note"]
    assert (
        "finished without a value: seed 2 (eval_accuracy is None)" in note and "seed 3 (eval_accuracy is nan)" in note
    )


def test_links_are_followed_once(runs, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/there").symlink_to(runs)
    (runs / "round").symlink_to(runs)
    assert len(cells_of(tmp_path / "linked")) == len(cells_of(runs)) == 6


def test_a_failed_cell_that_was_repeated_is_done(tmp_path):
    folder = make_run(tmp_path, "sst2", "0.5", 1, 0.6)
    (folder / "error.json").write_text('{"error": "earlier"}')
    assert cells_of(tmp_path)[["status", "error"]].values.tolist() == [["done", ""]]


def test_runs_with_other_settings_are_never_averaged(runs):
    make_run(runs, "sst2", "dense", 1, 0.5, folder=runs / "fast/dense", learning_rate=1e-3)
    make_run(runs, "sst2", "0.5", 1, 0.4, folder=runs / "fast/half", learning_rate=1e-3)
    make_run(runs, "sst2", "0.5", 1, 0.7, folder=runs / "all/half", noembed=False)
    points = summary.points(cells_of(runs))
    half = points[(points["task"] == "sst2") & (points["pattern"] == "0.5")].set_index("curve")["normalised"]
    assert {curve.split(", ", 2)[2]: round(value, 4) for curve, value in half.items()} == {
        "learning_rate 2e-05, noembed True": 0.775,
        "learning_rate 0.001, noembed True": 0.8,  # by the dense run of its own rate
        "learning_rate 2e-05, noembed False": 0.875,
    }
    assert not points["note"].str.contains("twice").any()
    make_run(runs, "sst2", "0.5", 1, 0.6, folder=runs / "again")
    assert (
        summary.points(cells_of(runs))["note"].str.contains("averaged although a seed occurs twice \\(3 runs\\)").sum()
        == 1
    )


def test_a_setting_that_is_off_adds_nothing_to_a_name(tmp_path):
    make_run(tmp_path, "sst2", "0.5", 1, 0.8, sparse_init="random", folder=tmp_path / "random")
    make_run(tmp_path, "sst2", "0.5", 1, 0.7, mask_file="m.safetensors", sparsity=None)
    cells = cells_of(tmp_path).sort_values("value")
    assert cells["curve"].tolist() == ["sparse transfer, mask file, mask_file m.safetensors", "sparse transfer, random"]
    assert cells["pattern"].tolist() == ["0.5", "0.5"]


def test_a_setting_that_differs_between_tasks_only_is_reported_and_not_in_the_name(tmp_path):
    make_sweep(tmp_path, ["sst2"], ["0.5"], [1], lambda *_: 0.1, max_length=128)
    make_sweep(tmp_path, ["cola"], ["0.5"], [1], lambda *_: 0.1, max_length=512)
    cells = cells_of(tmp_path)
    assert set(cells["curve"]) == {"dense transfer", "sparse transfer, unstructured"}
    rows = differences.differences(cells).values.tolist()
    assert rows == [["max_length", "128", 2, "sst2 100 %"], ["max_length", "512", 2, "cola 100 %"]]
    assert not differences.mixed(cells)


def test_other_code_or_another_machine_inside_one_mean_is_named(runs, tmp_path):
    assert not differences.mixed(cells_of(runs)) and differences.differences(cells_of(runs)).empty
    make_run(runs, "sst2", "0.5", 3, 0.7, commit="def", device="cuda")
    make_run(runs, "sst2", "dense", 3, 0.8, commit="def")
    place = "encoder, sst2, 100 %, sparse transfer, unstructured: 0.5"
    dense = "encoder, sst2, 100 %, dense transfer: dense"
    assert differences.mixed(cells_of(runs)) == [
        f"code_commit differs within a mean: {dense}",
        f"code_commit differs within a mean: {place}",
        f"hardware_device differs within a mean: {place}",
        f"hardware_device is not that of the run it is normalised by: {place}",
    ]
    assert report.main([str(runs), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "summary.md").read_text()
    assert (
        "| code_commit | def | 2 | sst2 100 % |" in text and f"- hardware_device differs within a mean: {place}" in text
    )


def test_changed_code_is_not_taken_for_the_same_code(tmp_path):
    for seed in (1, 2):
        folder = make_run(tmp_path, "sst2", "0.5", seed, 0.6)
        run = json.loads((folder / "run.json").read_text())
        run["code"]["changed"] = True
        (folder / "run.json").write_text(json.dumps(run))
    rows = differences.differences(cells_of(tmp_path)).values.tolist()
    assert rows == [["code_changed", "True: code not identified", 2, "sst2 100 %"]]


def test_what_the_runs_took_is_told_by_model_and_place(runs, tmp_path):
    for folder, seconds in zip(
        sorted(path.parent for path in runs.rglob("all_results.json")), (900, 720, 1980, 1800, 3600)
    ):
        run = json.loads((folder / "run.json").read_text()) | {"timings": {"total": seconds}}
        (folder / "run.json").write_text(json.dumps(run))
    make_run(runs, "sst2", "0.5", 3, 0.7, commit="0123456789abcdef")  # of before there were timings
    change_code(runs, changed=True)
    (nameless,) = (path for path in (runs / "cola").rglob("all_results.json"))
    run = json.loads((nameless.parent / "run.json").read_text())
    (nameless.parent / "run.json").write_text(json.dumps(run | {"hardware": {"device": "cpu"}, "code": None}))
    assert report.main([str(runs), "--out", str(tmp_path)]) == 0
    table, software = (tmp_path / "summary.md").read_text().split("## What the runs took\n\n")[1].split("\n\n")[:2]
    first, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert first == ["model", "task", "data", "runs", "seeds", "hours", "code", "machine"]
    assert rows == [
        ["encoder", "cola", "100 %", "1", "1", "0.2", "unknown", "cpu"],
        [
            "encoder",
            "sst2",
            "100 %",
            "5",
            "1 2 3",
            "2.2 (of 4 runs)",
            "abc and changes (4), 0123456 and changes (1)",
            "a machine",
        ],
    ]
    assert software == "- python 3.11.7, torch 2.13.0 (6 of 6 runs)"


def change_code(root, **changes):
    for path in root.rglob("run.json"):
        run = json.loads(path.read_text())
        path.write_text(json.dumps(run | {"code": run["code"] | changes}))


# --- claims ----------------------------------------------------------------------------------------------------------


def line(task, values, seeds=None, percentage=100.0, sparsities=None):
    values = np.array(values, float)
    sparsities = np.array(sparsities or np.arange(1, values.shape[1] + 1) / 10)
    patterns = tuple(f"{sparsity:g}" for sparsity in sparsities)
    place = (("task", task), ("data", f"{percentage:g} %"))
    return claims.Line("glue", "m", place, "sparse", patterns, sparsities, tuple(seeds or range(len(values))), values)


def test_all_resamples_of_few_seeds_are_counted_with_their_probability():
    for n, distinct in ((1, 1), (2, 3), (3, 10), (4, 35), (6, 462)):
        counts, chances = resampling.resamples(n)
        assert counts.shape == (distinct, n) and (counts.sum(axis=1) == n).all()
        assert chances.sum() == pytest.approx(1)
    counts, chances = resampling.resamples(3)
    assert chances[(counts == [3, 0, 0]).all(axis=1)] == pytest.approx(1 / 27)
    assert chances[(counts == [1, 1, 1]).all(axis=1)] == pytest.approx(6 / 27)
    drawn, _ = resampling.resamples(9)
    assert drawn.shape == (resampling.DRAWS, 9) and (drawn == resampling.resamples(9)[0]).all()


def test_the_exact_interval_is_that_of_drawing():
    values = np.array([0.5, 0.61, 0.7, 0.78, 0.92])
    counts, chances = resampling.resamples(5)
    low, high = resampling.interval(counts @ values / 5, chances, 5)
    drawn = values[np.random.default_rng(1).integers(0, 5, (200_000, 5))].mean(axis=1)
    assert [low, high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.004)
    assert low > values.min()  # of five seeds the interval is no longer their range


def test_the_interval_of_three_seeds_is_their_range_and_of_one_is_none():
    counts, chances = resampling.resamples(3)
    assert resampling.interval(counts @ [1.0, 2.0, 6.0] / 3, chances, 3) == (1, 6)  # 1/27 > 2.5 %
    assert resampling.interval(np.array([1.0]), np.array([1.0]), 1) == (None, None)
    assert (
        resampling.caution(1) == "one seed: no interval"
        and resampling.caution(3) == "3 seeds: 10 distinct resamples, too narrow"
    )


def test_the_loss_of_5_percent_is_read_off_a_straight_line():
    curves = np.array([[1.0, 0.9, 0.5], [0.9, 0.9, 0.9], [1.0, 1.0, 0.95], [0.99, 0.97, 0.87]])
    at = claims.crossing(curves, np.array([0.1, 0.2, 0.3]), (0.0, 1.0))
    assert at.tolist() == pytest.approx([0.15, 0.05, np.inf, 0.22])
    assert claims.crossing(curves[:1], np.array([0.1, 0.2, 0.3]), None).tolist() == pytest.approx([0.15])
    never = claims.loses(line("a", [[1.0, 0.99]]), False)
    assert never["estimate"] == np.inf and never["remark"] == "never up to sparsity 0.2" and never["low"] is None
    early = claims.loses(line("a", [[0.9, 0.8]]), False)
    assert early["remark"] == "between dense and 0.1 (line: 0.050)"
    assert claims.loses(line("a", [[0.9, 0.8]]), True)["remark"] == "at 0.1 or before"
    some = claims.loses(line("a", [[1.0, 1.0], [1.0, 0.9]]), False)  # 0.95 on the mean: not below
    assert some["estimate"] == np.inf and (some["low"], some["high"]) == (pytest.approx(0.15), np.inf)


def test_monotone_is_judged_within_a_tolerance_and_over_resamples():
    steady = claims.falls(line("a", [[1, 0.9, 0.8], [1, 0.95, 0.7]]))
    assert (steady["estimate"], steady["share"]) == (pytest.approx(-1), pytest.approx(1))
    assert claims.falls(line("a", [[1, 0.9, 0.905]]))["share"] is None  # one seed
    # one seed of two rises by 10 points, the other falls by 12: the mean falls
    # it rises only in the resample of the first alone
    mixed = claims.falls(line("a", [[1, 0.8, 0.9], [1, 0.8, 0.68]]))
    assert (
        mixed["share"] == pytest.approx(3 / 4)
        and "falls by 21.0 points from first to last, largest rise 0.0" in mixed["remark"]
    )
    assert np.isnan(claims.falls(line("a", [[1, 1, 1]]))["estimate"])


def test_a_gap_is_paired_by_seed_where_seeds_match():
    easy = line("easy", [[0.9, 0.8], [0.8, 0.7], [0.7, 0.6]], seeds=[1, 2, 3])
    hard = line("hard", [[0.8, 0.6], [0.7, 0.5], [0.6, 0.4]], seeds=[1, 2, 3])
    mean, *each = claims.gaps(easy, hard)
    assert mean["estimate"] == pytest.approx(0.15) and mean["paired"]
    assert (mean["low"], mean["high"]) == pytest.approx((0.15, 0.15))  # every seed has the same gap
    assert (mean["t_low"], mean["t_high"]) == pytest.approx((0.15, 0.15))
    assert [(row["pattern"], round(row["estimate"], 9)) for row in each] == [("0.1", 0.1), ("0.2", 0.2)]
    apart = claims.gaps(easy, line("hard", hard.values, seeds=[4, 5, 6]))[0]
    assert apart["estimate"] == pytest.approx(0.15) and not apart["paired"]
    assert apart["low"] < 0.15 < apart["high"]  # the spread over seeds no longer cancels
    assert claims.gaps(hard, easy)[0]["estimate"] == pytest.approx(-0.15)
    # one seed in common is no reason to leave out the others; of curves that have no more it is all there is
    some = claims.gaps(easy, line("hard", hard.values[:2], seeds=[3, 9]))[0]
    assert (some["seeds_a"], some["seeds_b"], some["paired"]) == (3, 2, False)
    assert some["estimate"] == pytest.approx(0.75 - 0.65)
    one = claims.gaps(easy, line("hard", hard.values[:1], seeds=[3]))[0]
    assert (one["seeds_a"], one["low"], one["t_low"], one["paired"]) == (1, None, None, True)
    assert one["estimate"] == pytest.approx((-0.1 + 0.0) / 2)


def test_student_s_interval_is_the_textbook_s():
    low, high = resampling.student(np.array([0.1, 0.2, 0.3]))
    assert [low, high] == pytest.approx([0.2 - 4.302653 * 0.1 / 3**0.5, 0.2 + 4.302653 * 0.1 / 3**0.5])
    assert resampling.student(np.array([0.1])) == (None, None)


def test_welch_s_interval_is_the_textbook_s():
    low, high = resampling.welch(np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.9]))
    error, freedom = (0.01 / 3 + 0.08 / 2) ** 0.5, (0.01 / 3 + 0.04) ** 2 / ((0.01 / 3) ** 2 / 2 + 0.04**2)
    half = scipy.stats.t.ppf(0.975, freedom) * error
    assert [low, high] == pytest.approx([-0.5 - half, -0.5 + half])
    assert resampling.welch(np.array([0.3, 0.3]), np.array([0.1, 0.1])) == pytest.approx((0.2, 0.2))  # no spread
    assert resampling.welch(np.array([0.1, 0.3]), np.array([0.2])) == (None, None)


def test_unpaired_seeds_of_one_distribution_are_seldom_told_apart():
    draw, told = np.random.default_rng(0), {"low": 0, "t_low": 0}
    for _ in range(200):
        a, b = (
            line(name, draw.normal(0.8, 0.1, (3, 2)), seeds=seeds)
            for name, seeds in (("a", [1, 2, 3]), ("b", [4, 5, 6]))
        )
        mean = claims.gaps(a, b)[0]
        for low in told:
            told[low] += not mean[low] <= 0 <= mean[low.replace("low", "high")]
        table = pd.DataFrame([mean], columns=claims.columns(["task", "data"]))
        said = tables.verdict(next(table.itertuples()))
        assert (said != "not decided") == (not mean["t_low"] <= 0 <= mean["t_high"])
    assert told["t_low"] <= 0.07 * 200 < 0.12 * 200 <= told["low"]


NAN = float("nan")


def test_a_sparsity_that_no_run_has_is_left_out_and_counted():
    holed = line("a", [[1, NAN, 0.8], [1, NAN, 0.6]])
    mean, *each = claims.gaps(holed, line("b", [[1, 1, 1], [1, 1, 1]]))
    assert [row["pattern"] for row in each] == ["0.1", "0.3"] and mean["estimate"] == pytest.approx(-0.15)
    assert mean["remark"] == "2 of 3 sparsities"
    fall, loss = claims.alone(holed, False)
    assert loss["estimate"] == pytest.approx(0.1 + 0.2 * 0.05 / 0.3)  # the line is over sparsities, not positions
    assert "on 2 of 3 sparsities, 2 of 2 seeds" in fall["remark"] and "between 0.1 and 0.3" in loss["remark"]


def test_seeds_that_lack_a_sparsity_make_no_fall_and_no_gap():
    # both curves are flat in every seed; seed 3 lies lower and has only the last sparsity, or lacks it
    uneven = line("a", [[1, 1, 1], [1, 1, 1], [NAN, NAN, 0.7]])
    fall, loss = claims.alone(uneven, False)
    assert (
        loss["estimate"] == np.inf
        and fall["remark"].startswith("changes by less than 0.1 points")
        and fall["seeds_a"] == 2
    )
    assert "on 3 of 3 sparsities, 2 of 3 seeds" in fall["remark"]
    lower = line("b", [[1, 1, 1], [1, 1, 1], [0.7, 0.7, NAN]])
    mean, *each = claims.gaps(uneven, lower)
    assert mean["estimate"] == 0 and len(each) == 3 and mean["seeds_a"] == 2
    assert mean["remark"] == "3 sparsities, 2 of 3 seeds"
    # nothing is carried on past the end of a curve
    short = claims.alone(line("a", [[1, 0.9, NAN]]), False)[0]
    assert "on 2 of 3 sparsities" in short["remark"] and np.isnan(short["estimate"])
    (none,) = claims.alone(line("a", [[1, NAN], [NAN, 1]]), False)
    assert (none["claim"], none["remark"]) == ("left out", "no seed has two of its sparsities")
    # three seeds with one sparsity are more runs than one with two, and no curve
    fall, loss = claims.alone(line("a", [[1, 0.9], [1, NAN], [1, NAN]]), False)
    assert fall["seeds_a"] == 1 and "on 2 of 2 sparsities, 1 of 3 seeds" in fall["remark"]


def test_a_base_that_is_100_by_definition_is_not_counted_in_a_gap():
    a, b = line("a", [[1, 0.8, 0.6]]), line("b", [[1, 1, 1]])
    mean, *each = claims.gaps(a, b, first=True)
    assert [row["pattern"] for row in each] == ["0.2", "0.3"] and mean["estimate"] == pytest.approx(-0.3)


def test_the_used_seeds_decide_on_the_interval():
    # three seeds, but only one has every sparsity: no interval of width zero
    fall, loss = claims.alone(line("a", [[1, 0.9, 0.8, 0.7], [1, NAN, NAN, NAN], [1, NAN, NAN, NAN]]), False)
    assert (loss["low"], loss["high"], loss["seeds_a"], fall["share"]) == (None, None, 1, None)
    mean = claims.gaps(line("a", [[1, 0.9], [1, NAN]], seeds=[1, 2]), line("b", [[1, 1], [1, 1]], seeds=[3, 4]))[0]
    assert not mean["paired"] and (mean["seeds_a"], mean["seeds_b"], mean["remark"]) == (
        2,
        2,
        "1 of 2 sparsities",
    )
    assert claims.complete(np.array([[1, 1, NAN], [1, 1, NAN], [1, 1, 1]])) == ([0, 1, 2], [0, 1])
    assert claims.complete(np.full((2, 3), NAN)) == ([], [])


def test_more_lost_is_said_only_if_the_interval_excludes_0():
    def says(a, b):
        rows = [*claims.gaps(a, b)]
        return tables.two_by_two(pd.DataFrame(rows, columns=claims.columns(["task", "data"]))).rows[0][7]

    flat = line("flat", [[1, 1], [1, 1], [1, 1]])
    assert says(line("steep", [[0.8, 0.8], [0.79, 0.79], [0.81, 0.81]]), flat) == "steep 100 % lost more"
    assert says(line("noisy", [[0.99, 0.6], [0.99, 0.99], [1.1, 1]]), flat) == "not decided"
    assert says(line("once", [[0.8, 0.8]]), line("flat", [[1, 1]])) == "not decided"
    assert says(line("apart", [[0.8, 0.8], [0.79, 0.79]], seeds=[7, 8]), flat) == "apart 100 % lost more"


def test_a_pair_on_other_shares_or_settings_says_so():
    a, b = line("a", [[1, 1]]), line("b", [[1, 1]], percentage=10.0)
    assert claims.gaps(a, b)[0]["remark"] == "2 sparsities; data differs too"
    assert claims.gaps(a, line("a", [[1, 1]], percentage=10.0))[0]["remark"] == "2 sparsities"  # what the pair is about
    a = replace(a, settings=(("learning_rate", "2e-05"), ("noembed", "True")))
    other = replace(line("b", [[1, 1]]), settings=(("learning_rate", "1e-3"), ("noembed", "True")))
    assert claims.gaps(a, other)[0]["remark"] == "2 sparsities; settings differ: learning_rate"


def test_pairs_at_one_place_differ_in_the_treatment_or_in_the_method_alone():
    def curve(treatment, kind, settings="", task="sst2"):
        named = {"treatment": treatment, "kind": kind, "curve": f"{treatment}, {kind}{settings}"}
        return replace(line(task, [[1, 0.9], [1, 0.8]]), **named)

    sparse, frozen = curve("sparse", "unstructured"), curve("frozen", "unstructured")
    others = [curve("sparse", "random"), curve("sparse", "per row"), curve("sparse", "N:M"), curve("frozen", "random")]
    slow = [curve(one, "unstructured", ", learning_rate 1e-5") for one in ("sparse", "frozen")]
    elsewhere = curve("frozen", "unstructured", task="rte")
    made = [sparse, frozen, *others, *slow, elsewhere]
    said = [pairs.named(a, b) for a, b in pairs.pairs(made)]
    assert [(pair["curve"], pair["a"], pair["b"]) for pair in said] == [
        ("unstructured", "sst2 100 %, sparse", "sst2 100 %, frozen"),
        ("sparse, unstructured", "sst2 100 %, magnitude", "sst2 100 %, random"),
        ("sparse, unstructured", "sst2 100 %, magnitude", "sst2 100 %, per row"),
        ("frozen, unstructured", "sst2 100 %, magnitude", "sst2 100 %, random"),
        ("frozen, unstructured", "sst2 100 %", "rte 100 %"),
        ("random", "sst2 100 %, sparse", "sst2 100 %, frozen"),
        ("unstructured, learning_rate 1e-5", "sst2 100 %, sparse", "sst2 100 %, frozen"),
    ]


def test_pairs_are_tasks_on_equal_shares_and_shares_of_one_task():
    a, b, c = line("a", [[1, 1]]), line("b", [[1, 1]]), line("b", [[1, 1]], percentage=10.0)
    assert [tuple(names.place_words(one.place) for one in pair) for pair in claims.pairs([a, b, c])] == [
        ("a 100 %", "b 100 %"),
        ("b 100 %", "b 10 %"),
    ]
    assert len(claims.pairs([a, c])) == 1  # they share nothing: compared all the same, the shares are named


def test_the_claims_of_a_tree(tmp_path, capsys):
    steep = {"cola": 1.0, "sst2": 0.2}
    make_sweep(
        tmp_path / "runs",
        steep,
        ["0.3", "0.6", "0.9"],
        [1, 2, 3],
        lambda task, sparsity, seed: sparsity * steep[task] * 0.9,
    )
    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "claims.csv")
    mean = table[(table["claim"] == "mean gap") & (table["measure"] == "normalised")].iloc[0]
    by_seed = [-0.8 * 0.9 * 0.6 / dense for dense in (0.9, 0.91, 0.92)]
    assert mean["estimate"] == pytest.approx(np.mean(by_seed))
    assert (mean["low"], mean["high"]) == pytest.approx((min(by_seed), max(by_seed)))
    lost = table[(table["claim"] == "loses 5 %") & (table["measure"] == "normalised")].set_index("task_a")["estimate"]
    assert lost["cola"] == pytest.approx(0.05 / np.mean([0.9 / dense for dense in (0.9, 0.91, 0.92)]))
    text = (tmp_path / "claims.md").read_text()
    assert "| cola 100 % - sst2 100 % | sparse transfer, unstructured | -47.5 | [-48.0, -47.0] |" in text
    assert "cola 100 % lost more" in text and "3 seeds: 10 distinct resamples, too narrow" in text
    assert "-100.0" not in text and text.split("# Claims")[1].strip() in (tmp_path / "summary.md").read_text()


def test_one_seed_says_so(tmp_path):
    make_sweep(tmp_path / "runs", ["cola", "sst2"], ["0.3", "0.6"], [1], lambda task, sparsity, seed: sparsity / 10)
    text = tables.claims(claims.both(cells_of(tmp_path / "runs")))
    assert text.count("one seed: no interval") == 6 and "| none |" in text


# --- figures and published curves ------------------------------------------------------------------------------------


def test_the_figure_is_the_same_twice_and_goes_where_it_is_told(runs, tmp_path):
    make_sweep(runs, ["qnli"], ["7:8", "1:8"], [1, 2], lambda task, sparsity, seed: sparsity / 3)
    images = []
    for name in ("a", "b"):
        chosen = tmp_path / name / "deep" / "Task.png"
        assert report.main([str(runs), "--out", str(tmp_path / name), "--figure", str(chosen), "--published"]) == 0
        assert chosen.read_bytes() == (tmp_path / name / "curves.png").read_bytes()
        images.append([(tmp_path / name / file).read_bytes() for file in report.FILES])
    assert images[0] == images[1]
    assert images[0][4].startswith(b"\x89PNG") and b"<svg" in images[0][5]


def test_the_panels_are_tasks_by_kind_and_a_hole_breaks_the_line(tmp_path):
    make_sweep(tmp_path, ["qnli", "sst2"], ["0.1", "0.5", "0.9"], [1, 2], lambda task, sparsity, seed: sparsity / 3)
    for seed in (1, 2):
        make_run(tmp_path, "sst2", "0.7", seed, None, status="failed")
        make_run(tmp_path, "sst2", "1:8", seed, 0.6)
    figure = figures.draw(summary.points(cells_of(tmp_path)), None, False)
    grid = [(panel.get_title(), panel.get_xlabel()[:8]) for panel in figure.axes]
    tasks = ("qnli (accuracy)", "sst2 (accuracy)")
    assert grid == [*((task, "sparsity") for task in tasks), ("", ""), (tasks[1], "N:M, N k")]
    assert [panel.axison for panel in figure.axes] == [True, True, False, True]  # no N:M run of qnli: left blank
    assert figure.axes[3].get_ylabel() == figure.axes[0].get_ylabel()
    (curve,) = figure.axes[1].containers
    x, y = curve.lines[0].get_data()
    assert (
        x.tolist() == [10, 50, 70, 90]
        and np.isnan(y[2])
        and y[1] == pytest.approx(100 * np.mean([1 - 0.5 / 3 / 0.9, 1 - 0.5 / 3 / 0.91]))
    )
    assert [label.get_text() for label in figure.axes[3].get_xticklabels()] == ["1:8"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "dense transfer",
        "sparse transfer",
        figures.CHANCE,
    ]
    chance = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert chance == pytest.approx([100 * np.mean([0.5 / 0.9, 0.5 / 0.91])])
    assert figure.get_suptitle() == "encoder" and figure.axes[0].get_ylabel() == "% of dense, mean ± std, 2 seeds"


def test_a_row_of_panels_of_which_none_has_a_run_is_left_out(tmp_path):
    tasks = ["cola", "mrpc", "qnli", "qqp", "rte", "sst2"]
    make_sweep(tmp_path, tasks, ["0.1", "0.5"], [1], lambda task, sparsity, seed: sparsity / 3)
    make_run(tmp_path, "cola", "1:8", 1, 0.6)
    figure = figures.draw(summary.points(cells_of(tmp_path)), None, False)
    rows = [panel.get_xlabel()[:3] for panel in figure.axes[::3]]
    assert sorted(rows) == ["N:M", "spa", "spa"] and len(figure.axes) == 9


def test_a_ratio_to_a_tiny_base_does_not_flatten_the_other_panels(tmp_path):
    make_sweep(tmp_path, ["sst2"], ["0.1", "0.5"], [1], lambda task, sparsity, seed: sparsity / 3)
    make_run(tmp_path, "cola", "dense", 1, 0.01)
    make_run(tmp_path, "cola", "0.1", 1, 0.25)
    make_run(tmp_path, "cola", "0.5", 1, -0.02)
    figure = figures.draw(summary.points(cells_of(tmp_path)), None, False)
    assert figure.axes[0].get_ylim() == (scales.LOW, scales.HIGH)
    assert [text.get_text() for text in figure.axes[0].texts] == ["2500", "-200"]
    entry = figure.legends[0].legend_handles[1]
    assert type(entry).__name__ == "Line2D"  # one seed: no bar in the legend either
    assert figures.OUTSIDE in [text.get_text() for text in figure.legends[0].get_texts()]
    assert figure.axes[0].get_ylabel() == "% of dense, one seed"
    caps = [cap.get_ydata() for curve in figure.axes[1].containers for cap in curve.lines[1]]
    assert len(caps) == 2 and np.isnan(caps).all()  # one seed: no bar, not one of length 0


def test_a_bar_that_leaves_the_axis_is_marked_and_bars_of_two_kinds_are_named_panel_by_panel(tmp_path):
    make_sweep(tmp_path, ["cola", "sst2"], ["0.1", "0.5"], [1, 2], lambda *_: 0.1)
    points = summary.points(cells_of(tmp_path))
    alone = (points["kind"] != "dense") & points["place"].map(lambda place: dict(place)["task"] == "sst2").astype(bool)
    points.loc[alone, ["questions", "unit"]] = [500, "questions"]
    points.loc[alone, "ratio_low"] = points["ratio"] - 0.1
    points.loc[alone, "ratio_high"] = points["ratio"] + points["sparsity"].map({0.1: 0.1, 0.5: 0.6})
    figure = figures.draw(points, None, False)
    cola, sst2 = figure.axes
    assert cola.get_ylabel() == "% of dense, mean ± std, 2 seeds"
    assert sst2.get_ylabel() == "% of dense,\n95 % interval over 500 questions"
    end = 100 * points.loc[alone & (points["pattern"] == "0.5"), "ratio_high"].item()
    assert end > scales.HIGH and [text.get_text() for text in sst2.texts] == [f"{end:.0f}"] and not cola.texts
    assert figures.OUTSIDE in [text.get_text() for text in figure.legends[0].get_texts()]
    points.loc[alone, "questions"] = 0
    assert figures.draw(points, None, False).axes[1].get_ylabel() == ""  # the same bars: its neighbour says it


def test_a_point_that_lacks_a_dense_run_is_hollow(tmp_path):
    make_sweep(tmp_path, ["sst2"], ["0.1", "0.5"], [1, 2], lambda task, sparsity, seed: sparsity / 3)
    points = summary.points(cells_of(tmp_path))

    def words(points) -> list[str]:
        return [text.get_text()[:6] for text in figures.draw(points, None, False).legends[0].get_texts()]

    assert "hollow" not in words(points)
    make_run(tmp_path, "sst2", "0.1", 3, 0.8)  # its dense run is missing
    make_run(tmp_path, "sst2", "0.5", 3, 0.8)
    points = summary.points(cells_of(tmp_path))
    assert "hollow" in words(points) and points.iloc[1]["seeds"] == points.iloc[1]["expected"] == 3


def titles_and_lines(root) -> list[tuple]:
    """The title of every panel that a figure has, with the number of its curves, and the legend without the rest."""
    figure = figures.draw(summary.points(cells_of(root)), None, False)
    panels = [(panel.get_title(), len(panel.containers)) for panel in figure.axes if panel.axison]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    return [panels, [word for word in words if not word.startswith(("dense transfer", "chance", "ringed"))]]


def test_a_share_of_its_own_for_each_task_stands_in_the_panel_s_title(tmp_path):
    make_sweep(tmp_path, ["cola"], ["0.1"], [1], lambda *_: 0.1)
    make_sweep(tmp_path, ["sst2"], ["0.1"], [1], lambda *_: 0.1, percentages=(10.0,))
    panels, legend = titles_and_lines(tmp_path)
    assert panels == [("cola, 100 % (matthews correlation)", 1), ("sst2, 10 % (accuracy)", 1)]
    assert legend == ["sparse transfer"]


def test_transfers_at_several_shares_have_a_grid_of_panels_and_shares_alone_are_lines(tmp_path):
    shares = dict(percentages=(10.0, 100.0, 50.0))
    make_sweep(tmp_path, ["qnli", "sst2"], ["0.1"], [1], lambda *_: 0.1, **shares)
    assert titles_and_lines(tmp_path) == [
        [("qnli (accuracy)", 3), ("sst2 (accuracy)", 3)],
        ["sparse transfer, data 10 %", "sparse transfer, data 50 %", "sparse transfer, data 100 %"],
    ]
    for task, share in product(["qnli", "sst2"], shares["percentages"]):
        folder = tmp_path / "free" / task / str(share)
        make_run(None, task, "0.1", 1, 0.6, percentage=share, freeze_weights=False, folder=folder)
    panels, legend = titles_and_lines(tmp_path)
    assert panels == [(f"{task}, {share} % (accuracy)", 2) for task in ("qnli", "sst2") for share in (10, 50, 100)]
    assert legend == ["sparse transfer", "sparse-to-dense transfer"]


def test_what_is_spared_is_named_as_it_is_given(tmp_path):
    make_sweep(tmp_path, ["sst2"], ["0.1"], [1], lambda *_: 0.1)
    spared = ["pooler", "^classifier"]
    make_run(tmp_path / "spared", "sst2", "0.1", 1, 0.7, prune_exclude=spared, newest=True)
    make_run(tmp_path / "brackets", "sst2", "0.1", 1, 0.7, prune_exclude="[ab]", newest=True)
    make_run(tmp_path / "space", "sst2", "0.1", 1, 0.7, prune_exclude=["pooler ^classifier"], newest=True)
    make_run(tmp_path / "none", "sst2", "0.1", 1, 0.7, prune_exclude=["None"], newest=True)
    _, legend = titles_and_lines(tmp_path)
    spared = ["[ab]", "pooler ^classifier", "'pooler ^classifier'", "'None'"]
    named = ["sparse transfer", *(f"sparse transfer, prune_exclude {one}" for one in spared)]
    assert sorted(legend) == sorted(named)


def test_the_page_takes_the_looks_of_the_figure(tmp_path):
    make_sweep(tmp_path, ["sst2"], ["0.1"], [1], lambda *_: 0.1, percentages=(10.0, 100.0))
    points = summary.points(cells_of(tmp_path))
    pruned = points[points["kind"] != "dense"].assign(line=looks.line_names, rest=looks.rests)
    made = looks.looks(pruned)
    order = [(look["line"], dict(look["rest"])["data"], look["mark"], look["dash"]) for look in made]
    assert order == [("sparse transfer", "10 %", 0, 0), ("sparse transfer", "100 %", 1, 1)]
    styles = list(figures.line_styles(pruned).values())
    assert [style["marker"] for style in styles] == list(figures.MARKERS[:2])


def test_the_published_points_are_those_that_are_not_doubtful():
    table = published.read()
    assert len(table) == 1180 - 39 and table["value"].notna().all() and table["sparsity"].between(0, 0.9).all()
    assert table["figure"].value_counts().to_dict() == {
        "setting1": 240, "setting2": 60, "setting3": 141, "setting4": 159, "true_gem": 267, "true_gem_tasks": 274,
    }  # fmt: skip
    assert set(table["base"]) == {"own first point", "dense", "change relative to dense"}
    first = table[(table["base"] == "own first point") & (table["pattern"] == "10")]
    assert len(first) == 33 and (first["value"] == 100).all()


def test_published_curves_stand_beside_the_same_task_share_and_transfer(tmp_path):
    fall = lambda task, sparsity, seed: sparsity / 10  # noqa: E731
    make_sweep(tmp_path, ["cola", "sst2"], ["0.1", "0.9", "1:8"], [1], fall)
    make_sweep(tmp_path, ["sst2", "wnli"], ["0.1"], [1], fall, percentages=(10.0,))
    points = summary.points(cells_of(tmp_path))
    overlay = published.beside(points)
    own = overlay.assign(task=[dict(place)["task"] for place in overlay["place"]])
    found = set(own[["task", "data", "kind", "model", "base"]].itertuples(index=False, name=None))
    assert found == {
        ("cola", "100 %", "unstructured", "roberta-large", "dense"),
        ("cola", "100 %", "N:M", "roberta-large", "dense"),
        ("sst2", "100 %", "unstructured", "roberta-large", "dense"),
        ("sst2", "100 %", "unstructured", "roberta-base", "own first point"),
        ("sst2", "100 %", "N:M", "roberta-large", "dense"),
        ("sst2", "100 %", "N:M", "roberta-base", "dense"),
        ("sst2", "10 %", "unstructured", "roberta-base", "own first point"),
    }
    assert not own.duplicated(["task", "data", "kind", "model", "base", "pattern"]).any()
    figure = figures.draw(points, overlay, False)
    drawn = [line for line in figure.axes[0].lines if line.get_linewidth() == 0.9]
    assert len(drawn) == 1 and drawn[0].get_ydata()[-1] == 0 and len(drawn[0].get_ydata()) == 9  # CoLA at 90 %
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert (
        "published, roberta-base (100 % = own 10 % point)" in words
        and "published, roberta-large (100 % = dense)" in words
    )
    make_sweep(tmp_path / "mnli", ["mnli"], ["0.1", "0.2"], [1], fall)
    mnli = summary.points(cells_of(tmp_path / "mnli"))
    assert figures.draw(mnli, None, False).axes[0].get_title() == "mnli (accuracy)"
    titled = figures.draw(mnli, published.beside(mnli), False).axes[0]
    assert titled.get_title() == "mnli (accuracy; published, mismatched set)"
    freezing = {"freeze_weights": False}
    make_sweep(tmp_path / "gem", ["sst2"], ["4:8", "2:8"], [1], fall, **freezing)
    gem = published.beside(summary.points(cells_of(tmp_path / "gem")))
    large = gem[gem["model"] == "roberta-large"].set_index("pattern")["value"]
    assert large.isna().sum() == 3 and large["2:8"] == 72.9  # a doubtful point is a gap in the line
    assert published.beside(summary.points(cells_of(tmp_path / "wnli"))).empty


def look(line: str, family: str = "glue", rest: tuple = ()) -> dict:
    return {"family": family, "line": line, "treatment": line.split(", ")[0], "rest": rest}


def test_a_published_curve_takes_the_look_of_its_own_family_s():
    there = [look("sparse transfer", "glue"), look("sparse transfer", "reasoning")]
    assert [overlays.beside(curve, there) for curve in there] == [[0], [1]]
    assert overlays.beside(look("sparse transfer", "qa"), there) == []


def test_of_two_curves_a_published_one_stands_beside_that_with_the_settings_of_the_others():
    control = [look("free"), look("free, rate 2e-5"), look("sparse, rate 5e-5"), look("frozen, rate 5e-5")]
    assert overlays.beside(look("free"), control) == [0]  # of its very name
    control[0] = look("free, rate 5e-5")
    assert overlays.beside(look("free"), control) == [0]
    assert overlays.beside(look("free"), control[:2]) == [0, 1]  # nothing decides
    assert overlays.beside(look("free", rest=(("data", "10 %"),)), control) == []


def test_published_curves_of_another_base_or_model_have_a_dash_of_their_own(tmp_path):
    make_sweep(tmp_path, ["cola", "sst2"], ["0.1", "0.9", "1:8"], [1], lambda task, sparsity, seed: sparsity / 10)
    points = summary.points(cells_of(tmp_path))
    figure = figures.draw(points, published.beside(points), False)
    entries = zip(figure.legends[0].get_texts(), figure.legends[0].legend_handles)
    theirs = {text.get_text(): str(line._dash_pattern) for text, line in entries if published.OF in text.get_text()}
    assert len(theirs) == len(set(theirs.values())) == 3
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[:2] == ["dense transfer", "sparse transfer"] and words[2:5] == list(theirs)
    assert words[5:] == [figures.CHANCE + figures.OURS]


def test_published_curves_of_reasoning_stand_beside_runs_that_have_no_share():
    for name, metric in (("commonsense_qa", "accuracy"), ("mawps", "value_accuracy"), ("svamp", "value_accuracy")):
        theirs = published.points_at(published.read(), (("task", name),))
        assert len(theirs) >= 16 and theirs["metric"].unique().tolist() == [metric]
        assert published.comparable(theirs, metric).all()
    for place in ((("task", "winogrande"), ("size", "m")), (("task", "svamp"), ("data", "10 %")), (("pair", "en-fr"),)):
        assert published.points_at(published.read(), place).empty


def test_published_curves_are_not_laid_over_another_metric_and_their_absence_is_said(tmp_path, capsys):
    runs = tmp_path / "runs"
    make_run(runs, "sst2", "0.1", 1, 0.9)
    make_run(runs, "qqp", "0.1", 1, 0.9, extra={"eval_f1": 0.8})
    make_run(runs, "sst2", "0.1", 1, 0.9, percentage=33.0)
    points = summary.points(cells_of(runs, metric="f1"))
    overlay = published.beside(points)
    assert {dict(place)["task"] for place in overlay["place"]} == {"sst2"}
    assert report.main([str(runs), "--out", str(tmp_path), "--published", "--metric", "f1"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("--published")]
    assert said == [
        "--published: no curve of qqp 100 %, not by f1",
        "--published: no curve of sst2 33 %",
    ]


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nowhere"], "RUNS nowhere: no such folder"),
        (["empty"], "RUNS empty: no finished run in there"),
        (["runs", "--out", "file"], "--out file: cannot be a folder to write to"),
        (["runs", "--figure", "curves.jpg"], "--figure curves.jpg: must end in .png, .svg, .pdf"),
        (["runs", "--figure", "file/curves.png"], "--figure file: cannot be a folder to write to"),
        (["runs", "--metric", "bleu"], "--metric bleu: no run has it; allowed: accuracy"),
    ],
)
def test_a_mistake_is_one_line(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").write_text("")
    make_run("runs", "sst2", "0.5", 1, 0.6)
    assert report.main(argv) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1
    assert not Path("summary.csv").exists()


def test_an_unknown_choice_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        report.main(["runs", "--normalise", "median"])
    assert stop.value.code == 2 and "choose from" in capsys.readouterr().err


def test_help_answers_at_once_and_names_every_option():
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "junkdna.report", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and time.perf_counter() - start < 5
    assert set(re.findall(r"^  (--\w+)", done.stdout, re.MULTILINE)) == {
        "--out",
        "--normalise",
        "--metric",
        "--scale",
        "--published",
        "--figure",
    }
    heavy = ("pandas", "matplotlib", "plotly", "torch")
    loaded = f"import sys, junkdna.report.__main__; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_changed_settings_of_old_records_are_read(tmp_path):
    folder = make_run(tmp_path, "sst2", "0.5", 1, 0.6)
    change(folder, task_name=None, train_file="some/where/easy/train.csv")
    assert cells_of(tmp_path)["task"].tolist() == ["easy"]


def test_the_tree_of_the_readme_names_every_file_of_the_report():
    tree = (ROOT / "README.md").read_text().split("## Where things are")[1].split("```")[1]
    files = {path.name for path in (ROOT / "junkdna/report").iterdir() if path.is_file()} - {"__init__.py"}
    assert len(files) > 10 and all(name in tree for name in files), files


# --- where curves do not agree in their points -----------------------------------------------------------------------


def test_curves_that_begin_at_other_sparsities_are_not_compared_by_their_first_points(tmp_path):
    """A curve that is measured at 0.1 too has not lost more for that."""
    values = {"0.1": 0.9, "0.2": 0.88, "0.3": 0.8, "0.5": 0.7}
    for seed, (pattern, value) in product((1, 2, 3), values.items()):
        make_run(tmp_path, "sst2", pattern, seed, value + seed / 1000)
        if pattern in ("0.3", "0.5"):
            make_run(tmp_path, "qqp", pattern, seed, value + seed / 1000)
    found = claims.both(cells_of(tmp_path, first=True), first=True)
    assert not set(found["claim"]) & {"gap", "mean gap"}
    said = found[found["claim"] == "left out"]
    words = "not compared with sst2 100 %, whose first point is at 0.1, and this one's at 0.3"
    assert said["a"].tolist() == ["qqp 100 %"] * 2 and said["remark"].tolist() == [words] * 2
    assert words in tables.claims(found, True)


def test_dense_runs_lack_no_base_where_the_first_point_is_the_base(tmp_path):
    for pattern, value in (("dense", 0.9), ("0.1", 0.9), ("0.5", 0.8)):
        make_run(tmp_path, "sst2", pattern, 1, value)
    assert set(cells_of(tmp_path, first=True)["base_remark"]) == {""}


def test_patterns_of_equal_sparsity_are_no_step(tmp_path):
    """2:4 and 4:8 are equally sparse: that the one keeps less than the other is not a rise with sparsity."""
    values = {"dense": 0.9, "7:8": 0.89, "2:4": 0.8, "4:8": 0.84, "1:4": 0.7, "2:8": 0.76}
    for seed, (pattern, value) in product((1, 2), values.items()):
        make_run(tmp_path, "sst2", pattern, seed, value)
    found = claims.claims(cells_of(tmp_path)).set_index("claim")
    assert found.loc["monotone fall", ["estimate", "share"]].tolist() == pytest.approx([-1, 1])
    fall = 100 * (0.89 - 0.73) / 0.9
    assert found.loc["monotone fall", "remark"] == f"falls by {fall:.1f} points from first to last, largest rise 0.0"
    assert found.loc["loses 5 %", "remark"].startswith("between 7:8 and 2:4, 4:8 (line: 0.")


def test_a_curve_of_one_sparsity_makes_no_claim(tmp_path):
    for seed, (pattern, value) in product((1, 2), {"dense": 0.9, "2:4": 0.8, "4:8": 0.84}.items()):
        make_run(tmp_path, "sst2", pattern, seed, value)
    found = claims.claims(cells_of(tmp_path))
    assert found["remark"].tolist() == ["all of its patterns have one sparsity"]


def test_a_few_sparsities_of_several_seeds_beat_many_of_one():
    values = np.full((3, 9), np.nan)
    values[0], values[:, [4, 6]] = 0.5, 0.6
    assert resampling.complete(values) == ([0, 1, 2], [4, 6])
    values[1] = 0.5
    assert resampling.complete(values) == ([0, 1], list(range(9)))
    assert resampling.complete(values[:1]) == ([0], list(range(9)))


def test_a_setting_that_is_an_empty_list_is_one_that_the_record_of_before_lacks(tmp_path):
    make_run(tmp_path, "sst2", "dense", 1, 0.9)
    make_run(tmp_path, "sst2", "0.5", 1, 0.45, text_columns=[])
    assert points_of(tmp_path).loc[("sst2", "0.5"), "normalised"] == pytest.approx(0.5)


def test_an_empty_list_differs_from_one_that_is_not(tmp_path):
    make_run(tmp_path, "sst2", "0.5", 1, 0.9, prune_exclude=["pooler"])
    make_run(tmp_path, "cola", "0.5", 1, 0.5, prune_exclude=[])
    rows = differences.differences(cells_of(tmp_path)).values.tolist()
    assert sorted(row[1] for row in rows if row[0] == "prune_exclude") == ["['pooler']", "[]"]


def test_a_folder_that_is_called_by_a_number_without_its_zero_is_read(tmp_path):
    make_run(tmp_path, "sst2", "0.5", 1, 0.9, folder=tmp_path / "runs" / ".5")
    make_run(tmp_path, "sst2", "0.5", 1, 0.8, folder=tmp_path / "runs" / "1" / ".previous")
    cells, unreadable = collect.collect([str(tmp_path / "runs")])
    assert cells["folder"].tolist() == [".5"] and not unreadable


def test_curves_that_differ_in_one_setting_are_compared_and_called_by_it(tmp_path):
    for seed, rate, (pattern, value) in product((1, 2), (1e-5, 5e-5), {"dense": 0.9, "0.5": 0.8, "0.7": 0.7}.items()):
        folder = tmp_path / str(rate) / pattern / str(seed)
        lower = 0.09 * (rate == 5e-5 and pattern != "dense")
        make_run(tmp_path, "sst2", pattern, seed, value - lower, learning_rate=rate, folder=folder)
    found = claims.claims(cells_of(tmp_path))
    mean = found[found["claim"] == "mean gap"].iloc[0]
    assert (mean["a"], mean["b"]) == ("sst2 100 %, learning_rate 1e-05", "sst2 100 %, learning_rate 5e-05")
    assert (mean["curve"], mean["remark"]) == ("sparse transfer, unstructured", "2 sparsities")
    assert mean["estimate"] == pytest.approx(0.1)
    for seed, (pattern, value) in product((1, 2), {"dense": 0.9, "0.5": 0.8, "0.7": 0.7}.items()):  # another in two
        folder = tmp_path / "two" / pattern / str(seed)
        make_run(tmp_path, "sst2", pattern, seed, value, learning_rate=2e-5, num_train_epochs=9, folder=folder)
    found = claims.claims(cells_of(tmp_path))
    assert len(found[found["claim"] == "mean gap"]) == 1
