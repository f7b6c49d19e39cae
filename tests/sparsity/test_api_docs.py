"""The examples of docs/api.md are run as they stand, each in a process of its own and in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import junkdna as jd

ROOT = Path(jd.__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_all_examples_are_found():
    assert len(EXAMPLES) == PAGE.count("```python") == 6
    used = ["save_masks(", "HoldMasks(masks", "from accelerate", "def wanda", "prune_layerwise(", "jd.census(scope"]
    assert all(any(name in example for example in EXAMPLES) for name in used)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs_as_it_stands(number, tmp_path):
    example = EXAMPLES[number]
    assert "assert " in example.rstrip().rpartition("\n\n")[2]  # its last paragraph proves something
    env = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    (tmp_path / "example.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_page_names_the_whole_api():
    missing = [name for name in jd.__all__ if f"`{name}" not in PAGE]
    assert not missing
    assert all(len(line) <= 120 or line.startswith("|") for line in PAGE.splitlines())
