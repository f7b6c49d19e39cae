"""Tasks from a folder of original files, from a stand-in for the Hub, from its cache, and from files of one's own."""

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from hub_server import Hub
from junkdna.errors import UserError
from junkdna.families.reasoning import reading, tasks
from junkdna.families.reasoning.problems import recurring

ROOT = Path(__file__).resolve().parents[3]
CLOSED = "http://127.0.0.1:9"
OWN_FLAGS = ("--train_file", "--validation_file")


def asked(number):
    """A row of CommonsenseQA, as on the Hub."""
    texts = [f"c{number}{label}" for label in "ABCDE"]
    choices = {"label": list("ABCDE"), "text": texts}
    return {"id": f"id{number}", "question": f"q{number}?", "choices": choices, "answerKey": "ABCDE"[number % 5]}


def original(row):
    """The same as in the original file."""
    options = [{"label": label, "text": text} for label, text in zip(*row["choices"].values())]
    question = {"stem": row["question"], "question_concept": "x", "choices": options}
    return {"id": row["id"], "answerKey": row["answerKey"], "question": question}


def blank(number):
    """A row of WinoGrande."""
    return {"sentence": f"{number} _ is.", "option1": "a", "option2": "b", "answer": str(number % 2 + 1)}


def problem(number, answer=None, name="Thing"):
    """A row of MAWPS or SVAMP."""
    answer = float(number + 2) if answer is None else answer
    return {"Question": f"{name} number0 {number} number1", "Numbers": f"{number}.0 2", "Equation": "+ number0 number1",
            "Answer": str(answer), "Body": "x, y"}  # fmt: skip


FOLDS = {k: [problem(number) for number in range(10 * k, 10 * k + 4)] for k in range(5)}
FOLDS[2][0] = problem(0)  # with the same text and numbers in fold 0
FOLDS[3][1] = problem(31, answer=7)  # noise
FOLDS[4][2] = problem(0) | {"Numbers": "5 2", "Answer": "7.0"}  # other numbers
LEFT_OVER = problem(99)
TRAIN0 = [LEFT_OVER, *FOLDS[4], *FOLDS[1], *FOLDS[3], *FOLDS[2]]


def write_lines(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in found))


def write_csv(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)


def write_zip(path, parts):
    """A zipped folder of Arrow streams: {"train/data-00000-of-00001.arrow": rows}."""
    with zipfile.ZipFile(path, "w") as packed:
        for name, found in parts.items():
            table, stream = pyarrow.Table.from_pylist(found), io.BytesIO()
            with pyarrow.ipc.new_stream(stream, table.schema) as writer:
                writer.write_table(table)
            packed.writestr(f"some/{name}", stream.getvalue())


def fill(root):
    write_lines(root / "commonsenseqa/train_rand_split.jsonl", [original(asked(number)) for number in range(7)])
    write_lines(root / "commonsenseqa/dev_rand_split.jsonl", [original(asked(number)) for number in range(3)])
    wino = root / "winogrande"
    for size, count in zip(["xs", "s", "m", "l"], (2, 4, 6, 8)):
        write_lines(wino / f"train_{size}.jsonl", [blank(number) | {"qID": f"{number}"} for number in range(count)])
    write_lines(wino / "dev.jsonl", [blank(number) for number in range(5)])
    parts = {f"train/data-0000{k}-of-00002.arrow": [blank(5 * k + n) for n in range(5)] for k in (1, 0)}
    write_zip(wino / "winogrande_xl.zip", parts | {"test/data-00000-of-00001.arrow": [blank(0) | {"answer": ""}]})
    for k, found in FOLDS.items():
        write_csv(root / f"mawps/cv_mawps/fold{k}/dev.csv", found)
    write_csv(root / "mawps/cv_mawps/fold0/train.csv", TRAIN0)
    write_csv(root / "svamp/mawps-asdiv-a_svamp/train.csv", [problem(number) for number in range(6)])
    write_csv(root / "svamp/mawps-asdiv-a_svamp/dev.csv", [problem(n, name="Other") for n in range(3)])


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path)
    return tmp_path


