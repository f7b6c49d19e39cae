"""The package: what the wheel holds, and the command that it installs, run from another folder than the clone's."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import junkdna
from junkdna import __main__ as command

pytestmark = pytest.mark.xdist_group("package")  # the wheel is built and installed once

ROOT = Path(__file__).resolve().parents[1]
ENTRIES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("*_tasks/*.py"))
SCRIPTS = {f"page{part}.js" for part in ("", "_cells", "_curves", "_parts", "_start")}
REPORT_DATA = {"published.csv", "page.html", "page.css", *SCRIPTS}


def run(argv, cwd, **environment):
    """Run Python, alone with the given PYTHONPATH."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    return subprocess.run(
        [sys.executable, *map(str, argv)], cwd=cwd, env=env, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built of a copy: setuptools leaves its work behind, and would put it into the next wheel."""
    source, out = tmp_path_factory.mktemp("source") / "clone", tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "__pycache__", "results", "build", "*.egg-info", "wandb")
    shutil.copytree(ROOT, source, ignore=lambda folder, names: {*ignored(folder, names), *_at_root(folder, names)})
    built = run(["-m", "pip", "wheel", source, "--no-deps", "--no-build-isolation", "--quiet", "-w", out], out)
    assert built.returncode == 0, built.stderr
    (made,) = out.iterdir()
    return made


def _at_root(folder, names):
    """What someone's runs have left in the clone."""
    return {"runs", "node_modules"} & set(names) if Path(folder) == ROOT else set()


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("site")
    argv = ["-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    done = run([*argv, "--target", folder, wheel], folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def installed(site, tmp_path):
    """Run ``python ARGV`` in an empty folder, with the installed package and without the clone."""
    return lambda *argv, **environment: run(argv, tmp_path, PYTHONPATH=str(site), **environment)


def test_the_wheel_holds_the_library_its_data_and_the_entries_alone(wheel):
    assert wheel.name == f"junkdna-{junkdna.__version__}-py3-none-any.whl"
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    library = {path.relative_to(ROOT).as_posix() for path in (ROOT / "junkdna").rglob("*.py")}
    data = {f"junkdna/report/{name}" for name in REPORT_DATA}
    assert len(library) >= 40 and ENTRIES
    assert names == library | data | set(ENTRIES)
    assert data == {
        p.relative_to(ROOT).as_posix() for p in (ROOT / "junkdna").rglob("*.*") if p.suffix not in (".py", ".pyc")
    }


def test_the_installed_library_is_the_one_that_is_imported(installed, site):
    done = installed("-c", "import junkdna; print(junkdna.__file__, junkdna.__version__)")
    assert done.stdout.split() == [str(site / "junkdna/__init__.py"), junkdna.__version__]


def test_help_lists_the_commands_at_once(installed):
    seconds = []
    while len(seconds) < 10 and not (seconds and min(seconds) < 0.3):  # other tests are at work beside this one
        begun = time.perf_counter()
        done = installed("-m", "junkdna", "--help")
        seconds.append(time.perf_counter() - begun)
    assert done.returncode == 0 and done.stdout.startswith("usage: python -m junkdna COMMAND")
    for name, (_, says) in command.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(says)}$", done.stdout, re.M)
    assert min(seconds) < 0.3
    assert installed("-m", "junkdna", "--version").stdout == f"junkdna {junkdna.__version__}\n"
    nothing = installed("-m", "junkdna")
    assert (nothing.returncode, nothing.stdout) == (2, done.stdout)


def test_an_unknown_command_is_told_what_is_near(installed):
    done = installed("-m", "junkdna", "repotr", "runs")
    assert (done.returncode, done.stdout) == (2, "")
    known = "glue, qa, translation, reasoning, report"
    assert done.stderr == f"error: repotr: no such command (did you mean report?); known: {known}\n"


@pytest.mark.parametrize("name", command.COMMANDS)
def test_a_command_is_called_what_the_user_has_typed(name, installed, site, tmp_path):
    done = installed("-m", "junkdna", name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: python -m junkdna {name} [-h]")
    script = next((site / "bin").glob("junkdna*"))
    assert run([script, name, "--help"], tmp_path, PYTHONPATH=str(site)).stdout.startswith(
        f"usage: junkdna {name} [-h]"
    )


def test_the_other_ways_to_call_them_keep_their_names(tmp_path):
    entry = ROOT / "GLUE_tasks/Glue_prune_oneshot.py"
    assert run([entry, "--help"], tmp_path).stdout.startswith("usage: Glue_prune_oneshot.py [-h]")
    assert run(["-m", "junkdna.report", "--help"], ROOT).stdout.startswith("usage: python -m junkdna.report [-h]")
    bare_clone = run(["-m", "junkdna", "glue", "--help"], ROOT)
    assert bare_clone.stdout.startswith("usage: python -m junkdna glue [-h]")


def test_every_module_of_the_table_is_there():
    assert set(command.COMMANDS) >= {"glue", "report"}
    for module, _ in command.COMMANDS.values():
        assert (ROOT / f"{module.replace('.', '/')}.py").exists()


def test_an_installed_run_and_its_report(installed, site, tmp_path, tiny_model, csv_task):
    flags = ["--model_name_or_path", tiny_model, *csv_task.flags, "--noembed", "--freeze_weights", "--sparsity", "0.5"]
    flags += ["--with_dense", "--num_train_epochs", "1", "--per_device_train_batch_size", "16"]
    done = installed("-m", "junkdna", "glue", *flags, "--output_dir", "runs/{pattern}/", OMP_NUM_THREADS="1")
    assert done.returncode == 0 and "2 done, 0 were done before, 0 failed" in done.stdout, done.stderr
    record = json.loads((tmp_path / "runs/0.5/run.json").read_text())
    assert record["code"] == {"version": junkdna.__version__, "commit": None, "changed": None}
    done = installed("-m", "junkdna", "report", "runs", "--out", "report")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report/report.html").stat().st_size > 100_000
    # jobs find the installed experiment too
    flags = [*flags, "--num_jobs", "2", "--output_dir", "jobs/{pattern}/"]
    done = installed("-m", "junkdna", "glue", *flags, OMP_NUM_THREADS="1")
    assert done.returncode == 0 and "2 done, 0 were done before, 0 failed" in done.stdout, done.stderr
    for pattern in ("dense", "0.5"):
        results = [(tmp_path / folder / pattern / "all_results.json").read_bytes() for folder in ("runs", "jobs")]
        assert results[0] == results[1]
