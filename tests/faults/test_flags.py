"""Random and hostile flags: one line that names flag and value, exit code 2, never a traceback, never a secret.

A cell's settings, as ``run.json`` records them, give the same cell again.
"""

import ast
import dataclasses
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import Glue_prune_oneshot
from conftest import SCRIPT, parse
from junkdna.errors import LONGEST, UNSEEN, Fault, UserError, one_line, visible
from junkdna.runs import commandline, records
from junkdna.runs.groups import PRECISIONS, SCHEDULES
from junkdna.runs.settings import MOST, flags
from junkdna.runs.settings import model as read_model
from junkdna.runs.settings import path as read_path
from junkdna.runs.speech import explain

ROOT = Path(__file__).resolve().parents[2]
SHORT, LONG = 200, 2000
DECLARED = {name: flag for _, name, flag in flags(Glue_prune_oneshot.FAMILY.cell, Glue_prune_oneshot.FAMILY.command)}
NAMES = {name: (flag.names or (f"--{name}",))[0] for name, flag in DECLARED.items()}
PATHS = [name for name, flag in DECLARED.items() if flag.read.__name__ in ("path", "model")]


def many(count: int):
    return settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def errors(argv: list[str], capsys) -> list[str]:
    """The lines that a wrong command line brings."""
    capsys.readouterr()
    with pytest.raises(UserError) as caught:
        parse(argv)
    assert explain(caught.value) == 2
    return capsys.readouterr().err.splitlines()


# --- any values ------------------------------------------------------------------------------------------------------

ODD = ["", " ", "-1", "0", "1e400", "-1e5", "-inf", "nan", "sNaN", "-sNaN", "9" * 400, "0." + "3" * 400, "1e-999999999",
       "1e999999999", "0x10", "1_0", "\u0663", "a\x1b[31m", "a\nb", "\x00", "\ud800", "\u202e", "({[", "{", "}", "{0}",
       "{seed!r}", "{a.b[0]}", "a{99999999999999999999}", "../..", "~", "~nobody/x", "=1", "--", "-", "--x=y",
       "x" * 5000, "🎉", "hf_" + "a" * 34]  # fmt: skip


def value_of(name: str):
    """A strategy for the text of a flag's value, often a sound one."""
    sound = {
        "sparsity": ["0", "0.5", "0.25"], "nm_ratio": ["2:4", "68"], "seed": ["1", "42"], "learning_rate": ["1e-3"],
        "task_name": ["cola", "QNLI", "SST-2"], "train_percentage": ["10", "cola=5"], "max_length": ["64"],
    }.get(name, ["1", "name"])  # fmt: skip
    return st.one_of(st.sampled_from(sound), st.sampled_from(ODD), st.text(max_size=12))


@st.composite
def command_lines(draw):
    argv = []
    for name in draw(st.lists(st.sampled_from(sorted(DECLARED)), max_size=7, unique=True)):
        flag = DECLARED[name]
        values = [] if flag.switch else [draw(value_of(name))]
        if flag.many or flag.extend:
            values += draw(st.lists(value_of(name), max_size=2))
        argv += [f"{NAMES[name]}={values[0]}"] if values and draw(st.booleans()) else [NAMES[name], *values]
    argv += draw(st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=8)), max_size=1))
    return argv


def never_a_traceback(argv: list[str]) -> bool:
    """Parse a command line; what is wrong must be lines that can be printed anywhere. Return whether it was sound."""
    try:
        request = parse(["--model_name_or_path", "m", "--task_name", "cola", *argv])
    except UserError as error:
        assert error.faults
        lines = [one_line(fault) for fault in error.faults]
        for line in lines:
            assert line and not UNSEEN.search(line) and len(line) < 3000
            assert "hf_" + "a" * 34 not in line
        return False
    except SystemExit as stop:  # --help
        assert stop.code == 0
        return False
    for cell in request.cells:
        json.dumps(cell.settings(), allow_nan=False)
        assert not UNSEEN.search(cell.output_dir)
    return True