def refused(function, *args, **kwargs):
    with pytest.raises(UserError) as error:
        function(*args, **kwargs)
    return str(error.value)


# --- the original files ----------------------------------------------------------------------------------------------


def test_multiple_choice_from_a_folder(folder):
    found = reading.read_dir(folder, "commonsense_qa")
    assert (found.kind, found.num_choices, len(found.train), len(found.eval)) == ("choice", 5, 7, 3)
    assert found.train.labels == [0, 1, 2, 3, 4, 0, 1] and found.train.rows[2].texts[4] == ("Q: q2?", "A: c2E")
    assert found.eval.origin == str(folder / "commonsenseqa/dev_rand_split.jsonl")
    sizes = {size: len(reading.read_dir(folder, "winogrande", size=size).train) for size in tasks.SIZES}
    assert sizes == {"xs": 2, "s": 4, "m": 6, "l": 8, "xl": 10}
    largest = reading.read_dir(folder, "winogrande")
    assert [row.texts[0][0] for row in largest.train.rows] == [str(number) for number in range(10)]
    assert largest.train.origin.endswith("winogrande_xl.zip") and largest.eval.labels == [0, 1, 0, 1, 0]
    assert largest.train.first(8).fingerprint == reading.read_dir(folder, "winogrande", size="l").train.fingerprint
    write_lines(folder / "winogrande/train_xl.jsonl", [blank(0)])  # the official download has it in this form
    assert len(reading.read_dir(folder, "winogrande").train) == 1


def test_word_problems_from_a_folder(folder):
    found = reading.read_dir(folder, "svamp")
    assert (found.kind, found.num_choices, len(found.train), len(found.eval)) == ("equation", 0, 6, 3)
    assert not any(recurring(found.train, found.eval).masked) and found.eval.rows[1].answer == 3.0


@pytest.mark.parametrize("fold", range(5))
def test_every_fold_has_its_training_problems(folder, fold):
    found = reading.read_dir(folder, "mawps", fold=fold)
    others = [row for k, rows in FOLDS.items() if k != fold for row in rows]

    def said(rows):
        return Counter((row["Question"], float(row["Numbers"].split()[0])) for row in rows)

    assert Counter((row.text, row.numbers[0]) for row in found.train.rows) == said([*others, LEFT_OVER])
    assert Counter((row.text, row.numbers[0]) for row in found.eval.rows) == said(FOLDS[fold])
    assert found.train.noisy + found.eval.noisy == 1 and found.eval.noisy == (fold == 3)
    again = recurring(found.train, found.eval)
    assert (sum(again.exact), sum(again.masked)) == {0: (1, 1), 2: (1, 1), 4: (0, 1)}.get(fold, (0, 0))
    assert found.eval.rows[1].id == f"fold{fold}/2" and "fold0/train/1" in {row.id for row in found.train.rows}
    assert len({row.id for row in (*found.train.rows, *found.eval.rows)}) == 21


def test_the_case_of_a_first_letter_makes_no_other_problem(folder):
    lower = [row | {"Question": row["Question"].lower()} for row in TRAIN0]
    write_csv(folder / "mawps/cv_mawps/fold0/train.csv", lower)
    assert reading.read_dir(folder, "mawps", fold=1).train.rows[-1].text == LEFT_OVER["Question"].lower()


def test_folds_of_different_copies_are_refused(folder):
    file = folder / "mawps/cv_mawps/fold0/train.csv"
    for found, more, less in ((TRAIN0[1:], 0, 0), (TRAIN0[:-1], 1, 1), ([*TRAIN0, problem(98)], 2, 0)):
        write_csv(file, found)
        line = refused(reading.read_dir, folder, "mawps", fold=1)
        assert line.startswith(f"--data_dir: {file} should hold") and f"it has {more} more and lacks {less};" in line
    assert "fold 5: MAWPS has the folds 0 to 4" in refused(reading.read_dir, folder, "mawps", fold=5)


