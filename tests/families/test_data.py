"""Reading: the real layouts, exact prefixes, labels."""

import json
from decimal import Decimal

import datasets
import pytest

from conftest import write_rows
from junkdna.errors import UserError
from junkdna.families.encoder import examples
from junkdna.families.glue import files
from junkdna.families.glue import reading as data
from junkdna.families.glue import tasks as glue


@pytest.mark.parametrize("rows", [1, 7, 99, 635, 2490, 8551, 67349, 104743])
def test_percentages_are_those_of_datasets(rows):
    whole = datasets.Dataset.from_dict({"x": [0]}).info.splits
    splits = {"train": rows}
    for percentage in (1, 2, 7, 10, 25, 33, 50, 66, 70, 75, 99, 100):
        (instruction,) = datasets.ReadInstruction("train", to=percentage, unit="%").to_absolute(splits)
        expected = instruction.to - (instruction.from_ or 0)
        assert examples.prefix_size(Decimal(percentage), rows) == expected, (percentage, whole)
    (instruction,) = datasets.ReadInstruction("train", to=12.5, unit="%").to_absolute(splits)
    assert examples.prefix_size(Decimal("12.5"), rows) == instruction.to


def test_validation_rows_with_the_texts_of_a_training_row_are_counted():
    train = examples.Examples([("a", "b"), ("c", "d"), ("e", "f")], [0, 1, 0])
    evals = {
        "eval": examples.Examples([("a", "b"), ("a", "d"), ("C", "d"), ("a", "b")], [1, 0, 0, 0]),
        "eval_mm": examples.Examples([("e", "f"), ("f", "e")], [0, 0]),
    }
    task = examples.TaskData(train, evals, ("accuracy",), "made up")
    assert task.recurring == 3 and task.recurring_words == "; 3 validation rows have the texts of a training row"
    less = examples.cut(task, Decimal(67), None, 1)  # what is used counts
    assert (len(less.train), less.recurring) == (2, 1)
    assert examples.cut(task, Decimal(100), 1, None).recurring == 2
    apart = examples.TaskData(train, {"eval": evals["eval"].first(3).since(1)}, ("accuracy",), "made up")
    assert apart.recurring == 0 and apart.recurring_words == ""


def test_quotes_are_characters_in_glue_files(tmp_path):
    (tmp_path / "RTE").mkdir()
    lines = [
        "index\tsentence1\tsentence2\tlabel",
        '0\tHe said "no.\t"Yes\tentailment',
        "1\ta\tb\tnot_entailment",
        " ",
        "",
    ]
    for name in ("train", "dev"):
        (tmp_path / "RTE" / f"{name}.tsv").write_text("\n".join(lines), encoding="utf-8-sig")
    task = data.read_glue_dir(str(tmp_path), "rte")
    assert task.train.texts == [('He said "no.', '"Yes'), ("a", "b")] and task.train.labels == [0, 1]
    assert task.train.skipped == 0 and task.label_names == ("entailment", "not_entailment")


def test_short_rows_are_left_out_of_qqp_alone(tmp_path):
    """The original QQP has such rows. Elsewhere they are a damaged file, whose rows must not vanish."""
    for folder, header in (("QQP", "question1\tquestion2\tis_duplicate"), ("RTE", "sentence1\tsentence2\tlabel")):
        label = "1" if folder == "QQP" else "entailment"
        (tmp_path / folder).mkdir()
        for name in ("train", "dev"):
            rows = [header, f"a\tb\t{label}", "cut off", f"c\td\t{label}"]
            (tmp_path / folder / f"{name}.tsv").write_text("\n".join(rows))
    task = data.read_glue_dir(str(tmp_path), "qqp")
    assert task.train.texts == [("a", "b"), ("c", "d")] and task.train.skipped == task.evals["eval"].skipped == 1
    tabs = (tmp_path / "RTE/dev.tsv").read_text().replace("cut off", "\t\t\t")
    for name in ("train", "dev"):
        (tmp_path / "RTE" / f"{name}.tsv").write_text(tabs)
    with pytest.raises(UserError, match=r"tsv: row 2 has no 'sentence1'"):
        data.read_glue_dir(str(tmp_path), "rte")
    for name in ("train", "dev"):
        (tmp_path / "RTE" / f"{name}.tsv").write_text(tabs.replace("\t\t\t", "cut off"))
    with pytest.raises(UserError, match=r"tsv: row 2 has 1 tab-separated columns, and the task needs 3 \(line 3"):
        data.read_glue_dir(str(tmp_path), "rte")


