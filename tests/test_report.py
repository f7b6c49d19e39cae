"""The report of a tree of runs that were made up, so that every number can be worked out by hand."""

import json

import pandas as pd
import pytest

from junkdna import records, report


def made_up(folder, task, pattern, seed, accuracy, sparsity, status="done", **more):
    settings = {"model_name_or_path": "some/encoder", "task_name": task, "train_file": None, "validation_split_percentage": 100.0,
                "sparse_init": "dense" if pattern == "dense" else "sparse_unstructured", "nm_ratio": None, "sparsity": sparsity,
                "seed": seed, "learning_rate": 2e-5, "noembed": True, **more}  # fmt: skip
    transfer = "dense transfer" if pattern == "dense" else "sparse transfer"
    run = {"status": status, "settings": settings, "data": {"metrics": ["accuracy"], "eval": {"majority": 0.5}},
           "pruning": {"transfer": transfer}, "code": {"commit": "abc"}}  # fmt: skip
    folder.mkdir(parents=True)
    records.write_json(folder / "run.json", run)
    if status == "done":
        results = {
            "eval_accuracy": accuracy,
            "train_loss": 0.1,
            "sparsity": sparsity,
            "zero_fraction": sparsity,
            "epoch": 3,
            "step": 9,
        }
        records.write_json(folder / "all_results.json", results)


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs"
    for seed, dense, half in ((1, 0.8, 0.6), (2, 0.9, 0.72)):
        made_up(root / f"sst2/dense/{seed}", "sst2", "dense", seed, dense, 0.0)
        made_up(root / f"sst2/0.5/{seed}", "sst2", "0.5", seed, half, 0.5)
    made_up(root / "cola/0.5/1", "cola", "0.5", 1, 0.7, 0.5)  # no dense run beside it
    made_up(root / "cola/0.9/1", "cola", "0.9", 1, 0.0, 0.9, status="running")
    return root


def test_means_are_normalised_seed_by_seed(runs, tmp_path, capsys):
    assert report.main([str(runs), "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert len(table) == 5 and set(table["seed"]) == {1, 2}
    points = report.summarise(report.collect([str(runs)])[0]).set_index(["task", "pattern"])
    half = points.loc[("sst2", 0.5)]
    assert (half["mean"], half["seeds"]) == (pytest.approx(0.66), 2)
    assert half["std"] == pytest.approx(0.12 / 2**0.5)
    assert half["normalised"] == pytest.approx((0.6 / 0.8 + 0.72 / 0.9) / 2)
    assert half["above_chance"] == pytest.approx((0.1 / 0.3 + 0.22 / 0.4) / 2)
    out = capsys.readouterr().out
    assert (
        "| encoder | sst2 | 100 % | sparse transfer, unstructured | 0.5 | accuracy | 0.6600 | 0.0849 | 2 | 77.5% | 44.2% |"
        in out
    )
    assert (
        "| cola | 100 % | sparse transfer, unstructured | 0.5 | accuracy | 0.7000 |  | 1 |  |  |" in out
    )  # no dense: empty
    assert f"not finished: {runs / 'cola/0.9/1'}" in out


def test_the_figure_is_drawn_in_both_formats(runs, tmp_path):
    report.main([str(runs), "--out", str(tmp_path)])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "curves.svg").read_text()


@pytest.mark.parametrize(("name", "words"), [("nowhere", "no such folder"), ("empty", "no finished run")])
def test_nothing_to_report_is_one_line(name, words, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert report.main([str(tmp_path / name)]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_a_run_found_twice_counts_once(runs):
    table, _ = report.collect([str(runs), str(runs)])
    assert len(table) == 5
    assert json.loads((runs / "sst2/dense/1/run.json").read_text())["status"] == "done"


def test_runs_with_other_settings_are_never_averaged(runs):
    made_up(runs / "fast/dense/1", "sst2", "dense", 1, 0.5, 0.0, learning_rate=1e-3)
    made_up(runs / "fast/0.5/1", "sst2", "0.5", 1, 0.4, 0.5, learning_rate=1e-3)
    made_up(runs / "all/0.5/1", "sst2", "0.5", 1, 0.7, 0.5, noembed=False)
    table, _ = report.collect([str(runs)])
    points = report.summarise(table)
    half = points[(points["task"] == "sst2") & (points["pattern"] == 0.5)].set_index("curve")["normalised"]
    assert {curve.split(", ", 2)[2]: round(value, 4) for curve, value in half.items()} == {
        "learning_rate 2e-05, noembed True": 0.775,
        "learning_rate 0.001, noembed True": 0.8,  # by the dense run of its own rate
        "learning_rate 2e-05, noembed False": 0.875,
    }
    assert "twice" not in report.markdown(points, [])
    made_up(runs / "again/0.5/1", "sst2", "0.5", 1, 0.6, 0.5)
    assert "a seed occurs twice: sst2" in report.markdown(report.summarise(report.collect([str(runs)])[0]), [])