def test_what_a_folder_lacks(folder):
    def line(name, **kwargs):
        return refused(reading.read_dir, folder, name, **kwargs)

    for name, file in (
        ("commonsense_qa", "commonsenseqa/dev_rand_split.jsonl"),
        ("winogrande", "winogrande/dev.jsonl"),
        ("svamp", "svamp/mawps-asdiv-a_svamp/train.csv"),
        ("mawps", "mawps/cv_mawps/fold3/dev.csv"),
    ):
        (folder / file).unlink()
        said = line(name, fold=2) if name == "mawps" else line(name)
        assert said == f"--data_dir: {folder / file}: cannot be read: No such file or directory"
    assert line("winogrande", size="xxl") == "winogrande_size xxl: no such size; allowed: xs s m l xl"


def test_archives_that_cannot_be_read(folder):
    file = folder / "winogrande/winogrande_xl.zip"
    for content, reason in ((b"PK", "not a zip"), (None, "has 1 file(s) train/data-*-of-*.arrow"), ("bad", "")):
        if content is None:
            write_zip(file, {"train/data-00001-of-00002.arrow": [blank(0)]})
        elif content == "bad":
            with zipfile.ZipFile(file, "w") as packed:
                packed.writestr("train/data-00000-of-00001.arrow", b"not Arrow")
        else:
            file.write_bytes(content)
        line = refused(reading.read_dir, folder, "winogrande")
        assert line.startswith(f"--data_dir: {file}: cannot be read: ") and reason in line
    file.unlink()
    line = refused(reading.read_dir, folder, "winogrande")
    assert line == f"--data_dir: {folder / 'winogrande/train_xl.jsonl'}: cannot be read: No such file or directory"


def test_a_row_of_an_archive_is_named(folder):
    write_zip(
        folder / "winogrande/winogrande_xl.zip",
        {"train/data-00000-of-00001.arrow": [blank(0), blank(1) | {"answer": "3"}]},
    )
    assert refused(reading.read_dir, folder, "winogrande").endswith("row 2 has the 'answer' '3'; allowed: 1 2")


# --- tasks -----------------------------------------------------------------------------------------------------------


def test_tasks_by_name():
    assert tasks.task_name("CommonsenseQA") == tasks.task_name("commonsense-qa") == "commonsense_qa"
    assert tasks.task_name(" SVAMP ") == "svamp"
    assert refused(tasks.task_name, "winogrand").startswith(
        "task_name winogrand: no such task (did you mean winogrande?)"
    )
    assert len(tasks.TASKS) == 4 and {task.kind for task in tasks.TASKS.values()} == set(tasks.METRICS)
    assert [tasks.train_rows("winogrande", size) for size in ("xs", "xl")] == [160, 40398]
    assert tasks.train_rows("svamp") == 3138 and tasks.METRICS[tasks.TASKS["svamp"].kind] == "value_accuracy"
    assert (tasks.chance("choice", 5), tasks.chance("choice", 2), tasks.chance("equation")) == (0.2, 0.5, 0.0)


# --- files of your own -----------------------------------------------------------------------------------------------

WORDS = {"text": "a number0", "numbers": [1], "equation": "+ number0 1", "answer": 2}
PICK = {"question": "q", "choices": ["x", "y"], "label": 0}


def own(tmp_path, train, other, names=("a.jsonl", "b.jsonl")):
    files = [str(tmp_path / name) for name in names]
    for file, found in zip(files, (train, other)):
        (write_csv if ".csv" in file else write_lines)(Path(file), found)
    return files


def test_own_files(tmp_path):
    found = reading.read_files(*own(tmp_path, [PICK, PICK], [PICK]))
    assert (found.kind, found.num_choices, len(found.train)) == ("choice", 2, 2)
    assert found.train.origin == f"--train_file {tmp_path / 'a.jsonl'}"
    plain = WORDS | {"numbers": "1"}
    files = own(tmp_path, [plain, plain], [WORDS], ("a.csv", "b.jsonl"))
    found = reading.read_files(*files)
    assert found.kind == "equation" and found.train.rows[0] == found.eval.rows[0] and found.train.noisy == 0
    assert len(reading.read_files(*own(tmp_path, TRAIN0, FOLDS[0], ("a.csv", "b.csv"))).train) == 17


