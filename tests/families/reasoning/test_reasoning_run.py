"""Whole runs of the command: what a run leaves, grids and their single runs, folds, resuming, jobs, the report."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small

import junkdna as jd
import Reasoning_prune_oneshot
from conftest import save_tiny_model
from junkdna.families.reasoning import equations, problems
from junkdna.families.reasoning.equations import value
from junkdna.report.__main__ import main as report
from junkdna.runs import keys

SCRIPT = Path(__file__).resolve().parents[3] / "Reasoning_tasks" / "Reasoning_prune_oneshot.py"
SHORT = ("--per_device_train_batch_size", 6, "--num_train_epochs", 2, "--learning_rate", 3e-3, "--freeze_weights",
         "--noembed", "--decoder_heads", 4, "--decoder_inner", 32, "--num_beams", 2)  # fmt: skip
OF_CHOICE = ("--per_device_train_batch_size", 6, "--num_train_epochs", 2, "--learning_rate", 3e-3, "--freeze_weights",
             "--noembed")  # fmt: skip
GRID = ("--task_name", "winogrande", "svamp", "--winogrande_size", "xs", "--sparsity", 0.5, "--with_dense", *SHORT)
TEMPLATE = "{task_name}/{pattern}/{seed}"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny RoBERTa and all four tasks."""
    root = tmp_path_factory.mktemp("reasoning")
    save_tiny_model(root / "model")
    small.fill(root / "data")
    return root


def argv(world, *words, model="model"):
    where = [] if "--train_file" in words else ["--data_dir", world / "data"]
    return [str(word) for word in ("--model_name_or_path", world / model, *where, *words)]


def run(world, *words, **where) -> int:
    return Reasoning_prune_oneshot.main(argv(world, *words, **where))


def load(folder, name="run.json"):
    return json.loads((folder / name).read_text())