def any_flags(count: int) -> None:
    tried = []

    @many(count)
    @given(command_lines())
    def check(argv):
        tried.append(never_a_traceback(argv))

    check()
    assert len(tried) >= count and any(tried) and not all(tried)


def test_random_flags_bring_no_traceback():
    any_flags(SHORT)


@pytest.mark.slow
def test_many_random_flags_bring_no_traceback():
    any_flags(LONG)


NUMBERS = [name for name, flag in DECLARED.items() if flag.read.__qualname__.startswith("number.")]
HUGE = ["9" * 400, "1" + "0" * 5000, "sNaN", "-sNaN", "nan", "inf", "-inf", "1e400", "-1e400", "-9" + "9" * 400, "x"]


@pytest.mark.parametrize("value", HUGE, ids=lambda value: value[:6] + str(len(value)))
def test_absurd_numbers_are_named_with_their_flag(value, capsys):
    tried = 0
    for name in [*NUMBERS, "sparsity", "train_percentage", "slurm_time"]:
        lines = errors([NAMES[name], value], capsys)
        mine = [line for line in lines if line.startswith(f"error: {NAMES[name]} {value[:100]}")]
        assert len(mine) == 1 and "must be" in mine[0] and len(mine[0]) < 2 * LONGEST, lines
        tried += 1
    assert tried >= 12


def test_counts_that_no_tensor_holds_are_refused(capsys):
    (line,) = [one for one in errors(["--num_train_epochs", str(MOST + 1)], capsys) if "epochs" in one]
    assert f"<= {MOST}" in line
    (line,) = [one for one in errors(["--train_percentage", "33.3333333333333"], capsys) if "percentage" in one]
    assert "has more than 12 decimal places" in line


# --- a cell's settings give the same cell ----------------------------------------------------------------------------

FREE = st.text(st.characters(whitelist_categories=("L", "N"), max_codepoint=0x2FF), min_size=1, max_size=8)
ROUND = {
    "task_name": st.sampled_from(["cola", "QNLI", "SST-2", "sts-b"]),
    "train_percentage": st.decimals("0.001", "100", places=3).map(str),
    "sparsity": st.decimals("0.001", "0.999", places=3).map(str),
    "seed": st.integers(0, 2**32 - 1).map(str),
    "max_length": st.integers(1, MOST).map(str),
    "max_train_samples": st.integers(1, MOST).map(str),
    "max_eval_samples": st.integers(1, MOST).map(str),
    "learning_rate": st.floats(1e-6, 1e3).map(repr),
    "weight_decay": st.floats(0, 1e3).map(repr),
    "num_train_epochs": st.integers(1, MOST).map(str),
    "max_train_steps": st.integers(1, MOST).map(str),
    "num_warmup_steps": st.integers(1, MOST).map(str),
    "per_device_train_batch_size": st.integers(1, MOST).map(str),
    "gradient_accumulation_steps": st.integers(1, MOST).map(str),
    "lr_scheduler_type": st.sampled_from([name for name in SCHEDULES if name != "constant"]),
    "mixed_precision": st.sampled_from(PRECISIONS),
    "model_revision": FREE,
    "method": FREE,
    "prune_exclude": st.sampled_from(["^classifier", "a|b", "x.y"]),
    "glue_dir": st.just(None),
}
SWITCHES = ["noembed", "pad_to_max_length", "ignore_mismatched_sizes", "save_model"]
PATTERNS = st.sampled_from([
    [], ["--sparse_init", "dense"], ["--nm_ratio", "2:4"], ["--nm_ratio", "68"], ["--score", "largest"],
    ["--sparsity_pattern", "per_row"], ["--sparse_init", "uniform_weight"], ["--sparse_init", "random"],
])  # fmt: skip
HOLDS = st.sampled_from([[], ["--freeze_weights"], ["--freeze_weights_frompretrain"]])


