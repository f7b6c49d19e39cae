"""Aora, an invented language, and two of its relatives, Eila and Uiro; sentences with the same meaning in each.

Nothing here is taken from anywhere: stems are drawn letter by letter from a seeded generator, and the grammars are
the page below. Everything is a function of its seed, through ``random.Random`` alone, so the same seeds give the same
text on every machine.

A relative has seven tenths of its stems from Aora, changed by its own sound shift (letters move in a circle, as
consonants did in the old shifts of real languages), and three tenths of its own. The two are equally far from Aora:
as many letters shift, as many stems are new, and each puts all parts of a sentence into another order.

    Aora    subject verb object place; article noun adjective; prepositions; tense is an ending of the verb
    Eila    subject place object verb; adjective noun, article and number are an ending; postpositions; tense is a word
    Uiro    verb subject object place; noun article adjective; prepositions; tense is a beginning of the verb

What one language says all say, so there is one right translation of every sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from random import Random

LANGUAGES = AORA, EILA, UIRO = "ao", "ei", "ui"

# ---- words -------------------------------------------------------------------------------------------------

LEXICON_SEED = 14
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
STEMS = {"noun": 110, "verb": 50, "adjective": 40}
RARITY = 0.8  # the k-th most frequent stem of a kind is drawn k ** -RARITY times as often as the first
OWN = 0.3  # of a relative's stems

SHIFTS = {EILA: ("pfvb", "aei"), UIRO: ("tszd", "oua")}  # each letter becomes the next; the last becomes the first


@dataclass(frozen=True)
class Lexicon:
    """``words[language][kind]`` are the stems; those at one place mean the same."""

    words: dict[str, dict[str, tuple[str, ...]]]


def make_lexicon(seed: int = LEXICON_SEED) -> Lexicon:
    """Draw Aora's stems, and what its relatives made of them; no two of a language are alike."""
    rng = Random(seed)

    def draw(used: set[str]) -> str:
        while True:
            stem = "".join(rng.choice(CONSONANTS if place % 2 == 0 else VOWELS) for place in range(rng.choice((4, 5))))
            if stem not in used:
                used.add(stem)
                return stem

    used: set[str] = set()
    words = {AORA: {kind: tuple(draw(used) for _ in range(count)) for kind, count in STEMS.items()}}
    for relative, circles in SHIFTS.items():
        shift = {letter: circle[(i + 1) % len(circle)] for circle in circles for i, letter in enumerate(circle)}
        shifted = {kind: ["".join(shift.get(c, c) for c in stem) for stem in words[AORA][kind]] for kind in STEMS}
        used = {stem for stems in shifted.values() for stem in stems}
        words[relative] = {
            kind: tuple(draw(used) if rng.random() < OWN else stem for stem in stems) for kind, stems in shifted.items()
        }
    return Lexicon(words)


# ---- meanings ----------------------------------------------------------------------------------------------

PLACES = range(4)  # in, on, behind, near
TENSES = range(3)  # now, earlier, later
LINKS = range(3)  # and, because, when
ADJECTIVE, OWNER, OBJECT, PLACE, NEGATED, SECOND = 0.35, 0.15, 0.6, 0.4, 0.15, 0.2  # how often there is one


@dataclass(frozen=True)
class Thing:
    """A noun's place in the lexicon; an adjective's, or None; whose it is, or None."""

    noun: int
    plural: bool
    known: bool
    adjective: int | None
    owner: Thing | None


@dataclass(frozen=True)
class Clause:
    subject: Thing
    verb: int
    tense: int
    negated: bool
    object: Thing | None
    place: tuple[int, Thing] | None
    then: tuple[int, Clause] | None


