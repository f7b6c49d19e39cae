"""Sweeps that are unfinished, mixed or partly collapsed: what may be averaged, divided and claimed, and what is not."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from junkdna.report import __main__ as report
from junkdna.report import claims, collect, differences, figures, forms, looks, stored, summary, tables
from made_up_runs import change, make_problems, make_qa, make_run, make_sweep, make_toy, make_translation


def cells_of(root, first=False, metric=None):
    return summary.normalise(collect.collect([str(root)], metric)[0], first)


def points_of(root, **options):
    return summary.points(cells_of(root, **options)).set_index("pattern")


def sweep_of_cola(root, dense, half, most):
    """Correlations of seeds 1, 2, ... of the dense model, at 0.5 and at 0.9."""
    for pattern, values in (("dense", dense), ("0.5", half), ("0.9", most)):
        for seed, value in enumerate(values, 1):
            make_run(root, "cola", pattern, seed, value, majority=None)


# --- bases -----------------------------------------------------------------------------------------------------------


def test_a_seed_whose_base_is_almost_nothing_is_left_out_beside_others(tmp_path):
    sweep_of_cola(tmp_path, (0.001, 0.5, 0.5), (0.02, 0.4, 0.4), (0.03, 0.2, 0.2))
    points = points_of(tmp_path)
    assert points["normalised"].tolist() == pytest.approx([1, 0.8, 0.4]) and points["seeds"].tolist() == [3, 3, 3]
    assert points["normalised_seeds"].tolist() == [2, 2, 2]
    assert "not normalised: its base has collapsed: seed 1" in points.loc["0.9", "note"]
    assert points.loc["0.9", "mean"] == pytest.approx(0.43 / 3)  # of the metric itself nothing is left out
    falls, loses = claims.claims(cells_of(tmp_path)).to_dict("records")
    assert "falls by 40.0 points" in falls["remark"] and "2 of 3 seeds" in loses["remark"]


def test_a_seed_without_a_base_does_not_make_a_bad_one_good(tmp_path):
    sweep_of_cola(tmp_path, (0.001,), (0.02, 0.4), (0.03, 0.2))  # the second has no dense run
    (made,) = claims.claims(cells_of(tmp_path)).to_dict("records")
    assert (made["claim"], made["remark"]) == ("left out", "its base is 0.0010, chance 0.0000")


def test_chance_lies_where_the_drawn_seeds_have_it(tmp_path):
    samples = {"extra": {"eval_samples": 400}}
    for seed, dense in ((1, 0.9), (2, 0.52)):
        make_run(tmp_path, "sst2", "dense", seed, dense, **samples)
        make_run(tmp_path, "sst2", "0.5", seed, 0.5, **samples)
    assert points_of(tmp_path).loc["0.5", ["ratio", "chance_ratio"]].tolist() == pytest.approx([0.5 / 0.9, 0.5 / 0.9])


def test_one_fold_of_a_base_that_collapsed_does_not_cost_the_seed(tmp_path):
    from junkdna.report import folds

    for seed in (1, 2):
        for fold in (0, 1):
            fell = seed == 1 and fold == 1
            make_problems(tmp_path, "dense", seed, 0.02 if fell else 0.8, fold=fold, collapsed=fell)
            make_problems(tmp_path, "0.5", seed, 0.3, fold=fold, collapsed=False)
    cells = summary.normalise(folds.average(collect.collect([str(tmp_path)])[0]))
    point = summary.points(cells).set_index("pattern").loc["0.5"]
    assert point["normalised_seeds"] == 2 and "its base has collapsed: seed 1" in point["note"]
    assert "not normalised" not in point["note"]


def test_a_curve_all_of_whose_bases_are_0_is_named_among_those_left_out(tmp_path):
    sweep_of_cola(tmp_path, (0.0, 0.0), (0.1, 0.2), (0.0, 0.1))
    make_sweep(tmp_path, ["sst2"], ["0.5", "0.9"], [1, 2], lambda *_: 0.1)
    for measure in summary.MEASURES:
        made = claims.claims(cells_of(tmp_path), measure).set_index("a")
        assert made.loc["cola 100 %", ["claim", "remark"]].tolist() == ["left out", "its base is 0.0000, chance 0.0000"]
        assert set(made.loc["sst2 100 %", "claim"]) == {"monotone fall", "loses 5 %"}


def test_seeds_that_are_not_finished_do_not_cost_a_curve_its_claims(tmp_path):
    make_sweep(tmp_path, ["sst2"], ["0.5"], [1, 2, 3], lambda *_: 0.1)
    make_run(tmp_path, "sst2", "0.9", 1, 0.5)
    falls, _ = claims.claims(cells_of(tmp_path)).to_dict("records")
    assert falls["seeds_a"] == 1 and falls["remark"].endswith(
        "on 2 of 2 sparsities, 1 of 3 seeds; collapsed: 1 of 2 runs"
    )


@pytest.mark.parametrize("end", [0.0, 5.6e-17, -5.6e-17])
def test_an_interval_that_ends_at_0_decides_nothing(end):
    known = {"a": "a", "b": "b", "t_low": 0.1, "t_high": 0.2, "low": end, "high": 0.13, "questions": 100.0}
    known |= {"kept_a": 1.02, "kept_b": 0.9}
    assert tables.verdict(SimpleNamespace(**known)) == "not decided"
    assert tables.verdict(SimpleNamespace(**known | {"low": 0.001})) == "b lost more"
    assert tables.verdict(SimpleNamespace(**known | {"low": 0.001, "kept_b": 1.0})) == "b ended lower"
    assert tables.verdict(SimpleNamespace(**known | {"questions": float("nan"), "t_low": end})) == "not decided"
    gaps = pd.DataFrame(
        [{**known, "pattern": "0.5", "estimate": 0.1}, {**known, "pattern": "0.7", "estimate": 0.1, "low": 0.01}]
    )
    assert tables.decided(gaps).startswith("0.7: +10.0")


# --- one metric, one value a seed ------------------------------------------------------------------------------------


def test_two_metrics_are_neither_averaged_nor_divided(tmp_path):
    for seed in (1, 2, 3):
        make_run(tmp_path, "mrpc", "dense", seed, 0.7, extra={"eval_f1": 0.8} if seed > 1 else None)
        make_run(tmp_path, "mrpc", "0.9", seed, 0.6, extra={"eval_f1": 0.4})
    points = points_of(tmp_path, metric="f1")
    assert points.loc["dense", ["metric", "mean", "seeds"]].tolist() == ["f1", 0.8, 2]
    assert "finished without a value: seed 1 (has no f1)" in points.loc["dense", "note"]
    assert points.loc["0.9", ["normalised", "normalised_seeds"]].tolist() == [0.5, 2]
    assert "not normalised: its base is missing: seed 1" in points.loc["0.9", "note"]
    assert points_of(tmp_path).loc["0.9", ["metric", "normalised_seeds"]].tolist() == ["accuracy", 3]


def test_another_main_metric_costs_no_run_that_has_this_one(tmp_path):
    for seed in (1, 2, 3):
        for pattern, value in (("dense", 10.0), ("0.5", 20.0)):
            folder = make_toy(tmp_path, "nq", pattern, seed, value)
            if seed == 3:  # an earlier version, whose main metric was the other
                run = json.loads((folder / "run.json").read_text())
                for metric in run["metrics"]:
                    metric["main"] = metric["name"] == "exact_match"
                (folder / "run.json").write_text(json.dumps(run))
    point = points_of(tmp_path).loc["0.5"]
    assert point[["metric", "better", "mean", "normalised", "seeds"]].tolist() == ["perplexity", "lower", 20, 0.5, 3]
    # one under way, whose record lacks the metric, says nothing of the direction
    folder = make_toy(tmp_path, "nq", "0.3", 1, 12.0, status="running", folder=tmp_path / "0 first")
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"metrics": run["metrics"][:1]}))
    assert set(points_of(tmp_path)["better"]) == {"lower"}


def test_the_folds_of_a_task_have_one_metric(tmp_path):
    for fold in (0, 1):
        for pattern in ("dense", "0.5"):
            folder = make_problems(tmp_path, pattern, 1, 0.8, fold=fold)
            if fold == 0:
                run = json.loads((folder / "run.json").read_text())
                f1 = {"name": "f1", "key": "eval_f1", "better": "higher", "chance": None, "main": False}
                (folder / "run.json").write_text(json.dumps(run | {"metrics": [*run["metrics"], f1]}))
                results = json.loads((folder / "all_results.json").read_text())
                (folder / "all_results.json").write_text(json.dumps(results | {"eval_f1": 0.2}))
    cells = collect.collect([str(tmp_path)], "f1")[0].set_index(["fold", "pattern"])
    assert set(cells.loc["0", "status"]) == {"done"} and set(cells.loc["0", "value"]) == {0.2}
    assert set(cells.loc["1", "error"]) == {"has no f1"}


def test_a_seed_that_occurs_twice_counts_once(tmp_path):
    for seed, values in ((1, (0.9, 0.7)), (2, (0.5,))):
        make_run(tmp_path, "sst2", "dense", seed, 1.0)
        for i, value in enumerate(values):
            make_run(tmp_path, "sst2", "0.9", seed, value, folder=tmp_path / f"{seed} {i}")
    point = points_of(tmp_path).loc["0.9"]
    assert point[["mean", "normalised", "seeds", "normalised_seeds"]].tolist() == pytest.approx([0.65, 0.65, 2, 2])
    assert point["std"] == pytest.approx(np.std([0.8, 0.5], ddof=1))
    assert "a seed occurs twice (3 runs)" in point["note"]


def test_a_rate_that_falls_to_0_is_the_best_value_and_not_a_missing_one(tmp_path):
    for seed, hits in ((1, [1, 0]), (2, [0, 1])):
        make_qa(tmp_path, "dense", hits, seed=seed)
        folder = make_qa(tmp_path, "0.5", hits, seed=seed)
        for run, rate in (
            (tmp_path / "qa/trivia_qa/open/3072/0/dense/dense" / str(seed), 0.4),
            (folder, 0.2 * (seed - 1)),
        ):
            results = json.loads((run / "all_results.json").read_text())
            (run / "all_results.json").write_text(json.dumps(results | {"eval_empty": rate}))
    point = points_of(tmp_path, metric="empty").loc["0.5"]
    assert point[["ratio", "normalised_seeds", "seeds"]].tolist() == pytest.approx([0.25, 2, 2])
    assert point["note"] == "no base / value in the claims, the value is 0: seed 1"


def test_a_pattern_that_failed_everywhere_does_not_turn_its_panel_round(tmp_path):
    for seed in (1, 2):
        for pattern, value in (("dense", 10.0), ("0.5", 40.0), ("0.7", 400.0)):
            make_toy(tmp_path, "nq", pattern, seed, value)
        make_toy(tmp_path, "nq", "0.9", seed, None, status="failed")
    points = summary.points(cells_of(tmp_path))
    assert set(points["better"]) == {"lower"}
    panel = figures.draw(points, None, False).axes[0]
    assert panel.get_yscale() == "log" and panel.get_ylim()[1] > 4000


# --- settings and patterns -------------------------------------------------------------------------------------------


def test_a_switch_that_older_records_lack_was_off(tmp_path):
    make_problems(tmp_path, "dense", 1, 0.8)
    make_problems(tmp_path, "0.5", 1, 0.6)
    for seed in (2, 3):
        make_problems(tmp_path, "dense", seed, 0.8, well_formed=False)
        make_problems(tmp_path, "0.5", seed, 0.6, well_formed=seed == 3)
    cells = cells_of(tmp_path)
    sparse = "sparse transfer, unstructured"
    assert set(cells.loc[cells["seed"] < 3, "curve"]) == {
        f"{sparse}, well_formed False",
        "dense transfer, well_formed False",
    }
    assert cells.loc[cells["curve"] == f"{sparse}, well_formed True", "seed"].tolist() == [3]
    assert cells.loc[cells["base_remark"] != "", "seed"].tolist() == [3]  # with which its dense run was not trained


def test_a_mask_that_is_not_counted_yet_is_no_pattern_of_its_own(tmp_path):
    for seed in (1, 2):
        make_run(tmp_path, "sst2", "dense", seed, 0.9)
    make_run(tmp_path, "sst2", "0.5", 1, 0.8, mask_file="m.safetensors", sparsity=None, sparse_init="mask_file")
    waiting = make_run(tmp_path, "sst2", "0.5", 2, 0.8, status="running", mask_file="m.safetensors", sparsity=None,
                       sparse_init="mask_file")  # fmt: skip
    assert points_of(tmp_path).loc["0.5", "note"] == "unfinished: seed 2"  # its mask is counted
    run = json.loads((waiting / "run.json").read_text())
    (waiting / "run.json").write_text(json.dumps({name: value for name, value in run.items() if name != "pruning"}))
    points, cells = points_of(tmp_path), cells_of(tmp_path)
    assert points.index.tolist() == ["dense", "0.5"] and points.loc["0.5", "note"] == "unfinished: seed 2"
    assert summary.missing(cells) == []
    (tmp_path / "sst2/100/0.5/1/all_results.json").unlink()
    (tmp_path / "sst2/100/0.5/1/run.json").unlink()
    assert points_of(tmp_path).index.tolist() == ["dense", "not pruned yet"]
    assert report.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0


def test_sparsities_that_differ_in_the_fifth_decimal_are_two_points(tmp_path):
    for pattern in ("dense", "0.99991", "0.99994"):
        make_run(tmp_path, "sst2", pattern, 1, 0.9)
    assert points_of(tmp_path).index.tolist() == ["dense", "0.99991", "0.99994"]


def test_a_folder_of_data_is_no_provenance(tmp_path):
    texts = {"en-de": (["a b"] * 8, ["a b c d e"] * 8, ["a b c d e"] * 8)}
    for seed in (1, 2):
        for pattern in ("dense", "0.5"):
            make_translation(tmp_path, pattern, texts, seed=seed, data_dir=f"/texts/{seed}")
    assert differences.mixed(cells_of(tmp_path)) == []
    path = tmp_path / "translation/en-de/zero-shot/one-shot/0.5/2/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": {"test": {"sha256": "other"}}}))
    said = [line.split(":")[0] for line in differences.mixed(cells_of(tmp_path))]
    assert said == [f"data_test_sha256 {what}" for what in (
        "differs within a mean", "is not that of the run it is normalised by")]  # fmt: skip


def test_statistics_of_another_length_in_every_line_cost_the_interval_alone(tmp_path):
    texts = {"en-de": (["a b"] * 8, ["a b c d e"] * 8, ["a b c d e"] * 8)}
    make_translation(tmp_path, "dense", texts)
    file = make_translation(tmp_path, "0.5", texts) / "predictions.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line["statistics"]["bleu"].pop()
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    point = points_of(tmp_path).loc["0.5"]
    assert point["seeds"] == 1 and "no interval: predictions.jsonl: BLEU needs" in point["note"]


def test_names_that_the_report_uses_itself_are_no_obstacle(tmp_path):
    for pattern in ("dense", "0.3", "0.5"):
        folder = make_toy(tmp_path, "nq", pattern, 1, 10.0)
        change(folder, base_values=1, lowest="x", mean=2, ratio=3)
        results = json.loads((folder / "all_results.json").read_text())
        (folder / "all_results.json").write_text(json.dumps(results | {"sparsity": None}))
    for first in (False, True):
        cells = cells_of(tmp_path, first)
        assert {"base_values_asked", "lowest_asked", "mean_asked", "ratio_asked"} <= set(cells.columns)
        assert sorted(cells["sparsity"]) == [0, 0.3, 0.5]
        assert len(claims.claims(cells, first=first))


# --- looks, files and text -------------------------------------------------------------------------------------------


def test_no_two_curves_of_a_panel_look_alike(tmp_path):
    shares = (1.0, 5.0, 10.0, 20.0, 50.0, 100.0)
    for model in ("a/small", "a/large"):
        make_sweep(tmp_path / model, ["sst2"], ["0.5"], [1], lambda *_: 0.1, shares, model_name_or_path=model)
    points = summary.points(cells_of(tmp_path))
    pruned = points[points["kind"] != "dense"].assign(line=looks.line_names, rest=looks.rests)
    styles = figures.line_styles(pruned).values()
    assert len({(style["marker"], style["color"], str(style["linestyle"])) for style in styles}) == len(styles) == 12
    assert len(figures.DASHES) == looks.DASH_COUNT


def test_points_of_another_version_are_refused_in_one_line(tmp_path, capsys):
    make_sweep(tmp_path / "runs", ["sst2"], ["0.5"], [1], lambda *_: 0.1)
    report.main([str(tmp_path / "runs"), "--out", str(tmp_path)])
    path = tmp_path / "points.json"
    found = json.loads(path.read_text())
    assert set(stored.NEEDED) <= set(found["points"][0])
    path.write_text(json.dumps(found | {"points": [
        {name: value for name, value in point.items() if name != "ringed"} for point in found["points"]]}))  # fmt: skip
    capsys.readouterr()
    assert report.main([str(path), "--figure", str(tmp_path / "x.png")]) == 2
    assert capsys.readouterr().err.endswith("its points lack ringed\n")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a | b", r"a \| b"),
        (r".*pooler\.weight", r".\*pooler\\.weight"),
        ("`x` <b>", r"\`x\` &lt;b&gt;"),
        ("train_loss of _x_", r"train_loss of \_x\_"),
        ("[0.1, 0.2] [a](b)", r"[0.1, 0.2] [a]\(b)"),
        (r"\|", r"\\\|"),
    ],
)
def test_nothing_in_a_table_is_taken_for_markdown(text, written):
    assert forms.escape(text) == written
    head, rule, row = forms.table([text, "b"], [["x", text]]).markdown().splitlines()
    assert head == f"| {written} | b |" and row == f"| x | {written} |" and rule == "|---|---|"


def test_an_axis_with_a_bar_in_its_name_stays_one_column(tmp_path):
    for pattern in ("dense", "0.5", "0.7"):
        folder = make_toy(tmp_path, "nq", pattern, 1, 10.0)
        run = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(run | {"axes": {"task": "nq", "a | <i>": "v*"}}))
        make_toy(tmp_path, "nq", pattern, 1, 10.0, folder=tmp_path / pattern)
    points = summary.points(cells_of(tmp_path))
    lines = [line for line in tables.means(points).splitlines() if line.startswith("|")]
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1
    assert r"a \| &lt;i&gt;" in lines[0] and r"v\*" in "".join(lines)
