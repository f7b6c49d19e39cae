"""Questions with choices: how a row becomes pairs of texts, and which choices are kept."""

import csv
import json

import pytest

from junkdna.errors import UserError
from junkdna.families.encoder.examples import Splits
from junkdna.families.reasoning import choices, rows
from junkdna.families.reasoning.choices import Choice, Choices, keep_choices
from junkdna.families.reasoning.rows import Row

STEM, OPTIONS = "Where is a cat?", ["mat", "sea", "sky", "sun", "mat"]
LOCAL = {
    "id": "a1",
    "answerKey": "B",
    "question": {"stem": STEM, "choices": [{"label": x, "text": y} for x, y in zip("ABCDE", OPTIONS)]},
}
FLAT = {"id": "a1", "answerKey": "B", "question": STEM, "choices": {"label": list("ABCDE"), "text": OPTIONS}}
BLANK = {"sentence": "Ann beat Bea because _ was quick.", "option1": "Ann", "option2": "Bea", "answer": "1"}


def made(make, *cells):
    return rows.each("FILE", [Row(number, 10 * number, one) for number, one in enumerate(cells, start=1)], make)


def refused(make, *cells):
    with pytest.raises(UserError) as error:
        made(make, *cells)
    return str(error.value)


def test_commonsense_qa_from_both_sources():
    local, flat = made(choices.commonsense_qa, LOCAL)[0], made(choices.commonsense_qa, FLAT)[0]
    assert local == flat
    assert local == Choice("a1", tuple((f"Q: {STEM}", f"A: {option}") for option in OPTIONS), 1)
    assert not local.doubled
    assert made(choices.commonsense_qa, FLAT | {"answerKey": "E"})[0].doubled


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"answerKey": "F"}, "FILE: row 1 has the 'answerKey' 'F'; allowed: A B C D E (line 10)"),
        ({"answerKey": ""}, "row 1 has no 'answerKey'"),
        ({"choices": {"label": ["A"], "text": ["x"]}, "answerKey": "A"}, "row 1 has 1 choice(s)"),
        ({"choices": ["x", "y"]}, "row 1 has in 'choices' a list where labels and texts should be"),
        ({"choices": {"label": ["A", "B"], "text": ["x", 1]}}, "has in 'choices' a number where a text should be"),
        ({"question": {"stem": "why?"}}, "row 1 has in 'choices' null where labels"),
        ({"choices": {"label": ["A", "B", "C"], "text": ["x", "y"]}}, "row 1 has in 'choices' 3 labels and 2 texts"),
        ({"choices": {"label": ["A", "A"], "text": ["x", "y"]}}, "row 1 has in 'choices' the label 'A' twice"),
        ({"question": " "}, "row 1 has in 'question' an empty text"),
    ],
)
def test_commonsense_qa_refused(change, reason):
    assert reason in refused(choices.commonsense_qa, FLAT | change)


def test_winogrande():
    end = BLANK | {"sentence": "The cup did not fit the box, so I used a larger _", "option1": "cup", "option2": "box"}
    first, last = made(choices.winogrande, BLANK | {"qID": "x-1"}, end | {"answer": "2"})
    assert first == Choice(
        "1", (("Ann beat Bea because", "Ann was quick."), ("Ann beat Bea because", "Bea was quick.")), 0
    )
    assert last.texts[1] == ("The cup did not fit the box, so I used a larger", "box") and last.label == 1
    start = made(choices.winogrande, BLANK | {"sentence": "_'s cup is full."})[0]
    assert start.texts[0] == ("", "Ann's cup is full.")


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"answer": ""}, "row 1 has no 'answer'"),
        ({"answer": "0"}, "row 1 has the 'answer' '0'; allowed: 1 2"),
        ({"sentence": "no blank"}, "row 1 has 0 blanks (_) in its 'sentence'; there must be one"),
        ({"sentence": "_ and _"}, "row 1 has 2 blanks"),
        ({"option2": None}, "row 1 has no 'option2'"),
    ],
)
def test_winogrande_refused(change, reason):
    assert reason in refused(choices.winogrande, BLANK | change)


OWN = {"question": "q", "choices": ["x", "y", "B"], "label": 1}


def test_own_rows():
    pairs = (("q", "x"), ("q", "y"), ("q", "B"))
    labels = [made(choices.own, OWN | {"label": label})[0].label for label in (0, 1, 2, "A", "C", "x", "y")]
    assert labels == [0, 1, 2, 0, 2, 0, 1]
    columns = {"first": ["q", "q", "q"], "second": ["x", "y", "B"], "label": "y", "id": 7}
    assert made(choices.own, OWN, columns) == [Choice("1", pairs, 1), Choice("7", pairs, 1)]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"label": 3}, "FILE: row 1 has the label 3; allowed: 0 to 2, counted from 0 (line 10)"),
        ({"label": -1}, "row 1 has the label -1; allowed: 0 to 2"),
        ({"label": "B"}, "row 1 has the label 'B', which fits more than one choice; give its index, from 0"),
        ({"label": "D"}, "a letter (A to C), or one of the texts in 'choices'"),
        ({"label": "1"}, "row 1 has the label '1'; allowed: an index from 0 as a number without quotes"),
        ({"label": True}, "row 1 has the label True; allowed"),
        ({"label": None}, "row 1 has no 'label' (it has: question, choices, label)"),
        ({"choices": ["x"], "label": 0}, "row 1 has 1 choice(s); there must be two or more"),
        ({"choices": "x"}, "row 1 has in 'choices' a text where a list of texts should be"),
        ({"choices": ["x", ""]}, "row 1 has in 'choices' an empty text"),
        ({"choices": ["x", "\ud800"]}, "half of a character"),
        ({"question": 1}, "row 1 has in 'question' a number where a text should be"),
        ({"first": ["a"]}, "row 1 has 'question' beside 'first' and 'second'; give one form"),
        ({"id": True}, "row 1 has the 'id' True"),
    ],
)
def test_own_rows_refused(change, reason):
    assert reason in refused(choices.own, OWN | change)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"second": ["x", "y", "z"]}, "row 1 has 2 texts in 'first' and 3 in 'second'"),
        ({"second": None}, "row 1 has no 'second'"),
        ({"first": "a"}, "row 1 has in 'first' a text where a list of texts should be"),
        ({"label": "a"}, "one of the texts in 'second'"),
    ],
)
def test_own_columns_refused(change, reason):
    assert reason in refused(choices.own, {"first": ["a", "b"], "second": ["x", "y"], "label": 0} | change)


