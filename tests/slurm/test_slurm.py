"""A grid on a real Slurm gives the same bytes as in one process, whatever happens to its jobs on the way.

Needs a Slurm that this machine can submit to; ``bash tests/slurm/install.sh`` makes one of this machine.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import SCRIPT, run_command


def slurm_answers():
    """Whether there is a Slurm that takes jobs."""
    if not shutil.which("sbatch"):
        return False
    ping = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
    return "is UP" in ping.stdout


pytestmark = [
    pytest.mark.slurm,
    pytest.mark.xdist_group("slurm"),  # one after the other: the cluster has two processors
    pytest.mark.skipif(not slurm_answers(), reason="no Slurm answers here; bash tests/slurm/install.sh makes one"),
]
DEMO = SCRIPT.parent / "demo"
GRID = [
    "--model_name_or_path", DEMO / "model", "--train_file", DEMO / "hard" / "train.csv", "--validation_file",
    DEMO / "hard" / "validation.csv", "--max_eval_samples", "64", "--sparsity", "0.3", "0.6", "--with_dense", "--seed",
    "41", "42", "--freeze_weights", "--noembed", "--learning_rate", "1e-3", "--max_train_steps", "400",
    "--output_dir", "runs/{pattern}/{seed}",
]  # fmt: skip
"""Long enough that a job which Slurm ends has work left: it gives it five seconds."""
SLURM = ["--launcher", "slurm", "--num_jobs", "2", "--slurm_time", "30"]
FILES = ("all_results.json", "mask.safetensors")
IMPATIENT = f"""
import runpy, sys
sys.path.insert(0, {str(SCRIPT.parents[1])!r})
from junkdna.runs.jobs import submit
submit.ASK_EVERY = 3.0
sys.argv[0] = {str(SCRIPT)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""The command, except that it asks the queue every three seconds; a cluster that others use is spared."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The files of the same grid in one process."""
    folder = tmp_path_factory.mktemp("one")
    assert run_command(GRID, folder, timeout=400, OMP_NUM_THREADS="1").returncode == 0
    return files(folder)


def files(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for name in FILES for f in sorted(folder.rglob(name))}


class Started:
    """The command as a process that goes on, and the jobs that it has announced: (id, log)."""

    def __init__(self, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", IMPATIENT, *map(str, GRID + SLURM)],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        lines = [self.process.stdout.readline() for _ in range(2)]
        found = [re.fullmatch(r"job (\S+): 3 runs, log (.*)\n", line).groups() for line in lines]
        self.jobs = [(job, Path(log)) for job, log in found]

    def until_in_second_run(self, job):
        """Wait until a job is training its second run."""
        log, deadline = self.jobs[job][1], time.monotonic() + 180
        while time.monotonic() < deadline:
            text = log.read_text() if log.exists() else ""
            if "training" in text.split("[2/3]")[-1] and "[2/3]" in text:
                return
            time.sleep(0.05)
        raise AssertionError(f"nothing happened in {log}")

    def end(self):
        """Wait for the command; returns its exit code and what it said since."""
        out, err = self.process.communicate(timeout=400)
        return self.process.returncode, out, err


def test_a_grid_on_slurm_equals_one_process(expected, tmp_path):
    done = run_command([*GRID, *SLURM], tmp_path, timeout=400, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert "6 done, 0 were done before, 0 failed" in done.stdout and len(expected) == 6 + 4
    assert files(tmp_path) == expected


def test_one_run_on_slurm(expected, tmp_path):
    argv = [*GRID[: GRID.index("--sparsity")], "--sparsity", "0.6", *GRID[GRID.index("--freeze_weights") :]]
    done = run_command([*argv, "--seed", "41", *SLURM], tmp_path, timeout=400, OMP_NUM_THREADS="1")
    assert done.returncode == 0 and "1 done, 0 were done before, 0 failed" in done.stdout, done.stderr
    assert files(tmp_path) == {name: content for name, content in expected.items() if name.startswith("runs/0.6/41/")}


@pytest.mark.parametrize(
    "interrupt",
    [["scontrol", "requeue"], ["scancel", "--signal=USR2"]],
    ids=["killed and queued again", "told to give way"],
)
def test_a_job_that_is_cut_off_is_queued_again_and_goes_on(interrupt, expected, tmp_path):
    started = Started(tmp_path)
    job, log = started.jobs[0]
    started.until_in_second_run(0)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("all_results.json")}
    subprocess.run([*interrupt, job], check=True)
    code, out, err = started.end()
    assert code == 0 and "6 done, 0 were done before, 0 failed" in out, (out, err)
    text = log.read_text()
    assert text.count("Starting with JobEnvironment") == 2 and "[1/3]" in text.split("Starting with")[2]
    assert files(tmp_path) == expected
    assert first and all(path.stat().st_mtime_ns == time_ for path, time_ in first.items())  # what was done stayed


def test_a_job_that_is_cancelled_is_missed(expected, tmp_path):
    started = Started(tmp_path)
    started.until_in_second_run(1)
    subprocess.run(["scancel", started.jobs[1][0]], check=True)
    code, out, err = started.end()
    (missing,) = map(
        int, re.findall(r"0 failed, ([12]) not finished", out)
    )  # 1 if the second was done before it was cancelled
    assert code == 1 and "repeat the command" in out, (out, err)
    assert f"job {started.jobs[1][0]} was cut off" in out
    assert len(files(tmp_path)) < len(expected)
    done = run_command(GRID, tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0 and f"{missing} done, {6 - missing} were done before, 0 failed" in done.stdout
    assert files(tmp_path) == expected
