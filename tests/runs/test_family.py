"""A family that is not GLUE goes through everything that is the same for all: help, errors, grid, resume, jobs,
report.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import toy_family

from junkdna.report import __main__ as report
from junkdna.runs import main as runs
from junkdna.runs import provenance, records

HERE = Path(__file__).parent
TOY = HERE / "toy_family.py"
BASE = ["--model_name_or_path", "numbers"]


@pytest.fixture
def toy(capsys, tmp_path, monkeypatch):
    """Call the toy's command in this process; returns (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(tmp_path)]))

    def call(*words, family=toy_family.FAMILY):
        capsys.readouterr()
        try:
            code = runs.main(family, [*BASE, *map(str, words)])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


def read(folder, name="all_results.json"):
    return json.loads((Path(folder) / name).read_text())


def test_its_fields_are_its_flags(toy):
    code, out, _ = toy("--help")
    assert code == 0 and "Prune a row of numbers" in out
    for flag in ("--kind KIND", "--rounds N", "--sparsity S", "--score SCORE", "--seed N", "--num_jobs N", "--dry_run"):
        assert flag in out
    assert "--learning_rate" not in out and "--task_name" not in out and "--freeze_weights" not in out


def test_its_mistakes_come_together_in_the_program_s_words(toy, tmp_path):
    code, _, err = toy("--kind", "evn", "--rounds", "0", "--spin", "3", "--xyzzy", "1", "--output_dir", "{seed}")
    assert code == 2 and err.splitlines() == [
        "error: --spin: numbers do not spin; leave it out",
        "error: --kind evn: unknown (did you mean even?); allowed: even odd",
        "error: --rounds 0: must be a whole number >= 1",
        "error: --xyzzy: no such flag",
    ]
    assert toy("--rounds", 13)[2] == "error: --rounds 13: is bad luck; give another number\n"
    code, _, err = toy("--kind", "even", "odd", "--output_dir", "out/{knd}")
    assert code == 2 and "unknown field {knd} (did you mean {kind}?)".replace("{kind}", "kind") in err
    assert toy("--kind", "even", "odd", "--output_dir", "out")[2].endswith("use {kind} in it\n")
    assert list(tmp_path.iterdir()) == []


class Nameless(toy_family.ToyCell):
    """Cells that are uploaded by one name whatever numbers they are of."""

    @property
    def told_by(self):
        return (self.pattern_slug, str(self.seed))


class NamelessToy(toy_family.Toy):
    cell = Nameless


def test_two_cells_are_never_uploaded_to_one_repository(toy, tmp_path):
    words = ("--kind", "even", "odd", "--push_to_hub", "--output_dir", "out/{kind}/{seed}")
    said = toy(*words, "--seed", 1, 2, family=NamelessToy())
    assert said[:2] == (2, "") and said[2] == (
        "error: --push_to_hub: out/even/1 and out/odd/1 would share the repository 0.2-1; "
        "give the runs one by one, each with a --hub_model_id\n"
    )
    assert list(tmp_path.iterdir()) == []
    assert "the same run twice" in one_line(toy("--seed", 1, 1, "--push_to_hub", "--output_dir", "out/{seed}"))
    assert toy(*words[:3], *words[4:], "--dry_run", family=NamelessToy())[0] == 0  # nothing is to be uploaded


def one_line(said):
    assert said[0] == 2 and said[2].count("\n") == 1
    return said[2]


def grid(*more):
    return ["--kind", "even", "odd", "--sparsity", "0.5", "0.9", "--with_dense", "--seed", 1, 2, *more]


def test_a_grid_a_folder_of_another_run_and_the_report(toy, tmp_path):
    code, out, _ = toy(*grid("--output_dir", "runs/{kind}/{pattern}/{seed}"))
    assert code == 0 and "12 done, 0 were done before, 0 failed" in out
    assert read("runs/even/0.5/1")["eval_total"] == 3 * sum(range(100, 200, 2))
    assert read("runs/odd/dense/2")["eval_total"] == 3 * sum(range(1, 200, 2))
    record = read("runs/odd/0.9/1", "run.json")
    assert (record["family"], record["axes"], record["treatment"]) == ("toy", {"numbers": "odd"}, "one-shot")
    assert record["roles"]["rounds"] == "training" and record["options"]["pause"] == 0.0
    assert record["pruning"]["removed"] == 90 and record["settings"]["method"] == "Toy"
    assert "12 were done before" in toy(*grid("--output_dir", "runs/{kind}/{pattern}/{seed}", "--pause", "0.1"))[1]
    code, _, err = toy(*grid("--output_dir", "runs/{kind}/{pattern}/{seed}", "--rounds", 4))
    assert code == 2 and "holds a different run (rounds: 3, now 4)" in err
    assert report.main(["runs", "--out", "report"]) == 0
    table = pd.read_csv("report/summary.csv")
    assert len(table) == 12 and set(table["numbers"]) == {"even", "odd"} and set(table["status"]) == {"done"}
    half = table[(table["numbers"] == "even") & (table["pattern"] == "0.5")]
    assert half["normalised"].tolist() == pytest.approx([7450 / 9900] * 2)


