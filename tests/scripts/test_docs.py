"""Every command that the documents and scripts print is read by the real parser, and every file they name exists."""

import re
import shlex
from pathlib import Path

import pytest

import Glue_prune_oneshot
from conftest import parse
from junkdna.errors import Faults, UserError
from junkdna.runs import commandline

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ["README.md", "INSTALL.md", "GLUE_tasks/demo/README.md", "scripts/quickstart.sh"]
VARIABLES = {"seed": "41", "task": "easy", "sparsity": "0.5", "SPARSITIES": "0.1 0.9", "EXTRA": "", "RUNS": "/tmp/runs"}


def commands(name):
    """Yield the arguments of every call of the entry point, with the shell's variables filled in."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if "python Glue_prune_oneshot.py" not in line or line.lstrip().startswith("#"):
            continue
        call = line.split("Glue_prune_oneshot.py", 1)[1].strip().strip("`").removesuffix('"')
        call = call.replace("--task_name $task", "--task_name cola")
        for variable, value in VARIABLES.items():
            call = call.replace(f"${variable}", value)
        assert "$" not in call, call
        yield shlex.split(call, comments=True)


@pytest.mark.parametrize(("name", "count"), [("README.md", 6), ("INSTALL.md", 2), ("scripts/quickstart.sh", 1)])
def test_printed_commands_are_understood(name, count, monkeypatch):
    monkeypatch.chdir(ROOT / "GLUE_tasks")
    found = [argv for argv in commands(name) if not argv[0].startswith("--help")]
    assert len(found) == count
    for argv in found:
        try:
            cells = parse(argv).cells
        except UserError as error:
            missing = [fault for fault in error.faults if "no such folder" not in fault]
            assert not missing, (argv, missing)  # a folder of the reader's own cannot be here
            continue
        assert cells and all(cell.freeze_weights or cell.dense for cell in cells)


def test_the_paper_settings_are_understood():
    table = [
        line
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("| ") and "`--task_name " in line
    ]
    assert len(table) == 2
    for line in table:
        (flags,) = re.findall(r"`(--task_name [^`]*)`", line)
        parse(
            [
                *shlex.split(flags),
                "--model_name_or_path",
                "roberta-base",
                "--output_dir",
                "{task_name}/{seed}/{validation_split_percentage}",
            ]
        )


def test_the_tree_names_every_file_of_the_library():
    tree = (ROOT / "README.md").read_text().split("## Where things are")[1].split("```")[1]
    named = set(re.findall(r"^    (\w+\.py) ", tree, re.MULTILINE))
    assert named == {path.name for path in (ROOT / "junkdna").glob("*.py")} - {"__init__.py"} and len(named) > 15


@pytest.mark.parametrize("name", DOCUMENTS[:3])
def test_links_lead_somewhere(name):
    text = (ROOT / name).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    for link in links:
        assert (ROOT / name).parent.joinpath(link).exists(), link
    assert links or name != "README.md"


def the_parser():
    return commandline.parser(Glue_prune_oneshot.FAMILY, Faults())


def test_the_help_names_every_flag_of_the_readme():
    known = {option for action in the_parser()._actions for option in action.option_strings}
    text = (ROOT / "README.md").read_text()
    table = text.split("## Arguments")[1].split("## The settings")[0]
    named = set(re.findall(r"`(--\w+)", table)) - {"--help"}
    assert len(named) >= 10 and named <= known


def test_every_flag_says_its_default_or_that_it_is_required():
    for action in the_parser()._actions:
        if action.nargs == 0 or action.dest == "help":
            continue
        assert len(action.help) > 20, action.dest


CONTRACT = """
--method Glue_noembed_freeze_weights --validation_split_percentage 10 --freeze_weights --noembed --sparsity 0.5
--model_name_or_path roberta-base --task_name qnli --max_length 128 --per_device_train_batch_size 32 --learning_rate 2e-5
--num_train_epochs 3 --seed 41 --output_dir ./roberta/Glue_noembed_freeze_weights/qnli/0.5/10/41/

--method Glue_noembed_freeze_weights --validation_split_percentage 100 --freeze_weights --noembed --sparsity 0.5
--model_name_or_path roberta-large --task_name cola --max_length 512 --per_device_train_batch_size 16 --learning_rate 2e-5
--num_train_epochs 3 --seed 42 --output_dir ./roberta/Glue_noembed_freeze_weights/cola/0.5/100/42/
"""


def test_the_paper_s_two_commands_mean_what_they_say():
    base, large = (parse(shlex.split(command)).cells[0] for command in CONTRACT.strip().split("\n\n"))
    assert (base.task_name, float(base.train_percentage), base.seed, base.max_length) == (
        "qnli",
        10,
        41,
        128,
    )
    assert (large.task_name, float(large.train_percentage), large.seed, large.max_length) == (
        "cola",
        100,
        42,
        512,
    )
    for cell in (base, large):
        assert (
            cell.treatment == "sparse transfer"
            and cell.noembed
            and str(cell.pattern).startswith("unstructured, 50.0000%")
        )
        assert (
            cell.num_warmup_steps is None
            and cell.mixed_precision == "no"
            and cell.output_dir.endswith(f"/{cell.seed}/")
        )
