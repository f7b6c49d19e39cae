"""A small invented language, and the two demo tasks written in it.

Nothing here is taken from anywhere: the words are drawn letter by letter from a seeded generator, and the
grammar is the page below. Everything is a function of its seed, through ``random.Random`` alone, so the same
seeds give the same text on every machine.

A sentence is a subject, then a verb with an object or a place, or the invariable copula with an adjective;
a place may come first. A noun has a number, which its determiner shows, and one of two genders, which
neither the noun nor its determiner shows, so it must be remembered with the word. A verb agrees with its
subject, an adjective with its noun, in gender and number. Agreement is written as a particle, a word of its
own after the verb or the adjective; there are four. Between a subject and its verb may stand prepositional
phrases and relative clauses, whose nouns (attractors) have the subject's gender and number or not, by
chance. Every content word belongs to one of eight topics, and a sentence draws most of its words from one
topic.

In ``ti simaz ko mo vofip siris es vupel om ul ta zereb`` the subject ``simaz`` is plural by its determiner
``ti``; in the relative clause ``ko mo vofip siris es`` the verb ``siris`` agrees with the singular ``vofip``
(``es``); the main verb ``vupel`` agrees with ``simaz`` (``om``) across that clause, and
``ul ta zereb`` is a place.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from zlib import crc32

# ---- words -------------------------------------------------------------------------------------------------

LEXICON_SEED = 20
CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"
# Four topics are outdoors, four are the work of hands: the easy task asks which.
TOPICS = ("sea", "forest", "mountain", "sky", "farm", "kitchen", "market", "workshop")
OUTDOORS = TOPICS[:4]
NOUNS_PER_GENDER, VERBS_PER_TOPIC, ADJECTIVES_PER_TOPIC = 6, 5, 5

# A cell is (gender, number), each 0 or 1.
Cell = tuple[int, int]
PARTICLES = {(0, 0): "an", (0, 1): "ut", (1, 0): "es", (1, 1): "om"}
PLURAL = {"ta": "ti", "mo": "mi", "se": "si"}  # determiners, singular to plural
PREPOSITIONS = ("ul", "en", "ri", "pa")
RELATIVE, COPULA = "ko", "vo"
MASK = "<mask>"


@dataclass(frozen=True)
class Lexicon:
    """Tuples of stems by topic: ``nouns[topic][gender]``, ``verbs[topic]``, ``adjectives[topic]``."""

    nouns: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    verbs: dict[str, tuple[str, ...]]
    adjectives: dict[str, tuple[str, ...]]


def make_lexicon(seed: int = LEXICON_SEED) -> Lexicon:
    """Draw all stems: consonant-vowel-consonant-vowel-consonant, no two alike."""
    rng = Random(seed)
    used: set[str] = set()

    def stems(count: int) -> tuple[str, ...]:
        drawn: list[str] = []
        while len(drawn) < count:
            stem = "".join(rng.choice(CONSONANTS if place % 2 == 0 else VOWELS) for place in range(5))
            if stem not in used:
                used.add(stem)
                drawn.append(stem)
        return tuple(drawn)

    nouns = {topic: (stems(NOUNS_PER_GENDER), stems(NOUNS_PER_GENDER)) for topic in TOPICS}
    verbs = {topic: stems(VERBS_PER_TOPIC) for topic in TOPICS}
    adjectives = {topic: stems(ADJECTIVES_PER_TOPIC) for topic in TOPICS}
    return Lexicon(nouns, verbs, adjectives)


# ---- sentences ---------------------------------------------------------------------------------------------

MIN_WORDS, MAX_WORDS = 6, 20
STRAY = 0.1  # chance that a content word comes from any topic instead of the sentence's own
MODIFIERS = ("none", "place", "two places", "object relative", "subject relative")
MODIFIER_WEIGHTS = (4, 5, 3, 5, 3)
PREDICATES = ("object", "place", "adjective")
PREDICATE_WEIGHTS = (4, 2, 4)


@dataclass(frozen=True)
class Item:
    """One word of a sentence before it is inflected.

    kind: ``noun``, ``verb``, ``adjective``, ``determiner`` (word is its singular form), ``particle`` (has no
    word before it agrees) or ``function`` (never inflected). gender and number belong to nouns, topic to
    nouns, verbs and adjectives. controller is the place in the sentence of the noun that a determiner or a
    particle agrees with.
    """

    kind: str
    word: str = ""
    gender: int = 0
    number: int = 0
    topic: str = ""
    controller: int = -1


@dataclass(frozen=True)
class Sentence:
    """Items in order, with the places of the subject noun and of the particle that must agree with it."""

    items: tuple[Item, ...]
    subject: int
    target: int

    def cell(self, place: int) -> Cell:
        """Gender and number of the noun at that place."""
        return self.items[place].gender, self.items[place].number


def render(sentence: Sentence, masked: bool = False) -> str:
    """Words with spaces between; ``masked`` shows <mask> in the place of the target."""
    words = []
    for place, item in enumerate(sentence.items):
        word = item.word
        if item.kind == "determiner":
            word = PLURAL[word] if sentence.cell(item.controller)[1] else word
        if item.kind == "particle":
            word = MASK if masked and place == sentence.target else PARTICLES[sentence.cell(item.controller)]
        words.append(word)
    return " ".join(words)


class _Builder:
    """Appends words to one sentence; each method is one rule of the grammar."""

    def __init__(self, lexicon: Lexicon, rng: Random, topic: str):
        self.lexicon, self.rng, self.topic = lexicon, rng, topic
        self.items: list[Item] = []

    def add(self, item: Item) -> int:
        self.items.append(item)
        return len(self.items) - 1

    def function(self, choices: tuple[str, ...]) -> None:
        self.add(Item("function", self.rng.choice(choices)))

    def pick_topic(self) -> str:
        return self.rng.choice(TOPICS) if self.rng.random() < STRAY else self.topic

    def agreeing(self, kind: str, controller: int) -> int:
        """A verb or an adjective and its particle; returns the particle's place."""
        topic = self.pick_topic()
        stems = self.lexicon.verbs if kind == "verb" else self.lexicon.adjectives
        self.add(Item(kind, self.rng.choice(stems[topic]), topic=topic))
        return self.add(Item("particle", controller=controller))

    def noun_phrase(self, adjective: float) -> int:
        """Determiner, noun and, with the chance given, an adjective; returns the noun's place."""
        noun = len(self.items) + 1
        self.add(Item("determiner", self.rng.choice(tuple(PLURAL)), controller=noun))
        topic, gender = self.pick_topic(), self.rng.randrange(2)
        stem = self.rng.choice(self.lexicon.nouns[topic][gender])
        self.add(Item("noun", stem, gender, self.rng.randrange(2), topic))
        if self.rng.random() < adjective:
            self.agreeing("adjective", noun)
        return noun

    def place(self) -> None:
        self.function(PREPOSITIONS)
        self.noun_phrase(adjective=0.1)

    def modifier(self, kind: str, subject: int) -> None:
        """What stands between subject and verb. In an object relative the inner verb has its own subject."""
        if kind in ("place", "two places"):
            self.place()
        if kind == "two places":
            self.place()
        if kind == "object relative":
            self.function((RELATIVE,))
            self.agreeing("verb", self.noun_phrase(adjective=0.1))
        if kind == "subject relative":
            self.function((RELATIVE,))
            self.agreeing("verb", subject)
            self.noun_phrase(adjective=0.1)

    def predicate(self, kind: str, subject: int) -> int:
        """Returns the place of the particle that agrees with the subject."""
        if kind == "adjective":
            self.function((COPULA,))
            return self.agreeing("adjective", subject)
        particle = self.agreeing("verb", subject)
        if kind == "object":
            self.noun_phrase(adjective=0.3)
        else:
            self.place()
        return particle