# --- all rows together -----------------------------------------------------------------------------------------------


def question(name, label, count=5):
    return Choice(name, tuple(("q", f"{name}{index}") for index in range(count)), label)


SOME = Choices.of([question(f"r{number}", number % 5) for number in range(40)], "FILE")


def test_what_all_rows_say():
    assert len(SOME) == 40 and SOME.num_choices == 5 and SOME.majority == 0.2 and SOME.doubled == 0
    assert SOME.first(7).majority == 2 / 7 and len(SOME.first(None)) == 40
    assert SOME.first(7).rows + SOME.since(7).rows == SOME.rows
    splits = Splits(SOME.first(7), {"eval": SOME.since(5)}, ("accuracy",), "FILE")
    assert splits.recurring == 2
    assert SOME.labels[:6] == [0, 1, 2, 3, 4, 0] and SOME.texts[0][4] == ("q", "r04")
    assert SOME.fingerprint == Choices.of(list(SOME.rows), "other").fingerprint != SOME.first(39).fingerprint


@pytest.mark.parametrize(
    "found, reason",
    [
        ([], "FILE: has no rows"),
        ([question("a", 0), question("b", 0, 4)], "FILE: row 2 has 4 choices, row 1 has 5; all rows must have as many"),
        ([question("a", 0), question("a", 1)], "FILE: row 2 has the id 'a', as row 1 has"),
    ],
)
def test_rows_that_do_not_fit_together(found, reason):
    with pytest.raises(UserError) as error:
        Choices.of(found, "FILE")
    assert str(error.value) == reason


@pytest.mark.parametrize("count", [2, 3, 4])
def test_kept_choices(count):
    kept = keep_choices(SOME, count, 1)
    for before, after in zip(SOME.rows, kept.rows):
        assert len(after.texts) == count and after.texts[after.label] == before.texts[before.label]
        places = [before.texts.index(pair) for pair in after.texts]
        assert places == sorted(set(places))  # in their order, each once
    assert keep_choices(SOME.since(30), count, 1).rows == kept.rows[30:]  # the rows around make no difference
    assert keep_choices(SOME, count, 1) == kept != keep_choices(SOME, count, 2)
    more = keep_choices(SOME, count + 1, 1)
    assert all(set(few.texts) <= set(many.texts) for few, many in zip(kept.rows, more.rows))


def test_every_wrong_choice_is_kept_as_often():
    many = Choices.of([question(f"r{number}", 2) for number in range(2000)], "FILE")
    counts = [0] * 5
    for row in keep_choices(many, 2, 3).rows:
        for _, text in row.texts:
            counts[int(text[-1])] += 1
    assert counts[2] == 2000 and all(430 < counts[index] < 570 for index in (0, 1, 3, 4))


def test_numbers_of_choices_that_cannot_be_kept():
    assert keep_choices(SOME, 5, 1) is SOME
    for count in (0, 1, 6):
        with pytest.raises(UserError, match=f"num_choices {count}: FILE has 5 choices; allowed: 2 to 5"):
            keep_choices(SOME, count, 1)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("a.jsonl", "", "has no rows"),
        ("a.jsonl", "[1]\n", "line 1 begins a JSON array, not an object"),
        ("a.jsonl", '{"a": 1}\n{"a": 1, "b": {"c": 2, "c": 3}}\n', "line 2 has 'c' twice"),
        ("a.jsonl", '{"a": 1}\n\n{"a": \n', "line 3 is not JSON"),
        ("a.csv", "a,a\n1,2\n", "two columns have the same name"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", "row 2 has 3 columns, the header 2; are texts with commas quoted? (line 3)"),
        ("a.csv", 'a,b\n1,2\n1,"2\n', "row 2, from line 3 on: its quote is never closed"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, reason):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        rows.read("--train_file a", tmp_path / name)
    assert str(error.value).startswith("--train_file a: ") and reason in str(error.value)


def test_a_csv_field_may_be_longer_than_the_library_allows(tmp_path):
    long = "x " * 100_000
    (tmp_path / "a.csv").write_text(f"a,b\n1,{long}\n")
    csv.field_size_limit(1 << 17)  # its own limit, whatever has been read before
    assert rows.read("x", tmp_path / "a.csv") == [Row(1, 2, {"a": "1", "b": long})]


def test_rows_have_numbers_and_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '\ufeff{"a": "x\\u2028"}\n\n' + json.dumps({"a": "\x0b"}, ensure_ascii=False) + "\r\n"
    )
    (tmp_path / "a.csv").write_text('a, b\n"x\ny",1\n\n2,3\n')
    assert rows.read("x", tmp_path / "a.jsonl") == [Row(1, 1, {"a": "x\u2028"}), Row(2, 3, {"a": "\x0b"})]
    assert rows.read("x", tmp_path / "a.csv") == [Row(1, 3, {"a": "x\ny", "b": "1"}), Row(2, 5, {"a": "2", "b": "3"})]
