"""Runs of the time before there were families (records of schema 1) are skipped, compared, resumed and reported."""

import json
from pathlib import Path

import pandas as pd
import pytest

from junkdna.report import __main__ as report
from junkdna.runs.checkpoints import Checkpoints

INITS = {"unstructured": "sparse_unstructured", "nm": "sparse_nm", "dense": "dense"}
NEW = ("family", "axes", "treatment", "roles", "metrics", "identity", "read", "files", "unwritten", "seal")


def age(path: Path) -> None:
    """Rewrite a record as the program wrote it then: other names of settings, and nothing that explains itself."""
    record = json.loads(path.read_text())
    settings = record["settings"]
    settings["sparse_init"] = INITS[settings.pop("sparsity_pattern")]
    settings["validation_split_percentage"] = settings.pop("train_percentage")
    assert settings.pop("score") in ("magnitude", None)
    if "pruning" in record:
        record["pruning"]["transfer"] = record["treatment"]
    record |= record.get("identity", {}) if path.name == "checkpoint.json" else {}
    for name in NEW:
        record.pop(name, None)
    path.write_text(json.dumps(record | {"schema": 1}))


@pytest.fixture
def words(tiny_model, csv_task, tmp_path):
    own = [
        "--model_name_or_path",
        tiny_model,
        *csv_task.flags,
        "--noembed",
        "--freeze_weights",
        "--learning_rate",
        5e-3,
    ]
    return [*own, "--num_train_epochs", 2, "--output_dir", tmp_path / "runs/{pattern}/{seed}"]


def test_finished_runs_are_skipped_compared_and_reported(command, words, tmp_path):
    grid = [*words, "--sparsity", "0.5", "0.7", "--with_dense", "--seed", 1, 2]
    assert command(grid)[0] == 0
    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "new")]) == 0
    found = sorted(tmp_path.glob("runs/*/*/run.json"))
    assert len(found) == 6
    for path in found:
        age(path)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/*")}
    code, out, err = command(grid)
    assert code == 0 and "0 done, 6 were done before" in out
    assert "and 5 more: finished by an earlier version; its results, mask, model and tokenizer were not checked" in err
    code, _, err = command([*grid, "--max_length", 64])
    assert code == 2 and err.count("holds a different run (max_length: 128, now 64)") == 6
    code, _, err = command(
        [*words, "--score", "largest", "--output_dir", tmp_path / "runs/0.5/1", "--sparsity", "0.5", "--seed", 1]
    )
    assert code == 2 and "holds a different run (score: magnitude, now largest)" in err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/*")} == kept

    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "old")]) == 0
    new, old = (pd.read_csv(tmp_path / name / "summary.csv") for name in ("new", "old"))
    same = ["folder", "status", "task", "data", "curve", "pattern", "seed", "metric", "value", "chance", "normalised"]
    pd.testing.assert_frame_equal(new[same], old[same])


def test_a_checkpoint_is_gone_on_from(command, words, tmp_path, monkeypatch):
    one = [*words, "--sparsity", "0.5", "--seed", 1, "--checkpointing_steps", 5, "--save_model"]
    assert command([*one, "--output_dir", tmp_path / "whole"])[0] == 0
    save = Checkpoints.save

    def interrupted(self):
        save(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", interrupted)
        assert command([*one, "--output_dir", tmp_path / "cut"])[0] == 130
    (identity,) = tmp_path.glob("cut/checkpoint-5/checkpoint.json")
    age(identity)
    age(tmp_path / "cut/run.json")
    code, out, err = command([*one, "--output_dir", tmp_path / "cut"])
    assert code == 0 and "resumed   from the checkpoint of step 5" in out
    assert "is of an earlier version; not compared: the content of training.pt" in err
    for name in ("all_results.json", "mask.safetensors", "model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