def draw_sentence(lexicon: Lexicon, rng: Random, topic: str, for_hard: bool = False) -> Sentence:
    """One grammatical sentence of 6 to 20 words.

    for_hard: something stands between subject and verb, and no adjective beside the subject shows its gender.
    """
    while True:
        build = _Builder(lexicon, rng, topic)
        if rng.random() < 0.2:
            build.place()
        subject = build.noun_phrase(adjective=0.0 if for_hard else 0.2)
        skip = 1 if for_hard else 0
        build.modifier(rng.choices(MODIFIERS[skip:], MODIFIER_WEIGHTS[skip:])[0], subject)
        target = build.predicate(rng.choices(PREDICATES, PREDICATE_WEIGHTS)[0], subject)
        if MIN_WORDS <= len(build.items) <= MAX_WORDS:
            return Sentence(tuple(build.items), subject, target)


# ---- the tasks ---------------------------------------------------------------------------------------------

Row = tuple[str, int]
TASK_SEED = 41
SIZES = {"train": 1600, "validation": 600}  # rows; multiples of four


def reserved(text: str) -> bool:
    """Whether a sentence is kept for the tasks: about a quarter are, and pre-training sees none of them.

    A checksum decides, so neither text depends on the other and no list of sentences has to be passed around.
    """
    return crc32(text.encode()) % 4 == 0