def lines(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def contents(folder):
    """What a run leaves, byte for byte, less the record, which holds times; its history without the seconds."""
    names = ("all_results.json", "predictions.jsonl", "mask.safetensors")
    found = {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
    history = (folder / "history.jsonl").read_text().splitlines()
    epochs = [{k: v for k, v in json.loads(line).items() if not k.endswith("seconds")} for line in history]
    return found | {"epochs": epochs, "identity": load(folder)["identity"]["mask"]}


def named(schema):
    return {key for names in schema for key in names.split(", ")}


def finished(root):
    return sorted(path.parent for path in root.rglob("all_results.json"))


@pytest.fixture(scope="module")
def grid(world, tmp_path_factory):
    """The folder of a grid of 4 runs: of each kind of task a dense one and a pruned one."""
    root = tmp_path_factory.mktemp("grid")
    assert run(world, *GRID, "--output_dir", root / TEMPLATE) == 0
    return root


# --- what a run leaves -----------------------------------------------------------------------------------------------


def test_a_run_of_multiple_choice_says_what_was_done(grid):
    folder = grid / "winogrande" / "0.5" / "42"
    record, results = load(folder), load(folder, "all_results.json")
    assert (record["family"], record["treatment"], record["status"]) == ("reasoning", "sparse transfer", "done")
    assert record["axes"] == {"task": "winogrande", "size": "xs"}
    assert record["settings"]["decoder_layers"] is None and record["settings"]["fold"] is None
    (metric,) = record["metrics"]
    assert metric == {"name": "accuracy", "key": "eval_accuracy", "better": "higher", "chance": 0.5, "main": True}
    data = record["data"]
    assert (data["kind"], data["num_choices"], data["train"]["used"], data["eval"]["used"]) == (
        "multiple choice", 2, 24, 12)  # fmt: skip
    labels = [line["label"] for line in lines(folder)]
    assert data["eval"]["majority"] == max(labels.count(0), labels.count(1)) / 12
    assert record["collapsed"] is (results["eval_accuracy"] <= data["eval"]["majority"] + 0.02)
    right = [line["scores"]["accuracy"] for line in lines(folder)]
    assert results["eval_accuracy"] == pytest.approx(sum(right) / 12)
    for line in lines(folder):
        assert set(line) == named(keys.CHOICES)
        assert line["choice"] == max(range(2), key=line["logits"].__getitem__)
        assert line["scores"]["accuracy"] == (line["choice"] == line["label"])
    assert record["plan"]["batches"] == "packed" and results["zero_fraction"] == results["sparsity"]


def test_a_run_of_word_problems_says_what_was_done(world, grid):
    folder = grid / "svamp" / "0.5" / "42"
    record, results = load(folder), load(folder, "all_results.json")
    assert record["axes"] == {"task": "svamp"} and record["settings"]["num_choices"] is None
    assert [metric["name"] for metric in record["metrics"] if metric["main"]] == ["value_accuracy"]
    assert {metric["chance"] for metric in record["metrics"]} == {0.0}
    assert record["data"]["vocabulary"][3:7] == ["+", "-", "*", "/"]
    assert all(matrix["name"].startswith("encoder.") for matrix in record["pruning"]["matrices"])
    assert all(name.startswith("decoder.") for name in record["model"]["drawn"]) and "pooler" not in str(
        record["pruning"]
    )
    from junkdna.families.reasoning import reading

    asked = reading.read_dir(world / "data", "svamp").eval.rows
    for row, line in zip(asked, lines(folder)):
        assert set(line) == named(keys.EQUATIONS)
        symbols = tuple(line["equation"].split())
        assert line["value"] == value(symbols, row.numbers) and line["answer"] == row.answer
        assert line["scores"] == {
            "value_accuracy": row.solved_by(symbols),
            "equation_accuracy": symbols == row.equation,
        }
    for name in ("value_accuracy", "equation_accuracy"):
        assert results[f"eval_{name}"] == pytest.approx(sum(line["scores"][name] for line in lines(folder)) / 12)


def test_records_hold_what_the_schema_says(grid):
    common = named(keys.RUN) - {"model_files"}
    for folder in finished(grid):
        assert set(load(folder)) == common


def test_the_part_that_does_not_recur_in_training_is_scored_apart(world, tmp_path):
    draw_rows = [json.loads(json.dumps(row)) for row in _problems()]
    train = small.write_csv(tmp_path / "train.csv", draw_rows)
    fresh = [{**row, "Question": row["Question"] + " a bright flower"} for row in draw_rows[:4]]
    asked = small.write_csv(tmp_path / "dev.csv", draw_rows[:8] + fresh)
    files = ("--train_file", train, "--validation_file", asked, "--sparsity_pattern", "dense", *SHORT[:6], *SHORT[8:])
    assert run(world, *files, "--output_dir", tmp_path / "run") == 0
    record, results = load(tmp_path / "run"), load(tmp_path / "run", "all_results.json")
    assert record["axes"] == {"task": tmp_path.name} and record["data"]["recurring"] == {"exact": 8, "masked": 8}
    right = [line["scores"]["value_accuracy"] for line in lines(tmp_path / "run")]
    assert results["eval_unseen_value_accuracy"] == pytest.approx(sum(right[8:]) / 4)
    assert record["data"]["unseen"] == 4
    only = small.write_csv(tmp_path / "known.csv", draw_rows[:8])
    files = ("--train_file", train, "--validation_file", only, "--sparsity_pattern", "dense", *SHORT[:6], *SHORT[8:])
    assert run(world, *files, "--output_dir", tmp_path / "known") == 0
    assert "eval_unseen_value_accuracy" not in load(tmp_path / "known", "all_results.json")


def _problems():
    import random

    draw = random.Random(3)
    return [small.problem(draw, longer=False) for _ in range(20)]


def test_choices_of_ones_own_and_fewer_of_them(world, tmp_path):
    texts = ["a bright flower", "the sad story", "a cold cellar"]
    rows = [{"question": "the cat saw", "choices": texts, "label": i % 3} for i in range(12)]
    train, other = small.write_lines(tmp_path / "t.jsonl", rows), small.write_lines(tmp_path / "v.jsonl", rows[:6])
    files = ("--train_file", train, "--validation_file", other, "--sparsity", 0.5, *OF_CHOICE)
    assert run(world, *files, "--num_choices", 2, "--seed", 1, 2, "--output_dir", tmp_path / "{seed}") == 0
    for seed in (1, 2):
        record = load(tmp_path / str(seed))
        assert record["axes"] == {"task": "t", "choices": "2"} and record["data"]["num_choices"] == 2
        assert record["metrics"][0]["chance"] == 0.5
    assert load(tmp_path / "1")["data"]["train"]["sha256"] != load(tmp_path / "2")["data"]["train"]["sha256"]


def test_the_decoder_is_in_scope_only_if_asked_for(world, tmp_path):
    few = ("--task_name", "svamp", "--sparsity", 0.5, *SHORT, "--prune_decoder", "--output_dir", tmp_path)
    assert run(world, *few) == 0
    record = load(tmp_path)
    names = {matrix["name"].split(".")[0] for matrix in record["pruning"]["matrices"]}
    assert names == {"encoder", "decoder"} and record["pruning"]["head"]["weights"] > 0
    assert not any("symbols" in matrix["name"] for matrix in record["pruning"]["matrices"])  # --noembed


def test_equations_are_the_same_in_batches_of_any_size(world, tmp_path):
    for size in (1, 5, 64):
        few = ("--task_name", "svamp", "--sparsity", 0.5, *SHORT, "--per_device_eval_batch_size", size)
        assert run(world, *few, "--output_dir", tmp_path / str(size)) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "5") == contents(tmp_path / "64")


def test_only_well_formed_equations_are_written_if_asked_for(world, tmp_path, monkeypatch):
    """The decoder is made to like an operator best: freely, it writes nothing else."""
    from junkdna.families.reasoning.solver import Solver

    real = Solver.reset

    def plus(self, seed):
        model = real(self, seed)
        model.decoder.output.bias.data[self.vocabulary.ids["+"]] = 50.0
        return model

    monkeypatch.setattr(Solver, "reset", plus)
    for name, more in (("free", ()), ("bound", ("--well_formed",))):
        few = ("--task_name", "svamp", "--sparsity", 0.5, *SHORT, "--max_train_steps", 1, *more)
        assert run(world, *few, "--output_dir", tmp_path / name) == 0
    assert {line["equation"] for line in lines(tmp_path / "free")} == {"+ + + + + + + + +"}
    for line in lines(tmp_path / "bound"):
        assert len(equations.parse(line["equation"], 2)) == 9 and line["ended"] == "end"


def test_a_saved_solver_is_the_one_that_was_scored(world, tmp_path):
    from transformers import AutoModel

    assert run(world, "--task_name", "svamp", "--sparsity", 0.5, *SHORT, "--save_model", "--output_dir", tmp_path) == 0
    encoder, masks = AutoModel.from_pretrained(tmp_path), jd.load_masks(tmp_path / "mask.safetensors")
    named = dict(encoder.named_parameters())
    assert all(bool((named[name.removeprefix("encoder.")][~mask] == 0).all()) for name, mask in masks.items())
    assert (tmp_path / "equation_decoder.safetensors").is_file()
    assert {"equation_decoder.safetensors", "equation_decoder.json"} < set(load(tmp_path)["model_files"])  # for uploads
    mask = ("--mask_file", tmp_path / "mask.safetensors", "--output_dir", tmp_path / "again")
    assert run(world, "--task_name", "svamp", *SHORT, *mask) == 0
    assert contents(tmp_path / "again") == contents(tmp_path)


# --- grids, folds, resuming, jobs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["winogrande", "svamp"])
def test_a_grid_equals_its_single_runs(task, world, grid, tmp_path):
    own = ("--winogrande_size", "xs", *OF_CHOICE) if task == "winogrande" else SHORT
    for words in (("--sparsity", 0.5), ("--sparsity_pattern", "dense")):
        assert run(world, "--task_name", task, *words, *own, "--output_dir", tmp_path / str(words[1])) == 0
        assert contents(tmp_path / str(words[1])) == contents(grid / task / str(words[1]) / "42")


def test_a_smaller_grid_of_more_rows_shares_tokens_and_equals_its_single_run(world, tmp_path):
    """Rows that come later are tokenised with the objective's own number of sequences for each."""
    common = ("--task_name", "commonsense_qa", "--sparsity", 0.5, *OF_CHOICE)
    assert run(world, *common, "--max_train_samples", 7, "--output_dir", tmp_path / "few") == 0
    assert load(tmp_path / "few")["data"]["train"]["used"] == 7
    assert run(world, *common, "--output_dir", tmp_path / "all") == 0
    assert load(tmp_path / "all")["plan"]["steps"] == 8


def test_all_folds_run_unless_one_is_named(world, tmp_path, capsys):
    words = ("--task_name", "mawps", "--sparsity", 0.5, *SHORT)
    assert run(world, *words, "--dry_run", "--output_dir", tmp_path / "{fold}") == 0
    assert capsys.readouterr().out.count("to run") == 5
    assert run(world, *words, "--fold", 3, 1, "--output_dir", tmp_path / "{fold}") == 0
    digests = {fold: load(tmp_path / str(fold))["data"]["eval"]["sha256"] for fold in (1, 3)}
    assert digests[1] != digests[3] and load(tmp_path / "3")["settings"]["fold"] == 3
    assert run(world, *words, "--output_dir", tmp_path / "same") == 2
    assert "use {fold} in it" in capsys.readouterr().err


def test_word_problems_run_once_beside_several_numbers_of_choices(world, tmp_path, capsys):
    tasks = ("--task_name", "commonsense_qa", "svamp", "--num_choices", 2, 3)
    words = (*tasks, "--sparsity", 0.5, *SHORT, "--dry_run", "--output_dir", tmp_path / "{task_name}/{num_choices}")
    assert run(world, *words) == 0
    planned = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert planned == [str(tmp_path / name) for name in ("commonsense_qa/2", "commonsense_qa/3", "svamp/all")]


def test_killed_in_the_middle_the_repeated_command_gives_the_same_bytes(world, grid, tmp_path):
    words = argv(world, *GRID, "--checkpointing_steps", 1, "--output_dir", tmp_path / TEMPLATE)
    process = subprocess.Popen([sys.executable, str(SCRIPT), *words], stdout=subprocess.DEVNULL)
    until = time.time() + 300
    while not list(tmp_path.glob("svamp/*/*/checkpoint-[2-7]")) and time.time() < until:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(finished(tmp_path)) < 4 and list(tmp_path.rglob("checkpoint-*"))
    assert Reasoning_prune_oneshot.main(words) == 0
    assert any(load(folder)["resumed"] for folder in finished(tmp_path))
    for folder in finished(grid):
        assert contents(tmp_path / folder.relative_to(grid)) == contents(folder)


def test_two_local_jobs_give_the_same_bytes(world, grid, tmp_path):
    words = argv(world, *GRID, "--num_jobs", 2, "--output_dir", tmp_path / TEMPLATE)
    called = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=550)
    assert called.returncode == 0, called.stderr
    assert len(finished(tmp_path)) == 4
    for folder in finished(grid):
        assert contents(tmp_path / folder.relative_to(grid)) == contents(folder)