@st.composite
def sound_lines(draw):
    argv = ["--model_name_or_path", draw(FREE), "--task_name", draw(ROUND["task_name"])]
    pattern = draw(PATTERNS)
    names = [name for name in ROUND if name not in ("task_name", "glue_dir")]
    if any(word in pattern for word in ("dense", "--nm_ratio")):
        names.remove("sparsity")
    for name in draw(st.lists(st.sampled_from(names), max_size=10, unique=True)):
        argv += [NAMES[name], draw(ROUND[name])]
    switches = draw(st.lists(st.sampled_from(SWITCHES), max_size=4, unique=True))
    return [*argv, *pattern, *draw(HOLDS), *(f"--{name}" for name in switches)]


def as_argv(recorded: dict) -> list[str]:
    """A command line from the settings of a ``run.json``."""
    argv = []
    for name, value in recorded.items():
        flag = DECLARED.get(name)
        if flag is None or value is None or value is False or value == []:
            continue
        given_ = [] if flag.switch else [str(one) for one in (value if isinstance(value, list) else [value])]
        argv += [NAMES[name], *given_]
    return argv


def round_trip(count: int) -> None:
    tried = []

    @many(count)
    @given(sound_lines())
    def check(argv):
        (cell,) = parse(argv).cells
        recorded = json.loads(json.dumps(cell.settings(), allow_nan=False))
        (again,) = parse([*as_argv(recorded), "--output_dir", cell.output_dir]).cells
        assert again.settings() == cell.settings() == recorded
        assert again.header() == cell.header() and again.hold == cell.hold
        assert dataclasses.replace(again, **{name: getattr(cell, name) for name in cell.options()}) == cell
        tried.append(argv)

    check()
    assert len(tried) >= count


def test_the_settings_of_a_run_give_the_same_run():
    round_trip(SHORT)


@pytest.mark.slow
def test_the_settings_of_many_runs_give_the_same_runs():
    round_trip(LONG)


# --- secrets, unknown flags, control characters ----------------------------------------------------------------------

SECRET = "geheimes-wort"
TOKEN = "hf_" + "Ab1" * 12
SPELLINGS = ["--hub_token", "--hub-token", "--HUB_TOKEN", "--Hub-Token", "--hub_tokn", "--hubtoken", "--hub_t",
             "--token", "--hub_tokens", "-hub_token", "--hub.token", "--sparsty", "--zzz", "-z", "-hz"]  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_secret_is_never_repeated(name, capsys):
    tried = 0
    for secret in (SECRET, TOKEN):
        forms = ([name, secret], [name, secret, secret], [f"{name}={secret}"], [f"{name}:{secret}"],
                 [f"{name} {secret}"], ["--seed", "1", f"{name} {secret}"],
                 [name, "--seed", "x", name, secret])  # fmt: skip
        for argv in forms:
            lines = errors(argv, capsys)
            assert secret not in "\n".join(lines), lines
            assert any(re.match(rf"error: -{{1,2}}{name.lstrip('-').split('.')[0]}\b", line) for line in lines), lines
            tried += 1
    assert tried == 14


def test_a_token_that_starts_with_a_dash_or_stands_in_a_value(capsys):
    assert SECRET not in "".join(errors(["--hub_token", f"-{SECRET}"], capsys))
    assert TOKEN not in "".join(errors(["--seed", TOKEN], capsys)) + "".join(errors([TOKEN], capsys))
    assert TOKEN not in str(Fault("model", "m", f"cannot be read at https://x:{TOKEN}@y"))


