"""Grids in one process: which cells, what they share, what a broken one does to the others, what is shown."""

import io
import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import conftest
import Glue_prune_oneshot
from junkdna.errors import UserError
from junkdna.families.encoder.data import truncated
from junkdna.families.glue.cell import GlueCell
from junkdna.runs import lock
from junkdna.runs.progress import Progress
from junkdna.training import tokens as features

QUICK = [
    "--max_train_steps",
    2,
    "--per_device_train_batch_size",
    8,
    "--learning_rate",
    1e-3,
    "--noembed",
    "--freeze_weights",
]


def parse(*words):
    return conftest.parse(["--model_name_or_path", "roberta-base", *words]).cells


def test_a_cell_that_is_made_by_hand_has_all_of_the_data():
    cell = GlueCell(model_name_or_path="x", task_name="cola", sparsity_pattern="dense")
    assert cell.axes == {"task": "cola", "data": "100 %"} and cell.percentage == 100


def test_a_percentage_can_be_one_task_s():
    cells = parse("--task_name", "cola", "sst2", "rte", "--train_percentage", "100", "50", "sst2=10", "SST-2=20")
    assert [(cell.task_name, int(cell.train_percentage)) for cell in cells] == [
        ("cola", 100), ("cola", 50), ("sst2", 10), ("sst2", 20), ("rte", 100), ("rte", 50)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("percentages", "fault"),
    [
        (["sst2=10"], "gives no percentage for --task_name cola"),
        (["100", "rte=10"], "rte=10: --task_name does not name this task"),
        (["100", "sst2=0"], "validation_split_percentage sst2=0: must be a number > 0 and <= 100"),
        (["100", "sst2="], "validation_split_percentage sst2=: must be a number"),
        (["100", "sst=5"], "validation_split_percentage sst=5: no such task (did you mean sst2?)"),
    ],
)
def test_percentages_that_fit_no_task(percentages, fault):
    with pytest.raises(UserError) as caught:
        parse("--task_name", "cola", "sst2", "--train_percentage", *percentages)
    assert fault in str(caught.value)


def test_a_task_with_a_broken_file_does_not_stop_the_others(command, tiny_model, glue_folder, tmp_path):
    glue = tmp_path / "glue"
    shutil.copytree(glue_folder, glue)
    (glue / "RTE/train.tsv").write_text("index\tsentence1\tsentence2\tlabel\n0\tone\ttwo\tperhaps\n")
    argv = ["--model_name_or_path", tiny_model, "--glue_dir", glue, *QUICK, "--sparsity", "0.5", "--with_dense"]
    out = ["--output_dir", tmp_path / "{task_name}/{pattern}"]
    code, printed, err = command([*argv, "--task_name", "cola", "rte", "mrpc", *out])
    assert code == 1 and "4 done, 0 were done before, 2 failed" in printed
    assert err.startswith("warning: --glue_dir: ") and "has a label 'perhaps'" in err.splitlines()[0]
    for pattern in ("dense", "0.5"):
        for task in ("cola", "mrpc"):
            assert (tmp_path / task / pattern / "all_results.json").exists()
        folder = tmp_path / "rte" / pattern
        assert f"failed: {folder}: --glue_dir: " in printed
        assert "'perhaps'" in json.loads((folder / "error.json").read_text())["error"]

    # it does not stop a grid that is dealt to jobs either
    flags = [*argv[:4], "--sparsity", "0.5", "--with_dense", "--task_name", "cola", "rte", "--num_jobs", 2, "--dry_run"]
    code, printed, err = command([*flags, "--output_dir", tmp_path / "jobs/{task_name}/{pattern}"])
    assert code == 0 and "job 2: 2 runs" in printed and err.count("warning: ") == 1

    # mended, repeat the command to finish what is missing
    shutil.copy(Path(glue_folder) / "RTE/train.tsv", glue / "RTE/train.tsv")
    code, printed, _ = command([*argv, "--task_name", "cola", "rte", "mrpc", *out])
    assert code == 0 and "2 done, 4 were done before, 0 failed" in printed
    assert not list(tmp_path.rglob("error.json"))

    # alone, or where nothing else could run, it is a mistake like any other
    (glue / "RTE/train.tsv").write_text("index\tsentence1\tsentence2\tlabel\n0\tone\ttwo\tperhaps\n")
    code, _, err = command([*argv, "--task_name", "rte", "--output_dir", tmp_path / "new/{pattern}"])
    assert code == 2 and err.startswith("error: ") and not (tmp_path / "new").exists()


def test_a_run_that_another_process_finished_while_we_waited_is_not_replaced(
    command, tiny_model, csv_task, tmp_path, monkeypatch
):
    argv = ["--model_name_or_path", tiny_model, *csv_task.flags, *QUICK, "--output_dir"]
    assert command([*argv, tmp_path / "other", "--sparsity", "0.3"])[0] == 0

    @contextmanager
    def finished_meanwhile(folder):
        shutil.copytree(tmp_path / "other", folder, dirs_exist_ok=True)
        yield

    monkeypatch.setattr(lock, "held", finished_meanwhile)
    code, _, err = command([*argv, tmp_path / "run", "--sparsity", "0.6"])
    assert code == 2 and "holds a different run (sparsity: 0.3, now 0.6)" in err
    assert json.loads((tmp_path / "run/run.json").read_text())["settings"]["sparsity"] == 0.3
    code, printed, _ = command([*argv, tmp_path / "same", "--sparsity", "0.3"])
    assert code == 0 and "already done" in printed


