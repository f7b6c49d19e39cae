"""The scripts of the paper's figures and the loop of docs/grids.md, run by bash as they stand.

Every command that they print is read by the real parser.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import small
from calling import VARIABLES, planned

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
UNSTRUCTURED = [f"0.{tenth}" for tenth in range(1, 10)]
NM = [f"{keep}:8" for keep in range(7, 0, -1)]
SPARSE, FREEZING, TO_DENSE = "sparse transfer", "dense transfer with freezing", "sparse-to-dense transfer"
FIGURES = {
    "task1_data_adequacy": ("roberta-base", ["qnli", "sst2", "mnli"], [10, 25, 50, 75, 100], [41], [SPARSE], 128, 32),
    "task4_task_difficulty": (
        "roberta-large",
        ["cola", "sst2", "stsb", "qqp", "rte", "qnli"],
        [100],
        [41, 42, 43],
        [SPARSE],
        512,
        16,
    ),
    "true_gem": ("roberta-base", ["qnli", "sst2"], [10, 50, 100], [41], [SPARSE, FREEZING, TO_DENSE], 128, 32),
}
"""What each script is to run: model, tasks, percentages, seeds, transfers, length, batch size."""
BOOKS, LANGUAGES, REASONING = "task3_open_closed_book", "task2_languages", "task4_reasoning"


def test_every_script_is_bash_and_is_named_in_the_tree():
    names = {path.name for path in SCRIPTS.glob("*.sh")}
    assert len(names) >= 7 and {f"{name}.sh" for name in (*FIGURES, BOOKS, LANGUAGES, REASONING)} < names
    for name in sorted(names):
        done = subprocess.run(["bash", "-n", SCRIPTS / name], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    tree = (ROOT / "README.md").read_text().split("## Where things are")[1].split("```")[1]
    assert set(re.findall(r"^  (\w+\.sh) ", tree, re.MULTILINE)) == names


@pytest.mark.parametrize("name", FIGURES)
def test_the_defaults_are_the_paper_s(name, bash):
    model, tasks, percentages, seeds, transfers, length, batch = FIGURES[name]
    called = bash(SCRIPTS / f"{name}.sh", DRY_RUN=1)
    assert (called.returncode, called.stderr) == (0, "")
    cells, listed = planned(called.stdout)
    settings = len(tasks) * len(percentages) * len(seeds)
    assert len(cells) == settings * (1 + len(transfers) * (len(UNSTRUCTURED) + len(NM)))
    assert f"= {len(cells)} runs" in (SCRIPTS / f"{name}.sh").read_text().replace("\n# ", " ")

    folders = [folder for _, folder in listed]
    assert folders == [cell.output_dir for cell in cells] and len(set(folders)) == len(cells)
    assert all(folder.startswith(f"{ROOT}/runs/{name}/{model}/Glue_") for folder in folders)
    shared = {
        (c.model_name_or_path, c.max_length, c.per_device_train_batch_size, c.learning_rate, c.num_train_epochs)
        for c in cells
    }
    assert shared == {(model, length, batch, 2e-5, 3)}
    pruned = [cell for cell in cells if not cell.dense]
    assert all(cell.noembed for cell in pruned) and all(cell.glue_dir is None for cell in cells)
    seen = Counter(
        (c.treatment, c.nm_ratio or str(c.sparsity), c.task_name, int(c.train_percentage), c.seed) for c in cells
    )
    wanted = {
        (transfer, pattern, task, percentage, seed)
        for transfer, patterns in [(each, UNSTRUCTURED + NM) for each in transfers] + [("dense transfer", ["None"])]
        for pattern in patterns
        for task in tasks
        for percentage in percentages
        for seed in seeds
    }
    assert seen == Counter(wanted)


def test_the_defaults_of_open_and_closed_book_are_the_paper_s(bash):
    called = bash(SCRIPTS / f"{BOOKS}.sh", DRY_RUN=1)
    assert (called.returncode, called.stderr) == (0, "")
    cells, listed = planned(called.stdout)
    assert [folder for _, folder in listed] == [cell.output_dir for cell in cells] and len(cells) == 92
    assert "= 92 runs" in (SCRIPTS / f"{BOOKS}.sh").read_text()
    assert len({cell.output_dir for cell in cells}) == 92
    shared = {(c.model_name_or_path, c.task_name, c.shots, c.max_eval_samples) for c in cells}
    assert shared == {("lmsys/vicuna-7b-v1.3", "trivia_qa", 0, 2000)}
    assert {(c.book, c.context_characters) for c in cells} == {("open", 3072), ("closed", None)}
    assert {(c.max_new_tokens, c.seed) for c in cells} == {(32, 0)}
    assert {(c.score, c.calibration, c.nsamples, c.seqlen) for c in cells} == {
        (None, None, None, None), ("magnitude", None, None, None), ("wanda", "c4", 128, None),
        ("sparsegpt", "c4", 128, None),
    }  # fmt: skip
    seen = Counter((c.score, c.nm_ratio or str(c.sparsity), c.book) for c in cells)
    patterns = UNSTRUCTURED[:-1] + NM
    wanted = [(method, one) for method in ("magnitude", "wanda", "sparsegpt") for one in patterns] + [(None, "None")]
    assert seen == Counter((*what, book) for what in wanted for book in ("open", "closed"))


def test_the_defaults_of_languages_are_the_paper_s(bash):
    called = bash(SCRIPTS / f"{LANGUAGES}.sh", DRY_RUN=1)
    assert (called.returncode, called.stderr) == (0, "")
    cells, listed = planned(called.stdout)
    assert [folder for _, folder in listed] == [cell.output_dir for cell in cells]
    assert len({cell.output_dir for cell in cells}) == len(cells) == 64
    assert "= 64 runs" in (SCRIPTS / f"{LANGUAGES}.sh").read_text()
    assert {(c.num_beams, c.length_penalty, c.max_new_tokens, c.noembed, c.seed) for c in cells} == {
        (5, 1.0, 200, False, 222)
    }
    seen = Counter((c.shots, c.treatment, c.nm_ratio or str(c.sparsity), c.pair) for c in cells)
    ways = {"zero-shot": ("one-shot", "one-shot"), "few-shot": ("one-shot after fine-tuning", "dense transfer")}
    wanted = [(way, name, pattern) for way, (name, _) in ways.items() for pattern in UNSTRUCTURED[:-1] + NM]
    wanted += [(way, name, "None") for way, (_, name) in ways.items()]
    assert seen == Counter((*what, pair) for what in wanted for pair in ("en-de", "en-gu"))
    few = [cell for cell in cells if cell.trains]
    assert {len(c.mix) for c in few} == {10} and len({c.trained for c in few}) == 1  # one model is fine-tuned
    assert {
        (c.max_train_steps, c.learning_rate, c.lr_scheduler_type, c.num_warmup_steps, c.temperature) for c in few
    } == {(40_000, 3e-5, "inverse_sqrt", 2500, 1.5)}
    assert {(c.label_smoothing, c.dropout, c.attention_dropout) for c in few} == {(0.2, 0.3, 0.1)}


def test_either_way_of_languages_can_be_left_out(bash, tmp_path):
    called = bash(SCRIPTS / f"{LANGUAGES}.sh", DRY_RUN=1, ZERO_SHOT="", PAIRS="en-my", SPARSITIES="0.5", RATIOS="")
    assert called.returncode == 0, called.stderr
    assert {(cell.shots, cell.pair) for cell in planned(called.stdout)[0]} == {("few-shot", "en-my")}
    called = bash(SCRIPTS / f"{LANGUAGES}.sh", DRY_RUN=1, FEW_SHOT="", RATIOS="")
    assert {cell.shots for cell in planned(called.stdout)[0]} == {"zero-shot"}


def test_the_reasoning_script_runs_both_pairs_with_one_dense_run_each(bash, tmp_path):
    few = {"DATA_DIR": small.fill(tmp_path / "data"), "SIZES": "m", "SPARSITIES": "0.1 0.5", "RATIOS": "4:8"}
    called = bash(SCRIPTS / f"{REASONING}.sh", DRY_RUN=1, **few)
    assert (called.returncode, called.stderr) == (0, "")
    cells, listed = planned(called.stdout)
    assert len({folder for _, folder in listed}) == len(cells) == 4 * 3 * 4
    assert "= 204 runs" in (SCRIPTS / f"{REASONING}.sh").read_text()  # with all nine and seven: 4 x 3 x 17
    seen = Counter((c.task_name, c.winogrande_size, c.fold, c.nm_ratio or str(c.sparsity), c.seed) for c in cells)
    tasks = [("commonsense_qa", None, None), ("winogrande", "m", None), ("mawps", None, 0), ("svamp", None, None)]
    patterns = ("None", "0.1", "0.5", "4:8")
    assert seen == Counter((*task, pattern, seed) for task in tasks for pattern in patterns for seed in (41, 42, 43))
    assert {(c.model_name_or_path, c.num_train_epochs, c.decoder_learning_rate) for c in cells} == {
        ("roberta-large", 3, None), ("roberta-base", 50, 1e-3)}  # fmt: skip
    assert all(c.noembed and c.freeze_weights for c in cells if not c.dense)
    called = bash(SCRIPTS / f"{REASONING}.sh", DRY_RUN=1, SOLVER="", CHOICES="commonsense_qa", RATIOS="")
    assert {cell.task_name for cell in planned(called.stdout)[0]} == {"commonsense_qa"}


def test_a_dry_run_asks_no_network_and_makes_no_folder(bash, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        here = f"http://127.0.0.1:{server.getsockname()[1]}"
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "HF_ENDPOINT"), here)
        called = bash(
            SCRIPTS / "task1_data_adequacy.sh", DRY_RUN=1, RUNS="out", HF_HUB_OFFLINE=None, no_proxy="", **proxies
        )
        assert called.returncode == 0 and "to run  out/roberta-base/Glue_dense/qnli/" in called.stdout
        with pytest.raises(TimeoutError):
            server.accept()
    assert list(tmp_path.iterdir()) == []


def test_variables_of_the_environment_replace_the_defaults(bash, tiny_model, glue_folder):
    variables = dict(
        MODEL=tiny_model, TASKS="mnli rte", SPARSITIES="0.25", RATIOS="1:4 2:4", PERCENTAGES="50", SEEDS="7 8",
        GLUE_DIR=glue_folder, RUNS="my runs", EXTRA="--learning_rate 1e-3 --weight_decay 0.1",
    )  # fmt: skip
    called = bash(SCRIPTS / "true_gem.sh", DRY_RUN=1, **variables)
    assert called.returncode == 0, called.stderr
    cells, _ = planned(called.stdout)
    assert len(cells) == 2 * 2 * (1 + 3 * 3)
    assert {c.task_name for c in cells} == {"mnli", "rte"} and {c.seed for c in cells} == {7, 8}
    assert {c.nm_ratio or str(c.sparsity) for c in cells} == {"0.25", "1:4", "2:4", "None"}
    assert {(c.model_name_or_path, c.glue_dir, float(c.train_percentage)) for c in cells} == {
        (tiny_model, glue_folder, 50)
    }
    assert {(c.learning_rate, c.weight_decay, c.max_length) for c in cells} == {(1e-3, 0.1, 128)}
    assert all(c.output_dir.startswith("my runs/tiny-roberta/Glue_") for c in cells)


@pytest.mark.parametrize(("empty", "patterns", "count"), [("RATIOS", 9, 60), ("SPARSITIES", 7, 48)])
def test_an_empty_list_leaves_its_half_out(empty, patterns, count, bash):
    called = bash(SCRIPTS / "task4_task_difficulty.sh", DRY_RUN=1, TASKS="cola sst2", **{empty: ""})
    cells, _ = planned(called.stdout)
    assert len(cells) == count == 2 * 3 * (1 + patterns)
    assert all(cell.dense or cell.sparsity_pattern == ("unstructured" if empty == "RATIOS" else "nm") for cell in cells)


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"RATIOS": "9:8"}, "error: --nm_ratio 9:8: "),  # a mistake of the last grid
        ({"TASKS": "qnlli"}, "error: --task_name qnlli: "),
        ({"GLUE_DIR": "/nowhere"}, "error: --glue_dir /nowhere: "),
        ({"SPARSITIES": "", "RATIOS": ""}, "error: SPARSITIES and RATIOS are both empty"),
        ({"EXTRA": "--prune_exclude '^classifier'"}, "error: EXTRA --prune_exclude '^classifier': holds a quote"),
        ({"TRAINING": '--learning_rate "1e-3"'}, "error: TRAINING --learning_rate "),
        ({"RUNS": "out/{seed}"}, "error: RUNS out/{seed}: holds a brace"),
        (
            {"EXTRA": "--method x"},
            "error: EXTRA: several grids would share the folder out/roberta-base/x/",
        ),
    ],
)
def test_a_mistake_stops_before_anything_runs(variables, fault, bash, tmp_path):
    called = bash(SCRIPTS / "true_gem.sh", **{"RUNS": "out"} | variables)
    assert called.returncode == 2 and called.stderr.startswith(fault) and called.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_printed_calls_of_the_scripts_are_understood(bash):
    call = re.compile(r"""((?:[A-Z_]+=(?:"[^"]*"|\S*) )*)bash scripts/(\w+)\.sh""")
    sources = [
        ROOT / "README.md",
        ROOT / "docs/grids.md",
        *(SCRIPTS / f"{name}.sh" for name in (*FIGURES, BOOKS, LANGUAGES)),
    ]
    found = [match.groups() for path in sources for match in call.finditer(path.read_text())]
    found = [
        (variables, name) for variables, name in found if name not in ("quickstart", "test", "bench_gpu", "evidence")
    ]
    assert len(found) >= 8 and {name for _, name in found} == {*FIGURES, BOOKS, LANGUAGES}
    for variables, name in found:
        assert set(re.findall(r"([A-Z_]+)=", variables)) <= set(VARIABLES)
        called = bash("-c", f"{variables}bash {SCRIPTS}/{name}.sh", DRY_RUN=1)
        if called.returncode:  # a folder of the reader's own cannot be here
            assert called.returncode == 2 and all("no such folder" in line for line in called.stderr.splitlines())
        else:
            assert planned(called.stdout)[0]


# --- the virtual environment -----------------------------------------------------------------------------------------

INTERPRETER = """#!/bin/sh
env="$(dirname "$(dirname "$0")")"
case "$*" in
  -c*) ;;
  "-m venv --clear "*) echo made >>calls; rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; touch "$4/pip" ;;
  "-m ensurepip") [ -e "$env/ensurepip" ] && touch "$env/pip" ;;
  "-m pip --version") [ -e "$env/pip" ] ;;
  "-m pip install "*) [ -e "$env/pip" ] && echo installed >>calls ;;
  *) exit 1 ;;
esac
"""
"""Stands for Python; in an environment it has pip if there is a file of that name, and can get it if one says so."""


@pytest.fixture
def environment(bash, tmp_path):
    """A repository with a stand-in for .venv: ``environment(files)`` sources the script; returns what it had done."""
    for name in ("scripts", ".venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(SCRIPTS / "venv.sh", tmp_path / "scripts")
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "python3").write_text(INTERPRETER)
    (tmp_path / "python3").chmod(0o755)
    shutil.copy(tmp_path / "python3", tmp_path / ".venv/bin/python")

    def call(*files):
        for name in files:
            (tmp_path / ".venv" / name).touch()
        (tmp_path / "calls").write_text("")
        called = bash("-c", "set -eu; . scripts/venv.sh requirements.txt", PYTHON=tmp_path / "python3")
        assert (called.returncode, called.stderr) == (0, "")
        return (tmp_path / "calls").read_text().split()

    return call


def test_an_environment_whose_python_does_not_start_is_made_anew(environment, tmp_path):
    (tmp_path / ".venv/.installed-requirements.txt").write_text("something")
    (tmp_path / ".venv/bin/python").unlink()
    assert environment() == ["made", "installed"]
    assert environment() == []


def test_one_that_cannot_be_given_pip_is_left_as_it_is(bash, environment, tmp_path):
    """As without Debian's package python3-venv, or where another tool made it."""
    (tmp_path / ".venv/own_package").touch()
    (tmp_path / "calls").touch()
    called = bash("-c", ". scripts/venv.sh requirements.txt", PYTHON=tmp_path / "python3")
    assert called.returncode == 2 and called.stderr.count("\n") == 1 and "has no pip" in called.stderr
    assert (tmp_path / ".venv/own_package").exists() and (tmp_path / "calls").read_text() == ""
    assert environment("ensurepip") == ["installed"]  # once it can be given pip


@pytest.mark.parametrize("has", ["pip", "ensurepip"])
def test_a_working_environment_keeps_what_the_user_put_there(environment, tmp_path, has):
    assert environment(has, "own_package") == ["installed"]
    assert environment() == [] and (tmp_path / ".venv/own_package").exists()


def test_packages_that_went_with_pip_are_installed_again(environment, tmp_path):
    """As where the system's Python has become a newer one."""
    assert environment("pip", "ensurepip") == ["installed"]
    (tmp_path / ".venv/pip").unlink()
    assert environment() == ["installed"]


# --- run for real ----------------------------------------------------------------------------------------------------

QUICK = "--max_train_steps 2 --max_eval_samples 16 --max_length 128 --learning_rate 1e-3"


def finished(root: Path) -> dict[str, int]:
    """The time of every result under a folder, in ns, by run."""
    return {str(path.parent.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("all_results.json")}


def test_a_sweep_runs_reports_repeats_and_survives_a_failing_grid(bash, tiny_model, glue_folder, tmp_path):
    variables = dict(
        MODEL=tiny_model, TASKS="cola rte", SPARSITIES="0.5", RATIOS="2:8", SEEDS="41", GLUE_DIR=glue_folder,
        RUNS="runs", EXTRA=QUICK,
    )  # fmt: skip
    script, runs = SCRIPTS / "task4_task_difficulty.sh", tmp_path / "runs"
    called = bash(script, **variables)
    assert called.returncode == 0, called.stderr
    kinds = [("Glue_dense", "dense"), ("Glue_noembed_freeze_weights", "0.5"), ("Glue_noembed_freeze_weights", "2of8")]
    results = finished(runs)
    assert set(results) == {f"tiny-roberta/{m}/{task}/{p}/100/41" for m, p in kinds for task in ("cola", "rte")}
    summary = (runs / "summary.csv").read_text()
    assert len(summary.splitlines()) == 1 + 6 and (runs / "curves.png").stat().st_size > 10_000
    for folder in results:
        assert json.loads((runs / folder / "all_results.json").read_text())["step"] == 2

    # a second call finds everything done; one of its grids fails, and the report is written all the same
    (runs / "summary.csv").unlink()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "python").write_text(
        f'#!/bin/sh\n{shlex.quote(sys.executable)} "$@" || exit\n'
        'case "$*" in *--dry_run*) ;; *"--sparsity 0.5"*) exit 2 ;; esac\n'
    )
    (broken / "python").chmod(0o755)
    again = bash(script, **variables, PATH=f"{broken}:{os.environ['PATH']}")
    assert again.returncode == 1, again.stderr
    assert finished(runs) == results
    assert "0 done, 4 were done before, 0 failed" in again.stdout  # the grid that fails
    assert "0 done, 2 were done before, 0 failed" in again.stdout  # the N:M grid after it
    assert (runs / "summary.csv").read_text() == summary

    listed = bash(script, **variables, DRY_RUN=1)
    assert [state for state, _ in planned(listed.stdout)[1]] == ["done"] * 6


def printed_loop() -> str:
    """The shell loop over single runs of docs/grids.md."""
    (loop,) = re.findall(r"```bash\n((?:[^`]*\n)?for [^`]*done\n)```", (ROOT / "docs/grids.md").read_text())
    return loop


def test_the_printed_loop_and_the_grid_go_on_from_each_other(bash, command, tiny_model, glue_folder, tmp_path):
    values = {"seed": "41", "task": "rte", "sparsity": "0.5 0.9"}
    loop = re.sub(r"for (\w+) in .*;", lambda match: f"for {match[1]} in {values.pop(match[1])};", printed_loop())
    assert not values  # every list was there, and was shortened
    quick = ["--model_name_or_path", tiny_model, "--glue_dir", glue_folder, *QUICK.split()]
    # a function in the place of python: the loop's own words, then flags that make it quick
    loop = f'python() {{ command python "{ROOT}/GLUE_tasks/"$@ {shlex.join(quick)}; }}\nset -e\n{loop}'
    root = tmp_path / "roberta"
    runs = {sparsity: root / f"Glue_noembed_freeze_weights/rte/{sparsity}/100/41" for sparsity in ("0.5", "0.9")}

    def grid(*sparsities) -> str:
        template = f"{root}/{{method}}/{{task_name}}/{{pattern}}/{{validation_split_percentage}}/{{seed}}/"
        flags = [
            "--freeze_weights",
            "--noembed",
            "--task_name",
            "rte",
            "--seed",
            41,
            "--per_device_train_batch_size",
            32,
        ]
        code, out, err = command([*flags, *quick, "--sparsity", *sparsities, "--output_dir", template])
        assert code == 0, err
        return out

    grid("0.5")
    first = finished(root)
    called = bash("-c", loop)
    assert called.returncode == 0, called.stderr
    assert called.stdout.count("already done: ") == 1  # by the grid
    results = finished(root)
    assert set(results) == {str(run.relative_to(root)) for run in runs.values()} and first.items() < results.items()

    bits = {name: (runs["0.9"] / name).read_bytes() for name in ("all_results.json", "mask.safetensors")}
    (runs["0.9"] / "all_results.json").unlink()  # as if it had been cut off
    assert "1 done, 1 were done before, 0 failed" in grid("0.5", "0.9")
    assert {name: (runs["0.9"] / name).read_bytes() for name in bits} == bits
    results = finished(root)
    again = bash("-c", loop)
    assert again.returncode == 0 and again.stdout.count("already done: ") == 2 and finished(root) == results
