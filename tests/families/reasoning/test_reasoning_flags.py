"""Mistakes: one line each that names the flag, the value and what is allowed; exit code 2, and nothing is written."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import small

import Reasoning_prune_oneshot
from conftest import save_tiny_model
from junkdna.runs import request


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("flags")
    save_tiny_model(root / "model")
    small.fill(root / "data")
    return root


def lines(path: Path, *rows) -> Path:
    return small.write_lines(path, rows)


def table(path: Path, *rows) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "numbers", "equation", "answer"), *rows])
    return path


GOOD = {"question": "the cat saw", "choices": ["a", "b"], "label": 0}
SUM = ("he has number0 and number1", "3 4", "+ number0 number1", "7")


@pytest.fixture
def files(tmp_path):
    """Files of one's own, good and bad, by name."""
    return {
        "good": lines(tmp_path / "good.jsonl", GOOD, GOOD),
        "one choice": lines(tmp_path / "one.jsonl", GOOD | {"choices": ["a"]}),
        "label": lines(tmp_path / "label.jsonl", GOOD | {"label": 2}),
        "unequal": lines(tmp_path / "unequal.jsonl", GOOD, GOOD | {"choices": ["a", "b", "c"]}),
        "three": lines(tmp_path / "three.jsonl", GOOD | {"choices": ["a", "b", "c"]}),
        "sum": table(tmp_path / "sum.csv", SUM),
        "parse": table(tmp_path / "parse.csv", SUM, ("he has number0", "3", "+ number0", "3")),
        "slot": table(tmp_path / "slot.csv", ("he has number0", "3", "+ number0 number1", "3")),
        "none": tmp_path / "none.jsonl",
    }


