"""Every command that the documents and scripts print is read by the real parser, and every file they name exists."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

import Glue_prune_oneshot
import QA_prune_oneshot
import Reasoning_prune_oneshot
import Translation_prune_oneshot
from conftest import parse
from junkdna.errors import Faults, UserError
from junkdna.report import __main__ as report
from junkdna.runs import commandline, request

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    "README.md",
    "INSTALL.md",
    "GLUE_tasks/demo/README.md",
    "QA_tasks/demo/README.md",
    "Translation_tasks/demo/README.md",
    "docs/api.md",
    "docs/families.md",
    "docs/findings.md",
    "docs/grids.md",
    "docs/report.md",
    "docs/speed-log.md",
    "docs/speed.md",
]
GLUE, QA = ("Glue_prune_oneshot.py", "junkdna glue"), ("QA_prune_oneshot.py", "junkdna qa")
TRANSLATION = ("Translation_prune_oneshot.py", "junkdna translation")
REASONING = ("Reasoning_prune_oneshot.py", "junkdna reasoning")
REPORT = ("junkdna.report", "junkdna report")
"""What the programs are called in a command line."""

COMMANDS = {
    "README.md": (4, 3, 5, 2, 2),
    "INSTALL.md": (3, 0, 0, 1, 0),
    "docs/grids.md": (3, 0, 0, 0, 0),
    "docs/report.md": (0, 0, 0, 3, 0),
    "scripts/quickstart.sh": (1, 1, 1, 3, 0),
    "scripts/experiment.sh": (0, 0, 0, 1, 0),
}
"""How many commands of GLUE, of QA, of translation, of the report and of reasoning each file prints; all other files
print none.
"""

NO_COMMANDS = (0, 0, 0, 0, 0)

VARIABLES = {"seed": "41", "task": "easy", "sparsity": "0.5", "SPARSITIES": "0.1 0.9", "EXTRA": "", "RUNS": "/tmp/runs"}
VARIABLES |= {"methods": "magnitude", "dense": "", "pair": "ao-ei", "@": "/tmp/runs"}
MOST_WORDS = 25
"""Words of the longest sentence in the README."""


def tracked(*endings: str) -> list[str]:
    """The files of the repository with one of these endings, those that are new included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a clone of the repository")
    return [name for name in listed.stdout.splitlines() if name.endswith(endings) and (ROOT / name).is_file()]


def shell(name: str) -> list[str]:
    """The lines of a script, or of the bash blocks of a document; continued lines are joined."""
    text = (ROOT / name).read_text()
    blocks = [text] if name.endswith(".sh") else re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def commands(name: str, programs: tuple[str, ...]):
    """Yield the arguments of every call of a program, with the shell's variables filled in."""
    called = re.compile(rf"(?:python \S*|python -m |^|&& ){'(?:' + '|'.join(map(re.escape, programs)) + ')'} (.*)")
    for line in shell(name):
        found = called.search(line)
        if not found or line.lstrip().startswith("#"):
            continue
        call = found[1].split(" || ")[0].replace("--task_name $task", "--task_name cola").strip()
        if call.count('"') % 2:
            call = call.removesuffix('"')  # the end of a command inside a command
        for variable, value in VARIABLES.items():
            call = call.replace(f"${variable}", value)
        assert "$" not in call, call
        argv = shlex.split(call, comments=True)
        if argv[:1] != ["--help"]:
            yield argv


def test_every_document_is_looked_at():
    assert sorted(DOCUMENTS) == sorted(name for name in tracked(".md") if not name.startswith("results/"))


@pytest.mark.parametrize("name", [*DOCUMENTS, "scripts/quickstart.sh", "scripts/experiment.sh"])
def test_printed_commands_are_understood(name, monkeypatch):
    monkeypatch.chdir(ROOT / "GLUE_tasks")
    found = list(commands(name, GLUE))
    assert len(found) == COMMANDS.get(name, NO_COMMANDS)[0]
    for argv in found:
        try:
            cells = parse(argv).cells
        except UserError as error:
            missing = [fault for fault in error.faults if "no such folder" not in fault]
            assert not missing, (argv, missing)  # a folder of the reader's own cannot be here
            continue
        assert cells and all(cell.freeze_weights or cell.dense for cell in cells)


OTHERS = {
    "QA_tasks": (QA, QA_prune_oneshot, 1),
    "Translation_tasks": (TRANSLATION, Translation_prune_oneshot, 2),
    "Reasoning_tasks": (REASONING, Reasoning_prune_oneshot, 4),
}