@pytest.mark.parametrize("name", sorted(set(DECLARED) - {n for n, flag in DECLARED.items() if flag.switch}))
def test_control_characters_and_broken_text_are_refused_in_every_flag(name, capsys):
    tried = 0
    for character in ("\x00", "\x07", "\t", "\n", "\r", "\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\ud800"):
        for argv in ([NAMES[name], f"a{character}b"], [f"{NAMES[name]}=a{character}b"]):
            (line,) = errors(argv, capsys)
            assert line.startswith(f"error: {NAMES[name]} a\\") and not UNSEEN.search(line), line
            assert ("not valid UTF-8" if character == "\ud800" else "control character") in line
            tried += 1
    assert tried == 24


def test_output_escapes_what_steers_a_terminal():
    assert visible("a\x1b[2J\u202eb\ud800") == "a\\x1b[2J\\u202eb\\ud800"
    assert visible("a\nb\tc\x9b", keep="\n\t") == "a\nb\tc\\x9b"
    assert one_line(" a\r\n b\x00 ") == "a b\\x00"
    assert visible("größe 日本語 🎉 עברית") == "größe 日本語 🎉 עברית"
    assert len(one_line("9" * 5000)) < LONGEST and "(5000 characters)" in one_line("9" * 5000)


# --- paths -----------------------------------------------------------------------------------------------------------


def test_every_flag_of_a_path_is_known_here():
    assert set(PATHS) == {
        *("model_name_or_path", "glue_dir", "train_file", "validation_file", "mask_file"),
        *("output_dir", "jobs_dir", "resume_from_checkpoint"),
    }


@pytest.mark.parametrize("name", PATHS)
def test_a_tilde_means_home(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    read = DECLARED[name].read
    assert (read("~"), read("~/a b")) == (str(tmp_path), f"{tmp_path}/a b")
    assert (read("a~/b"), read("latest")) == ("a~/b", "latest")
    with pytest.raises(ValueError, match="is empty"):
        read("")


def test_a_folder_has_one_name_however_it_is_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data", "data/", "./data", "./data//", "data/."):
        assert read_path(name) == "data"
    for name in ("../data", "org/name", "/", "."):
        assert read_path(name) == name
    assert records.same("data/", "data") and not records.same("data/", "date") and records.same(None, None)


def test_a_folder_without_a_model_never_becomes_the_hub_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "roberta-base/data").mkdir(parents=True)  # as of runs of that model
    for name in ("./roberta-base", "roberta-base/", "roberta-base", "./org/name", "org/name/", "org/name"):
        assert read_model(name) == name
    (tmp_path / "roberta-base/config.json").write_text("{}")
    assert read_model("./roberta-base") == read_model("roberta-base/") == "roberta-base"


@pytest.mark.parametrize("method", ["..", "../x", "a/../../b", "/etc/x"])
def test_a_field_leads_out_of_no_folder(method, capsys):
    (line,) = errors(["--model_name_or_path", "m", "--task_name", "cola", "--method", method], capsys)
    assert line.startswith("error: --output_dir ") and method in line and "out of the folder" in line


@pytest.mark.parametrize("model", ["..", ".", "/", "../..", "a/.."])
def test_a_model_s_folder_without_a_name_names_the_run_by_the_real_one(model):
    (cell,) = parse(["--model_name_or_path", model, "--task_name", "cola"]).cells
    assert ".." not in cell.output_dir.split("/") and cell.model_label not in ("", ".", "..")


# --- a lone -- -------------------------------------------------------------------------------------------------------

SOUND = ["--model_name_or_path", "m", "--task_name", "cola"]


@pytest.mark.parametrize(
    "argv",
    [
        ["--", "freeze_weights", "--noembed"],
        ["--", "freeze_weights--noembed"],  # the next line glued on without a space
        ["--noembed", "--", "freeze_weights"],
        ["--", "noembed", "--", "freeze_weights"],
    ],
)
def test_a_lone_dash_dash_belongs_to_the_flag_after_it(argv, capsys):
    (cell,) = parse([*SOUND, *argv]).cells
    assert cell.freeze_weights and cell.noembed
    note = capsys.readouterr().err
    assert note.count("\n") == 1 and "--freeze_weights" in note and note.startswith("note: ")


