"""The examples of docs/api.md are run as they stand, each in a process of its own and in an empty folder."""

import re
import runpy
from pathlib import Path

import pytest

import junkdna as jd
import warm

ROOT = Path(jd.__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_all_examples_are_found():
    assert len(EXAMPLES) == PAGE.count("```python") == 6
    used = ["save_masks(", "HoldMasks(masks", "from accelerate", "def wanda", "prune_layerwise(", "jd.census(scope"]
    assert all(any(name in example for example in EXAMPLES) for name in used)


def as_a_script(argv):
    runpy.run_path(*argv, run_name="__main__")
    return 0


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs_as_it_stands(number, tmp_path):
    example = EXAMPLES[number]
    assert "assert " in example.rstrip().rpartition("\n\n")[2]  # its last paragraph proves something
    (tmp_path / "example.py").write_text(example)
    done = warm.run(as_a_script, ["example.py"], tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_page_names_the_whole_api():
    missing = [name for name in jd.__all__ if f"`{name}" not in PAGE]
    assert not missing
    assert all(len(line) <= 120 or line.startswith("|") for line in PAGE.splitlines())