def test_records_keep_no_secrets_of_the_command():
    token = "hf_" + "a" * 30
    words = ["--sparsity", "0.5", "--slurm_setup", "export KEY=1", "module load x", "--seed", "1"]
    more = ["--slurm-additional=account=me", "--output_dir", f"out/{token}"]
    kept = ["--sparsity", "0.5", "--slurm_setup", "...", "...", "--seed", "1"]
    assert records.command([*words, *more]) == [*kept, "--slurm-additional=...", "--output_dir", "out/hf_..."]


def test_a_process_knows_its_code_and_versions_once(toy, monkeypatch):
    """What is checked out or installed while a grid runs is not what its later runs are made with."""
    assert toy("--sparsity", "0.5", "0.6", "--output_dir", "{pattern}")[0] == 0
    asked = []
    monkeypatch.setattr(provenance.subprocess, "run", lambda *given, **how: asked.append(given))
    monkeypatch.setattr(provenance.metadata, "version", lambda name: asked.append(name))
    assert toy("--sparsity", "0.7", "--output_dir", "{pattern}")[0] == 0
    one, other = (read(pattern, "run.json") for pattern in ("0.5", "0.7"))
    assert not asked and one["code"] == other["code"] and one["versions"] == other["versions"]


def test_a_run_s_time_has_that_of_before_its_checkpoint(toy, tmp_path):
    words = ["--rounds", "6", "--sparsity", "0.5", "--output_dir", "cut"]
    command = [sys.executable, TOY, *BASE, *words, "--pause", "0.5"]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(HERE.parents[1])}, cwd=tmp_path)
    end = time.monotonic() + 60
    while not list(tmp_path.glob("cut/checkpoint-[3-5]")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert toy(*words)[0] == 0
    record = read("cut", "run.json")
    assert record["timings"]["total"] >= record["resumed"][0]["seconds"] >= 2 * 0.5  # two pauses before the third


def test_a_rank_without_others_is_the_main_process(toy, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert toy("--sparsity", "0.5", "--output_dir", "alone")[0] == 0
    assert read("alone", "run.json")["status"] == "done"


def test_a_flag_as_other_programs_call_it_is_recognised(toy):
    assert toy("--model", "m")[2] == "error: --model: no such flag (did you mean --model_name_or_path?)\n"


def test_a_kill_and_the_command_again(toy, tmp_path):
    words = ["--rounds", "20", "--sparsity", "0.5", "--seed", "1"]
    assert toy(*words, "--output_dir", "whole")[0] == 0
    command = [sys.executable, TOY, *BASE, *words, "--pause", "0.2", "--output_dir", "cut"]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(HERE.parents[1])})
    end = time.monotonic() + 60
    while not list(tmp_path.glob("cut/checkpoint-[3-9]")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut/all_results.json").exists()
    code, out, _ = toy(*words, "--output_dir", "cut")
    assert code == 0 and "resumed   from the checkpoint of step" in out
    assert (tmp_path / "cut/all_results.json").read_bytes() == (tmp_path / "whole/all_results.json").read_bytes()
    assert read("cut", "run.json")["resumed"][0]["step"] >= 3 and not list(tmp_path.glob("cut/checkpoint-*"))


def test_two_local_jobs_give_the_files_of_one_process(toy, tmp_path):
    assert toy(*grid("--output_dir", "one/{kind}/{pattern}/{seed}"))[0] == 0
    code, out, err = toy(*grid("--output_dir", "two/{kind}/{pattern}/{seed}", "--num_jobs", 2))
    assert code == 0 and "job 1 (process" in out and "job 2 (process" in out and "12 done" in out, err
    names = ("all_results.json", "mask.safetensors")
    one, two = (
        {
            path.relative_to(tmp_path / root): path.read_bytes()
            for name in names
            for path in (tmp_path / root).rglob(name)
        }
        for root in ("one", "two")
    )
    assert len(one) == 12 + 8 and one == two


@pytest.fixture
def another(tmp_path, monkeypatch):
    """Make a family of the toy with some of its text replaced, in a module of its own."""

    def make(name, old, new):
        source = TOY.read_text()
        assert source.count(old) == 1
        source = source.replace(old, new).replace('entry = "toy_family"', f'entry = "{name}"')
        (tmp_path / f"{name}.py").write_text(source)
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module.FAMILY

    return make


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_run_could_not_write_is_said_by_one_process_and_by_jobs(jobs, toy, another, tmp_path):
    full = another("toy_full", "torch.save(growing.total, folder / MODEL)", 'open("/dev/full", "wb", 0).write(b"x")')
    words = ["--sparsity", "0.5", "0.6", "--save_model", "--num_jobs", jobs, "--output_dir", "{pattern}"]
    code, out, _ = toy(*words, family=full)
    assert code == 1 and "0 done, 0 were done before, 2 failed" in out
    assert out.count("model cannot be written: No space left on device; the results are kept") == 2
    assert all((tmp_path / pattern / "all_results.json").exists() for pattern in ("0.5", "0.6"))
    assert toy(*words, family=full)[0] == 0  # the results are there


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_same_command_twice_at_once_runs_every_cell_once(jobs, toy, tmp_path):
    """Those that replace what is there, too; and the one that comes later says who has its runs."""
    words = ["--rounds", "3", "--sparsity", "0.5", "0.6", "--output_dir", "{pattern}"]
    assert toy(*words)[0] == 0
    first = {pattern: read(pattern, "run.json")["started"] for pattern in ("0.5", "0.6")}
    again = [*words, "--pause", "1", "--overwrite_output_dir", "--num_jobs", str(jobs)]
    environment = os.environ | {"PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"}
    made = dict(cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    both = [subprocess.Popen([sys.executable, TOY, *BASE, *again], **made)]
    end = time.monotonic() + 60
    while read("0.5", "run.json")["started"] == first["0.5"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    second = read("0.5", "run.json")["started"]
    both.append(subprocess.Popen([sys.executable, TOY, *BASE, *again], **made))
    said = [process.communicate(timeout=90)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert read("0.5", "run.json")["started"] == second
    assert sum(int(text.split(" done,")[0].rsplit("\n", 1)[-1]) for text in said) == 2, said


LINE = '    colour: str = flag(one_of(("red", "blue")), role="training", default="red", help="paint; default red")\n'
"""The one line by which a family gets another flag."""


@pytest.fixture
def coloured(another):
    """The toy with one line more."""
    return another("toy_coloured", "    pause: float", LINE + "    pause: float")


def test_a_flag_of_one_line_shows_in_all_of_these(toy, coloured, tmp_path):
    assert "paint; default red" in toy("--help", family=coloured)[1]
    err = toy("--colour", "green", family=coloured)[2]
    assert err == "error: --colour green: unknown; allowed: red blue\n"

    words = ["--sparsity", "0.5", "0.9", "--with_dense", "--output_dir", "runs/{pattern}"]
    assert toy(*words)[0] == 0
    code, out, _ = toy(*words, family=coloured)
    assert code == 0 and "3 were done before" in out  # runs of the time before the flag had its default
    code, _, err = toy(*words, "--colour", "blue", family=coloured)
    assert code == 2 and "holds a different run (colour: red, now blue)" in err

    blue = ["--sparsity", "0.5", "0.9", "--with_dense", "--colour", "blue", "--output_dir", "runs/blue/{pattern}"]
    code, out, err = toy(*blue, "--num_jobs", 2, family=coloured)
    assert code == 0 and "3 done" in out, err
    record = read("runs/blue/0.5", "run.json")
    assert record["settings"]["colour"] == "blue" and record["roles"]["colour"] == "training"

    assert report.main(["runs", "--out", "report"]) == 0
    table = pd.read_csv("report/summary.csv")
    assert sum("colour blue" in curve for curve in table["curve"]) == 3 and len(table) == 6


def test_names_of_scores_and_patterns_are_those_of_the_library():
    """The command line lists them without loading torch."""
    from junkdna.runs import pruning
    from junkdna.sparsity import patterns, scores

    assert set(pruning.SCORES) == set(scores.SCORES)
    known = {patterns.Unstructured, patterns.PerMatrix, patterns.PerRow}
    assert set(pruning.CLASSES.values()) == known and set(pruning.PATTERNS) == {*pruning.CLASSES, "nm", "dense"}