def test_a_model_that_is_replaced_while_a_grid_runs_is_loaded_anew(
    command, tiny_model, csv_task, tmp_path, monkeypatch
):
    """A record's digests of files are those of what was loaded."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    base = ["--model_name_or_path", model, *csv_task.flags, *QUICK, "--output_dir", tmp_path / "{pattern}"]
    once = iter([True])

    def written(cell, shared, journal, run=Glue_prune_oneshot.FAMILY._run):
        run(cell, shared, journal)
        if next(once, False):
            weights = {name: -weight for name, weight in load_file(model / "model.safetensors").items()}
            save_file(weights, model / "new", {"format": "pt"})
            (model / "new").replace(model / "model.safetensors")

    monkeypatch.setattr(Glue_prune_oneshot.FAMILY, "_run", written)
    code, out, err = command([*base, "--sparsity", 0.5, 0.6])
    assert code == 0, err
    assert "note: model.safetensors changed since the last run; everything is read anew" in out
    made = [json.loads((tmp_path / pattern / "run.json").read_text()) for pattern in ("0.5", "0.6")]
    assert made[0]["read"] != made[1]["read"] and made[0]["model"]["weight_hash"] != made[1]["model"]["weight_hash"]
    assert command([*base, "--sparsity", 0.7])[0] == 0
    alone = json.loads((tmp_path / "0.7" / "run.json").read_text())
    assert alone["read"] == made[1]["read"] and alone["model"]["weight_hash"] == made[1]["model"]["weight_hash"]


def test_each_text_is_tokenised_once(command, tiny_model, csv_task, tmp_path, monkeypatch):
    tokenised = []
    tokenise = features.tokenise
    monkeypatch.setattr(
        features, "tokenise", lambda examples, *rest: tokenised.append(len(examples)) or tokenise(examples, *rest)
    )
    argv = ["--model_name_or_path", tiny_model, *csv_task.flags, *QUICK, "--sparsity", "0.3", "0.6", "--seed", 1, 2]
    argv += [
        "--train_percentage",
        25,
        100,
        50,
        "--output_dir",
        tmp_path / "{validation_split_percentage}/{pattern}/{seed}",
    ]
    assert command(argv)[0] == 0
    assert tokenised == [16, 32, 48]  # a quarter, the validation rows, the other three quarters
    used = {
        p: json.loads((tmp_path / p / "0.3/1/all_results.json").read_text())["train_samples"]
        for p in ("25", "50", "100")
    }
    assert used == {"25": 16, "50": 32, "100": 64}


def test_features_grow_and_are_cut_without_change():
    a = features.Features({"input_ids": np.arange(6, dtype=np.int32)}, np.array([0, 2, 6]), [0, 1], 4)
    b = features.Features({"input_ids": np.arange(10, 13, dtype=np.int32)}, np.array([0, 3]), [1], 4)
    both = a.followed_by(b)
    assert [row["input_ids"].tolist() for row in both.rows([2, 0, 1])] == [[10, 11, 12], [0, 1], [2, 3, 4, 5]]
    assert both.labels == [0, 1, 1] and both.lengths.tolist() == [2, 4, 3] and truncated(both) == 1
    cut = both.first(2)
    assert len(cut) == 2 and cut.columns["input_ids"].tolist() == list(range(6)) and cut.labels == [0, 1]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_one_bar_over_the_grid_with_the_current_cell_in_it(monkeypatch):
    monkeypatch.setattr("junkdna.runs.progress.BAR_EVERY", 0.0)
    stream = Terminal()
    with Progress(10, "cola 0.5 seed 1", stream=stream, place=(3, 4)) as progress:
        progress.step(5, 0.25, 1e-3, 100)
        assert progress.bar.n == pytest.approx(2.5) and progress.bar.total == 4
    shown = stream.getvalue()
    assert "cell 3 of 4: cola 0.5 seed 1" in shown and "62%" in shown and "step 5/10" in shown and "loss 0.250" in shown
    stream = Terminal()
    with Progress(10, "cola", stream=stream, done=4) as progress:
        progress.step(5, 0.25, 1e-3, 100)
    assert "5/10" in stream.getvalue() and "cell" not in stream.getvalue()


def test_plain_lines_in_a_file(monkeypatch, capsys):
    monkeypatch.setattr("junkdna.runs.progress.LINE_EVERY", 0.0)
    with Progress(10, "cola 0.5 seed 1", stream=io.StringIO(), place=(3, 4)) as progress:
        progress.step(5, 0.25, 1e-3, 100)
    assert capsys.readouterr().out.startswith("[3/4] cola 0.5 seed 1 step 5/10, loss 0.2500")
