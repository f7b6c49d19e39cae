"""Word problems and the symbols of their equations."""

from types import SimpleNamespace

import pytest

from junkdna.errors import UserError
from junkdna.families.reasoning import problems, rows
from junkdna.families.reasoning.problems import Problem, Problems, recurring
from junkdna.families.reasoning.rows import Row
from junkdna.families.reasoning.solving import WordProblems
from junkdna.families.reasoning.vocabulary import END, SPECIALS, Vocabulary

ORIGINAL = {
    "Question": "Ann has number0 cups and number1 bags .",
    "Numbers": "8.0 2.5",
    "Equation": "+ number0 number1",
    "Answer": "10.5",
    "group_nums": "[1]",
}
OWN = {"text": ORIGINAL["Question"], "numbers": [8, 2.5], "equation": "+ number0 number1", "answer": 10.5}


def made(*cells):
    return rows.each("FILE", [Row(number, None, one) for number, one in enumerate(cells, start=1)], problems.problem)


def test_rows_of_both_spellings():
    first, second, third = made(ORIGINAL, OWN, OWN | {"numbers": "8 2.5", "answer": "10.50", "id": "x"})
    assert first == Problem("1", ORIGINAL["Question"], (8.0, 2.5), ("+", "number0", "number1"), 10.5)
    assert (second.id, third.id) == ("2", "x") and problems.key(first) == problems.key(second) == problems.key(third)


def test_the_text_that_is_shown():
    one = made(OWN | {"text": "number1 bags, number0 cups, no numbers: number1.", "numbers": [12000, 0.25]})[0]
    assert one.shown() == one.text
    assert one.shown(values=True) == "0.25 bags, 12000 cups, no numbers: 0.25."


def test_who_solves_it():
    one = made(OWN)[0]
    assert one.solved_by(("+", "number1", "number0")) and one.solved_by(("10.504",)) and not one.noisy
    assert not one.solved_by(("+", "number1")) and not one.solved_by(("/", "number0", "0")) and not one.solved_by(())
    noisy = made(OWN | {"answer": 10})[0]
    assert noisy.noisy and not noisy.solved_by(noisy.equation)
    assert Problems.of([one, Problem("2", *list(vars(noisy).values())[1:])], "FILE").noisy == 1


@pytest.mark.parametrize(
    "change, reason",
    [
        (
            {"equation": "number0 + number1"},
            "row 2 has the equation 'number0 + number1', which cannot be parsed: it ends",
        ),
        ({"equation": "+ number0 number2"}, "which cannot be parsed: the slot 'number2' has no number, there are 2"),
        ({"equation": ""}, "row 2 has in 'equation' an empty text"),
        ({"equation": None}, "row 2 has no 'equation'"),
        ({"Question": "x"}, "row 2 has both 'text' and 'Question'; give one"),
        ({"numbers": [8]}, "row 2 has 1 number(s), none for the slot 'number1' in its text (the first is number0)"),
        ({"numbers": [8, 2, 3]}, "row 2 has 3 number(s), but its text does not name the slot 'number2'"),
        ({"numbers": "8 1_0"}, "row 2 has in 'numbers' '1_0', which is not a finite number"),
        ({"answer": "\u0663"}, "row 2 has in 'answer' '\u0663', which is not a finite number"),
        ({"numbers": "8 two"}, "row 2 has in 'numbers' 'two', which is not a finite number"),
        ({"numbers": [8, True]}, "row 2 has in 'numbers' True, which"),
        ({"numbers": 8}, "row 2 has in 'numbers' a number where a list of numbers should be"),
        ({"answer": "nan"}, "row 2 has in 'answer' 'nan', which is not a finite number"),
        ({"answer": [1]}, "row 2 has in 'answer' [1], which"),
        ({"text": "Ann has 8 cups"}, "row 2 has 2 number(s), but its text does not name the slot 'number0'"),
        ({"text": ""}, "row 2 has in 'text' an empty text"),
    ],
)
def test_rows_refused(change, reason):
    with pytest.raises(UserError) as error:
        made(OWN, OWN | change)
    assert str(error.value).startswith("FILE: ") and reason in str(error.value)


