"""The real command, end to end: what a run writes, what repeating it does, and that a result depends on nothing
else.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from conftest import save_tiny_model
from junkdna.report import answers
from junkdna.runs import keys
from junkdna.sparsity.files import load_masks
from junkdna.sparsity.masks import fingerprint

FAST = ["--num_train_epochs", 2, "--per_device_train_batch_size", 16, "--learning_rate", 5e-3, "--noembed"]


@pytest.fixture
def run(command, tiny_model, csv_task, tmp_path):
    """Run with small defaults; returns the folder. ``task`` replaces the csv files."""

    def go(*flags, out="run", task=csv_task.flags, model=tiny_model):
        folder = tmp_path / out
        code, printed, err = command(["--model_name_or_path", model, *task, *FAST, *flags, "--output_dir", folder])
        assert code == 0, err
        go.printed = printed
        return folder

    return go


def read(folder, name="all_results.json"):
    return json.loads((folder / name).read_text())


def predicted(folder):
    return [json.loads(line) for line in (folder / answers.FILE).read_text().splitlines()]


def test_a_run_writes_what_the_schema_says(run):
    folder = run("--sparsity", "0.5", "--freeze_weights", "--save_model")
    results, record = read(folder), read(folder, "run.json")
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    others = {"eval_<metric>", "eval_<metric>_<direction>", "eval_loss, eval_loss_<pair>", "eval_mm_<metric>"}
    documented = set(keys.RESULTS) - others | {"eval_accuracy"}
    assert set(results) == documented
    assert set(record) == {key for names in keys.RUN for key in names.split(", ")}
    assert {key for names in keys.HISTORY for key in names.split(", ")} - {"eval_*"} == set(history[0]) - {
        "eval_accuracy"
    }
    assert {key for line in predicted(folder) for key in line} == {key for n in keys.CLASSES for key in n.split(", ")}
    assert [line["epoch"] for line in history] == [1, 2] and history[1]["eval_accuracy"] == results["eval_accuracy"]
    assert (results["train_samples"], results["eval_samples"], results["step"], results["epoch"]) == (64, 32, 8, 2)

    pruned = record["pruning"]
    size = pruned["scope"]["weights"]
    assert size == 2 * (4 * 32 * 32 + 2 * 32 * 64) + 32 * 32 + 32 * 2
    assert pruned["removed"] == pruned["asked"] == size // 2 and pruned["kept"] == size - size // 2
    assert sum(row["removed"] for row in pruned["matrices"]) == pruned["removed"] and len(pruned["matrices"]) == 14
    assert [row["name"] for row in pruned["matrices"] if row["head"]] == [
        "classifier.dense.weight",
        "classifier.out_proj.weight",
    ]
    assert pruned["head"]["weights"] == 32 * 34 and pruned["head"]["removed"] > 0
    assert results["sparsity"] == results["zero_fraction"] == pruned["removed"] / size
    assert pruned["left_out"]["roberta.embeddings.word_embeddings.weight"] == "embedding"
    assert record["settings"]["sparsity"] == 0.5 and record["status"] == "done" and record["code"]["commit"]
    assert set(record["timings"]) == {"data", "load", "prune", "train", "evaluate", "total"}
    assert f"{size // 2:,} of {size:,} weights in 14 matrices (50.0000%)" in run.printed


def test_it_learns(run):
    folder = run("--sparsity", "0.2", "--freeze_weights", "--num_train_epochs", 12)
    assert read(folder)["eval_accuracy"] > 0.95
    assert (
        read(folder)["train_loss"]
        < json.loads((folder / "history.jsonl").read_text().splitlines()[0])["train_loss"] / 3
    )


def test_the_saved_model_holds_exactly_the_masks_zeros(run):
    folder = run("--sparsity", "0.7", "--freeze_weights", "--save_model")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    AutoTokenizer.from_pretrained(folder)
    masks = load_masks(str(folder / "mask.safetensors"))
    zeros = {name: model.get_parameter(name) == 0 for name in masks}
    assert all(torch.equal(zeros[name], ~mask) for name, mask in masks.items())
    assert sum(int(z.sum()) for z in zeros.values()) == read(folder, "run.json")["pruning"]["removed"]
    assert fingerprint(masks) == read(folder, "run.json")["pruning"]["mask_hash"]


def test_a_finished_run_is_skipped_and_an_unfinished_one_done_again(run):
    folder = run("--sparsity", "0.5", "--freeze_weights")
    first = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    assert run("--sparsity", "0.5", "--freeze_weights") == folder and "already done" in run.printed
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()} == first

    (folder / "all_results.json").unlink()
    (folder / "history.jsonl").write_text('{"left": "behind"}\n')
    run("--sparsity", "0.5", "--freeze_weights")
    assert (folder / "all_results.json").read_bytes() == first["all_results.json"][1]
    assert "behind" not in (folder / "history.jsonl").read_text()


def test_the_same_command_twice_gives_the_same_bits_and_another_seed_others(run):
    flags = ["--sparsity", "0.5", "--freeze_weights", "--save_model"]
    a, b, c = run(*flags, out="a"), run(*flags, out="b"), run(*flags, "--seed", 1, out="c")
    for name in ("all_results.json", "predictions.jsonl", "mask.safetensors", "model.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes()
        assert (a / name).read_bytes() != (c / name).read_bytes()


def test_a_cell_of_a_grid_has_the_bits_of_the_run_alone(run, tmp_path):
    out = "grid/{validation_split_percentage}-{pattern}-{seed}"
    run(
        "--sparsity",
        "0.3",
        "0.6",
        "--seed",
        1,
        2,
        "--train_percentage",
        50,
        100,
        "--freeze_weights",
        "--save_model",
        out=out,
    )
    folders = sorted((tmp_path / "grid").iterdir())
    assert [folder.name for folder in folders] == sorted(
        f"{p}-{s}-{n}" for p in (50, 100) for s in (0.3, 0.6) for n in (1, 2)
    )
    for folder in folders[::3]:
        percentage, sparsity, seed = folder.name.split("-")
        flags = [
            "--sparsity",
            sparsity,
            "--seed",
            seed,
            "--train_percentage",
            percentage,
            "--freeze_weights",
            "--save_model",
        ]
        alone = run(*flags, out=f"alone/{folder.name}")
        for name in ("all_results.json", "predictions.jsonl", "mask.safetensors", "model.safetensors"):
            assert (alone / name).read_bytes() == (folder / name).read_bytes(), (folder, name)


def test_one_failing_cell_does_not_stop_the_others(command, tiny_model, csv_task, tmp_path):
    flags = [
        "--model_name_or_path",
        tiny_model,
        *csv_task.flags,
        *FAST,
        "--sparsity",
        "0.00001",
        "0.5",
        "--freeze_weights",
    ]
    code, out, err = command([*flags, "--output_dir", tmp_path / "{sparsity}"])
    assert code == 1 and (tmp_path / "0.5" / "all_results.json").exists()
    assert [path.name for path in (tmp_path / "0.00001").iterdir()] == ["error.json"]
    error = read(tmp_path / "0.00001", "error.json")
    assert set(error) == {key for names in keys.ERROR for key in names.split(", ")}
    assert "removes no weight" in error["error"] and error["traceback"] is None
    assert error["settings"]["sparsity"] == 0.00001
    assert "1 done, 0 were done before, 1 failed" in out and "removes no weight" in err
    assert f"failed: {tmp_path / '0.00001'}: " in out


@pytest.mark.parametrize("task", ["cola", "stsb", "mrpc", "rte", "mnli"])
def test_every_kind_of_task(task, run, glue_folder):
    folder = run("--sparsity", "0.2", task=["--task_name", task.upper(), "--glue_dir", glue_folder])
    results = {name for name in read(folder) if name.startswith("eval_")} - {"eval_samples"}
    assert (
        results
        == {
            "cola": {"eval_matthews_correlation"},
            "stsb": {"eval_pearson", "eval_spearmanr"},
            "mrpc": {"eval_accuracy", "eval_f1"},
            "rte": {"eval_accuracy"},
            "mnli": {"eval_accuracy", "eval_mm_accuracy"},
        }[task]
    )
    assert read(folder)["eval_samples"] == (40 if task == "mnli" else 20)
    main = next(metric for metric in read(folder, "run.json")["metrics"] if metric["main"])
    of_examples = answers.read(folder, main["name"], read(folder)[main["key"]])  # raises if it does not give the result
    assert of_examples.names == tuple(f"{task}/{i}" for i in range(20)) and of_examples.unit == "examples"
    lines = predicted(folder)
    if task == "stsb":  # whole: of a model that says nearly the same to all, the last digits are the correlation
        assert all(float(np.float32(line["prediction"])) == line["prediction"] for line in lines)
    assert all(set(line) == {"id", "prediction", "label"} | ({"logits"} if task != "stsb" else set()) for line in lines)
    assert all(max(range(len(line["logits"])), key=line["logits"].__getitem__) == line["prediction"]
               for line in lines if "logits" in line)  # fmt: skip


def test_the_transfers_end_with_the_zeros_they_should(run):
    sparse = run("--sparsity", "0.5", "--freeze_weights", out="sparse")
    free = run("--sparsity", "0.5", out="free")
    frozen = run("--sparsity", "0.5", "--freeze_weights_frompretrain", out="frozen")
    dense = run("--sparse_init", "dense", out="dense")
    assert [read(f)["sparsity"] for f in (sparse, free, frozen, dense)] == [0.5, 0.5, 0.5, 0.0]
    assert [read(f)["zero_fraction"] for f in (sparse, frozen, dense)] == [0.5, 0.0, 0.0]
    assert read(free)["zero_fraction"] < 0.2
    hashes = {read(folder, "run.json")["pruning"]["mask_hash"] for folder in (sparse, free, frozen)}
    assert len(hashes) == 1 and not (dense / "mask.safetensors").exists()


@pytest.mark.parametrize("init", ["random", "one_shot_smallgm", "uniform_weight", "sparse_unstuctured"])
def test_the_controls_remove_the_same_count(init, run):
    folder = run("--sparsity", "0.25", "--sparse_init", init, "--freeze_weights")
    record = read(folder, "run.json")["pruning"]
    assert record["removed"] == record["asked"] == record["scope"]["weights"] // 4
    fractions = {row["removed"] / (row["removed"] + row["kept"]) for row in record["matrices"]}
    assert (fractions == {0.25}) == (init == "uniform_weight")


def test_nm_digits_and_ratio_are_the_same_run(run):
    folder = run("--nm_ratio", "68", "--freeze_weights")
    assert (
        run("--nm_ratio", "2:8", "--sparse_init", "sparse_nm", "--freeze_weights") == folder
        and "already done" in run.printed
    )
    record = read(folder, "run.json")
    assert record["settings"]["nm_ratio"] == "2:8" and "keep 2 of every 8" in record["pruning"]["pattern"]
    assert read(folder)["sparsity"] == 0.75
    for mask in load_masks(str(folder / "mask.safetensors")).values():
        assert (mask.reshape(-1, 8).sum(1) == 2).all()


def test_a_saved_mask_can_be_used_again(run):
    first = run("--sparsity", "0.5", "--freeze_weights", "--seed", 1, "--save_model")
    again = run("--mask_file", first / "mask.safetensors", "--freeze_weights", "--seed", 1, "--save_model", out="again")
    assert (first / "mask.safetensors").read_bytes() == (again / "mask.safetensors").read_bytes()
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


def test_the_head_can_be_kept_out_of_scope(run):
    folder = run("--sparsity", "0.9", "--prune_exclude", "^classifier", "--freeze_weights", "--save_model")
    record = read(folder, "run.json")["pruning"]
    assert record["left_out"]["classifier.dense.weight"] == "excluded by ^classifier" and record["head"]["weights"] == 0
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert (model.classifier.dense.weight != 0).all()


def test_a_prefix_of_the_training_set(run):
    record = read(run("--validation_split_percentage", "12.5", "--max_train_samples", 6), "run.json")
    assert record["data"]["train"]["rows"] == 64 and record["data"]["train"]["used"] == 6
    record = read(run("--validation_split_percentage", "12.5", out="b"), "run.json")
    assert record["data"]["train"]["used"] == 8 and record["data"]["eval"]["used"] == 32


@pytest.mark.parametrize("kind", ["bert", "distilbert", "deberta-v2", "modernbert", "electra"])
def test_other_encoders(kind, run, tmp_path):
    sizes = {
        "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
        "modernbert": {"cls_token_id": 0, "sep_token_id": 2},
    }
    save_tiny_model(tmp_path / kind, model_type=kind, **sizes.get(kind, {}))
    folder = run("--sparsity", "0.5", "--freeze_weights", model=str(tmp_path / kind))
    assert read(folder)["zero_fraction"] == pytest.approx(0.5, abs=1e-4)


def test_a_head_with_the_tasks_labels_in_another_order_is_understood(command, glue_folder, tmp_path):
    """The Hub has classifiers whose labels stand in another order; their head is used as it was trained."""
    names = ["neutral", "contradiction", "entailment"]
    settings = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    save_tiny_model(tmp_path / "model", head=3, **settings)
    argv = ["--model_name_or_path", tmp_path / "model", "--task_name", "mnli", "--glue_dir", glue_folder,
            "--sparse_init", "dense", "--output_dir", tmp_path / "run", "--save_model", "--learning_rate", "1e-9",
            "--max_train_steps", 1]  # fmt: skip
    assert command(argv)[0] == 0
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run")
    assert model.config.id2label == dict(enumerate(names))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    rows = [line.split("\t") for line in (Path(glue_folder) / "MNLI/dev_matched.tsv").read_text().splitlines()[1:]]
    with torch.no_grad():
        logits = model(
            **tokenizer([r[8] for r in rows], [r[9] for r in rows], padding=True, return_tensors="pt")
        ).logits
    right = [names[i] == row[-1] for i, row in zip(logits.argmax(1).tolist(), rows)]
    assert read(tmp_path / "run")["eval_accuracy"] == sum(right) / len(right) and 0 < sum(right) < len(right)
    tasks = ["entailment", "neutral", "contradiction"]  # the task's own order
    for line, row, mine in zip(predicted(tmp_path / "run"), rows, logits.tolist()):
        assert tasks[line["label"]] == row[-1] and tasks[line["prediction"]] == names[mine.index(max(mine))]
        assert line["logits"] == pytest.approx([mine[names.index(name)] for name in tasks], abs=1e-4)


def test_bf16_and_accumulation_and_padding_run(run):
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # one process has one precision; here are two runs in one
    flags = [
        "--sparsity",
        "0.5",
        "--freeze_weights",
        "--gradient_accumulation_steps",
        2,
        "--pad_to_max_length",
        "--max_length",
        16,
    ]
    folder = run(
        "--mixed_precision", "bf16", "--weight_decay", "0.1", "--lr_scheduler_type", "cosine", *flags, "--save_model"
    )
    assert read(folder)["zero_fraction"] == 0.5 and read(folder)["step"] == 4
    weights = AutoModelForSequenceClassification.from_pretrained(folder).state_dict().values()
    assert all(w.dtype == torch.float32 for w in weights if w.is_floating_point())
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_broken_mask_stops_the_run_and_leaves_no_results(run, command, monkeypatch, tmp_path):
    from junkdna.sparsity import hold

    monkeypatch.setattr(hold.Held, "attach", lambda self, *optimizers: self)
    with pytest.raises(hold.MaskBroken, match="are not 0"):
        run("--sparsity", "0.5", "--freeze_weights")
    assert (
        not (tmp_path / "run" / "all_results.json").exists()
        and read(tmp_path / "run", "run.json")["status"] == "running"
    )


@pytest.fixture
def diverge(command, tiny_model, csv_task):
    """Start a run whose learning rate no model survives; returns what ``command`` gives."""
    flags = ["--model_name_or_path", tiny_model, *csv_task.flags, *FAST, "--learning_rate", "1e30"]
    return lambda folder, *more: command([*flags, *more, "--output_dir", folder])


def test_training_that_diverges_says_so(diverge, tmp_path):
    code, _, err = diverge(tmp_path / "run")
    assert code == 1 and err.count("\n") == 1 and "--learning_rate 1e+30: training diverged" in err
    assert not (tmp_path / "run" / "all_results.json").exists()
    assert "training diverged" in read(tmp_path / "run", "error.json")["error"]  # as of a cell of a grid
    code, _, err = diverge(tmp_path / "never", "--prune_exclude", "nothing", "--sparsity", "0.5")
    assert code == 2 and "matches no matrix" in err and not (tmp_path / "never").exists()  # a mistake, and no run


def test_a_finished_run_is_not_lost_to_one_that_fails_in_its_place(run, diverge):
    folder = run("--sparsity", "0.5", "--freeze_weights", "--save_model")
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert diverge(folder, "--overwrite_output_dir")[0] == 1
    kept = {path.name: path.read_bytes() for path in (folder / ".previous").iterdir()}
    assert (
        all(first[name] == content for name, content in kept.items())
        and "all_results.json" in kept
        and "model.safetensors" in kept
    )


def test_a_finished_run_on_other_rows_is_not_taken_for_this_one(command, tiny_model, csv_task, tmp_path):
    train = tmp_path / "train.csv"
    train.write_bytes(Path(csv_task.train).read_bytes())
    flags = ["--model_name_or_path", tiny_model, "--train_file", train, "--validation_file", csv_task.validation, *FAST]
    assert command([*flags, "--output_dir", tmp_path / "run"])[0] == 0
    train.write_text("\n".join(train.read_text().splitlines()[:-8]) + "\n")
    code, _, err = command([*flags, "--output_dir", tmp_path / "run"])
    assert code == 2 and "on other training data" in err


def test_dense_runs_are_one_run_whatever_is_pruned_beside_them(run):
    first = run("--sparsity", "0.5", "--freeze_weights", "--with_dense", out="{pattern}/{method}")
    run("--sparsity", "0.5", "--with_dense", "--prune_exclude", "^classifier", out="{pattern}/{method}")
    assert "already done" in run.printed and first.parent.parent.joinpath("dense/Glue_dense/all_results.json").exists()


def test_an_overwritten_run_leaves_no_weights_behind(run):
    folder = run("--sparsity", "0.5", "--freeze_weights", "--save_model")
    run("--sparsity", "0.6", "--freeze_weights", "--overwrite_output_dir")
    assert not (folder / ".previous").exists()
    assert read(folder)["sparsity"] == pytest.approx(0.6, abs=1e-4) and not (folder / "model.safetensors").exists()