def test_two_processes_share_the_work_and_equal_one(world, tmp_path):
    """Of twelve problems each process writes every other one."""
    save_tiny_model(world / "still", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    common = ("--task_name", "svamp", "--sparsity", 0.5, *SHORT[2:], "--decoder_dropout", 0)
    one = ("--per_device_train_batch_size", 6, "--output_dir", tmp_path / "one")
    assert run(world, *common, *one, model="still") == 0
    words = argv(world, *common, "--per_device_train_batch_size", 3, "--output_dir", tmp_path / "two", model="still")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    called = subprocess.run([*launcher, str(SCRIPT), *words], capture_output=True, text=True, timeout=300)
    assert called.returncode == 0, called.stderr
    one, two = (load(tmp_path / name, "all_results.json") for name in ("one", "two"))
    assert two == pytest.approx(one, abs=1e-4)
    assert [line["id"] for line in lines(tmp_path / "two")] == [line["id"] for line in lines(tmp_path / "one")]


def test_changed_files_are_refused(world, tmp_path, capsys):
    data = shutil.copytree(world / "data", tmp_path / "data")
    where = ("--model_name_or_path", world / "model", "--data_dir", data, "--output_dir", tmp_path / "run")
    words = [str(word) for word in (*where, "--task_name", "svamp", "--sparsity", 0.5, *SHORT)]
    assert Reasoning_prune_oneshot.main(words) == 0
    assert Reasoning_prune_oneshot.main(words) == 0 and "already done" in capsys.readouterr().out
    shutil.copy(data / "mawps/cv_mawps/fold1/dev.csv", data / "svamp/mawps-asdiv-a_svamp/train.csv")
    assert Reasoning_prune_oneshot.main(words) == 2
    assert "holds this run on other training data" in capsys.readouterr().err


def test_the_report_has_it_beside_other_families(world, grid, tmp_path, csv_task, command):
    glue = tmp_path / "runs" / "glue"
    shutil.copytree(grid, tmp_path / "runs" / "reasoning")
    code, _, err = command(
        ["--model_name_or_path", world / "model", *csv_task.flags, "--sparsity", 0.5, "--with_dense", "--noembed",
         "--freeze_weights", "--num_train_epochs", 1, "--output_dir", glue / "{pattern}"]
    )  # fmt: skip
    assert code == 0, err
    assert report([str(tmp_path / "runs"), "--out", str(tmp_path / "report")]) == 0
    summary = (tmp_path / "report" / "summary.csv").read_text()
    assert "winogrande" in summary and "svamp" in summary and "value_accuracy" in summary and "glue" in summary


def test_a_problem_is_shown_with_its_numbers_if_asked_for(world, tmp_path):
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        real = problems.Problem.shown
        patch.setattr(problems.Problem, "shown", lambda self, values=False: seen.append(values) or real(self, values))
        common = ("--task_name", "svamp", "--sparsity", 0.5, *SHORT, "--show_numbers")
        assert run(world, *common, "--output_dir", tmp_path) == 0
    assert set(seen) == {True} and load(tmp_path)["settings"]["show_numbers"] is True