def test_a_lone_dash_dash_takes_a_value_too():
    (cell,) = parse([*SOUND, "--", "seed", "7", "--", "method=a--b"]).cells
    assert (cell.seed, cell.method) == (7, "a--b")


@pytest.mark.parametrize("argv", [["--"], ["--", "--noembed"], ["--", "freeze_weight"], ["--", SECRET], ["--", "--"],
                                  ["--noembed", "--", "0.5"], ["--", "freeze_weights--nothing"]])  # fmt: skip
def test_any_other_lone_dash_dash_is_one_error(argv, capsys):
    (line,) = errors([*SOUND, *argv], capsys)
    assert line.startswith("error: --: stands alone") and SECRET not in line
    assert ("did you mean --freeze_weights?" in line) == argv[-1].startswith("freeze")


@pytest.mark.parametrize("flag", ["sparse_init", "score", "seed", "method", "prune_exclude", "slurm_setup"])
def test_a_dash_dash_is_no_value(flag, capsys):
    assert errors([*SOUND, f"--{flag}=--"], capsys) == [f"error: --{flag} --: is not a value; give one"]


def test_a_switch_takes_no_dash_dash(capsys):
    assert errors([*SOUND, "--noembed=--"], capsys) == ["error: --noembed: ignored explicit argument '--'"]


# --- the paper's loops -----------------------------------------------------------------------------------------------

LOOP = """cd ./GLUE_tasks
for seed in {seeds}
do
  for TASK_NAME in {tasks}
  do
    for sparsity in 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9
    do
      for validation_split_percentage in {percentages}
      do
      python Glue_prune_oneshot.py \\
        --method Glue_noembed_freeze_weights \\
        --validation_split_percentage $validation_split_percentage \\
        {freeze}\\
        --noembed \\
        --sparsity $sparsity \\
        --model_name_or_path {model} \\
        --task_name $TASK_NAME \\
        --max_length {length} \\
        --per_device_train_batch_size {batch} \\
        --learning_rate 2e-5 \\
        --num_train_epochs 3 \\
        --seed $seed \\
        --output_dir ./roberta/Glue_noembed_freeze_weights/$TASK_NAME/$sparsity/$validation_split_percentage/$seed/
      done
    done
  done
done
"""
LOOPS = {
    "data adequacy": dict(seeds="41", tasks="qnli", percentages="10 25 50 75 100", freeze="--freeze_weights ",
                          model="roberta-base", length=128, batch=32),
    "task difficulty": dict(seeds="41 42 43", tasks="cola sst2", percentages="100", freeze="--freeze_weights ",
                            model="roberta-large", length=512, batch=16),
    "true gem": dict(seeds="41 42 43", tasks="QNLI", percentages="100", freeze="-- freeze_weights",
                     model="roberta-large", length=512, batch=16),
}  # fmt: skip
"""The three loops of the original README, with what tells them apart; the third has its flag as printed."""