def test_mnli_has_two_evaluations(glue_folder):
    task = data.read_glue_dir(glue_folder, "mnli")
    assert list(task.evals) == ["eval", "eval_mm"] and task.evals["eval"].texts != task.evals["eval_mm"].texts
    assert task.num_labels == 3


@pytest.mark.parametrize("name", sorted(glue.TASKS))
def test_every_task_is_described_whole(name):
    task = glue.TASKS[name]
    assert len(task.columns) == len(task.tsv_columns) in (1, 2) and task.metrics and task.evals[0][0] == "eval"
    assert task.regression == (name == "stsb")
    assert glue.task_name(task.folder) == glue.task_name(name.upper()) == name  # CoLA, SST-2, STS-B


def test_nine_tasks_there_are():
    assert len(glue.TASKS) == 9


def csv_file(folder, name, header, *rows):
    return str(write_rows(folder / name, [header, *rows]))


def test_labels_are_numbered_in_order(tmp_path):
    train = csv_file(tmp_path, "train.csv", ("label", "sentence1"), (10, "a"), (9, "b"), (-1, "c"))
    valid = csv_file(tmp_path, "valid.csv", ("label", "sentence1"), (9, "d"))
    task = files.read_files(train, valid)
    assert task.label_names == ("-1", "9", "10") and task.train.labels == [2, 1, 0] and task.evals["eval"].labels == [1]
    assert task.metrics == ("accuracy",) and task.train.texts[0] == ("a",)


def test_float_labels_mean_regression(tmp_path):
    train = csv_file(tmp_path, "train.csv", ("sentence1", "label"), ("a", "1.0"), ("b", "2"))
    task = files.read_files(train, train)
    assert task.label_names == () and task.train.labels == [1.0, 2.0] and task.num_labels == 1
    assert task.metrics == ("pearson", "spearmanr")


def test_the_only_other_columns_are_the_texts(tmp_path):
    path = tmp_path / "train.jsonl"
    rows = [{"question": f"q{i}", "label": "yes" if i else "no", "answer": "a"} for i in range(2)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    task = files.read_files(str(path), str(path))
    assert task.train.texts == [("q0", "a"), ("q1", "a")] and task.label_names == ("no", "yes")
    assert task.text_columns == ("question", "answer") and task.label_column == "label"
    named = csv_file(tmp_path, "named.csv", ("id", "sentence1", "label"), (1, "text", 0), (2, "more", 1))
    assert files.read_files(named, named).train.texts == [("text",), ("more",)]


def test_cut_keeps_the_first_rows_and_refuses_none(tmp_path):
    train = csv_file(tmp_path, "t.csv", ("sentence1", "label"), *((f"s{i}", i % 2) for i in range(10)))
    whole = files.read_files(train, train)
    assert [text for (text,) in examples.cut(whole, Decimal(30), None, 4).train.texts] == ["s0", "s1", "s2"]
    assert (
        len(examples.cut(whole, Decimal(30), 2, 4).train) == 2
        and len(examples.cut(whole, Decimal(30), 2, 4).evals["eval"]) == 4
    )
    with pytest.raises(UserError, match="leaves none of the 10"):
        examples.cut(whole, Decimal("0.1"), None, None)


def test_the_fingerprint_sees_texts_labels_and_order():
    made = [
        data.Examples([("a",), ("b",)], [0, 1]),
        data.Examples([("b",), ("a",)], [0, 1]),
        data.Examples([("a",), ("b",)], [1, 1]),
    ]
    assert len({examples.fingerprint for examples in made}) == 3