def test_all_rows():
    some = Problems.of(made(OWN, OWN, OWN), "FILE")
    assert len(some) == 3 and len(some.first(2)) == 2 and some.first(None).rows == some.rows
    renamed = Problems.of(made(OWN | {"id": "x"}, OWN, OWN), "other")
    assert some.fingerprint == renamed.fingerprint != some.first(2).fingerprint
    with pytest.raises(UserError, match="FILE: row 2 has the id '1', as row 1 has"):
        Problems.of([*made(OWN), *made(OWN)], "FILE")
    with pytest.raises(UserError, match="FILE: has no rows"):
        Problems.of([], "FILE")


def test_what_recurs():
    def of(*pairs):
        return Problems.of(made(*(OWN | {"text": text, "numbers": list(numbers)} for text, numbers in pairs)), "x")

    train = of(("A number0 number1", (1, 2)), ("A number0 number1", (3, 4)), ("B number1 number0", (1, 2)))
    asked = of(
        ("A number0 number1", (3, 4)),
        ("a number0 number1", (1, 2)),  # the first letter's case counts for nothing
        ("A number0 number1", (1, 4)),
        ("B number1 number0", (2, 1)),
        ("A number0 Number1 number1", (1, 2)),
        ("C number0 number1", (1, 2)),
    )
    found = recurring(train, asked)
    assert found.exact == (True, True, False, False, False, False)
    assert found.masked == (True, True, True, True, False, False)


# --- symbols ---------------------------------------------------------------------------------------------------------


def problem(equation, numbers=(1.0, 2.0)):
    return Problem("x", "", numbers, tuple(equation.split()), 0.0)


def test_the_vocabulary_is_that_of_training():
    trained = [problem(words) for words in ("+ number0 2.0", "- 2.0 number2", "* 0.5 12.0", "number0", "* 12.0 12.0")]
    found = Vocabulary.of(trained)
    plain = ("+", "-", "*", "/", "number0", "number1", "number2", "12.0", "2.0", "0.5")
    assert found.symbols == (*SPECIALS, *plain) and len(found) == 13
    assert found.growth == (0, 0, 0, 1, 1, 1, 1, *[-1] * 6)
    assert [symbol for symbol, fits in zip(found.symbols, found.usable(1)) if not fits] == ["number1", "number2"]
    assert all(found.usable(3)) and sum(found.usable(0)) == 10
    asked = [problem("+ number0 3.0"), problem("+ number3 number0"), problem("/ number1 2.0")]
    assert found.unknown(asked) == 2 and found.unknown(trained) == 0


def test_there_and_back():
    found = Vocabulary.of([problem("- number0 number1")])
    ids = found.encode(("-", "number1", "number0"))
    assert ids[-1] == END and len(ids) == 4 and found.decode(ids) == ("-", "number1", "number0")
    assert found.decode((*ids, 0, 5)) == ("-", "number1", "number0") and found.decode((1, 3)) == ("<start>", "+")
    with pytest.raises(ValueError, match=r"no training equation has '3\.0'"):
        found.encode(("3.0",))


def test_without_any_operand_nothing_is_ruled_out():
    assert all(Vocabulary.of([problem("+ number0 number0")]).usable(0))
    assert Vocabulary.of([]).symbols == (*SPECIALS, "+", "-", "*", "/")


def test_the_floor_is_what_the_best_single_equation_solves():
    """The most frequent equation of training need not be the one that solves most of the problems that are asked."""
    made = object.__new__(WordProblems)
    plus, minus = ("+", "number0", "number1"), ("-", "number0", "number1")
    made.train = SimpleNamespace(rows=[Problem("t", "", (1.0, 2.0), one, 0.0) for one in (plus, plus, minus)])
    asked = [Problem("a", "", (5.0, 2.0), minus, 3.0)] * 3 + [Problem("b", "", (5.0, 2.0), plus, 7.0)]
    made.asked = SimpleNamespace(rows=asked)
    assert made.floor() == 0.75 and made._usual == minus
