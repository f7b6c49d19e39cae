"""Data files as people have them: each is read by name, or refused in one line with file, row and column.

Every case stands for a kind of fault. The short form damages files a few hundred times, the long form some thousand.
"""

import csv
import json
import random
import shutil
from pathlib import Path

import pytest

from conftest import labelled_sentences, parse
from junkdna.errors import UserError
from junkdna.families.glue import files, reading

ROWS = 24
SHORT, LONG = 300, 5000
FAST = ["--sparsity", "0.5", "--freeze_weights", "--max_train_steps", "2", "--learning_rate", "1e-3"]


def rows_of(seed: int = 1, **extra) -> list[dict]:
    """Rows with a text and a label, and more columns of one value each."""
    return [{"text": text, "label": label, **extra} for text, label in labelled_sentences(ROWS, seed)]


def save(path: Path, rows: list[dict], columns=None) -> str:
    """Write rows as what the file's name says, a missing cell as None."""
    columns = columns or list(rows[0])
    if path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *([row.get(name) for name in columns] for row in rows)])
    else:
        path.write_text("".join(json.dumps({name: row[name] for name in columns}) + "\n" for row in rows))
    return str(path)


def refusal(train: str, validation: str, *columns) -> str:
    """What is said of two files that must be refused: one line without anything that a terminal cannot show."""
    with pytest.raises(UserError) as caught:
        files.read_files(train, validation, *columns)
    said = [str(fault) for fault in caught.value.faults]
    assert said and all("\n" not in line and len(line) < 700 and line.encode() for line in said), said
    return "\n".join(said)


# --- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_columns_are_matched_by_name_in_any_order(tmp_path, kind):
    rows = [{"premise": f"p{i}", "hypothesis": f"h{i}", "label": i % 2} for i in range(8)]
    train = save(tmp_path / f"train.{kind}", rows)
    other = save(tmp_path / f"other.{kind}", rows, ["label", "hypothesis", "premise"])
    task = files.read_files(train, other)
    assert task.train.texts == task.evals["eval"].texts and task.train.texts[1] == ("p1", "h1")
    assert (task.text_columns, task.label_column) == (("premise", "hypothesis"), "label")
    swapped = files.read_files(other, train)  # the training file's order is the pair's
    assert swapped.train.texts == swapped.evals["eval"].texts and swapped.train.texts[1] == ("h1", "p1")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("change, named", [
    (lambda row: {"id": 7, "label": row["label"]}, ["no column 'text'", "a column 'id'"]),
    (lambda row: row | {"second": "x"}, ["a column 'second'", "lacks"]),
    (lambda row: {"text": row["text"]}, ["no column 'label'"]),
    (lambda row: {"Text": row["text"], "label": row["label"]}, ["no column 'text'", "a column 'Text'"]),
], ids=["other", "extra", "no label", "case"])  # fmt: skip
def test_a_missing_or_extra_column_is_named(tmp_path, kind, change, named):
    train = save(tmp_path / f"train.{kind}", rows_of())
    other = save(tmp_path / f"valid.{kind}", [change(row) for row in rows_of(2)])
    said = refusal(train, other)
    assert said.startswith(f"--validation_file {other}: ") and all(part in said for part in named), said
    assert f"--train_file {train}" in said and "\n" not in said


def test_row_1_is_no_exception(tmp_path):
    rows = [{"sentence1": "a", "sentence2": "b", "label": i % 2} for i in range(6)]
    path = tmp_path / "train.jsonl"
    for place in range(6):
        lacking = [{k: v for k, v in row.items() if i != place or k != "sentence2"} for i, row in enumerate(rows)]
        path.write_text("\n".join(map(json.dumps, lacking)))
        assert f"row {place + 1} has no 'sentence2' (line {place + 1})" in refusal(str(path), str(path))