class Meanings:
    """Endless meanings; every choice is drawn from one seeded generator."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.steps = {kind: list(accumulate((k + 1) ** -RARITY for k in range(count))) for kind, count in STEMS.items()}

    def stem(self, kind: str) -> int:
        return self.rng.choices(range(STEMS[kind]), cum_weights=self.steps[kind])[0]

    def thing(self, owned: bool = True) -> Thing:
        rng = self.rng
        adjective = self.stem("adjective") if rng.random() < ADJECTIVE else None
        owner = self.thing(owned=False) if owned and rng.random() < OWNER else None
        return Thing(self.stem("noun"), rng.random() < 0.4, rng.random() < 0.5, adjective, owner)

    def clause(self, first: bool = True) -> Clause:
        rng = self.rng
        return Clause(
            subject=self.thing(),
            verb=self.stem("verb"),
            tense=rng.choice(TENSES),
            negated=rng.random() < NEGATED,
            object=self.thing() if rng.random() < OBJECT else None,
            place=(rng.choice(PLACES), self.thing(owned=False)) if rng.random() < PLACE else None,
            then=(rng.choice(LINKS), self.clause(first=False)) if first and rng.random() < SECOND else None,
        )


# ---- sentences ---------------------------------------------------------------------------------------------


def _aora(words: dict, clause: Clause) -> list[str]:
    def thing(it: Thing) -> list[str]:
        said = [("ne", "na", "lo", "la")[2 * it.known + it.plural], words["noun"][it.noun]]
        if it.adjective is not None:
            said.append(words["adjective"][it.adjective])
        return said + (["ko", *thing(it.owner)] if it.owner else [])

    said = thing(clause.subject) + ["vu"] * clause.negated
    said.append(words["verb"][clause.verb] + ("", "ka", "mi")[clause.tense])
    if clause.object:
        said += thing(clause.object)
    if clause.place:
        said += [("pe", "su", "tam", "rin")[clause.place[0]], *thing(clause.place[1])]
    return said + ([("ed", "zol", "bim")[clause.then[0]], *_aora(words, clause.then[1])] if clause.then else [])


def _eila(words: dict, clause: Clause) -> list[str]:
    def thing(it: Thing) -> list[str]:
        said = [*thing(it.owner), "nu"] if it.owner else []
        if it.adjective is not None:
            said.append(words["adjective"][it.adjective])
        return [*said, words["noun"][it.noun] + ("", "ri", "sto", "sta")[2 * it.known + it.plural]]

    said = thing(clause.subject)
    if clause.place:
        said += [*thing(clause.place[1]), ("ip", "os", "dem", "lun")[clause.place[0]]]
    if clause.object:
        said += thing(clause.object)
    said += [("wa", "we", "wo")[clause.tense], words["verb"][clause.verb]] + ["net"] * clause.negated
    return said + ([("ja", "jut", "jem")[clause.then[0]], *_eila(words, clause.then[1])] if clause.then else [])


def _uiro(words: dict, clause: Clause) -> list[str]:
    def thing(it: Thing) -> list[str]:
        said = [words["noun"][it.noun], ("ha", "hi", "hu", "he")[2 * it.known + it.plural]]
        if it.adjective is not None:
            said.append(words["adjective"][it.adjective])
        return said + (["cu", *thing(it.owner)] if it.owner else [])

    said = ["xo"] * clause.negated
    said += [("", "qe", "qua")[clause.tense] + words["verb"][clause.verb], *thing(clause.subject)]
    if clause.object:
        said += thing(clause.object)
    if clause.place:
        said += [("ax", "ox", "cor", "cil")[clause.place[0]], *thing(clause.place[1])]
    return said + ([("och", "ich", "ach")[clause.then[0]], *_uiro(words, clause.then[1])] if clause.then else [])


SPEAKERS: dict[str, Callable[[dict, Clause], list[str]]] = {AORA: _aora, EILA: _eila, UIRO: _uiro}


def say(lexicon: Lexicon, language: str, clause: Clause) -> str:
    """The sentence with that meaning."""
    return " ".join(SPEAKERS[language](lexicon.words[language], clause)) + "."


def sentences(lexicon: Lexicon, count: int, seed: int, without: set[str] = frozenset()) -> list[dict[str, str]]:
    """So many different sentences, each in all languages; none whose Aora is among ``without``."""
    meanings, seen, rows = Meanings(seed), set(without), []
    while len(rows) < count:
        clause = meanings.clause()
        row = {language: say(lexicon, language, clause) for language in LANGUAGES}
        if row[AORA] not in seen:
            seen.add(row[AORA])
            rows.append(row)
    return rows
