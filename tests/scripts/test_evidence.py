"""The script that remakes this repository's figures: what each runs, what they share, and one from end to end."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
import small
import torch
from calling import ROOT, planned

from conftest import labelled_sentences, save_tiny_model

SCRIPT = ROOT / "scripts/evidence.sh"
MINILM, MPNET = "all-MiniLM-L6-v2", "all-mpnet-base-v2"
OF_GLUE = ("Task_1", "Task_4", "TRUE_GEM", "controls")
SPARSE, FREEZING, TO_DENSE = "sparse transfer", "dense transfer with freezing", "sparse-to-dense transfer"


@pytest.fixture(scope="module")
def world(tmp_path_factory, glue_folder):
    """Tiny models by the names of the real ones, and every task's data."""
    root = tmp_path_factory.mktemp("world")
    save_tiny_model(root / "models" / MINILM, model_type="bert")
    save_tiny_model(root / "models" / MPNET)
    (root / "glue" / "SST-2").mkdir(parents=True)
    for folder in Path(glue_folder).iterdir():
        os.symlink(folder, root / "glue" / folder.name)
    for name, rows in (("train", 40), ("dev", 20)):
        lines = [f"{text}\t{label}" for text, label in labelled_sentences(rows, 0)]
        (root / "glue" / "SST-2" / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    small.fill(root / "data")
    return root


@pytest.fixture
def evidence(bash, world):
    """Call the script: ``evidence(words, NAME=value)``."""
    folders = {"MODELS": world / "models", "GLUE_DIR": world / "glue", "DATA_DIR": world / "data", "RUNS": "runs"}
    return lambda *words, **more: bash(SCRIPT, *words, **(folders | {"OUT": "out"} | more))


@pytest.fixture
def cells_of(evidence, tmp_path):
    """The cells of a figure: its commands as they are printed, and none of them run."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text("#!/bin/sh\n")
    (tmp_path / "bin/python").chmod(0o755)

    def call(*words, **more):
        called = evidence(*words, DRY_RUN=1, PATH=f"{tmp_path}/bin:{os.environ['PATH']}", **more)
        assert (called.returncode, called.stderr) == (0, "")
        return planned(called.stdout)[0]

    return call


def counted(cells, *names):
    return Counter(tuple(getattr(cell, name) for name in names) for cell in cells)


# --- what the figures are made of ------------------------------------------------------------------------------------


def test_data_adequacy_has_shares_patterns_and_seeds(cells_of):
    cells = cells_of("Task_1")
    shares = {"sst2": {10: 3, 25: 3, 50: 2, 100: 2}, "stsb": {25: 3, 50: 3, 100: 3}}
    wanted = {(task, share): seeds * (1 + 5 + 2) for task, of in shares.items() for share, seeds in of.items()}
    assert counted(cells, "task_name", "train_percentage") == wanted
    assert {cell.treatment for cell in cells} == {SPARSE, "dense transfer"}
    assert {cell.nm_ratio for cell in cells} == {"4:8", "2:8", None}


def test_task_difficulty_has_both_scopes_the_reasoning_tasks_and_a_larger_model(cells_of):
    cells = cells_of("Task_4")
    large = [cell for cell in cells if cell.model_name_or_path.endswith(MPNET)]
    assert counted(large, "task_name", "seed") == {("mrpc", 41): 4, ("rte", 41): 4}
    mine = [cell for cell in cells if cell not in large]
    spared = Counter(cell.task_name for cell in mine if cell.dense or cell.prune_exclude)
    assert spared == dict.fromkeys(["cola", "sst2", "stsb", "mrpc"], 3 * 7) | {"commonsense_qa": 3 * 5} | {
        "mawps": 3, "svamp": 3}  # fmt: skip
    whole = Counter(cell.task_name for cell in mine if not cell.dense and not cell.prune_exclude)
    assert whole == dict.fromkeys(["cola", "sst2", "stsb", "mrpc"], 3 * 6) | {"mawps": 12, "svamp": 12}
    assert {cell.train_percentage for cell in mine if cell.task_name == "sst2"} == {10}


def test_the_true_gem_has_three_transfers_and_a_slower_one(cells_of):
    cells = cells_of("TRUE_GEM")
    for task in ("sst2", "mrpc", "stsb"):
        seen = counted([cell for cell in cells if cell.task_name == task], "treatment", "learning_rate")
        fast, slow = max(rate for _, rate in seen), min(rate for _, rate in seen)
        assert slow == pytest.approx(fast / 3, rel=0.05)
        assert seen == {
            (SPARSE, fast): 15, (FREEZING, fast): 15, (TO_DENSE, fast): 15, (TO_DENSE, slow): 15,
            ("dense transfer", fast): 3, ("dense transfer", slow): 3,
        }  # fmt: skip


def test_the_controls_differ_in_what_is_removed_alone(cells_of):
    cells = cells_of("controls", TASKS="mrpc")
    assert {cell.task_name for cell in cells} == {"mrpc"}
    patterns = counted([cell for cell in cells if not cell.dense], "score", "sparsity_pattern")
    assert patterns == {
        ("magnitude", "unstructured"): 15, ("random", "unstructured"): 9, ("largest", "unstructured"): 9,
        ("magnitude", "per_matrix"): 9, ("magnitude", "per_row"): 9,
    }  # fmt: skip


def test_figures_that_share_a_folder_share_the_run(cells_of):
    found, asked = {}, {}
    for figure in OF_GLUE:
        for cell in cells_of(figure):
            found.setdefault(cell.output_dir, []).append(cell)
            whole = Path(cell.output_dir).parents[1]  # what the report reads, whatever other figures have put there
            asked.setdefault(whole, {}).setdefault(figure, set()).add(cell.output_dir)
    for figures in asked.values():
        assert all(folders == next(iter(figures.values())) for folders in figures.values())
    assert all(cells.count(cells[0]) == len(cells) for cells in found.values())
    assert sum(len(cells) > 1 for cells in found.values()) == 3 * 3 * 6


@pytest.mark.parametrize("figure", [*OF_GLUE])
def test_learning_rates_are_compared_on_dense_runs_of_one_seed(figure, cells_of):
    cells = cells_of(figure, "rates")
    assert all(cell.dense and cell.seed == 41 for cell in cells)
    tried = {}
    for cell in cells:
        tried.setdefault(cell.task_name, set()).add(cell.learning_rate)
    assert all(len(rates) == 3 for rates in tried.values()) and len({cell.output_dir for cell in cells}) == len(cells)
    for cell in cells_of(figure):
        if "/sparse" in cell.output_dir:
            assert cell.learning_rate in tried[cell.task_name]


# --- what is missing, what is wrong ----------------------------------------------------------------------------------


OF_QUESTIONS = ("nq_open/nq-open-oracle.jsonl.gz", "triviaqa/trivia_qa.jsonl")
TEXTS = ("plain_text/c4.utf8", "plain_text/wiki.test.raw")


def with_questions(world, data):
    """Make a model that is asked questions, and a folder of empty files of data."""
    (world / "models/SmolLM2-135M-Instruct").mkdir(exist_ok=True)
    for file in (*OF_QUESTIONS, *TEXTS):
        (data / file).parent.mkdir(parents=True, exist_ok=True)
        (data / file).touch()


def test_the_figures_without_retraining_on_glue_are_planned_too(cells_of, world):
    for kind in ("majority", "equal"):
        (world / "models/multi30k" / kind).mkdir(parents=True, exist_ok=True)
        (world / "models/multi30k" / f"multi30k-{kind}").mkdir(exist_ok=True)
    with_questions(world, world / "data")
    cells = cells_of("Task_2")
    assert counted(cells, "shots", "pair") == {
        (shots, pair): 2 * count
        for shots, count in (("zero-shot", 1 + 8 + 1 + 5), ("few-shot", 3 * 4))
        for pair in ("en-de", "en-cs")
    }
    cells = cells_of("Task_3")
    assert counted(cells, "task_name", "book") == {
        ("nq_open", "open"): 2 + 3 * 15, ("nq_open", "closed"): 2 + 3 * 15, ("trivia_qa", "closed"): 1 + 3 * 8
    }  # fmt: skip


def test_questions_may_lie_in_a_folder_with_a_space_in_its_name(cells_of, world, tmp_path):
    data = tmp_path / "my data *"
    with_questions(world, data)
    cells = cells_of("Task_3", DATA_DIR=data)
    assert counted(cells, "data_file") == {(str(data / file),): many for file, many in zip(OF_QUESTIONS, (94, 25))}
    calibrated = [cell for cell in cells if cell.calibrated]
    assert calibrated and {cell.calibration for cell in calibrated} == {str(data / TEXTS[0])}


@pytest.mark.parametrize("words", [(), ("Task_9",), ("task_1",), ("Task_2", "rates"), ("Task_4", "fast"), ("report",)])
def test_a_mistake_gets_one_line(words, evidence, tmp_path):
    called = evidence(*words)
    assert called.returncode == 2 and called.stdout == "" and list(tmp_path.iterdir()) == []
    assert called.stderr.startswith(f"error: '{' '.join(words)}': give Task_1, ") and called.stderr.count("\n") == 1


def test_what_is_missing_is_named_before_anything_runs(evidence, tmp_path):
    called = evidence("Task_4", MODELS="here", GLUE_DIR="there")
    assert called.returncode == 2 and list(tmp_path.iterdir()) == []
    lines = called.stderr.splitlines()
    assert [line.split()[1] for line in lines] == [f"here/{MINILM}", "there", f"here/{MPNET}"]
    assert all(line.startswith("error: ") and " is missing: " in line for line in lines)


@pytest.mark.parametrize("words", [("controls",), ("Task_4", "rates"), ("Task_1", "report")])
def test_a_task_that_a_figure_has_not_is_named(words, evidence, tmp_path):
    called = evidence(*words, TASKS="sst2 qqp")
    assert (called.returncode, called.stdout) == (2, "") and list(tmp_path.iterdir()) == []
    assert called.stderr == f"error: TASKS qqp: no task of which {words[0]} can be made alone\n"


def test_a_report_needs_runs(evidence, tmp_path):
    called = evidence("controls", "report", MODELS="not needed")
    assert called.returncode == 2 and called.stderr == "error: runs has no runs of controls\n"
    assert called.stdout.count("no runs yet: ") == 4 and list(tmp_path.iterdir()) == []


# --- from end to end -------------------------------------------------------------------------------------------------


def test_a_figure_is_made_and_made_again_from_what_there_is(evidence, tmp_path):
    quick = "--seed 41 --sparsity 0.5 --max_train_steps 2 --max_eval_samples 16 --mixed_precision no"
    called = evidence("controls", TASKS="mrpc", EXTRA=quick)
    assert called.returncode == 0, called.stderr
    results, figure = tmp_path / "out/results/controls", tmp_path / "out/Images_png/controls.png"
    names = ["claims.csv", "claims.md", "points.json", "runs.tar.gz", "summary.csv", "summary.md"]
    assert sorted(path.name for path in results.iterdir()) == names
    assert len((results / "summary.csv").read_text().splitlines()) == 1 + 6
    assert f"torch {torch.__version__}" in (results / "summary.md").read_text()
    first = (results / "runs.tar.gz").read_bytes()
    kept = [results / name for name in ("points.json", "claims.csv")]
    before = [path.read_bytes() for path in (figure, *kept)]
    figure.unlink()
    again = evidence("controls", "report")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[0].startswith("no runs yet: runs/") and "sst2" in again.stdout
    assert [path.read_bytes() for path in (figure, *kept)] == before

    packed = (results / "runs.tar.gz").read_bytes()
    assert packed == first  # the same runs
    shutil.rmtree(tmp_path / "runs")  # another machine, which has begun one run by itself
    begun = tmp_path / "runs" / MINILM / "sparse-100/mrpc/0.5/41"
    begun.mkdir(parents=True)
    (begun / "run.json").write_text("of this machine")
    lacking = evidence("controls", TASKS="mrpc", EXTRA=quick)
    assert lacking.returncode == 2 and lacking.stderr.count("\n") == 1
    assert "holds 5 runs that runs lacks: 'controls unpack' brings them" in lacking.stderr
    assert unpacked(evidence) == "unpacked: 5 runs into runs\n"
    assert os.listdir(begun) == ["run.json"] and (begun / "run.json").read_text() == "of this machine"
    shutil.rmtree(begun)
    assert unpacked(evidence) == "unpacked: 1 runs into runs\n" and unpacked(evidence) == "unpacked: 0 runs into runs\n"
    assert evidence("controls", "report").returncode == 0
    assert [path.read_bytes() for path in (figure, *kept, results / "runs.tar.gz")] == [*before, packed]
    planned_again = evidence("controls", TASKS="mrpc", EXTRA=quick, DRY_RUN=1)
    assert {state for state, _ in planned(planned_again.stdout)[1]} == {"done"}

    for what in ("report", "unpack"):
        dry = evidence("controls", what, DRY_RUN=1)
        assert dry.returncode == 2 and dry.stderr.startswith(f"error: DRY_RUN=1: 'controls {what}' runs nothing")
    moved = shutil.move(tmp_path / "runs" / MINILM / "sparse-100", tmp_path / "another disk")
    (tmp_path / "runs" / MINILM / "sparse-100").symlink_to(moved)
    assert evidence("controls", "report").returncode == 0 and (results / "runs.tar.gz").read_bytes() == packed
    (moved / "mrpc/0.5/41/all_results.json").unlink()  # begun again, and not finished
    torn = evidence("controls", "report")
    assert torn.returncode == 1 and "/0.5/41/all_results.json, which runs has no longer" in torn.stderr
    assert [path.read_bytes() for path in (figure, *kept, results / "runs.tar.gz")] == [*before, packed]

    (results / "points.json").write_text("of an earlier report")
    failing = evidence("controls", "report", PATH=f"{python_that_fails(tmp_path)}:{os.environ['PATH']}")
    assert failing.returncode == 1 and (results / "points.json").read_text() == "of an earlier report"


def unpacked(evidence) -> str:
    called = evidence("controls", "unpack", MODELS="not needed")
    assert called.returncode == 0, called.stderr
    return called.stdout


def test_what_was_not_packed_cannot_be_unpacked(evidence, tmp_path):
    called = evidence("Task_1", "unpack")
    assert (called.returncode, called.stdout) == (2, "") and list(tmp_path.iterdir()) == []
    assert called.stderr == "error: out/results/Task_1/runs.tar.gz is missing: no runs of Task_1 were packed\n"


def python_that_fails(folder: Path) -> Path:
    (folder / "failing").mkdir()
    (folder / "failing/python").write_text("#!/bin/sh\nexit 2\n")
    (folder / "failing/python").chmod(0o755)
    return folder / "failing"
