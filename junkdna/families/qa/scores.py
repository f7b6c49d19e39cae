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

BEGINNING = 4
"""Characters by which answers are looked up within a text."""

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

    All of them are tried. Saying nothing is the best under the paper's measure: it gets all. ``empty`` is that of an
    answer that says something, 0. No list of answers is tried: ``containment`` rewards one, so a longer constant text
    can get more than this.
    """
    accepted = [accepted_forms(question.answers) - {""} for question in questions]
    answers = Counter(alias for aliases in accepted for alias in aliases)
    return {
        "exact_match": max(answers.values(), default=0) / len(accepted),
        "containment": best_contained(accepted),
        "two_way_containment": 1.0,
        "f1": best_f1(accepted),
        "empty": 0.0,
    }


def best_contained(accepted: list[set[str]]) -> float:
    """The largest share of questions of which an answer stands inside one and the same answer."""
    accepting = defaultdict(set)
    for number, aliases in enumerate(accepted):
        for alias in aliases:
            accepting[alias].add(number)
    lengths = defaultdict(set)  # of answers by how they begin: most places within a text begin none
    for alias in accepting:
        lengths[alias[:BEGINNING]].add(len(alias))

    def hits(text: str) -> int:
        inside = set()
        for start in range(len(text)):
            for size in range(1, BEGINNING + 1):
                for length in lengths.get(text[start : start + size], ()) if start + size <= len(text) else ():
                    inside |= accepting.get(text[start : start + length], set())
        return len(inside)

    return max(map(hits, accepting), default=0) / len(accepted)


def best_f1(accepted: list[set[str]]) -> float:
    """The largest mean over all questions of the F1 with the nearest accepted answer that one of these answers gets.

    Those that share s words with a text of n get at most 2s / (n + s), which is at most s times 2 / (n + 1). So the
    questions that have a text's words bound its mean, and those with a lower bound than the best mean need no look.
    """
    overlaps = _Overlaps(accepted)
    texts = {alias for aliases in accepted for alias in aliases}
    best = 0.0
    for bound, text in sorted(((overlaps.bound(text), text) for text in texts), reverse=True):
        if bound <= best:
            break
        best = max(best, overlaps.f1(text))
    return best


class _Overlaps:
    """All accepted answers by their words: how many of these a text shares with each of them."""

    def __init__(self, accepted: list[set[str]]):
        import numpy as np

        self.count = len(accepted)
        answers = [(number, alias.split()) for number, aliases in enumerate(accepted) for alias in aliases]
        self.sizes = np.array([len(words) for _, words in answers])
        self.starts = np.unique([number for number, _ in answers], return_index=True)[1]
        places, asking = defaultdict(list), defaultdict(set)
        for place, (number, words) in enumerate(answers):
            for word, times in Counter(words).items():
                places[word].append((place, times))
                asking[word].add(number)
        self.holding = {word: np.array(found).T for word, found in places.items()}
        self.asking = {word: len(numbers) for word, numbers in asking.items()}

    def bound(self, text: str) -> float:
        """No less than ``f1``."""
        words = text.split()
        return sum(map(self.asking.__getitem__, words)) * 2 / (len(words) + 1) / self.count

    def f1(self, text: str) -> float:
        """The mean over all questions of the best F1 that an accepted answer gets."""
        import numpy as np

        shared, said = np.zeros(len(self.sizes)), Counter(text.split())
        for word, times in said.items():
            where, there = self.holding[word]
            shared[where] += np.minimum(there, times)
        found = 2 * shared / (said.total() + self.sizes)
        return float(np.maximum.reduceat(found, self.starts).sum()) / self.count