def easy_rows(lexicon: Lexicon, rng: Random, count: int, seen: set[str]) -> list[Row]:
    """Label 1: an outdoor topic. Labels alternate before the shuffle, so they balance exactly."""
    rows: list[Row] = []
    while len(rows) < count:
        label = len(rows) % 2
        text = render(draw_sentence(lexicon, rng, rng.choice(OUTDOORS if label else TOPICS[4:])))
        if reserved(text) and text not in seen:
            seen.add(text)
            rows.append((text, label))
    rng.shuffle(rows)
    return rows


def swapped_pair(lexicon: Lexicon, rng: Random) -> list[tuple[str, Row]]:
    """Two sentences of the same words, whose subject and attractor have changed places; the particle is to be guessed.

    Returns (the grammatical sentence, (the same with its particle masked, gender of its subject)) twice. The subject
    and one noun between it and its verb differ in gender, and nothing else in the sentence agrees with either, so the
    two rows hold the same words and have different labels.
    """
    while True:
        first = draw_sentence(lexicon, rng, rng.choice(TOPICS), for_hard=True)
        items, subject, target = first.items, first.subject, first.target
        shown = {item.controller for place, item in enumerate(items) if item.kind == "particle" and place != target}
        others = [
            place
            for place in range(subject + 1, target)
            if items[place].kind == "noun" and place not in shown and items[place].gender != items[subject].gender
        ]
        if not others or subject in shown:
            continue
        other = rng.choice(others)
        changed = list(items)
        for here, there in ((subject, other), (other, subject)):
            noun = items[there]
            changed[here] = replace(items[here], word=noun.word, gender=noun.gender, topic=noun.topic)
        both = (first, replace(first, items=tuple(changed)))
        return [(render(s), (render(s, masked=True), s.items[subject].gender)) for s in both]


def hard_rows(lexicon: Lexicon, rng: Random, count: int, seen: set[str]) -> list[Row]:
    """The label is the gender that the masked particle must show. Pairs stay in one split."""
    rows: list[Row] = []
    while len(rows) < count:
        pair = swapped_pair(lexicon, rng)
        texts = {text for _, (text, _) in pair}
        if all(reserved(whole) for whole, _ in pair) and len(texts) == 2 and seen.isdisjoint(texts):
            seen.update(texts)
            rows += [row for _, row in pair]
    rng.shuffle(rows)
    return rows


def make_tasks(seed: int = TASK_SEED) -> dict[str, dict[str, list[Row]]]:
    """``tasks[task][split]`` -> rows of (sentence1, label). No sentence occurs twice in any of them."""
    lexicon, rng, seen = make_lexicon(), Random(seed), set()
    makers = {"easy": easy_rows, "hard": hard_rows}
    return {
        task: {split: make(lexicon, rng, count, seen) for split, count in SIZES.items()}
        for task, make in makers.items()
    }


def as_csv(rows: list[Row]) -> str:
    """The file's text: a header, then one row a line, with unix line ends."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("sentence1", "label"), *rows])
    return text.getvalue()


# ---- the pre-training text ---------------------------------------------------------------------------------

CORPUS_SEED = 7


def corpus(count: int, seed: int = CORPUS_SEED) -> Iterator[str]:
    """count grammatical sentences over all topics, none of them reserved for the tasks."""
    lexicon, rng = make_lexicon(), Random(seed)
    while count > 0:
        text = render(draw_sentence(lexicon, rng, rng.choice(TOPICS)))
        if not reserved(text):
            count -= 1
            yield text
