"""The report knows no family: runs of two, of which one is made up, in one tree."""

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from junkdna.report import __main__ as report
from junkdna.report import claims, collect, differences, figures, looks, matrix_names, names, published, summary
from made_up_runs import make_run, make_sweep, make_toy

ROOT = Path(__file__).resolve().parents[2]


def toy_sweep(root, tasks=("nq", "trivia"), books=("open", "closed"), seeds=(1, 2), patterns=("0.1", "0.5"), **more):
    """Perplexity 10 (plus the seed) of dense, and 10 * sparsity more of pruned."""
    for task in tasks:
        for book in books:
            for seed in seeds:
                for pattern in ("dense", *patterns):
                    loss = 0.0 if pattern == "dense" else float(pattern) * 10
                    make_toy(root, task, pattern, seed, 10.0 + seed + loss, book=book, **more)


def cells_of(root, **options):
    return summary.normalise(collect.collect([str(root)], options.pop("metric", None))[0], **options)


@pytest.fixture
def mixed(tmp_path):
    root = tmp_path / "runs"
    toy_sweep(root)
    make_sweep(root, ["cola", "sst2"], ["0.1", "0.5"], [1, 2], lambda task, sparsity, seed: sparsity / 5)
    return root


# --- rows and means --------------------------------------------------------------------------------------------------


