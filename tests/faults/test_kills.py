"""Kills at every file operation of a grid: what counts as finished is whole, and a repeat mends the rest."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PATHS = [HERE.parents[1], HERE.parent, HERE.parent / "runs"]


def killed(scratch, stride, pairs):
    """Kill at every ``stride``-th operation, and ``pairs`` times a repeat too; return what was tried and what went
    wrong.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, PATHS)), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, str(HERE / "killing.py"), str(scratch), str(stride), str(pairs)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_grid_that_is_killed_here_and_there(tmp_path):
    found = killed(tmp_path, stride=20, pairs=3)
    assert found["wrong"] == []
    assert found["tried"]["new"] >= 10 and found["tried"]["overwriting"] >= 10 and found["tried"]["pairs"] == 6
    assert {"open", "os.rename", "os.mkdir", "os.remove", "fsync"} <= set(found["operations"])


@pytest.mark.slow
def test_a_grid_that_is_killed_at_every_file_operation(tmp_path):
    found = killed(tmp_path, stride=1, pairs=60)
    assert found["wrong"] == []
    assert found["tried"]["new"] + found["tried"]["overwriting"] - 120 == sum(found["operations"].values()) >= 500
    assert found["tried"]["pairs"] == 120
