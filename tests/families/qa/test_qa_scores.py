"""Every measure by hand, and the best single answer against all candidates scored one by one."""

import random
import time
from collections import Counter

import pytest

from junkdna.families.qa import scores
from junkdna.families.qa.questions import Question


@pytest.mark.parametrize(
    "text, normal",
    [
        ("The  Beatles!", "beatles"),
        ("an_apple a day", "apple day"),
        ("‘Rock ’n’ Roll´ `s", "rock n roll s"),
        ("theatre, Athens & another", "theatre athens another"),
        ("U.S.A.", "u s"),  # the article takes a letter, as in the official form
        ("the", ""),
        ("+-*/", ""),
        ("Zoë — 3½", "zoë — 3½"),  # punctuation beyond ASCII stays, but for the four quote marks
    ],
)
def test_the_normal_form(text, normal):
    assert scores.normalise(text) == normal


@pytest.mark.parametrize(
    "answer, aliases, exact, contained, two_way, f1, empty",
    [
        (" The Eiffel Tower.", ["eiffel tower", "la tour eiffel"], 1, 1, 1, 1, 0),
        ("It is the Eiffel Tower", ["Eiffel Tower"], 0, 1, 1, 2 * 2 / (4 + 2), 0),
        ("Eiffel", ["Eiffel Tower"], 0, 0, 1, 2 / 3, 0),
        ("e", ["Eiffel Tower"], 0, 0, 1, 0, 0),
        ("", ["Eiffel Tower"], 0, 0, 1, 0, 1),
        ("the", ["Eiffel Tower"], 0, 0, 1, 0, 1),
        ("not Mark Twain", ["Mark Twain"], 0, 1, 1, 0.8, 0),
        ("Rome", ["Eiffel Tower"], 0, 0, 0, 0, 0),
        ("Rome", ["@"], 0, 0, 1, 0, 0),  # an accepted answer that is empty stands in no answer
        ("?", ["@"], 1, 0, 1, 0, 1),  # the official exact match
        ("Rome", ["A", "Paris"], 0, 0, 0, 0, 0),  # beside others it is left out: it would accept whatever is said
        ("in Paris", ["+", "Paris"], 0, 1, 1, 2 / 3, 0),
        ("on and on", ["on on on", "and"], 0, 1, 1, 2 * 2 / (3 + 3), 0),
    ],
)
def test_the_measures_by_hand(answer, aliases, exact, contained, two_way, f1, empty):
    found = scores.score(answer, aliases)
    assert found == {
        "exact_match": exact,
        "containment": contained,
        "two_way_containment": two_way,
        "f1": pytest.approx(f1),
        "empty": empty,
    }
    assert all(type(value) is float for value in found.values())
    assert list(found) == [measure.name for measure in scores.MEASURES] and scores.MAIN in found


def test_the_mean():
    rows = [scores.score(answer, ["Rome"]) for answer in ("Rome", "in Rome", "", "Paris")]
    assert scores.mean(rows) == {
        "exact_match": 1 / 4,
        "containment": 2 / 4,
        "two_way_containment": 3 / 4,
        "f1": pytest.approx((1 + 2 / 3) / 4),
        "empty": 1 / 4,
    }


def questions(count, aliases, seed=0):
    """Questions about a few words, some of which are asked for often."""
    chance = random.Random(seed)
    words = [f"w{int(chance.expovariate(1 / 12))}" for _ in range(200)] + ["The", "!"]
    answer = lambda: " ".join(chance.choices(words, k=chance.randint(1, 3)))  # noqa: E731
    return [Question(str(i), "?", tuple(answer() for _ in range(aliases))) for i in range(count)]


def test_the_best_single_answer_is_the_best_of_all_accepted_ones():
    asked = questions(200, 2)
    tried = {"", *(scores.normalise(alias) for row in asked for alias in row.answers)}
    assert len(tried) > 100
    means = [scores.mean([scores.score(text, row.answers) for row in asked]) for text in tried]
    best = {name: max(found[name] for found in means) for name in means[0]}
    assert scores.constant(asked) == {name: pytest.approx(value) for name, value in (best | {"empty": 0.0}).items()}
    assert best["exact_match"] > 1 / 200


def test_a_rare_answer_that_holds_others_is_the_best_constant():
    """The answer "16 march 2018" is asked for once, and holds what is asked for elsewhere."""
    asked = [Question(str(i), "?", (f"often {100 + i // 2}",)) for i in range(200)]
    asked += [Question("a", "?", ("2018",)), Question("b", "?", ("March",)), Question("c", "?", ("16 March 2018",))]
    assert scores.constant(asked)["containment"] == pytest.approx(3 / 203)


def test_the_constant_of_answers_that_are_all_empty():
    assert scores.constant([Question("1", "?", ("@",))]) == {
        "exact_match": 0.0,
        "containment": 0.0,
        "two_way_containment": 1.0,
        "f1": 0.0,
        "empty": 0.0,
    }


def test_the_constant_is_found_fast():
    asked = questions(2000, 14)
    assert Counter(len(row.answers) for row in asked) == {14: 2000}
    begun = time.process_time()
    scores.constant(asked)
    assert time.process_time() - begun < 4  # about one, alone