@pytest.mark.parametrize("folder", OTHERS)
@pytest.mark.parametrize("name", [*DOCUMENTS, "scripts/quickstart.sh", "scripts/experiment.sh"])
def test_printed_commands_of_other_families_are_understood(name, folder, monkeypatch):
    programs, module, place = OTHERS[folder]
    monkeypatch.chdir(ROOT / folder)
    found = list(commands(name, programs))
    assert len(found) == COMMANDS.get(name, NO_COMMANDS)[place]
    for argv in found:
        try:
            assert request.parse(module.FAMILY, argv).cells
        except UserError as error:  # files and folders of the reader's own cannot be here
            assert all(re.search("no such (file|folder)", str(fault)) for fault in error.faults), argv


@pytest.mark.parametrize("name", [*DOCUMENTS, "scripts/quickstart.sh", "scripts/experiment.sh"])
def test_printed_commands_of_the_report_are_understood(name):
    found = list(commands(name, REPORT))
    assert len(found) == COMMANDS.get(name, NO_COMMANDS)[3]
    for argv in found:
        assert report.arguments(argv).runs


def test_no_other_script_prints_a_command():
    others = [name for name in tracked(".sh") if name not in COMMANDS and not name.startswith("tests/")]
    assert len(others) >= 6
    for name in others:
        assert not [
            one for programs in (GLUE, QA, TRANSLATION, REPORT, REASONING) for one in commands(name, programs)
        ], name


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


def test_the_loop_of_the_readme_holds_a_mask(tmp_path, monkeypatch):
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model("roberta", **sizes))
    rows = {"input_ids": torch.full((2, 5), 7), "labels": torch.tensor([0, 1])}
    names = {"model": model, "optimizer": torch.optim.AdamW(model.parameters(), lr=0.1), "loader": [rows] * 3}
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    masks = names["jd"].load_masks("mask.safetensors")
    assert len(masks) == 6 and not any("classifier" in name for name in masks)
    for name, mask in masks.items():
        assert not model.get_parameter(name)[~mask].any() and not mask.all()


# --- the tree --------------------------------------------------------------------------------------------------------


def tree() -> set[str]:
    """The paths that the README's tree names, of files and of folders, which end in a slash."""
    text = (ROOT / "README.md").read_text().split("## Where things are")[1].split("```")[1]
    named, folders = set(), []
    for line in filter(str.strip, text.splitlines()):
        indent, name, says = re.fullmatch(r"( *)(\S+) *(.*)", line).groups()
        if len(indent) > 8:
            continue  # a line that goes on
        assert re.search(r"/$|\.\w+$", name) and len(indent) % 2 == 0, line
        assert says or name.endswith("/"), line
        del folders[len(indent) // 2 :]
        path = "".join(folders) + name
        named.add(path)
        if name.endswith("/"):
            folders.append(name)
    return named


def test_the_tree_names_every_file_of_the_library():
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "junkdna").rglob("*.py")}
    files = {path for path in files if path.count("/") == 1 or not path.endswith("/__init__.py")}
    named = {path for path in tree() if path.startswith("junkdna/") and path.endswith(".py")}
    assert len(files) >= 70 and named == files
    folders = {path for path in tree() if path.startswith("junkdna/") and path.endswith("/")}
    assert folders == {f"{Path(path).parent.as_posix()}/" for path in files} | {"junkdna/families/"}


def test_the_tree_names_every_script_and_document():
    named = tree()
    scripts = {name for name in tracked(".sh", ".py") if re.fullmatch(r"scripts/[^/]+", name)}
    documents = {name for name in DOCUMENTS if name.startswith("docs/")}
    entries = {name for name in tracked(".py") if re.fullmatch(r"[^/]+_tasks/[^/]+", name)}
    assert len(scripts) >= 9 and len(documents) >= 6 and len(entries) >= 1
    assert {name for name in named if re.fullmatch(r"scripts/[^/]+", name)} == scripts
    assert {name for name in named if re.fullmatch(r"docs/[^/]+", name)} == documents
    assert {name for name in named if re.fullmatch(r"[^/]+_tasks/[^/]+", name)} == entries
    assert all((ROOT / name).exists() for name in named)


