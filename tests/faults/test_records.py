"""Odd records in the report: the run is listed with its folder and the reason, and the others are reported."""

import csv
import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from junkdna.errors import UserError
from junkdna.report import __main__ as report
from junkdna.report import writing
from made_up_runs import make_run

FILES = report.FILES
ESCAPE = "a\x1b[31mred\u202e\ud800"


def write(name: str, content):
    """Damage: a file's content is another."""

    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))

    return damage


def put(*path, value, name="run.json"):
    """Damage: a key has another value; DROP takes it away."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        at = content
        for key in path[:-1]:
            at = at[key]
        if value is DROP:
            del at[path[-1]]
        else:
            at[path[-1]] = value
        (folder / name).write_text(json.dumps(content))

    return damage


DROP = object()


def in_place_of(name: str, make):
    """Damage: something that is not a file has a file's name."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return damage


def gone(folder: Path) -> None:
    (folder / "run.json").unlink()


RESULTS = "all_results.json"
DEEP = "[" * 100_000 + "]" * 100_000
DAMAGE = {
    "run.json gone": (gone, "run.json is missing"),
    "run.json empty": (write("run.json", ""), "run.json is not JSON"),
    "run.json cut off": (write("run.json", '{"schema": 2, "set'), "run.json is not JSON"),
    "run.json not UTF-8": (write("run.json", b'{"a": "\xff"}'), "run.json is not UTF-8"),
    "run.json UTF-16": (write("run.json", '{"a": 1}'.encode("utf-16")), "run.json is not UTF-8"),
    "run.json a list": (write("run.json", "[]"), "run.json holds no object"),
    "run.json deep": (write("run.json", '{"a": ' + DEEP + "}"), "nested too deeply"),
    "run.json a huge number": (write("run.json", '{"a": ' + "9" * 5000 + "}"), "run.json is not JSON"),
    "run.json no settings": (write("run.json", "{}"), "run.json"),
    "run.json a folder": (in_place_of("run.json", Path.mkdir), "run.json is not a file"),
    "run.json a fifo": (in_place_of("run.json", os.mkfifo), "run.json is not a file"),
    "run.json a loop of links": (in_place_of("run.json", lambda path: path.symlink_to(path)), "symbolic links"),
    "run.json a link to nothing": (in_place_of("run.json", lambda p: p.symlink_to("none")), "is a link to nothing"),
    "results a fifo": (in_place_of(RESULTS, os.mkfifo), f"{RESULTS} is not a file"),
    "results a folder": (in_place_of(RESULTS, Path.mkdir), f"{RESULTS} is not a file"),
    "results cut off": (write(RESULTS, '{"eval_acc'), f"{RESULTS} is not JSON"),
    "results a list": (write(RESULTS, "[1]"), f"{RESULTS} holds no object"),
    "results deep": (write(RESULTS, DEEP), "nested too deeply"),
    "results text": (put("eval_accuracy", value="0.5", name=RESULTS), "eval_accuracy is"),
    "results a boolean": (put("eval_accuracy", value=True, name=RESULTS), "eval_accuracy is true"),
    "results 400 digits": (put("eval_accuracy", value=10**400, name=RESULTS), "a number of 401 digits"),
    "rows as text": (put("eval_samples", value="many", name=RESULTS), "eval_samples is"),
    "sparsity as text": (put("sparsity", value="half", name=RESULTS), "sparsity is"),
    "sparsity 7": (put("sparsity", value=7, name=RESULTS), "not a fraction"),
    "schema as text": (put("schema", value="two"), "run.json"),
    "settings a list": (put("settings", value=[1]), "settings"),
    "settings without a seed": (put("settings", "seed", value=DROP), "settings.seed is missing"),
    "seed as text": (put("settings", "seed", value="one"), 'settings.seed is "one"'),
    "seed true": (put("settings", "seed", value=True), "settings.seed is true"),
    "seed of 400 digits": (put("settings", "seed", value=10**400), "settings.seed is a number of 401 digits"),
    "seed a list": (put("settings", "seed", value=[1]), "settings.seed is [1]"),
    "model a list": (put("settings", "model_name_or_path", value=["a"]), "model_name_or_path is"),
    "model null": (put("settings", "model_name_or_path", value=None), "model_name_or_path is null"),
    "pattern a number": (put("settings", "sparsity_pattern", value=3), "sparsity_pattern is 3"),
    "pattern nm without a ratio": (put("settings", "sparsity_pattern", value="nm"), "nm_ratio is missing"),
    "settings without a sparsity": (put("settings", "sparsity", value=DROP), "settings.sparsity is missing"),
    "ratio absurd": (put("settings", "nm_ratio", value="99999:1"), "99999:1"),
    "ratio a number": (put("settings", "nm_ratio", value=24), "nm_ratio is 24"),
    "score a number": (put("settings", "score", value=1), "score is 1"),
    "axes a list": (put("axes", value=["cola"]), "axes is"),
    "axes empty": (put("axes", value={}), "axes is empty"),
    "axis an object": (put("axes", "task", value={"a": 1}), "axes.task is"),
    "axes null": (put("axes", value=None), "axes is null"),
    "roles a list": (put("roles", value=[]), "roles is []"),
    "role a number": (put("roles", "seed", value=1), "roles.seed is 1"),
    "family a number": (put("family", value=4), "family is 4"),
    "treatment a list": (put("treatment", value=[]), "treatment is []"),
    "metrics text": (put("metrics", value="accuracy"), "metrics is"),
    "metrics of text": (put("metrics", value=["accuracy"]), "metrics"),
    "metrics empty": (put("metrics", value=[]), "metrics is missing"),
    "metric without a key": (put("metrics", 0, "key", value=DROP), "metrics.key is missing"),
    "chance as text": (put("metrics", 0, "chance", value="half"), "metrics.chance is"),
    "better sideways": (put("metrics", 0, "better", value="sideways"), "metrics.better is sideways"),
    "code text": (put("code", value="abc"), "code is"),
    "versions a list": (put("versions", value=[1]), "versions is"),
    "data a list": (put("data", value=[1]), "data is"),
    "model's record a number": (put("model", value=1), "model is 1"),
    "pruning text": (put("pruning", value="all"), "pruning is"),
    "matrices a number": (put("pruning", "matrices", value=3), "pruning.matrices is 3"),
    "matrices of text": (put("pruning", "matrices", value=["a"]), "pruning.matrices"),
    "matrix without a shape": (
        put("pruning", "matrices", value=[{"name": "a", "removed": 1, "kept": 1}]),
        "pruning.matrices.shape is missing",
    ),
    "matrix of odd counts": (
        put("pruning", "matrices", value=[{"name": "a", "shape": [2], "removed": "x", "kept": 1}]),
        "pruning.matrices.removed is",
    ),
}
"""By name: how a run's folder is damaged, and what the report must say of it."""

