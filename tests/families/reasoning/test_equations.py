"""Prefix equations: what they are worth, and what is wrong with those that are worth nothing."""

import pytest

from junkdna.families.reasoning.equations import parse, same, slot_of, value

N = (8.0, 2.0, 0.5, 0.0)  # number0 ... number3

VALUES = [
    # one operator, and none
    ("+ number0 number1", 10),
    ("- number0 number1", 6),
    ("- number1 number0", -6),
    ("* number0 number2", 4),
    ("/ number0 number1", 4),
    ("/ number1 number0", 0.25),
    ("number0", 8),
    ("12.0", 12),
    ("-3.5", -3.5),
    ("0.01", 0.01),
    # nested: on the left, on the right, on both sides, deep
    ("- + number0 number1 number2", 9.5),
    ("- number0 + number1 number2", 5.5),
    ("/ + number0 number1 2.0", 5),
    ("* + number0 number1 - number0 number1", 60),
    ("/ - number0 number1 + number1 number2", 2.4),
    ("+ + + + number0 1 1 1 1", 12),
    ("+ 1 + 1 + 1 + 1 number0", 12),
    ("- - - 10 1 2 3", 4),
    ("- 10 - 1 - 2 3", 8),
    ("* 0.01 * number0 100.0", 8),
    # constants and slots in any spelling that parse knows
    ("* 12 number1", 24),
    ("+ -1 number0", 7),
    # other numbers give the same: 0 * x, 0 / x
    ("* number3 number0", 0),
    ("/ number3 number0", 0),
    # division by zero, in the open and found on the way
    ("/ number0 number3", None),
    ("/ number3 number3", None),
    ("/ number0 0.0", None),
    ("/ number0 -0", None),
    ("/ number0 - number1 number1", None),
    ("+ number0 / 1 * number3 number1", None),
    # malformed: wrong arity
    ("", None),
    ("+", None),
    ("+ number0", None),
    ("number0 number1", None),
    ("+ number0 number1 number2", None),
    ("+ number0 number1 -", None),
    ("number0 + number1", None),
    # malformed: symbols
    ("+ number0 number4", None),
    ("+ number0 number01", None),
    ("+ number0 x", None),
    ("^ number0 number1", None),
    ("+ number0 <pad>", None),
    ("( number0 )", None),
    ("+ number0 nan", None),
    ("+ number0 1e5", None),
]

FORMS = [
    ("+ number0 number1", "+ number1 number0", True),
    ("- number0 number1", "+ number0 * -1 number1", True),
    ("/ number0 number1", "* number0 / 1 number1", True),
    ("* number0 + 1 number1", "+ number0 * number0 number1", True),
    ("/ number0 3.0", "2.67", True),  # 2.666... is rounded in the answer
    ("/ number0 3.0", "2.65", False),
    ("- number0 number1", "- number1 number0", False),
    ("/ number0 number3", "/ number0 number3", False),  # nothing equals nothing
]


@pytest.mark.parametrize("text, expected", VALUES)
def test_value(text, expected):
    found = value(text.split(), N)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))
    if expected is not None:
        assert value(parse(text, len(N)), N) == found


def test_there_are_enough_of_them():
    assert len(VALUES) >= 40 and sum(expected is None for _, expected in VALUES) >= 15


@pytest.mark.parametrize("one, other, equal", FORMS)
def test_another_form_of_equal_value(one, other, equal):
    assert same(value(one.split(), N), value(other.split(), N)) is equal


def test_same_is_within_a_hundredth():
    assert all(same(i / 100, (i + 1) / 100) and not same(i / 100, (i + 1.001) / 100) for i in range(1000))
    assert same(1.0, 1.0099) and same(-5, -5.01 + 1e-9) and not same(1.0, 1.011)
    assert not same(None, None) and not same(0.0, None)


def test_what_is_not_finite_is_nothing():
    assert value(["*", "number0", "number0"], (1e200,)) is None
    assert value(["/", "number0", "number1"], (1e200, 1e-200)) is None
    assert value(["-", "*", "number0", "number0", "*", "number0", "number0"], (1e200,)) is None


def test_what_is_deep_is_read():
    assert value(["+"] * 20000 + ["1"] * 20001, ()) == 20001
    assert len(parse(" ".join(["+"] * 20000 + ["1"] * 20001))) == 40001


def test_constants_have_one_spelling():
    assert parse("+ 12 + 12.0 0.50") == ("+", "12.0", "+", "12.0", "0.5")
    assert parse(" -\tnumber0  -7 ") == ("-", "number0", "-7.0")
    for small_or_large in ("0.00001", "10000000000000000", "-0.00000025"):  # Python writes them with an exponent
        tokens = parse(f"* number0 {small_or_large}")
        assert parse(" ".join(tokens)) == tokens and value(tokens, (1.0,)) == float(small_or_large)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("+ number0", "1 operand(s) are missing at its end"),
        ("+ * - number0", "3 operand(s) are missing"),
        ("number0 + number1", "it ends before '+', token 2 of 3"),
        ("+ number0 number1 number1", "it ends before 'number1', token 4 of 4"),
        ("+ number0 number4", "the slot 'number4' has no number, there are 4, counted from number0"),
        ("( number0 )", "'(' is not an operator (+ - * /), a number slot"),
        ("+ number0 Number1", "'Number1' is not an operator"),
        ("+ number0 1/2", "'1/2' is not an operator"),
        ("+ number0 " + "9" * 400, "or a finite number"),
    ],
)
def test_parse_says_what_is_wrong(text, reason):
    with pytest.raises(ValueError) as error:
        parse(text, len(N))
    assert reason in str(error.value)


def test_without_the_numbers_any_slot_may_be():
    assert parse("+ number0 number17") == ("+", "number0", "number17")
    assert [slot_of(token) for token in ("number0", "number17", "number", "number05", "12.0", "+")] == [
        *(0, 17),
        *[None] * 4,
    ]