# --- links, lines, sentences -----------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(name: str) -> list[str]:
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(), flags=re.DOTALL)
    return re.findall(r"\]\(([^)]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)


def test_links_lead_somewhere():
    seen = 0
    for name in DOCUMENTS:
        for link in links(name):
            if link.startswith("http"):
                continue
            seen += 1
            file, _, anchor = link.partition("#")
            target = (ROOT / name).parent / file if file else ROOT / name
            assert target.exists(), (name, link)
            assert not anchor or anchor in anchors(target), (name, link)
    assert seen >= 34


def test_no_line_is_longer_than_120_characters():
    """Rows of tables in Markdown are let off: they cannot be wrapped. So is what the report wrote into results/."""
    files = [name for name in tracked(".py", ".md") if not name.startswith("results/")]
    assert len(files) >= 120
    for name in files:
        for number, line in enumerate((ROOT / name).read_text().splitlines(), start=1):
            row = name.endswith(".md") and line.startswith("|")
            assert len(line) <= 120 or row, f"{name}:{number} has {len(line)} characters"


def sentences(name: str) -> list[str]:
    """The sentences of a document without its tables, code, headings, and pictures; code in a line is one word."""
    text = re.sub(r"```.*?```", "\n", (ROOT / name).read_text(), flags=re.DOTALL)
    lines = ["" if re.match(r"\||#|!\[|\[[^\]]+\]:", line) else line for line in text.splitlines()]
    text = re.sub(r"`[^`]*`", "code", "\n".join(lines))
    text = re.sub(r"\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text)
    return [
        " ".join(sentence.split())
        for paragraph in paragraphs
        for sentence in re.split(r"(?<=[.!?])[*)\"]*\s+", paragraph)
        if sentence.strip()
    ]


def test_the_sentences_of_the_readme_are_short():
    found = sentences("README.md")
    assert len(found) >= 80
    long = [sentence for sentence in found if len(re.findall(r"[\w%±]+(?:[-.,'/][\w]+)*", sentence)) > MOST_WORDS]
    assert not long, long


# --- the help --------------------------------------------------------------------------------------------------------


def the_parser(family=Glue_prune_oneshot.FAMILY):
    return commandline.parser(family, Faults())


def test_the_help_names_every_flag_of_the_documents():
    known = {option for action in the_parser()._actions for option in action.option_strings}
    text = (ROOT / "README.md").read_text()
    table = text.split("## Arguments")[1].split("## The settings")[0]
    named = set(re.findall(r"`(--\w+)", table)) - {"--help"}
    assert len(named) >= 15 and named <= known
    others = (QA_prune_oneshot.FAMILY, Translation_prune_oneshot.FAMILY, Reasoning_prune_oneshot.FAMILY)
    asked = {option for family in others for action in the_parser(family)._actions for option in action.option_strings}
    grids = set(re.findall(r"`(--\w+)", (ROOT / "docs/grids.md").read_text()))
    assert len(grids) >= 20 and grids <= known | asked


def test_the_help_of_questions_names_every_flag_of_its_screen():
    known = {option for action in the_parser(QA_prune_oneshot.FAMILY)._actions for option in action.option_strings}
    screen = (ROOT / "README.md").read_text().split("## Questions: open and closed book")[1].split("\n## ")[0]
    named = set(re.findall(r"`(--\w+)", screen))
    assert len(named) >= 13 and named <= known


def test_the_help_of_translation_names_every_flag_of_its_screen():
    parser = the_parser(Translation_prune_oneshot.FAMILY)
    known = {option for action in parser._actions for option in action.option_strings}
    screen = (ROOT / "README.md").read_text().split("## Languages: majority and minority")[1].split("\n## ")[0]
    named = set(re.findall(r"`(--\w+)", screen))
    assert len(named) >= 12 and named <= known


@pytest.mark.parametrize(
    "family",
    [Glue_prune_oneshot.FAMILY, QA_prune_oneshot.FAMILY, Translation_prune_oneshot.FAMILY],
    ids=["glue", "qa", "translation"],
)
def test_every_flag_says_its_default_or_that_it_is_required(family):
    for action in the_parser(family)._actions:
        if action.nargs == 0 or action.dest == "help":
            continue
        assert len(action.help) > 20, action.dest


CONTRACT = """
--method Glue_noembed_freeze_weights --validation_split_percentage 10 --freeze_weights --noembed --sparsity 0.5
--model_name_or_path roberta-base --task_name qnli --max_length 128 --per_device_train_batch_size 32
--learning_rate 2e-5 --num_train_epochs 3 --seed 41 --output_dir ./roberta/Glue_noembed_freeze_weights/qnli/0.5/10/41/

--method Glue_noembed_freeze_weights --validation_split_percentage 100 --freeze_weights --noembed --sparsity 0.5
--model_name_or_path roberta-large --task_name cola --max_length 512 --per_device_train_batch_size 16
--learning_rate 2e-5 --num_train_epochs 3 --seed 42 --output_dir ./roberta/Glue_noembed_freeze_weights/cola/0.5/100/42/
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
            cell.num_warmup_steps is None and cell.mixed_precision == "no" and cell.output_dir.endswith(f"/{cell.seed}")
        )