TOGETHER = 8
"""Runs that are damaged in one tree, each in its own way."""


@pytest.fixture
def tree(tmp_path):
    """A tree of six sound runs, and one more that tests damage."""
    root = tmp_path / "runs"
    for seed in (1, 2):
        for pattern in ("dense", "0.5", "2:4"):
            make_run(root, "sst2", pattern, seed, 0.9 - 0.1 * (pattern != "dense") - 0.01 * seed, newest=True)
    return root


@pytest.fixture
def undrawn(monkeypatch):
    """Have no figure drawn, which takes most of the time."""
    monkeypatch.setattr(report.figures, "pictures", lambda _, files, *more, **how: dict.fromkeys(files, b"x"))


def odd_run(root: Path) -> Path:
    return make_run(root, "sst2", "0.7", 3, 0.6, newest=True, folder=root / "odd")


def rows_of(out: Path) -> list[dict]:
    return list(csv.DictReader((out / "summary.csv").open(newline="")))


def test_there_are_enough_kinds():
    assert len(DAMAGE) >= 60


@pytest.mark.parametrize("first", range(0, len(DAMAGE), TOGETHER))
def test_an_odd_record_costs_its_own_run_alone(first, tree, tmp_path, capsys, undrawn):
    kinds = list(DAMAGE)[first : first + TOGETHER]
    for number, kind in enumerate(kinds):
        folder = make_run(tree, "sst2", "0.7", 3, 0.6, newest=True, folder=tree / f"odd-{number}")
        DAMAGE[kind][0](folder)
    out = tmp_path / "out"
    assert report.main([str(tree), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES) and said.err == ""
    assert [row["status"] for row in rows_of(out)] == ["done"] * 6
    for number, kind in enumerate(kinds):
        lines = [line for line in said.out.splitlines() if line.startswith(f"unreadable: odd-{number}: ")]
        assert len(lines) == 1 and DAMAGE[kind][1] in lines[0], (kind, said.out)
        assert f"| unreadable | odd-{number} | " in (out / "summary.md").read_text(), kind
    assert "unreadable" in (out / "report.html").read_text()


def test_a_damaged_error_hides_no_finished_run(tree, tmp_path, undrawn):
    (tree / "sst2/100/dense/1/error.json").write_text("{")
    assert report.main([str(tree), "--out", str(tmp_path / "out")]) == 0
    assert [row["status"] for row in rows_of(tmp_path / "out")] == ["done"] * 6


def test_names_that_are_not_utf_8_and_texts_that_steer_a_terminal(tree, tmp_path, capsys):
    folder = odd_run(tree)
    for path in (("treatment",), ("settings", "method"), ("axes", "task"), ("code", "commit"), ("settings", "x\x1b")):
        put(*path, value=f"={ESCAPE}")(folder)
    os.rename(folder, os.fsencode(tree) + b"/gr\xf6\xdfe\x1b[2J")
    (tree / "failed").mkdir()
    (tree / "failed/error.json").write_text(json.dumps({"error": f"of no settings {ESCAPE}\nand more"}))
    out = tmp_path / "out"
    assert report.main([str(tree), "--out", str(out)]) == 0
    said = capsys.readouterr()
    texts = {name: (out / name).read_bytes().decode() for name in FILES if not name.endswith("png")}
    texts |= {"out": said.out, "err": said.err}
    for name, text in texts.items():
        assert not set(text) & {"\x1b", "\u202e", "\x07"}, name
    assert len(rows_of(out)) == 7 and any("\\x1b" in row["folder"] for row in rows_of(out))
    assert "unreadable: failed: of no settings a\\x1b[31mred" in said.out


def test_no_cell_of_a_csv_file_is_a_formula_and_numbers_stay_numbers(tree, tmp_path, undrawn):
    began = ("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1", "-0.5", "+3")
    for number, text in enumerate(began):
        folder = make_run(tree, "sst2", "0.7", 10 + number, 0.6, newest=True, method=text)
        put("settings", f"{text}x", value=-5)(folder)
        put("axes", "data", value=text)(folder)
    assert report.main([str(tree), "--out", str(tmp_path)]) == 0
    tried = 0
    for name in ("summary.csv", "claims.csv"):
        with (tmp_path / name).open(newline="") as file:
            for row in csv.reader(file):
                for cell in row:
                    tried += 1
                    number = cell.lstrip("+-").replace(".", "").replace("e-", "").isdigit()
                    assert number or cell.lstrip()[:1] not in tuple("=+-@\uff1d") or not cell, cell
                    assert not set(cell) & set("\t\r\n")
    assert tried > 1000
    assert {"-0.5", "+3", "'=1+1", "'-1+1", "\\t=1"} <= {row["method"] for row in rows_of(tmp_path)}


def test_results_and_axes_that_are_called_like_the_report_s_own_columns(tree, tmp_path):
    folder = odd_run(tree)
    for name in ("path", "status", "place", "value", "base_values", "seeds", "mean", "normalised"):
        put(name, value=0.5, name=RESULTS)(folder)
        put("settings", name, value="text")(folder)
        put("axes", name, value="x")(folder)
    put("settings", "eval_samples", value="text")(folder)
    put("settings", "eval_accuracy", value={"a": [1]})(folder)
    assert report.main([str(tree), "--out", str(tmp_path / "out")]) == 0
    assert [row["status"] for row in rows_of(tmp_path / "out")] == ["done"] * 7


def damaged_at_random(content, draw):
    """A record with one value somewhere replaced, dropped or renamed."""
    places = []

    def walk(at):
        for key in at if isinstance(at, dict) else range(len(at)):
            places.append((at, key))
            if isinstance(at[key], (dict, list)):
                walk(at[key])

    walk(content)
    at, key = draw.choice(places)
    odd = [None, True, -1, 0, 10**400, 1e308, float("nan"), float("inf"), "", "x", "=1", ESCAPE, "9" * 400, [], [[]],
           {}, {"": {}}, ["a", 1], {"a": None}, "dense", "nm", "2:4", [{}]]  # fmt: skip
    if draw.random() < 0.15 and isinstance(at, dict):
        del at[key]
    elif draw.random() < 0.1 and isinstance(at, dict):
        at[draw.choice(["seed", "path", "status", "sparsity", "a\x1b", ""])] = at.pop(key)
    else:
        at[key] = draw.choice(odd)
    return content


def at_random(tree: Path, tmp_path: Path, count: int, each: int) -> None:
    """Report trees in which ``each`` runs are odd, all in their own way, until ``count`` records were damaged."""
    tried = 0
    for round_ in range(-(-count // each)):
        for number in range(each):
            draw = random.Random(f"{round_} {number}")
            folder = tree / f"odd-{number}"
            if not folder.exists():
                make_run(tree, "sst2", "0.7", 3 + number, 0.6, newest=True, folder=folder)
                for name in ("run.json", RESULTS):
                    (folder / f"{name}.sound").write_text((folder / name).read_text())
            for name in ("run.json", RESULTS):
                (folder / name).write_text((folder / f"{name}.sound").read_text())
            name = RESULTS if draw.random() < 0.2 else "run.json"
            content = json.loads((folder / name).read_text())
            for _ in range(draw.choice([1, 1, 2, 5])):
                content = damaged_at_random(content, draw) if content else {}
            (folder / name).write_text(json.dumps(content))
            tried += 1
        out = tmp_path / "out"
        assert report.main([str(tree), "--out", str(out)]) == 0
        listed = (out / "summary.md").read_text()
        rows = {row["folder"] for row in rows_of(out)}
        assert sum(not name.startswith("odd") for name in rows) == 6
        for number in range(each):
            assert f"odd-{number}" in rows or f"| unreadable | odd-{number} |" in listed
    assert tried >= count


def test_records_damaged_at_random(tree, tmp_path, undrawn):
    at_random(tree, tmp_path, 120, 12)


@pytest.mark.slow
def test_many_records_damaged_at_random(tree, tmp_path):
    at_random(tree, tmp_path, 3000, 12)


# --- all of its files, or none ---------------------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("earlier", [True, False])
def test_a_report_is_written_whole_or_not_at_all(code, earlier, tmp_path, monkeypatch):
    """Every file operation of the writing fails once."""
    out, tried = tmp_path / "out", 0
    out.mkdir()
    for name in FILES if earlier else ():
        (out / name).write_bytes(b"earlier")
    before = snapshot(out)
    for operation in ("mkdtemp", "fsync", "replace"):
        for at in range(1 if operation == "mkdtemp" else len(FILES)):
            with monkeypatch.context() as patch:
                fail_at(patch, operation, at, code)
                with pytest.raises(UserError, match=f"cannot be written: {os.strerror(code)}") as caught:
                    writing.write_all({out / name: b"now" for name in FILES})
            assert str(out) in str(caught.value) and snapshot(out) == before, (operation, at)
            tried += 1
    assert tried == 1 + 2 * len(FILES)
    writing.write_all({out / name: b"now" for name in FILES})
    assert snapshot(out) == dict.fromkeys(FILES, b"now")


@pytest.mark.parametrize("operation", ["mkdtemp", "fsync", "replace", "makedirs"])
def test_a_full_disk_is_one_line_of_the_command(operation, tree, tmp_path, monkeypatch, capsys, undrawn):
    if operation == "makedirs":  # of another part of the machine: a library that wants a folder of its own
        monkeypatch.setattr(report.figures, "pictures", full)
    else:
        fail_at(monkeypatch, operation, 0, errno.ENOSPC)
    assert report.main([str(tree), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "No space left on device" in err and snapshot(tmp_path / "out") == {}


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_at(patch, operation: str, at: int, code: int) -> None:
    """Have the ``at``-th call of a file operation fail in the module that writes."""
    module = writing.tempfile if operation == "mkdtemp" else writing.os
    real, calls = getattr(module, operation), []

    def failing(*args, **kwargs):
        calls.append(args)
        if len(calls) == at + 1:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    patch.setattr(module, operation, failing)


def test_a_folder_in_place_of_a_file_of_the_report(tree, tmp_path, capsys, undrawn):
    (tmp_path / "out/claims.md").mkdir(parents=True)
    assert report.main([str(tree), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "claims.md: is a folder" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["claims.md"]


def test_a_figure_elsewhere_is_of_the_whole_too(tree, tmp_path, monkeypatch, undrawn):
    figure = tmp_path / "figures/curves.pdf"
    with monkeypatch.context() as patch:
        fail_at(patch, "replace", len(FILES), errno.EIO)
        assert report.main([str(tree), "--out", str(tmp_path / "out"), "--figure", str(figure)]) == 2
    assert snapshot(tmp_path / "out") == {} and not figure.exists()
    assert report.main([str(tree), "--out", str(tmp_path / "out"), "--figure", str(figure)]) == 0
    assert figure.read_bytes() == b"x"


def test_mistakes_in_its_flags_are_one_line_and_repeat_no_secret(tree, tmp_path, capsys):
    for flags in (["--hub_token", "geheim"], ["--hub-tokn=geheim"], ["--normalise=geheim"], ["-hub_token=geheim"]):
        with pytest.raises(SystemExit) as stop:
            report.main([str(tree), "--out", str(tmp_path / "out"), *flags])
        err = capsys.readouterr().err
        assert stop.value.code == 2 and err.count("\n") == 1
        assert ("geheim" in err) == flags[0].startswith("--normalise")
    for flags in (["--figure", "a\x1b.png"], ["--out", "a\nb"], ["--metric", "a\ud800"]):
        with pytest.raises(SystemExit):
            report.main([str(tree), *flags])
        err = capsys.readouterr().err
        assert err.startswith(f"error: {flags[0]} a") and err.count("\n") == 1


def test_home_and_an_encoding_that_cannot_show_it(tree, tmp_path):
    tree.rename(tmp_path / "größe")
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "junkdna.report", "~/größe", "--out", "~/wohin-größe", "--figure=~/f.svg"],
        cwd=Path(__file__).resolve().parents[2], env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "wohin-gr??e" in done.stdout and (tmp_path / "f.svg").exists()
    assert len(list((tmp_path / "wohin-größe").iterdir())) == len(FILES)


def test_a_folder_that_cannot_be_looked_into_is_listed(tree, tmp_path, monkeypatch, capsys, undrawn):
    (tree / "closed").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert report.main([str(tree), "--out", str(tmp_path / "out")]) == 0
    assert "unreadable: closed: cannot be looked into: Permission denied" in capsys.readouterr().out


def test_nothing_but_odd_records_says_how_many(tmp_path, capsys):
    for number in range(3):
        (tmp_path / f"runs/{number}").mkdir(parents=True)
        (tmp_path / f"runs/{number}/run.json").write_text("{")
    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "no finished run in there; 3 unreadable, such as 0: run.json is not JSON" in err and err.count("\n") == 1