@pytest.mark.parametrize("name", LOOPS)
def test_the_paper_s_loops_are_understood_as_printed(name, tmp_path):
    """bash makes the words; every command of the loop is parsed by the real parser."""
    (tmp_path / "GLUE_tasks").mkdir()
    python = "python() { printf '%s\\n' \"$(printf '%q ' \"$@\")\"; }\n"
    done = subprocess.run(
        ["bash", "-c", python + LOOP.format(**LOOPS[name])], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == ""
    said, cells = LOOPS[name], []
    for line in done.stdout.splitlines():
        program, *argv = shlex.split(line)
        assert program == "Glue_prune_oneshot.py" and ("--" in argv) == (name == "true gem")
        cells += parse(argv).cells
    counts = [len(said[key].split()) for key in ("seeds", "tasks", "percentages")]
    assert (
        len(cells)
        == 9 * counts[0] * counts[1] * counts[2]
        == {"data adequacy": 45, "task difficulty": 54}.get(name, 27)
    )
    assert all(cell.freeze_weights and cell.noembed and cell.sparsity_pattern == "unstructured" for cell in cells)
    assert {cell.task_name for cell in cells} == {task.lower() for task in said["tasks"].split()}
    assert {(cell.max_length, cell.per_device_train_batch_size) for cell in cells} == {(said["length"], said["batch"])}
    assert len({cell.output_dir for cell in cells}) == len(cells)


def test_the_third_loop_s_command_runs_with_local_model_and_data(tiny_model, glue_folder, tmp_path):
    """QNLI in capitals, the lone -- and the glued line, in a process of its own, down to the results."""
    qnli = tmp_path / "data/QNLI"
    qnli.mkdir(parents=True)
    for source, target in (("train", "train"), ("dev", "dev")):
        text = (Path(glue_folder) / f"RTE/{source}.tsv").read_text()
        (qnli / f"{target}.tsv").write_text(text.replace("sentence1\tsentence2", "question\tsentence", 1))
    loop = (
        LOOP.format(**LOOPS["true gem"]).replace("0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9", "0.5").replace("41 42 43", "41")
    )
    loop = loop.replace("cd ./GLUE_tasks\n", "")
    quick = ["--model_name_or_path", tiny_model, "--glue_dir", tmp_path / "data", "--max_length", 64]
    quick = shlex.join(map(str, [*quick, "--max_train_steps", 2, "--learning_rate", "1e-3"]))
    python = f'python() {{ shift; {shlex.quote(sys.executable)} {shlex.quote(str(SCRIPT))} "$@" {quick}; }}\n'
    done = subprocess.run(
        ["bash", "-c", python + loop], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "lone --" in line] == [
        "note: a lone -- belongs to the flag after it: --freeze_weights"
    ]
    (results,) = (tmp_path / "roberta").rglob("all_results.json")
    assert str(results.relative_to(tmp_path)) == (
        "roberta/Glue_noembed_freeze_weights/QNLI/0.5/100/41/all_results.json"
    )
    assert json.loads(results.read_text())["step"] == 2


# --- terminals -------------------------------------------------------------------------------------------------------


def in_a_process(words, folder, encoding) -> bytes:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], cwd=folder, capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_this_process(words, folder, encoding) -> bytes:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "stdout", out)
        assert Glue_prune_oneshot.main(words) == 0
    out.flush()
    return out.buffer.getvalue()


@pytest.mark.parametrize(("run", "encoding"), [(in_a_process, "ascii"), (in_this_process, "latin-1")])
def test_what_a_terminal_cannot_show_ends_no_run(run, encoding, tiny_model, csv_task, tmp_path):
    flags_ = ["--model_name_or_path", tiny_model, *csv_task.flags, "--max_train_steps", "2", "--sparsity", "0.3"]
    said = run([*flags_, "--output_dir", "out/größe-日本"], tmp_path, encoding)
    assert b"-??" in said and (tmp_path / "out/größe-日本/all_results.json").exists()


def test_the_command_of_all_repeats_no_secret_either():
    done = subprocess.run(
        [sys.executable, "-m", "junkdna", f"--hub_token={SECRET}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and SECRET not in done.stderr and done.stderr.count("\n") == 1


# --- the library speaks Python ---------------------------------------------------------------------------------------


def test_no_message_of_the_library_names_a_flag():
    """Every text that stands in the arguments of a Fault or UserError below the command line's floor."""
    known = commandline.parser(Glue_prune_oneshot.FAMILY, []).known
    found, tried = [], 0
    for path in sorted((ROOT / "junkdna/sparsity").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                tried += 1
                if re.search(r"--[a-z]", node.value) or any(option in node.value for option in known):
                    found.append((path.name, node.lineno, node.value))
    assert tried > 300 and found == []