def test_the_columns_are_axes_of_all_families_and_empty_where_one_lacks_them(mixed, tmp_path):
    assert report.main([str(mixed), "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out/summary.csv", keep_default_na=False)
    assert list(table.columns[:22]) == [
        *(
            "folder",
            "status",
            "error",
            "family",
            "model",
            "task",
            "data",
            "book",
            "treatment",
            "score",
            "kind",
            "curve",
        ),
        *("pattern", "sparsity", "seed", "metric", "value", "chance", "normalised", "above_chance"),
        *("collapsed", "better"),
    ]
    toy, glue = table[table["family"] == "toy"], table[table["family"] == "glue"]
    assert len(toy) == 24 and set(toy["data"]) == {""} and set(toy["book"]) == {"open", "closed"}
    assert len(glue) == 12 and set(glue["book"]) == {""} and set(glue["data"]) == {"100 %"}
    assert set(toy["treatment"]) == {"one-shot"} and set(toy["metric"]) == {"perplexity"}
    text = (tmp_path / "out/summary.md").read_text()
    assert "| family | model | task | data | book | curve | pattern |" in text
    assert "| toy | decoder | nq |  | open | one-shot, unstructured | 0.5 | perplexity | 16.5000 | 0.7071 | 2 |" in text


def test_of_a_metric_of_which_less_is_better_the_share_is_base_over_value(tmp_path):
    for seed, dense, half in ((1, 10.0, 20.0), (2, 12.0, 15.0)):
        make_toy(tmp_path, "nq", "dense", seed, dense)
        make_toy(tmp_path, "nq", "0.5", seed, half)
    point = summary.points(cells_of(tmp_path)).set_index("pattern").loc["0.5"]
    assert point["normalised"] == pytest.approx((10 / 20 + 12 / 15) / 2)
    assert point["above_chance"] == pytest.approx(((100 - 20) / (100 - 10) + (100 - 15) / (100 - 12)) / 2)
    assert point["chance_ratio"] == pytest.approx((100 / 10 + 100 / 12) / 2) and point["note"] == ""
    by_match = summary.points(cells_of(tmp_path, metric="exact_match")).set_index("pattern").loc["0.5"]
    assert by_match["normalised"] == pytest.approx((10 / 20 + 12 / 15) / 2)  # 1 / perplexity, of which more is better
    assert np.isnan(by_match["above_chance"])
    make_toy(tmp_path, "nq", "dense", 3, 120.0)  # worse than chance
    make_toy(tmp_path, "nq", "0.5", 3, 130.0)
    worse = cells_of(tmp_path).set_index(["pattern", "seed"]).loc[("0.5", 3)]
    assert np.isnan(worse["above_chance"]) and worse["base_remark"] == summary.WEAK


def test_the_main_metric_counts_and_not_the_first(tmp_path):
    make_toy(tmp_path, "nq", "0.5", 1, 20.0)
    assert cells_of(tmp_path)["metric"].tolist() == ["perplexity"]


@pytest.mark.parametrize(
    ("score", "pattern", "kind"),
    [
        ("magnitude", "unstructured", "unstructured"), ("random", "unstructured", "random"),
        ("largest", "unstructured", "largest first"), ("magnitude", "per_matrix", "uniform"),
        ("magnitude", "per_row", "per row"), ("random", "per_row", "per row, random"), ("magnitude", "nm", "N:M"),
        ("random", "nm", "N:M, random"), ("largest", "nm", "N:M, largest first"), ("wanda", "nm", "N:M, wanda"),
        (None, "mask_file", "mask file"), (None, "dense", "dense"),
    ],
)  # fmt: skip
def test_a_kind_says_pattern_and_score(score, pattern, kind):
    assert collect.kind_of({"score": score, "sparsity_pattern": pattern}) == kind
    assert looks.is_nm(kind) == (pattern == "nm")


def test_n_m_by_chance_stands_on_the_axis_of_n_m_and_is_not_averaged_with_n_m(tmp_path):
    make_toy(tmp_path, "nq", "dense", 1, 10.0)
    for pattern in ("4:8", "2:8"):
        make_toy(tmp_path, "nq", pattern, 1, 15.0)
        make_toy(tmp_path, "nq", pattern, 1, 40.0, score="random")
    points = summary.points(cells_of(tmp_path))
    assert set(points["curve"]) == {"one-shot", "one-shot, N:M", "one-shot, N:M, random"}
    assert points["curve"].iloc[0] == "one-shot"
    (panel,) = figures.draw(points, None, False).axes
    assert [len(line.lines[0].get_xdata()) for line in panel.containers] == [2, 2]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["4:8", "2:8"]


# --- settings by their roles -----------------------------------------------------------------------------------------


def test_a_setting_of_a_family_is_never_averaged_by_its_role_alone(tmp_path):
    for shots in (0, 5):
        for pattern, value in (("dense", 10.0 + shots), ("0.5", 20.0 + shots)):
            make_toy(tmp_path, "nq", pattern, 1, value, shots=shots, folder=tmp_path / f"{shots}{pattern}")
    cells = cells_of(tmp_path).set_index(["curve"])
    assert set(cells.index) == {f"one-shot{kind}, shots {n}" for kind in ("", ", unstructured") for n in (0, 5)}
    assert cells.loc["one-shot, unstructured, shots 5", "normalised"] == pytest.approx(15 / 25)  # by its own dense run


@pytest.mark.parametrize(
    ("role", "curves", "reported"),
    [
        ("training", {"one-shot, unstructured, twist 1", "one-shot, unstructured, twist 2"}, True),
        ("scope", {"one-shot, unstructured, twist 1", "one-shot, unstructured, twist 2"}, True),
        ("layout", {"one-shot, unstructured"}, True),
        ("label", {"one-shot, unstructured"}, False),
    ],
)
def test_what_a_new_setting_does_follows_from_its_role(tmp_path, role, curves, reported):
    for twist in (1, 2):
        make_toy(tmp_path, "nq", "0.5", twist, 20.0, twist=twist, roles={"twist": role})
    cells = cells_of(tmp_path)
    assert set(cells["curve"]) == curves
    assert ("twist" in set(differences.differences(cells)["name"])) == reported
    inside = [line for line in differences.mixed(cells) if line.startswith("twist differs within a mean")]
    assert len(inside) == (role == "layout")


def test_settings_of_another_family_are_no_difference(mixed):
    assert differences.differences(cells_of(mixed)).empty and not differences.mixed(cells_of(mixed))
    make_toy(mixed, "nq", "0.9", 1, 30.0, calibration=64, folder=mixed / "other")
    rows = differences.differences(cells_of(mixed)).values.tolist()
    assert [row[:3] for row in rows] == [["calibration", "128", 16], ["calibration", "64", 1]]  # pruned toy runs
    assert rows[1][3] == "nq open"


def test_a_setting_that_is_called_like_a_column_or_an_axis_is_kept_under_another_name(tmp_path):
    make_toy(tmp_path, "nq", "0.5", 1, 20.0, kind="a setting", roles={"kind": "label"})
    row = cells_of(tmp_path).iloc[0]
    assert (row["kind"], row["kind_asked"], row["sparsity_asked"]) == ("unstructured", "a setting", 0.5)


# --- missing, failed, claims, figures, page --------------------------------------------------------------------------


def test_missing_and_failed_cells_of_a_family_are_named_with_its_axes(mixed, tmp_path):
    make_toy(mixed, "nq", "0.5", 3, None, status="failed")
    make_toy(mixed, "nq", "0.1", 3, 12.0)
    cells = cells_of(mixed)
    line = ("toy", "decoder", (("task", "nq"), ("book", "open")), "one-shot")
    assert summary.missing(cells) == [(line, "dense", 3)]
    assert report.main([str(mixed), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/summary.md").read_text()
    assert "| missing | toy, decoder, nq, open, one-shot, dense, seed 3 | a pruned run has no dense one |" in text
    assert "| failed | toy/nq/open/magnitude/0.5/3 | boom |" in text


def test_pairs_differ_in_one_axis_and_never_in_the_family(mixed):
    table = claims.claims(cells_of(mixed))
    pairs = table.loc[table["claim"] == "mean gap", ["family", "a", "b"]].values.tolist()
    assert sorted(pairs) == [
        ["glue", "cola 100 %", "sst2 100 %"],
        ["toy", "nq closed", "nq open"],
        ["toy", "nq closed", "trivia closed"],
        ["toy", "nq open", "trivia open"],
        ["toy", "trivia closed", "trivia open"],
    ]
    mean = table[(table["claim"] == "mean gap") & (table["family"] == "toy")].iloc[0]
    assert (mean["task_a"], mean["book_b"], mean["estimate"]) == ("nq", "open", 0) and pd.isna(mean["data_a"])


def test_tasks_that_share_no_other_axis_are_paired_with_a_remark_and_other_axes_are_not(tmp_path):
    toy_sweep(tmp_path, tasks=["nq"], books=["open"])
    toy_sweep(tmp_path, tasks=["trivia"], books=["closed"])
    table = claims.claims(cells_of(tmp_path))
    (gap,) = table[table["claim"] == "mean gap"].to_dict("records")
    assert (gap["a"], gap["b"], gap["remark"]) == ("nq open", "trivia closed", "2 sparsities; book differs too")
    lines = claims.lines(cells_of(tmp_path), "normalised")
    place = lambda shots, lang: (("task", "nq"), ("shots", shots), ("lang", lang))  # noqa: E731
    three = [replace(lines[0], place=place(*at)) for at in (("0", "de"), ("5", "fr"))]
    assert claims.pairs(three) == []  # one task, two other axes differ


def test_a_panel_is_the_first_axis_of_one_family(mixed):
    points = summary.points(cells_of(mixed))
    figure = figures.draw(points, published.beside(points), False)
    assert [panel.get_title() for panel in figure.axes] == [
        "glue: cola (matthews correlation)", "glue: sst2 (accuracy)",
        "toy: nq (perplexity)", "toy: trivia (perplexity)",
    ]  # fmt: skip
    assert [len(panel.containers) for panel in figure.axes] == [1, 1, 2, 2]  # the books are two lines
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "one-shot, book open, decoder, toy" in words and "sparse transfer, encoder, glue" in words
    toy = points[points["family"] == "toy"]
    assert published.beside(toy).empty  # the paper has no curve of these tasks


def test_a_family_of_one_axis_is_drawn_and_compared(tmp_path):
    for task in ("a", "b"):
        for pattern, value in (("dense", 0.9), ("0.1", 0.8), ("0.5", 0.7)):
            folder = make_toy(tmp_path, task, pattern, 1, 1 / value)
            run = json.loads((folder / "run.json").read_text())
            run["axes"] = {"task": task}
            (folder / "run.json").write_text(json.dumps(run))
    cells = cells_of(tmp_path)
    assert len(claims.pairs(claims.lines(cells, "normalised"))) == 1
    figure = figures.draw(summary.points(cells), None, False)
    assert [panel.get_title() for panel in figure.axes] == ["a (perplexity)", "b (perplexity)"]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[:2] == ["dense", "one-shot"]


def test_places_are_ordered_by_the_numbers_in_them_and_bare_numbers_are_named():
    values = ["100 %", "0.5 %", "10 %", "cola", "2 %"]
    assert sorted(values, key=names.natural) == ["0.5 %", "2 %", "10 %", "100 %", "cola"]
    assert names.place_words((("pair", "en-de"), ("shots", "0"))) == "en-de shots 0"


# --- parts of a model ------------------------------------------------------------------------------------------------


def test_a_parameter_s_kind_and_layer_come_from_its_name():
    bert = [
        "bert.embeddings.word_embeddings.weight", "bert.encoder.layer.3.attention.self.query.weight",
        "bert.encoder.layer.3.attention.output.dense.weight", "bert.encoder.layer.11.intermediate.dense.weight",
        "bert.encoder.layer.0.output.dense.weight", "bert.pooler.dense.weight", "classifier.weight",
    ]  # fmt: skip
    assert list(matrix_names.parts(bert).values()) == [
        ("word embeddings", None), ("attention query", 3), ("attention output", 3), ("intermediate", 11), ("output", 0),
        ("pooler", None), ("classifier", None),
    ]  # fmt: skip
    llama = ["model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.experts.7.up_proj.weight", "lm_head.weight"]
    assert list(matrix_names.parts(llama).values()) == [
        ("self attn q proj", 0),
        ("mlp experts up proj", 1),
        ("lm head", None),
    ]
    mbart = [f"model.{side}.layers.1.self_attn.k_proj.weight" for side in ("encoder", "decoder")]
    assert list(matrix_names.parts(mbart).values()) == [
        ("encoder self attn k proj", 1),
        ("decoder self attn k proj", 1),
    ]


def test_kinds_that_would_be_called_the_same_keep_their_whole_names():
    both = matrix_names.parts(["a.layer.0.dense.weight", "a.layer.0.self.weight"])
    assert len({kind for kind, _ in both.values()}) == 2


# --- no family in the report -----------------------------------------------------------------------------------------


def test_no_file_of_the_report_names_a_task_a_metric_or_a_setting_of_a_family():
    words = "cola sst2 mnli qqp glue matthews pearson perplexity bleu task_name percentage learning_rate "
    words += "noembed freeze_weights sparse_init transfer_name max_length num_train_epochs roberta"
    files = sorted((ROOT / "junkdna/report").glob("*.py")) + sorted((ROOT / "junkdna/report").glob("*.js"))
    assert len(files) == 36
    for file in files:
        if file.name in ("corpus_scores.py", "predicted.py"):  # compute metrics, and give them their names
            continue
        for word in code_words(file):
            assert word not in words.split(), f"{file.name}: {word}"


def code_words(file: Path) -> set[str]:
    """The words of a file's code, its docstrings left out."""
    text = file.read_text()
    if file.suffix == ".py":
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value = ast.Constant("")
        text = ast.unparse(tree)
    return {word.lower() for word in re.findall(r"\w+", text)}


def test_keyword_only_from_the_fifth_parameter_on():
    files = sorted((ROOT / "junkdna/report").glob("*.py"))
    functions = [
        (file.name, node)
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert len(functions) > 100
    assert [(name, node.name) for name, node in functions if len(node.args.args) > 4] == []


def test_a_tree_of_runs_of_one_family_does_not_name_it(tmp_path):
    make_run(tmp_path, "sst2", "0.5", 1, 0.6)
    assert report.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "| model | task | data | curve |" in (tmp_path / "out/summary.md").read_text()
    assert "glue" not in (tmp_path / "out/summary.md").read_text()
