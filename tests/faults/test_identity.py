"""What enters a number belongs to its identity: a checkpoint of other things is not gone on from, nor is a finished run
of other things taken for the one that is wanted.
"""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import Glue_prune_oneshot
from conftest import save_tiny_model
from junkdna.runs import checkpoints, records

pytestmark = pytest.mark.xdist_group("identity")  # its first runs are made once

RESULTS = ("all_results.json", "predictions.jsonl", "mask.safetensors")


def set_config(**values):
    def change(model: Path) -> None:
        path = model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def edit_tokenizer(change):
    def edit(model: Path) -> None:
        path = model / "tokenizer.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


def exchange_words(content: dict) -> None:
    words = content["model"]["vocab"]
    words["cat"], words["dog"] = words["dog"], words["cat"]


def lower_case(content: dict) -> None:
    content["normalizer"] = {"type": "Lowercase"}


def move_a_weight(model: Path) -> None:
    path = model / "model.safetensors"
    weights = load_file(path)
    weights["roberta.embeddings.word_embeddings.weight"][7, 0] += 1
    save_file(weights, path, {"format": "pt"})


CHANGES = {
    "dropout": (set_config(hidden_dropout_prob=0.0), "model config"),
    "dropout of attention": (set_config(attention_probs_dropout_prob=0.3), "model config"),
    "activation": (set_config(hidden_act="relu"), "model config"),
    "heads": (set_config(num_attention_heads=4), "model config"),
    "epsilon": (set_config(layer_norm_eps=0.1), "model config"),
    "words": (edit_tokenizer(exchange_words), "tokenizer"),
    "normalizer": (edit_tokenizer(lower_case), "tokenizer"),
    "weights": (move_a_weight, "model weights"),
}


@pytest.fixture(scope="module")
def place(csv_task, tmp_path_factory):
    """A folder with a model and data, and two runs of them: finished, and cut at the checkpoint of its fourth step.

    Records hold paths, so that every test finds it at the same place.
    """
    folder = tmp_path_factory.mktemp("identity") / "place"
    folder.mkdir()
    save_tiny_model(folder / "model")
    for name, path in (("train", csv_task.train), ("valid", csv_task.validation)):
        shutil.copy(path, folder / f"{name}.csv")
    assert Glue_prune_oneshot.main([*flags(folder), "--output_dir", str(folder / "finished")]) == 0
    save = checkpoints.Checkpoints.save

    def interrupted(self):
        save(self)
        if self.tuning.at.step == 4:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save", interrupted)
        assert Glue_prune_oneshot.main([*flags(folder), "--output_dir", str(folder / "cut")]) == 130
    shutil.copytree(folder, folder.with_name("kept"))
    return folder


def flags(folder):
    words = ["--model_name_or_path", folder / "model", "--train_file", folder / "train.csv", "--validation_file",
             folder / "valid.csv", "--max_train_steps", 6, "--learning_rate", 5e-3, "--sparsity", "0.5",
             "--freeze_weights", "--checkpointing_steps", 2, "--prune_exclude", "^classifier"]  # fmt: skip
    return list(map(str, words))


@pytest.fixture
def here(place):
    """That folder as it was."""
    shutil.rmtree(place)
    shutil.copytree(place.with_name("kept"), place)
    return place


@pytest.fixture
def words(here):
    return flags(here)


def products(folder):
    return {name: (folder / name).read_bytes() for name in RESULTS}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_between_a_kill_and_the_repeat_starts_again(what, command, words, here):
    change, name = CHANGES[what]
    change(here / "model")
    code, out, err = command([*words, "--output_dir", here / "cut"])
    assert code == 0 and "resumed" not in out, err
    assert "checkpoint-4: belongs to a run with other " in err and name in err and "starting again" in err
    assert command([*words, "--output_dir", here / "whole"])[0] == 0
    assert products(here / "cut") == products(here / "whole")


def test_changed_rows_between_a_kill_and_the_repeat_start_again(command, words, here):
    path = here / "valid.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(row[:-1] + str(1 - int(row[-1])) for row in rows)]))
    code, out, err = command([*words, "--output_dir", here / "cut"])
    assert code == 0 and "resumed" not in out and "other validation rows; starting again" in err


@pytest.mark.parametrize("what", CHANGES)
def test_a_finished_run_of_another_model_is_not_taken_for_this_one(what, command, words, here):
    argv = [*words, "--output_dir", here / "finished"]
    assert "already done" in command(argv)[1]
    before = products(here / "finished")
    CHANGES[what][0](here / "model")
    code, _, err = command(argv)
    file = {"model config": "config.json", "tokenizer": "tokenizer.json", "model weights": "model.safetensors"}
    assert code == 2 and f"holds this run made of other files ({file[CHANGES[what][1]]} of " in err
    assert len(err.splitlines()) == 1 and products(here / "finished") == before
    if what == "weights":  # one stands for all: how a run is replaced does not depend on what changed
        assert command([*argv, "--overwrite_output_dir"])[0] == 0 and "already done" in command(argv)[1]
        assert products(here / "finished") != before


def test_another_mask_under_the_same_name(command, words, tmp_path):
    one = [*words[:-2], "--noembed"]
    assert command([*one, "--output_dir", tmp_path / "first"])[0] == 0
    assert command([*one, "--seed", 1, "--sparsity", "0.6", "--output_dir", tmp_path / "second"])[0] == 0
    plain = [word for word in one if word not in ("--sparsity", "0.5")]
    shutil.copy(tmp_path / "first/mask.safetensors", tmp_path / "mask")
    argv = [*plain, "--mask_file", tmp_path / "mask", "--output_dir", tmp_path / "run"]
    assert command(argv)[0] == 0
    shutil.copy(tmp_path / "second/mask.safetensors", tmp_path / "mask")
    code, _, err = command(argv)
    assert code == 2 and f"made of other files (--mask_file {tmp_path / 'mask'} changed since)" in err
    # a whole mask, but not the one of the run beside it
    shutil.copy(tmp_path / "second/mask.safetensors", tmp_path / "first/mask.safetensors")
    argv = [*plain, "--mask_file", tmp_path / "first/mask.safetensors", "--output_dir", tmp_path / "third"]
    code, _, err = command(argv)
    assert code == 2 and "first/mask.safetensors: is damaged or was changed: the run.json beside it" in err


def test_a_record_names_what_the_run_was_made_of(command, words, here, tmp_path):
    run = json.loads((here / "finished/run.json").read_text())
    parts = {"settings", "training_data", "training_rows", "validation_rows", "model_weights", "model_config",
             "tokenizer", "mask"}  # fmt: skip
    assert set(run["identity"]) == parts and all(len(value) == 64 for value in run["identity"].values())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(run["read"])
    assert set(run["files"]) == set(RESULTS) and run["unwritten"] == {}
    assert command([*words, "--seed", 7, "--output_dir", tmp_path / "other"])[0] == 0
    other = json.loads((tmp_path / "other/run.json").read_text())
    differ = {name for name in parts if run["identity"][name] != other["identity"][name]}
    assert differ == {"settings"} and records.finished(tmp_path / "other")