def refused(world, tmp_path, capsys, *words) -> str:
    """Run a command that must be refused; return the one line that says why."""
    out = tmp_path / "out"
    argv = ["--model_name_or_path", world / "model", *words, "--output_dir", out]
    assert Reasoning_prune_oneshot.main([str(word) for word in argv]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and said.startswith("error: ") and not out.exists()
    return said.removeprefix("error: ")


TASKS = {
    (): "no data: give --task_name (commonsense_qa winogrande mawps svamp) or --train_file with --validation_file",
    ("--task_name", "csqaa"): "--task_name csqaa: no such task; allowed: commonsense_qa winogrande mawps svamp",
    ("--task_name", "mawps"): "--task_name mawps: the Hub has no copy with its splits; give --data_dir",
    ("DATA", "winogrande", "--num_choices", 3): "--num_choices 3: winogrande has 2 choices; allowed: 2",
    ("DATA", "winogrande", "--num_choices", 1): "--num_choices 1: must be a whole number >= 2",
    ("DATA", "svamp", "--num_choices", 3): "--num_choices 3: has no effect, it is of multiple choice; leave it out",
    ("DATA", "winogrande", "--winogrande_size", "q"): "--winogrande_size q: unknown; allowed: xs s m l xl",
    (
        "DATA",
        "svamp",
        "--winogrande_size",
        "m",
    ): "--winogrande_size m: has no effect, it is of WinoGrande; leave it out",
    ("DATA", "mawps", "--fold", 7): "--fold 7: must be a whole number >= 0 and <= 4",
    ("DATA", "svamp", "--fold", 1): "--fold 1: has no effect, it is of MAWPS; leave it out",
    (
        "DATA",
        "winogrande",
        "--decoder_layers",
        3,
    ): "--decoder_layers 3: has no effect, it is of word problems; leave it out",
    ("DATA", "winogrande", "--prune_decoder"): "--prune_decoder: has no effect, it is of word problems; leave it out",
    ("DATA", "svamp", "--decoder_heads", 5): "--decoder_heads 5: does not divide the encoder's width, 32",
    ("DATA", "svamp", "--label_smoothing", 1): "--label_smoothing 1: must be a number >= 0 and < 1",
    ("DATA", "svamp", "--decoder_dropout", 1.5): "--decoder_dropout 1.5: must be a number >= 0 and < 1",
    ("DATA", "svamp", "--num_beams", 0): "--num_beams 0: must be a whole number >= 1",
    ("DATA", "svamp", "--max_length", 500): "has positions for at most 128 tokens",
    ("DATA", "svamp", "--glue_dir", "x"): "--glue_dir: --data_dir is its name here",
    ("DATA", "svamp", "--cuda_graphs"): "--cuda_graphs: is for GLUE; leave it out",
}


@pytest.mark.parametrize("words", TASKS, ids=lambda words: " ".join(map(str, words)) or "nothing")
def test_flags_that_cannot_be_meant(words, world, tmp_path, capsys):
    given = ["--data_dir", world / "data", "--task_name", *words[1:]] if words[:1] == ("DATA",) else words
    assert refused(world, tmp_path, capsys, *given).endswith(TASKS[words])


FILES = {
    ("one choice", "good"): "row 1 has 1 choice(s); there must be two or more (line 1)",
    ("label", "good"): "row 1 has the label 2; allowed: 0 to 1, counted from 0 (line 1)",
    ("unequal", "good"): "row 2 has 3 choices, row 1 has 2; all rows must have as many",
    ("good", "three"): "both must have as many",
    ("parse", "sum"): "row 2 has the equation '+ number0', which cannot be parsed: 1 operand(s) are missing at its end",
    ("slot", "sum"): "the slot 'number1' has no number, there are 1, counted from number0",
    ("good", "sum"): "has no column 'equation'",
    ("sum", "good"): "row 1 has no 'text' (it has: question, choices, label)",
    ("none", "good"): "no such file",
}


@pytest.mark.parametrize("train, other", FILES)
def test_files_that_cannot_be_used(train, other, files, world, tmp_path, capsys):
    said = refused(world, tmp_path, capsys, "--train_file", files[train], "--validation_file", files[other])
    assert FILES[train, other] in said and ("--train_file" in said or "--validation_file" in said)


def test_files_that_do_not_go_with_the_rest(files, world, tmp_path, capsys):
    both = ("--train_file", files["sum"], "--validation_file", files["sum"])
    few = ("--num_choices", 2)
    assert "--num_choices 2: is for multiple choice" in refused(world, tmp_path, capsys, *both, *few)
    assert "give a task or files, not both" in refused(world, tmp_path, capsys, *both, "--task_name", "svamp")
    assert "goes with --task_name" in refused(world, tmp_path, capsys, *both, "--data_dir", world / "data")
    assert "also needs --validation_file" in refused(world, tmp_path, capsys, *both[:2])
    choices = ("--train_file", files["good"], "--validation_file", files["good"], "--num_choices", 3)
    assert refused(world, tmp_path, capsys, *choices).endswith("has 2 choices; allowed: 2")


def test_flags_that_say_nothing_of_ones_own_files(files, world, tmp_path, capsys):
    choice = ("--train_file", files["good"], "--validation_file", files["good"])
    sums = ("--train_file", files["sum"], "--validation_file", files["sum"])
    for words, whose in ((("--fold", 1), "MAWPS"), (("--winogrande_size", "s"), "WinoGrande")):
        for own in (choice, sums):
            assert refused(world, tmp_path, capsys, *own, *words).endswith(
                f"has no effect, it is of {whose}; leave it out"
            )
    for words in (("--decoder_layers", 3), ("--prune_decoder",)):
        said = refused(world, tmp_path, capsys, *choice, *words)
        assert said == " ".join(map(str, words)) + ": has no effect, it is of word problems; leave it out"


def test_the_work_of_ones_own_files_is_that_of_their_rows(files):
    from junkdna.families.reasoning.cell import ReasoningCell
    from junkdna.runs.shared import Shared

    def work(train, other, **more):
        own = {"train_file": str(files[train]), "validation_file": str(files[other])}
        cell = ReasoningCell(**own, per_device_train_batch_size=4, num_train_epochs=3, **more)
        return Reasoning_prune_oneshot.FAMILY.work(cell, Shared())

    assert work("good", "good") == 2 * 2 * 3 and work("sum", "sum") == 3 and work("label", "good") == 0
    assert work("good", "good", max_train_samples=1) == 2 * 3 and work("good", "good", max_train_steps=5) == 2 * 5 * 4


def test_folders_that_lack_something(world, tmp_path, capsys):
    assert "no such folder" in refused(world, tmp_path, capsys, "--data_dir", tmp_path / "x", "--task_name", "svamp")
    empty = tmp_path / "empty"
    empty.mkdir()
    said = refused(world, tmp_path, capsys, "--data_dir", empty, "--task_name", "svamp")
    assert said == f"--data_dir {empty}: has no folder svamp (for --task_name svamp)"
    (empty / "svamp").mkdir()
    said = refused(world, tmp_path, capsys, "--data_dir", empty, "--task_name", "svamp")
    assert "train.csv: cannot be read: no such file" in said.lower()


def test_a_model_that_cannot_be_used(world, tmp_path, capsys):
    bad = shutil.copytree(world / "model", tmp_path / "bart")
    config = json.loads((world / "model" / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps(config | {"is_encoder_decoder": True, "model_type": "bart"}))
    words = ("--data_dir", world / "data", "--task_name", "svamp")
    argv = ["--model_name_or_path", bad, *words, "--output_dir", tmp_path / "out"]
    assert Reasoning_prune_oneshot.main([str(word) for word in argv]) == 2
    assert "is an encoder-decoder model" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("svamp", "--decoder_heads", 4), ("commonsense_qa",)], ids=lambda words: words[0])
def test_labels_of_a_head_that_is_not_used_may_be_unclear(words, world, tmp_path):
    model = shutil.copytree(world / "model", tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    names = {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 1, "b": 0}}
    (model / "config.json").write_text(
        json.dumps(config | names | {"architectures": ["RobertaForSequenceClassification"]})
    )
    few = ("--sparsity", 0.5, "--max_train_steps", 1, "--per_device_train_batch_size", 2, "--max_eval_samples", 2)
    argv = ["--model_name_or_path", model, "--data_dir", world / "data", "--task_name", *words, *few]
    assert Reasoning_prune_oneshot.main([str(word) for word in (*argv, "--output_dir", tmp_path / "out")]) == 0


def test_folds_and_transfers_are_uploaded_to_repositories_of_their_own(world):
    made = []
    for transfer in ([], ["--freeze_weights"], ["--freeze_weights_frompretrain"], ["--freeze_weights", "--noembed"]):
        words = ["--model_name_or_path", "some/model", "--task_name", "mawps", "--data_dir", str(world / "data")]
        words += ["--push_to_hub", "--seed", "1", "2", *transfer]
        made += request.parse(Reasoning_prune_oneshot.FAMILY, words).cells
    names = [cell.repository for cell in made]
    assert len(set(names)) == len(names) == 4 * 5 * 2
    assert names[0] == "model-Reasoning_sparse_to_dense-mawps-0.2-fold0-1"
