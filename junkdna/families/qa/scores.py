"""How an answer is scored against the accepted ones, and what the best single one of these gets as every answer."""

from __future__ import annotations

import re
import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from junkdna.families.metrics import Measure

if TYPE_CHECKING:
    from junkdna.families.qa.questions import Question


MEASURES = (
    Measure("exact_match", "higher", "the answer is an accepted one, after normalisation"),
    Measure("containment", "higher", "an accepted answer stands inside the answer, neither being empty"),
    Measure(
        "two_way_containment",
        "higher",
        "the paper's: an accepted answer stands inside the answer or the answer inside it; an empty answer scores 1",
    ),
    Measure("f1", "higher", "token F1 with the nearest accepted answer"),
    Measure("empty", "lower", "the answer is empty after normalisation"),
)
"""What is measured of every answer: between 0 and 1."""

MAIN = "containment"
"""The one of them that is shown first."""

CANDIDATES = 64
"""Answers, and single words, that are tried as constants: the most frequent ones."""

TO_SPACES = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))
ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """TriviaQA's normal form: lower case, punctuation (the underscore too) to spaces, no articles, single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(TO_SPACES)).split())


def accepted_forms(answers: Iterable[str]) -> set[str]:
    """The normal forms of a question's accepted answers, without those of which nothing is left where others are.

    Nothing ("A", "+") stands in every answer: under the paper's measure it would accept whatever a model says.
    """
    forms = set(map(normalise, answers))
    return forms - {""} or forms


def score(answer: str, aliases: Iterable[str]) -> dict[str, float]:
    """Return every measure of an answer, by name; the best over the accepted ones. All are 0 or 1 but ``f1``."""
    said = normalise(answer)
    accepted = accepted_forms(aliases)
    found = {
        "exact_match": said in accepted,
        "containment": any(alias and alias in said for alias in accepted),
        "two_way_containment": any(alias in said or said in alias for alias in accepted),
        "f1": max((_f1(Counter(said.split()), Counter(alias.split())) for alias in accepted), default=0.0),
        "empty": not said,
    }
    return {name: float(value) for name, value in found.items()}


def mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every measure over one row or more."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _f1(said: Counter, alias: Counter) -> float:
    """The harmonic mean of precision and recall over words; 0 if they share none."""
    shared = sum(min(count, alias[word]) for word, count in said.items() if word in alias)
    return 2 * shared / (said.total() + alias.total()) if shared else 0.0


# --- chance ----------------------------------------------------------------------------------------------------------


def constant(questions: Iterable[Question]) -> dict[str, float]:
    """Return what the best single accepted answer, given to every question, gets under each measure, by name.

    Tried are the most frequent accepted answers, their most frequent words, and saying nothing, which is the best
    under the paper's measure: it gets all. ``empty`` is that of an answer that says something, 0. No list of answers is
    tried: ``containment`` rewards one, so a longer constant text can get more than this.
    """
    accepted = [accepted_forms(question.answers) for question in questions]
    answers = Counter(alias for aliases in accepted for alias in aliases if alias)
    words = Counter(word for aliases in accepted for word in set(" ".join(aliases).split()))
    tried = [text for counted in (answers, words) for text, _ in counted.most_common(CANDIDATES)]
    overlaps = _Overlaps(accepted)
    return {
        "exact_match": answers.most_common(1)[0][1] / len(accepted) if answers else 0.0,
        "containment": max((_contained(text, accepted) for text in tried), default=0.0),
        "two_way_containment": 1.0,
        "f1": max(map(overlaps.f1, tried), default=0.0),
        "empty": 0.0,
    }


def _contained(text: str, accepted: list[set[str]]) -> float:
    hits = sum(any(alias and alias in text for alias in aliases) for aliases in accepted)
    return hits / len(accepted)


class _Overlaps:
    """All accepted answers by their words, so that only those that share one with a text are compared with it."""

    def __init__(self, accepted: list[set[str]]):
        self.count = len(accepted)
        self.holding: dict[str, list[tuple[int, Counter]]] = defaultdict(list)
        for number, aliases in enumerate(accepted):
            for alias in aliases:
                counted = Counter(alias.split())
                for word in counted:
                    self.holding[word].append((number, counted))

    def f1(self, text: str) -> float:
        """The mean over all questions of the best F1 that a text gets."""
        said = Counter(text.split())
        best: dict[int, float] = {}
        for word in said:
            for number, alias in self.holding.get(word, ()):
                best[number] = max(best.get(number, 0.0), _f1(said, alias))
        return sum(best.values()) / self.count
