"""``import junkdna``: quick, without torch, and every name of the public API is there with its docstring."""

import ast
import importlib
import inspect
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import junkdna as jd

ROOT = Path(jd.__file__).resolve().parents[1]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_is_quick_and_loads_no_torch():
    look = "import sys, time; t = time.perf_counter(); import junkdna; t = time.perf_counter() - t; "
    heavy = "print(t, [name for name in ('torch', 'numpy', 'transformers', 'safetensors') if name in sys.modules])"
    answers = [python(look + heavy).split(maxsplit=1) for _ in range(3)]
    assert {loaded.strip() for _, loaded in answers} == {"[]"}
    assert statistics.median(float(seconds) for seconds, _ in answers) < 0.2


def test_dir_and_help_load_nothing():
    code = "import sys, junkdna; print(set(junkdna.__all__) <= set(dir(junkdna)), 'torch' in sys.modules)"
    assert python(code) == "True False\n"


ALIASES = {"Pattern", "Score"}
"""Types that are made of others: what they are stands beside them."""


def test_only_hold_masks_imports_transformers():
    names = [name for name in jd.__all__ if name != "HoldMasks"]
    code = f"import sys; from junkdna import {', '.join(names)}; "
    assert python(code + "print('torch' in sys.modules, 'transformers' in sys.modules)") == "True False\n"
    assert python("from junkdna import HoldMasks; import sys; print('transformers' in sys.modules)") == "True\n"


def test_every_name_is_the_one_of_its_room():
    assert len(jd.__all__) == len(set(jd.__all__)) == 30
    assert sorted(jd._HOMES) == sorted(jd.__all__)
    for name, home in jd._HOMES.items():
        assert getattr(jd, name) is getattr(importlib.import_module(home), name)
        assert name in ALIASES or inspect.getdoc(getattr(jd, name)), name


def test_type_checkers_see_the_same_names():
    (checking,) = [node for node in ast.parse(Path(jd.__file__).read_text()).body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in checking.body for alias in node.names}
    assert seen == jd._HOMES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'prine'"):
        _ = jd.prine


def test_patterns_keep_what_was_typed():
    from decimal import Decimal

    for given in (0.7, "0.7", Decimal("0.70")):
        for pattern in (jd.Unstructured, jd.PerMatrix, jd.PerRow, jd.PerBlock):
            made = pattern(given)
            assert made == pattern("0.7") and str(made.sparsity) == "0.7" and "70.0000%" in str(made)
            more = ", columns=128" if pattern is jd.PerBlock else ""
            assert repr(made) == f"{pattern.__name__}(sparsity=Decimal('0.7'){more})"
    assert len({jd.Unstructured(0.5), jd.PerMatrix(0.5), jd.PerRow(0.5), jd.Unstructured(".5")}) == 3
    for wrong in (1, -0.1, "half", None):
        with pytest.raises(jd.UserError, match=f"^sparsity {wrong}: must be a number"):
            jd.PerRow(wrong)


def test_no_message_of_the_library_names_a_flag():
    """Whoever calls the library from Python has typed none."""
    files = sorted((ROOT / "junkdna" / "sparsity").glob("*.py"))
    assert len(files) == 22
    for file in files:
        texts = [node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)]
        named = [text for text in texts if isinstance(text, str) and "--" in text]
        assert not named, (file.name, named)


def test_a_name_is_looked_up_once():
    _ = jd.hold
    assert "hold" in vars(jd)