ODD = ["id", "ID", "idx", "index", "Unnamed: 0", "pairID", "sample_id", "guid", "label_text", "labels", "", " ", "#"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", ODD)
def test_an_index_or_a_nameless_column_is_never_a_text(tmp_path, name, first):
    rows = [{name: f"n{i}", **row} if first else {**row, name: f"n{i}"} for i, row in enumerate(rows_of())]
    path = save(tmp_path / "train.csv", rows)
    said = refusal(path, path)
    assert "--text_columns text" in said and "--label_column" in said and f"{name!r}" in said and "'text'" in said
    task = files.read_files(path, path, ("text",))
    assert task.train.texts == [(row["text"],) for row in rows] and task.text_columns == ("text",)


def test_numbers_the_label_again_and_three_candidates_are_not_plain(tmp_path):
    numbered = [{"place": i, **row} for i, row in enumerate(rows_of())]
    again = [{**row, "mood": "good" if row["label"] else "bad"} for row in rows_of()]
    three = [{"a": f"a{i}", "b": f"b{i}", "c": f"c{i}", "label": i % 2} for i in range(6)]
    for rows, why in (
        (numbered, "'place' holds numbers"),
        (again, "'mood' says the same as 'label'"),
        (three, "3 col"),
    ):
        for kind in ("csv", "jsonl"):
            path = save(tmp_path / f"train.{kind}", rows)
            assert why in refusal(path, path)
    assert files.read_files(path, path, ("c", "a")).train.texts[1] == ("c1", "a1")


def test_words_that_end_in_id_are_no_index(tmp_path):
    for name in ("valid", "bid", "Sentence", "question", "number_words", "Text"):
        path = save(tmp_path / "train.csv", [{name: row["text"], "label": row["label"]} for row in rows_of()])
        assert files.read_files(path, path).text_columns == (name,)


def test_the_usual_columns_need_no_flag_whatever_stands_beside_them(tmp_path):
    for rest in ({}, {"sentence2": "second"}):
        rows = [{"idx": i, "sentence1": row["text"], **rest, "label": row["label"]} for i, row in enumerate(rows_of())]
        path = save(tmp_path / "train.csv", rows, ["idx", *list(rows[0])[1:]])
        task = files.read_files(path, path)
        assert task.train.texts == [(row["text"], *rest.values()) for row in rows_of()]


def test_named_columns(tmp_path):
    rows = [
        {"id": i, "body": row["text"], "title": "t", "class": "ab"[row["label"]]} for i, row in enumerate(rows_of())
    ]
    train, other = save(tmp_path / "train.csv", rows), save(tmp_path / "v.jsonl", rows, ["class", "body", "title"])
    task = files.read_files(train, other, ("title", "body"), "class")
    assert task.train == task.evals["eval"] and task.label_names == ("a", "b")
    assert task.train.texts[0] == ("t", rows[0]["body"]) and task.label_column == "class"
    assert "no column 'bdy'" in refusal(train, other, ("bdy",), "class")
    assert "no column 'klass'" in refusal(train, other, ("body",), "klass")
    assert "no column 'label'" in refusal(train, other, ("body",)) and "--label_column" in refusal(train, other)


@pytest.mark.parametrize("flags, reason", [
    ("--text_columns a b c", "3 columns; give one or two"),
    ("--text_columns a a", "names one column twice"),
    ("--text_columns label", "is the label's column"),
    ("--text_columns x --label_column x", "is the label's column"),
])  # fmt: skip
def test_flags_of_columns_that_cannot_be_read(csv_task, flags, reason):
    with pytest.raises(UserError, match=reason):
        parse(["--model_name_or_path", "m", *csv_task.flags, *flags.split()])


def test_flags_of_columns_without_files():
    with pytest.raises(UserError, match="--text_columns a: goes with --train_file"):
        parse(["--model_name_or_path", "m", "--task_name", "cola", "--text_columns", "a"])
    with pytest.raises(UserError, match="--label_column a: goes with --train_file"):
        parse(["--model_name_or_path", "m", "--task_name", "cola", "--label_column", "a"])


# --- values ----------------------------------------------------------------------------------------------------------

NOTHING = [None, float("nan"), "", " ", "NaN", "nan", "-nan", "NA", "N/A", "n/a", "<NA>", "null", "NULL", "None", "NaT"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_missing_value_is_missing_wherever_it_stands(tmp_path, kind, split):
    good, bad, tried = save(tmp_path / f"good.{kind}", rows_of()), tmp_path / f"bad.{kind}", 0
    for column in ("text", "label"):
        for value in NOTHING:
            for place in (0, ROWS // 2, ROWS - 1):
                rows = rows_of(2)
                rows[place][column] = value
                pair = (save(bad, rows), good) if split == "train" else (good, save(bad, rows))
                said = refusal(*pair)
                line = place + 1 + (kind == "csv")
                assert said.startswith(f"--{split}_file {bad}: row {place + 1} has no {column!r}"), said
                assert said.endswith(f"(line {line})") and "\n" not in said
                tried += 1
    assert tried == 2 * 3 * len(NOTHING) == 90


def test_both_columns_and_both_files_are_told_at_once(tmp_path):
    rows = rows_of()
    rows[3]["text"], rows[5]["label"] = None, None
    path = save(tmp_path / "train.csv", rows)
    assert refusal(path, path).count("\n") == 3


def test_words_that_are_not_missing_stay(tmp_path):
    words = ["none", "na", "Nan bread", "nothing", "not available", "0", "-", "null and void"]
    rows = [{"sentence1": word, "label": i % 2} for i, word in enumerate(words)]
    path = save(tmp_path / "train.csv", rows)
    assert [text for (text,) in files.read_files(path, path).train.texts] == words
    named = save(tmp_path / "named.csv", [row | {"label": ("none", "favor")[row["label"]]} for row in rows])
    assert files.read_files(named, named).label_names == ("favor", "none")


SPELLINGS = [("yes", "Yes"), ("1", "01"), ("1", "+1"), ("0", "-0"), ("-1", "-01"), ("ß", "SS"),
             ("é", "e\u0301"), ("-1", "\N{MINUS SIGN}1"), ("7", "\uff17")]  # fmt: skip


@pytest.mark.parametrize("one, other", SPELLINGS)
def test_one_label_in_two_spellings_is_refused(tmp_path, one, other):
    def rows(*labels):
        return [{"text": f"t{i}", "label": label} for i, label in enumerate(labels)]

    both = save(tmp_path / "both.csv", rows(one, "other", other, one))
    said = refusal(both, both)
    assert f"row 3 has label {other!r} and row 1 has {one!r}" in said
    train = save(tmp_path / "train.csv", rows(one, "other", one))
    valid = save(tmp_path / "valid.csv", rows("other", other))
    assert f"{valid}: row 2 has label {other!r} and row 1 of --train_file {train} has {one!r}" in refusal(train, valid)


def test_labels_that_only_look_alike_stay(tmp_path):
    for labels in (("1", "-1"), ("10", "1"), ("a", "b"), ("yes", "yes!"), ("x2", "x²")):
        path = save(tmp_path / "train.csv", [{"text": f"t{i}", "label": labels[i % 2]} for i in range(6)])
        assert set(files.read_files(path, path).label_names) == set(labels)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("digits", [201, 400, 4299, 4301, 50_000])
def test_numbers_of_many_digits(tmp_path, kind, digits):
    number = "9" * digits
    lines = ["text,label", *(f"t{i},{number if i == 2 else i % 2}" for i in range(6))]
    if kind == "jsonl":
        lines = [f'{{"text": "t{i}", "label": {number if i == 2 else i % 2}}}' for i in range(6)]
    path = tmp_path / f"train.{kind}"
    path.write_text("\n".join(lines))
    assert f"row 3 has a 'label' of {digits} characters" in refusal(str(path), str(path))


def test_numbers_that_are_not_finite(tmp_path):
    path = tmp_path / "train.jsonl"
    for label in ("1e999", "Infinity", "-Infinity"):
        path.write_text(f'{{"text": "a", "label": 1.5}}\n{{"text": "b", "label": {label}}}\n')
        assert "row 2 has a 'label' that is not a finite number" in refusal(str(path), str(path))
    path.write_text('{"text": "a", "label": 1}\n{"text": Infinity, "label": 0}\n')
    assert "row 2 has a 'text' that is not a finite number" in refusal(str(path), str(path))
    table = tmp_path / "train.csv"
    table.write_text("text,label\na,1.5\nb,1e999\n")
    assert "row 2 has label '1e999' beside the number 1.5; give finite numbers" in refusal(str(table), str(table))
    table.write_text("text,label\na,1e999\nb,1e999\n")
    assert "row 1 has label '1e999'" in refusal(str(table), str(table))


def test_half_a_character_is_refused_with_its_row(tmp_path):
    path = tmp_path / "train.jsonl"
    for column in ("text", "label"):
        for half in (r"\ud83d", r"\ude00", r"ok \ud83d!", r"\ude00\ud83d"):
            rows = [{"text": f"t{i}", "label": "ab"[i % 2]} for i in range(4)]
            rows[2][column] = "HALF"
            path.write_text("\n".join(map(json.dumps, rows)).replace("HALF", half))
            assert f"row 3 has in {column!r} \\u{half.partition('u')[2][:4]}, half of a character" in refusal(
                str(path), str(path)
            )
    path.write_text("\n".join(json.dumps({"text": "\U0001f600", "label": i}) for i in range(2)))
    assert files.read_files(str(path), str(path)).train.texts[0] == ("\U0001f600",)


# --- files -----------------------------------------------------------------------------------------------------------

TEXT = "text,label\na b,1\nc d,0\ne é,1\n"
LINES = '{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n'
UNREADABLE = [
    ("utf-16 with its mark", "csv", TEXT.encode("utf-16"), ["UTF-16", "UTF-8"]),
    ("utf-16 little", "csv", TEXT.encode("utf-16-le"), ["UTF-16", "UTF-8"]),
    ("utf-16 big", "csv", TEXT.encode("utf-16-be"), ["UTF-16", "UTF-8"]),
    ("utf-32", "csv", TEXT.encode("utf-32"), ["UTF-32", "UTF-8"]),
    ("utf-16 json", "jsonl", LINES.encode("utf-16-le"), ["UTF-16", "UTF-8"]),
    ("latin-1", "csv", TEXT.encode("latin-1"), ["line 4 is not UTF-8 (byte 0xe9)"]),
    ("a NUL", "csv", TEXT.encode().replace(b"c d", b"c\0d"), ["line 3 holds a NUL byte"]),
    ("a NUL in json", "jsonl", LINES.encode().replace(b'"b"', b'"\0"'), ["line 2 holds a NUL byte"]),
    ("indented json", "json", json.dumps({"text": "a", "label": 1}, indent=1).encode(), ["line 1", "one object"]),
    ("indented array", "json", json.dumps([{"text": "a", "label": 1}], indent=1).encode(), ["one object a line"]),
    ("an array", "jsonl", b'[{"text": "a", "label": 1}]', ["line 1", "array", "one object a line"]),
    ("array after rows", "jsonl", LINES.encode() + b"[1]", ["line 3", "one object a line"]),
    ("deep objects", "jsonl", LINES.encode() + b'{"text": ' * 100_000, ["line 3", "nested too deeply"]),
    ("deep arrays", "jsonl", LINES.encode() + b"[" * 100_000, ["line 3", "nested too deeply"]),
    ("deep first line", "jsonl", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, ["line 1", "nested too deeply"]),
    ("a deep array", "jsonl", b"[" * 100_000, ["line 1", "one object a line"]),
    ("a key twice", "jsonl", LINES.encode() + b'{"text": "a", "label": 0, "label": 1}', ["line 3 has 'label' twice"]),
    ("a json string", "jsonl", b'"text"\n', ["line 1", "one object a line"]),
    ("backslash quotes", "csv", b'text,label\na,1\nc,0\n"said \\"no\\" twice",1\n', ["row 3", "line 4", '""']),
    ("a quote left open", "csv", b'text,label\na,1\n"c,0\nd,1\n', ["row 2, from line 3 on", "never closed"]),
    ("a huge field", "csv", b"text,label\na,1\n" + b"x" * ((1 << 24) + 1) + b",0\n", ["row 2", "16,777,216"]),
    ("the header again", "csv", b"text,label\na,1\nb,0\ntext,label\nc,1\n", ["row 3 repeats the header", "line 4"]),
    ("two files in one", "csv", b"text,label\na,1\n\xef\xbb\xbftext,label\nc,0\n", ["row 2 repeats the header"]),
    ("a comma too many", "csv", b"text,label\na,1\nb, c,0\n", ["row 2 has more than 2 columns", "line 3"]),
    ("a row too short", "csv", b"text,label\na,1\nb\n", ["row 2 has no 'label' (line 3)"]),
    ("nothing", "csv", b"", ["has no rows"]),
    ("a mark only", "csv", b"\xef\xbb\xbf", ["has no rows"]),
    ("blank lines only", "jsonl", b"\n\n", ["has no rows"]),
    ("random bytes", "csv", bytes(random.Random(1).choices(range(1, 256), k=999)), ["is not UTF-8"]),
]  # fmt: skip


@pytest.mark.parametrize(
    "kind, content, parts", [case[1:] for case in UNREADABLE], ids=[case[0] for case in UNREADABLE]
)
def test_a_file_that_is_not_what_it_should_be(tmp_path, kind, content, parts):
    good, bad = save(tmp_path / "good.csv", rows_of()), tmp_path / f"bad.{kind}"
    bad.write_bytes(content)
    for pair, flag in (((str(bad), good), "train"), ((good, str(bad)), "validation")):
        said = refusal(*pair)
        assert said.startswith(f"--{flag}_file {bad}: ") and all(part in said for part in parts), said


def test_line_ends_marks_and_blank_lines_change_nothing(tmp_path):
    wanted = files.read_files(*[save(tmp_path / "plain.csv", rows_of())] * 2).train
    plain, tried = (tmp_path / "plain.csv").read_text(), 0
    for mark in ("", "\ufeff"):
        for end in ("\n", "\r\n", "\r"):
            for blank in ("", end):
                text = mark + blank + plain.replace("\n", end + blank) + blank
                (tmp_path / "other.csv").write_bytes(text.encode())
                assert files.read_files(*[str(tmp_path / "other.csv")] * 2).train == wanted
                tried += 1
    assert tried == 12


def damage(content: bytes, draw: random.Random) -> bytes:
    """Change one place of a file as accidents do."""
    place, end = sorted((draw.randrange(len(content)), draw.randrange(len(content) + 1)))
    kinds = [
        lambda: content[:place],
        lambda: content[:place] + content[end:],
        lambda: content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :],
        lambda: content[:place] + draw.choice([b'"', b",", b"\n", b"\0", b"\\", b"{", b"[", b"\xff"]) + content[place:],
        lambda: content[:end] + content[place:],
        lambda: content[:place] + draw.choice([b"NaN", b"null", b"1e999", b"9" * 400, b"\\ud800"]) + content[end:],
    ]
    return draw.choice(kinds)()


def damaged(tmp_path, count: int) -> tuple[int, int]:
    """Damage files of all kinds; return how many were refused and how many could still be read."""
    draw, refused, read = random.Random(0), 0, 0
    for number in range(count):
        kind = ("csv", "jsonl", "tsv")[number % 3]
        whole = tmp_path / f"whole.{kind}"
        if not whole.exists():
            rows = [{"sentence1": row["text"], "label": row["label"]} for row in rows_of()]
            save(whole, rows) if kind != "tsv" else whole.write_text(tsv(rows))
            (tmp_path / "SST-2").mkdir(exist_ok=True)
        content = damage(whole.read_bytes(), draw)
        try:
            if kind == "tsv":
                (tmp_path / "SST-2/train.tsv").write_bytes(content)
                (tmp_path / "SST-2/dev.tsv").write_bytes(whole.read_bytes())
                task = reading.read_glue_dir(str(tmp_path), "sst2")
            else:
                (tmp_path / f"damaged.{kind}").write_bytes(content)
                task = files.read_files(str(tmp_path / f"damaged.{kind}"), str(whole))
        except UserError as error:
            assert all("\n" not in str(fault) for fault in error.faults)
            refused += 1
            continue
        read += 1
        assert all(text.strip() and text.encode() for pair in task.train.texts for text in pair)
        assert set(task.train.labels) <= set(range(len(task.label_names)))  # a damaged name may be one more class
    return refused, read


def tsv(rows) -> str:
    return "\n".join(["sentence\tlabel", *(f"{row['sentence1']}\t{row['label']}" for row in rows)]) + "\n"


def test_damaged_files_are_refused_or_give_whole_rows(tmp_path):
    refused, read = damaged(tmp_path, SHORT)
    assert refused + read == SHORT and min(refused, read) >= SHORT // 10


@pytest.mark.slow
def test_damaged_files_are_refused_or_give_whole_rows_long(tmp_path):
    refused, read = damaged(tmp_path, LONG)
    assert refused + read == LONG and min(refused, read) >= LONG // 10


# --- GLUE's own files ------------------------------------------------------------------------------------------------


def change(folder: Path, name: str, old: str, new: str, count: int = 1) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_bytes(text.replace(old, new, count).encode("utf-8"))


@pytest.fixture
def glue(glue_folder, tmp_path) -> Path:
    return Path(shutil.copytree(glue_folder, tmp_path / "glue"))


@pytest.mark.parametrize("split", ["train", "dev"])
def test_missing_values_in_glue_files(glue, split):
    path, tried = glue / f"RTE/{split}.tsv", 0
    lines = path.read_text().splitlines()
    for place in (1, 2, len(lines) - 1):
        for column, name in ((1, "sentence1"), (2, "sentence2"), (3, "label")):
            for value in ("", " ", "nan", "NA", "null", "None"):
                cells = lines[place].split("\t")
                cells[column] = value
                path.write_text("\n".join([*lines[:place], "\t".join(cells), *lines[place + 1 :]]))
                with pytest.raises(UserError) as caught:
                    reading.read_glue_dir(str(glue), "rte")
                assert f"RTE/{split}.tsv: row {place} has no {name!r}" in str(caught.value)
                tried += 1
    assert tried == 54


def test_columns_of_glue_files_are_found_by_name_in_each_file(glue):
    wanted = reading.read_glue_dir(str(glue), "rte")
    rows = [line.split("\t") for line in (glue / "RTE/dev.tsv").read_text().splitlines()]
    (glue / "RTE/dev.tsv").write_text("\n".join("\t".join((d, c, a, "more", b)) for a, b, c, d in rows).replace(
        "label\tsentence2\tindex\tmore", "label\tsentence2\tindex\tother"))  # fmt: skip
    assert reading.read_glue_dir(str(glue), "rte").evals == wanted.evals
    assert wanted.text_columns == ("sentence1", "sentence2") and wanted.label_column == "label"
    assert reading.read_glue_dir(str(glue), "cola").text_columns == ("column 4",)


@pytest.mark.parametrize("old, new, reason", [
    ("sentence2", "sentence3", "has no column 'sentence2'"),
    ("index", "label", "has column 'label' twice"),
    ("\n1\t", "\nindex\tsentence1\tsentence2\tlabel\n1\t", "row 2 repeats the header; were files concatenated"),
    ("\n1\t", "\n1\0\t", "line 3 holds a NUL byte"),
    ("entailment\n", "Entailment\n", "has a label"),
])  # fmt: skip
def test_glue_files_that_are_not_what_they_should_be(glue, old, new, reason):
    change(glue, "RTE/dev.tsv", old, new)
    with pytest.raises(UserError, match=reason) as caught:
        reading.read_glue_dir(str(glue), "rte")
    assert "RTE/dev.tsv" in str(caught.value)
    for encoding in ("utf-16", "utf-16-le"):
        (glue / "RTE/train.tsv").write_bytes((glue / "CoLA/train.tsv").read_text().encode(encoding))
        change(glue, "RTE/dev.tsv", new, old)
        with pytest.raises(UserError, match=r"RTE/train.tsv cannot be read: it .* UTF-16"):
            reading.read_glue_dir(str(glue), "rte")
        change(glue, "RTE/dev.tsv", old, new)


def test_scores_and_odd_texts_of_glue(glue):
    rows = [line.split("\t") for line in (glue / "MNLI/train.tsv").read_text().splitlines()]
    rows[3][9] = "n/a"  # the original has such hypotheses
    (glue / "MNLI/train.tsv").write_text("\n".join(map("\t".join, rows)))
    assert reading.read_glue_dir(str(glue), "mnli").train.texts[2][1] == "n/a"
    for score in ("1e999", "1e39", "inf", "five"):
        lines = (glue / "STS-B/train.tsv").read_text().splitlines()
        lines[2] = lines[2].rpartition("\t")[0] + f"\t{score}"
        (glue / "STS-B/train.tsv").write_text("\n".join(lines))
        with pytest.raises(UserError, match=f"row 2 has a label '{score}' that is not a finite number"):
            reading.read_glue_dir(str(glue), "stsb")


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_finished_run_is_that_of_its_validation_rows_classes_and_columns(command, tiny_model, tmp_path):
    train, valid, out = tmp_path / "train.csv", tmp_path / "valid.csv", tmp_path / "out"
    names = {0: "bad", 1: "good"}

    def write(path, seed, classes, column="text"):
        save(path, [{column: row["text"], "label": classes[row["label"]]} for row in rows_of(seed)])

    flags = ["--model_name_or_path", tiny_model, "--train_file", train, "--validation_file", valid, *FAST]
    flags += ["--output_dir", out]
    write(train, 1, names), write(valid, 2, names)
    code, said, err = command(flags)
    assert code == 0, err
    assert "24 validation rows; text 'text', label 'label': 2 classes bad, good" in said
    about = json.loads((out / "run.json").read_text())
    assert about["data"]["columns"] == {"texts": ["text"], "label": "label"}
    assert about["data"]["kind"] == "classification" and about["data"]["labels"] == ["bad", "good"]
    assert about["roles"]["text_columns"] == about["roles"]["label_column"] == "data"
    assert command(flags)[1].startswith("already done")

    results = (out / "all_results.json").read_bytes()
    inverted, other = {0: "good", 1: "bad"}, {0: "bad", 1: "best"}
    changes = [
        ("validation data", lambda: write(valid, 2, inverted)),
        ("validation data", lambda: write(valid, 3, names)),
        ("training data", lambda: write(train, 1, inverted)),
        ("training data and validation data", lambda: (write(train, 1, inverted), write(valid, 2, inverted))),
        ("label names", lambda: (write(train, 1, other), write(valid, 2, other))),
        ("columns", lambda: (write(train, 1, names, "body"), write(valid, 2, names, "body"))),
    ]
    for what, make in changes:
        write(train, 1, names), write(valid, 2, names)
        make()
        code, said, err = command(flags)
        assert code == 2 and f"{out}: holds this run on other {what} (" in err and said == "", err
    assert (out / "all_results.json").read_bytes() == results and len(changes) == 6

    write(train, 1, names), write(valid, 2, names)
    for lost in ("columns", "kind"):  # a record of an earlier version
        del about["data"][lost]
    for lost in ("identity", "read", "files", "unwritten", "seal"):
        del about[lost]
    for name in ("text_columns", "label_column"):
        del about["settings"][name], about["roles"][name]
    (out / "run.json").write_text(json.dumps(about))
    code, said, err = command(flags)
    assert code == 0 and said.startswith("already done") and err.count("\n") == 1
    assert "finished by an earlier version" in err and "data" not in err.split(str(out))[1], err
    del about["data"]["eval"]["sha256"]
    (out / "run.json").write_text(json.dumps(about))
    code, said, err = command(flags)
    assert code == 0 and said.startswith("already done") and "does not say its validation data: not compared" in err


@pytest.mark.parametrize("name", ["Sentence2", " sentence2", "sentence_2", "SENTENCE-2"])
def test_another_spelling_of_the_second_text_is_no_text_to_leave_out(name, tmp_path):
    rows = [{"sentence1": row["text"], name: "other", "label": row["label"]} for row in rows_of()]
    path = save(tmp_path / "t.jsonl", rows)
    with pytest.raises(UserError, match="which may be meant for sentence2; rename it, or say what is read with"):
        files.read_files(path, path)
    assert files.read_files(path, path, ("sentence1",)).text_columns == ("sentence1",)
    assert files.read_files(path, path, ("sentence1", name)).text_columns == ("sentence1", name)


def test_rows_that_are_cut_or_that_recur_are_said(command, tiny_model, tmp_path):
    train = save(tmp_path / "train.csv", rows_of(1))
    valid = save(tmp_path / "valid.csv", [*rows_of(2)[:5], *rows_of(1)[:3]])
    flags = ["--model_name_or_path", tiny_model, "--train_file", train, "--validation_file", valid, *FAST]
    code, said, err = command([*flags, "--max_length", 4, "--output_dir", tmp_path / "out"])
    assert code == 0, err
    assert "24 of them at the limit of 4 tokens; 8 validation rows, 8 at that limit; " in said
    own = {row["text"] for row in rows_of(1)}
    recurring = 3 + sum(row["text"] in own for row in rows_of(2)[:5])
    assert f"; {recurring} validation rows have the texts of a training row\n" in said
    assert json.loads((tmp_path / "out" / "run.json").read_text())["data"]["recurring"] == {"exact": recurring}


def test_what_is_wrong_with_a_file_is_one_line_and_code_2(command, tiny_model, tmp_path):
    good, bad, tried = save(tmp_path / "good.csv", rows_of()), tmp_path / "bad", 0
    for _, kind, content, _ in UNREADABLE:
        path = bad.with_suffix(f".{kind}")
        path.write_bytes(content)
        flags = ["--model_name_or_path", tiny_model, "--train_file", path, "--validation_file", good]
        code, said, err = command([*flags, *FAST, "--output_dir", tmp_path / "out"])
        assert (code, said) == (2, "") and err.count("\n") == 1 and err.startswith("error: --train_file"), err
        tried += 1
    assert tried == len(UNREADABLE) >= 25 and not (tmp_path / "out").exists()