@pytest.mark.parametrize(
    "train, other, names, reason",
    [
        ([PICK], [PICK | {"choices": ["x"]}], "a.jsonl b.jsonl", "--validation_file B: row 1 has 1 choice(s)"),
        ([PICK], [PICK | {"choices": ["x", "y", "z"]}], "a.jsonl b.jsonl",
         "--validation_file B: its rows have 3 choices, those of --train_file A 2; both must have as many"),
        ([PICK, PICK | {"choices": ["x", "y", "z"]}], [PICK], "a.jsonl b.jsonl",
         "--train_file A: row 2 has 3 choices, row 1 has 2"),
        ([WORDS], [PICK], "a.jsonl b.jsonl", "--validation_file B: row 1 has no 'text'"),
        ([PICK], [WORDS], "a.jsonl b.jsonl", "--validation_file B: row 1 has no 'question'"),
        ([{"question": "q", "label": "A"}], [PICK], "a.csv b.jsonl", "--train_file A: has no column 'equation'; csv"),
        ([WORDS | {"numbers": "1"}, WORDS | {"numbers": "1", "equation": "+ number0"}], [WORDS], "a.csv b.jsonl",
         "--train_file A: row 2 has the equation '+ number0', which cannot be parsed: 1 operand(s) are missing"),
    ],
)  # fmt: skip
def test_own_files_refused(tmp_path, train, other, names, reason):
    files = own(tmp_path, train, other, names.split())
    reason = reason.replace(" A", f" {files[0]}").replace(" B", f" {files[1]}")
    assert reason in refused(reading.read_files, *files)


# --- the Hub ---------------------------------------------------------------------------------------------------------

READ = """
import json
from junkdna.errors import UserError
from junkdna.families.reasoning import reading

def read(name, *args):
    try:
        found = reading.read_hub(name, *args)
    except UserError as error:
        return str(error)
    return [found.train.fingerprint, found.eval.fingerprint, found.train.origin, found.eval.rows[-1].id]

print(json.dumps([read("commonsense_qa"), read("winogrande", "s"), read("mawps"), read("winogrande", "l")]))
"""


def packed(found):
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(found), buffer)
    return buffer.getvalue()


def read(endpoint, cache):
    """What a process of its own reads, with a Hub and a cache."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    del environment["HF_HUB_OFFLINE"]
    done = subprocess.run(
        [sys.executable, "-c", READ], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_hub_gives_what_the_files_give(folder, tmp_path_factory):
    cache, names = tmp_path_factory.mktemp("cache"), ("tau/commonsense_qa", "allenai/winogrande")
    files = {
        names[0]: {"data/train": [asked(n) for n in range(7)], "data/validation": [asked(n) for n in range(3)]},
        names[1]: {
            "winogrande_s/train": [blank(n) for n in range(4)],
            "winogrande_s/validation": [blank(n) for n in range(5)],
            "winogrande_xl/train": [blank(0)],
        },
    }
    with Hub() as server:
        for name, splits in files.items():
            made = {f"{split}-00000-of-00001.parquet": packed(rows) for split, rows in splits.items()}
            server.add(f"datasets/{name}", made)
        commits = [server.commit(f"datasets/{name}") for name in names]
        online = read(server.endpoint, cache)
    local = [reading.read_dir(folder, "commonsense_qa"), reading.read_dir(folder, "winogrande", size="s")]
    assert online[0] == [*prints(local[0]), f"{names[0]} at {commits[0]}, data/train-*", "id2"]
    assert online[1] == [*prints(local[1]), f"{names[1]} at {commits[1]}, winogrande_s/train-*", "5"]
    assert online[2].startswith(
        "task_name mawps: the Hub has no copy with the split that is used here; give --data_dir"
    )
    assert online[3].startswith("task_name winogrande: ") and "has no winogrande_l/train-*" in online[3]
    *offline, lacking = read(CLOSED, cache)
    assert offline == online[:3] and "cannot be reached" in lacking and "give --data_dir" in lacking


def prints(data):
    return [data.train.fingerprint, data.eval.fingerprint]
