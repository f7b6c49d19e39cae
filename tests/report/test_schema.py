"""Records of schema 1 are read as schema 2: the same run gives the same rows whichever it was written in."""

import json

import pytest

from junkdna.report import collect, summary
from junkdna.runs import schema
from made_up_runs import ROLES, change, make_run

OLD = {"task_name": "sst2", "train_file": None, "validation_split_percentage": 10.0, "sparsity": None, "nm_ratio": None,
       "mask_file": None, "freeze_weights": True, "freeze_weights_frompretrain": False}  # fmt: skip


@pytest.mark.parametrize("pattern", ["dense", "0.5", "2:8"])
@pytest.mark.parametrize("extra", [None, {"eval_f1": 0.5}])
def test_the_same_run_in_both_schemas_gives_equal_rows(tmp_path, pattern, extra):
    for name, newest in (("old", False), ("new", True)):
        make_run(tmp_path / name, "cola", pattern, 1, 0.6, newest=newest, extra=extra, learning_rate=1e-3)
    old, new = (summary.normalise(collect.collect([str(tmp_path / name)])[0]) for name in ("old", "new"))
    (old,), (new,) = (cells.drop(columns=["path", "base_path"]).to_dict("records") for cells in (old, new))
    for row in (old, new):
        for column in ("training", "scope", "layout"):
            row[column] = set(row[column])
        row["source"] = set(row["source"])
    assert set(old) == set(new) and len(old) > 50
    different = {name: (old[name], new[name]) for name in old if old[name] != new[name] and old[name] == old[name]}
    assert different == {}


def test_the_roles_of_schema_1_are_those_of_the_made_up_record(tmp_path):
    folder = make_run(tmp_path, "sst2", "0.5", 1, 0.6)
    stored = json.loads((folder / "run.json").read_text())
    before = json.dumps(stored)
    upgraded = schema.upgrade(stored)
    assert upgraded["roles"] == ROLES and set(upgraded["settings"]) == set(ROLES)
    assert json.dumps(stored) == before and stored["schema"] == 1  # the argument is left as it is
    assert schema.upgrade(upgraded) is upgraded and schema.read_run(folder) == upgraded


@pytest.mark.parametrize(
    ("settings", "score", "pattern", "treatment"),
    [
        ({"sparse_init": "sparse_unstructured"}, "magnitude", "unstructured", "sparse transfer"),
        ({"sparse_init": "sparse_nm"}, "magnitude", "nm", "sparse transfer"),
        ({"sparse_init": "dense"}, None, "dense", "dense transfer"),
        ({"sparse_init": "random"}, "random", "unstructured", "sparse transfer"),
        ({"sparse_init": "one_shot_smallgm"}, "largest", "unstructured", "sparse transfer"),
        (
            {"sparse_init": "uniform_weight", "freeze_weights": False},
            "magnitude", "per_matrix", "sparse-to-dense transfer",
        ),
        (
            {"sparse_init": "mask_file", "mask_file": "m"}
            | {"freeze_weights": False, "freeze_weights_frompretrain": True},
            None, "mask_file", "dense transfer with freezing",
        ),
    ],
)  # fmt: skip
def test_the_historical_values_are_a_score_and_a_pattern(settings, score, pattern, treatment):
    run = schema.upgrade({"schema": 1, "settings": OLD | settings})
    assert (run["settings"]["score"], run["settings"]["sparsity_pattern"]) == (score, pattern)
    assert run["treatment"] == treatment and run["axes"] == {"task": "sst2", "data": "10 %"}
    assert "sparse_init" not in run["settings"] and run["settings"]["train_percentage"] == 10.0


def test_mnli_has_the_metrics_of_both_splits_and_chance_is_each_split_s_own():
    data = {"metrics": ["accuracy", "f1"], "eval": {"majority": 0.6}, "eval_mm": {"majority": 0.7}}
    run = schema.upgrade({"schema": 1, "settings": OLD | {"sparse_init": "dense"}, "data": data})
    assert [(m["name"], m["key"], m["better"], m["chance"], m["main"]) for m in run["metrics"]] == [
        ("accuracy", "eval_accuracy", "higher", 0.6, True),
        ("f1", "eval_f1", "higher", None, False),
        ("mm_accuracy", "eval_mm_accuracy", "higher", 0.7, False),
        ("mm_f1", "eval_mm_f1", "higher", None, False),
    ]


def test_a_file_of_one_s_own_names_the_task():
    files = {"sparse_init": "dense", "task_name": None}
    for path, task in (("some/where/easy/train.csv", "easy"), ("some/hard.csv", "hard")):
        run = schema.upgrade({"schema": 1, "settings": OLD | files | {"train_file": path}})
        assert run["axes"]["task"] == task


def test_what_is_not_a_record_is_none_and_an_error_without_settings_stays(tmp_path):
    assert schema.read_run(tmp_path) is None and schema.read_error(tmp_path) is None
    for text in ("{", "[]", '{"settings": {"foreign": 1}}'):
        (tmp_path / "run.json").write_text(text)
        assert schema.read_run(tmp_path) is None
    (tmp_path / "error.json").write_text('{"error": "no such task"}')
    assert schema.read_error(tmp_path) == {"error": "no such task"}


def test_an_error_of_schema_1_says_its_axes(tmp_path):
    folder = make_run(tmp_path, "sst2", "0.5", 1, None, status="failed", percentage=10.0)
    error = schema.read_error(folder)
    assert (error["family"], error["axes"]) == ("glue", {"task": "sst2", "data": "10 %"})
    assert error["treatment"] == "sparse transfer" and error["error"] == "out of memory"


def test_old_and_new_records_of_one_curve_are_one_curve(tmp_path):
    make_run(tmp_path, "sst2", "dense", 1, 0.8)
    make_run(tmp_path, "sst2", "0.5", 1, 0.6, newest=True)
    make_run(tmp_path, "sst2", "0.5", 2, 0.6)
    cells = summary.normalise(collect.collect([str(tmp_path)])[0])
    assert set(cells["curve"]) == {"dense transfer", "sparse transfer, unstructured"}
    assert cells.set_index(["pattern", "seed"]).loc[("0.5", 1), "normalised"] == pytest.approx(0.75)
    change(tmp_path / "sst2/100/0.5/2", learning_rate=1e-3)
    names = set(collect.collect([str(tmp_path)])[0]["curve"])
    assert "sparse transfer, unstructured, learning_rate 0.001" in names and len(names) == 3


def test_records_of_schema_2_that_say_something_otherwise_are_read_as_it_is_said_now(tmp_path):
    graphs = {
        "schema": 2,
        "settings": {"seed": 1},
        "options": {"cuda_graphs": True, "num_jobs": 2},
        "roles": {"seed": "seed"},
    }
    read = schema.upgrade(graphs)
    assert read["settings"] == {"seed": 1, "cuda_graphs": True}
    assert read["roles"] == {"seed": "seed", "cuda_graphs": "training"}
    assert graphs["settings"] == {"seed": 1}
    for book, context, length in (("closed", "none", None), ("open", "3072", 3072)):
        asked = {"settings": {"context_characters": 3072}, "axes": {"book": book, "context": "3072"}, "roles": {}}
        read = schema.upgrade({"schema": 2} | asked)
        assert (read["axes"]["context"], read["settings"]["context_characters"]) == (context, length)
