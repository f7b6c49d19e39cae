"""Files of questions, read strictly, and which of their rows are asked."""

import gzip
import json

import pytest

from junkdna.errors import UserError
from junkdna.families.qa import questions
from junkdna.families.qa.questions import Question, Questions, choose, read_file

ROWS = [
    {"question": "who?", "answers": ["Ann", "Anna", "Ann"], "context": "Ann did.", "id": 7},
    {"question": "where?", "answer": "Rome", "ctxs": [{"title": "Italy", "text": "In Rome."}, {"text": "Not here."}]},
    {"question": "when?", "answers": "1901", "context": " ", "more": {"a": 1}},
]
READ = (
    Question("7", "who?", ("Ann", "Anna"), "Ann did."),
    Question("2", "where?", ("Rome",), "Italy\nIn Rome.\n\nNot here."),
    Question("3", "when?", ("1901",), None),
)


def lines(rows):
    return "".join(json.dumps(row) + "\n\n" for row in rows)


def test_every_spelling_of_a_row(tmp_path):
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_text("\ufeff" + lines(ROWS), encoding="utf-8")
    packed.write_bytes(gzip.compress(lines(ROWS).encode()))
    found = read_file(str(plain))
    assert found.rows == READ and found.source == str(plain)
    assert not found.has_contexts and found.without_context == ("3",)
    other = read_file(str(packed))
    assert other.rows == READ and other.fingerprint == found.fingerprint
    assert Questions(READ[:2], "x").has_contexts
    assert Questions(READ[1:], "x").fingerprint != found.fingerprint


def row(**changes):
    """The second row of a file whose first is right; None takes a key away."""
    made = {"question": "who?", "answers": ["Ann"]} | changes
    return lines([ROWS[0], {name: value for name, value in made.items() if value is not None}])


@pytest.mark.parametrize(
    "text, reason",
    [
        (row(answers=None), "row 2 has no answers"),
        (row(answers=[]), "row 2 has no answers"),
        (row(answers=["Ann", " "]), "row 2 has in 'answers' an empty text"),
        (row(answers=[1901]), "row 2 has in 'answers' a number where a text should be"),
        (row(answer="Ann"), "row 2 has both 'answers' and 'answer'; give one"),
        (row(question="\t"), "row 2 has in 'question' an empty text"),
        (row(question=None, questions="who?"), "row 2 has no 'question' (its keys: answers, questions)"),
        (row(context=["Ann"]), "row 2 has a 'context' that is not a text but a list"),
        (row(ctxs="Ann"), "row 2 has 'ctxs' that are not a list of objects with 'text'"),
        (row(ctxs=[{"title": "Ann"}]), "row 2 has in 'ctxs' null where a text should be"),
        (row(id="7"), "row 2 has the id '7', as row 1 has"),
        (row(id=True), "row 2 has the 'id' True; give a text or a whole number"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(text, reason, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_file(str(path))
    assert str(error.value).startswith(f"--data_file {path}: {reason}") and str(error.value).endswith(" (line 3)")


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"\n", "has no rows"),
        (b'{"question": "who?", "answer": "Ann"}\n{"a": \n', "cannot be read: line 2 is not JSON: Expecting value"),
        (
            b'[{"question": "who?"}]',
            "cannot be read: line 1 begins a JSON array, not an object (json lines: one object a line)",
        ),
        (b'{"question": ' + b"[" * 100_000, "cannot be read: line 1 is nested too deeply"),
        (b'{"question": "who?", "question": "who else?"}', "cannot be read: line 1 has 'question' twice"),
        (b'{"id": ' + b"1" * 9999 + b"}", "row 1 has no 'question'"),
        (b"a\nb\xe9c\n", "cannot be read: line 2 is not UTF-8 (byte 0xe9); save it as UTF-8"),
        ("{}".encode("utf-16"), "cannot be read: it is UTF-16; save it as UTF-8"),
        (b"{}\n{  \0}", "cannot be read: line 2 holds a NUL byte"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_none(content, reason, tmp_path):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"^--data_file ") as error:
        read_file(str(path))
    assert f": {reason}" in str(error.value)


def test_a_damaged_gzip_file(tmp_path):
    for content in (gzip.compress(lines(ROWS).encode())[:-9], lines(ROWS).encode()):
        path = tmp_path / "a.jsonl.gz"
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read: it is not a complete gzip file"):
            read_file(str(path))


def test_an_answer_that_is_an_article_is_kept_beside_others(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(row(answers=["A", "a grade"]))
    found = read_file(str(path))
    assert found.rows[1].answers == ("A", "a grade") and found.unanswerable == 0
    assert Questions((*READ, Question("4", "which?", ("A", "+"))), "x").unanswerable == 1


# --- which rows are asked --------------------------------------------------------------------------------------------

TEN = Questions(tuple(Question(str(i), f"q{i}", (f"a{i}",)) for i in range(10)), "ten")


def test_the_first_rows_are_asked_and_examples_are_among_the_others():
    asked, examples = choose(TEN, 6, 3, seed=0)
    assert asked == TEN.rows[:6]
    assert len(set(examples)) == 3 and not set(examples) & set(asked)
    assert choose(TEN, 6, 3, seed=0)[1] == examples
    assert choose(TEN, 6, 2, seed=0)[1] == examples[:2]
    assert len({choose(TEN, 6, 3, seed=seed)[1] for seed in range(20)}) > 5


def test_an_example_is_never_a_question_that_is_asked():
    """Nor in other words, nor twice among the examples: the prompt would show the answer."""
    again = [Question(f"again {i}", f"The Q{i}?", (f"a{i}",)) for i in range(6)]
    rows = Questions((*TEN.rows[:6], *again, *TEN.rows[6:], Question("z", "q9!", ("a9",))), "many")
    for seed in range(10):
        asked, examples = choose(rows, 6, 4, seed=seed)
        assert asked == TEN.rows[:6] and {row.question.strip("!") for row in examples} == {"q6", "q7", "q8", "q9"}
    with pytest.raises(UserError, match=r"^shots 5: many has 4 question\(s\) beside those that are asked"):
        choose(rows, 6, 5, seed=0)


def test_rows_of_the_hub_that_repeat_an_id_count_once(monkeypatch):
    made = [("a", "q1", ("x",), "web"), ("b", "q2", ("y",), "web"), ("a", "q1", ("x",), "wikipedia")]
    monkeypatch.setattr(questions.hubs, "read", lambda task, most: (made, "source"))
    found = questions.read_hub("trivia_qa")
    assert [row.id for row in found.rows] == ["a", "b"] and found.rows[0].context == "web"
    assert found.source == "source, without 1 rows that repeat an id"
    monkeypatch.setattr(questions.hubs, "read", lambda task, most: (made[:2], "source"))
    assert questions.read_hub("trivia_qa").source == "source"


def test_examples_take_rows_from_those_that_are_asked_only_where_too_few_are_left():
    assert choose(TEN, 2000, 0, seed=0) == (TEN.rows, ())
    assert choose(TEN, None, 0, seed=0) == (TEN.rows, ())
    asked, examples = choose(TEN, 2000, 4, seed=0)
    assert asked == TEN.rows[:6] and sorted(row.id for row in examples) == list("6789")
    assert len(choose(TEN, 2000, 9, seed=0)[0]) == 1
    with pytest.raises(UserError, match=r"^shots 10: ten has 10 row\(s\)"):
        choose(TEN, 2000, 10, seed=0)
