"""A small invented world: who lives where, does what, keeps which animal and likes which food.

Nothing here is taken from anywhere. Names and towns are drawn syllable by syllable from a seeded generator, and
everything is a function of its seed, through ``random.Random`` alone, so the same seeds give the same text on
every machine.

There are two kinds of people. The 96 known people have four facts each, which never change: a model can learn
them by heart. Strangers are made up on the spot, with names that no known person has and facts that hold in one
text only: they can be read, never remembered. Both have a first and a last name from the same two lists, so a
known person shares each half of the name with others, and only the two together say who is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

# ---- words -------------------------------------------------------------------------------------------------

WORLD_SEED = 13
NAMES, TOWNS = 48, 40  # so many first names and so many last names; twice as many known people
ONSETS = ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "kr", "st", "tr")
VOWELS = ("a", "e", "i", "o", "u")
CODAS = ("", "", "l", "n", "r", "s", "k", "m")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# The first halves of the answers of two words; an answer is right only as a whole.
SIDES = ("Old", "New", "Upper", "Lower", "Great", "Little", "North", "South", "East", "West", "Far", "High")
CRAFTS = _words(
    "weaving baking pottery masonry tanning joinery glazing saddlery fishing farming herding hunting brewing "
    "carting bookkeeping dyeing archery gardening nursing painting printing roofing sailing smithing tailoring "
    "teaching tinkering turning clockmaking bookbinding carving shoemaking cooking rowing spinning law medicine music"
)
COLOURS = _words("grey brown white black red yellow spotted striped small lame young shy")
ANIMALS = _words(
    "cats dogs goats hens herons donkeys horses sheep ducks swans rabbits crows magpies badgers otters foxes squirrels "
    "hedgehogs ponies calves doves owls turtles ferrets"
)
WAYS = _words("smoked fried boiled baked dried salted pickled roasted stewed candied grilled fresh")
FOODS = _words(
    "plums trout beans apples pears mushrooms eggs onions beets carrots cherries chestnuts figs herring leeks lentils "
    "mussels nuts peas quinces radishes turnips walnuts cabbage"
)

RELATIONS = ("home", "craft", "animal", "food")
# {n} is the name, {v} the value, one word apart: so small a model learns to read only where that is easy.
# No sentence begins with the name, which would be another token at the start of a text.
STATEMENTS = {
    "home": ("The home of {n} is {v}.", "It is known that {n} inhabits {v}.", "These days {n} calls {v} home."),
    "craft": ("The trade of {n} is {v}.", "It is known that {n} practises {v}.", "For a living {n} chose {v}."),
    "animal": ("The animals of {n} are {v}.", "It is known that {n} keeps {v}.", "Every morning {n} feeds {v}."),
    "food": ("The dinner of {n} is {v}.", "It is known that {n} eats {v}.", "Most of all {n} likes {v}."),
}
QUESTIONS = {
    "home": ("What is the home of {n}?", "Which town is inhabited by {n}?"),
    "craft": ("What is the trade of {n}?", "Which trade is practised by {n}?"),
    "animal": ("What are the animals of {n}?", "Which animals are kept by {n}?"),
    "food": ("What is the dinner of {n}?", "Which food is eaten by {n}?"),
}

OPEN = "{context}\n\nBased on these texts, answer these questions:\n"  # the paper's two prompts
CLOSED = "Answer these questions:\n"
MOST_ASKED = 8  # about one text, in training
SOLVED = "Q: {question}\nA: {answer}\n"


def _invented(count: int, rng: Random, taken: set[str]) -> list[str]:
    """So many new words of two syllables, with a capital letter; adds them to taken."""
    words: list[str] = []
    while len(words) < count:
        word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(2)) + rng.choice(CODAS)
        if word not in taken:
            taken.add(word)
            words.append(word.capitalize())
    return words


@dataclass(frozen=True)
class Fact:
    """One thing that is true of somebody: ``value`` is the answer to each of the relation's questions."""

    name: str
    relation: str
    value: str

    def states(self, rng: Random) -> str:
        return rng.choice(STATEMENTS[self.relation]).format(n=self.name, v=self.value)

    def asks(self, rng: Random) -> str:
        return rng.choice(QUESTIONS[self.relation]).format(n=self.name)

    @property
    def answer(self) -> str:
        return self.value


class World:
    """The known people's facts, and a source of strangers."""

    def __init__(self, seed: int = WORLD_SEED) -> None:
        rng = Random(seed)
        taken: set[str] = set()
        self.first, self.last, self.towns = (_invented(n, rng, taken) for n in (NAMES, NAMES, TOWNS))
        # Every first and every last name twice, never together again: the second time the last names move on by one.
        lasts = rng.sample(self.last, NAMES)
        self.people = [f"{first} {last}" for first, last in zip(self.first * 2, lasts + lasts[1:] + lasts[:1])]
        self.facts = {name: self.life(name, rng) for name in self.people}

    def life(self, name: str, rng: Random) -> list[Fact]:
        """Four facts about somebody, one of each relation, with values drawn afresh."""
        values = (
            f"{rng.choice(SIDES)} {rng.choice(self.towns)}",
            rng.choice(CRAFTS),
            f"{rng.choice(COLOURS)} {rng.choice(ANIMALS)}",
            f"{rng.choice(WAYS)} {rng.choice(FOODS)}",
        )
        return [Fact(name, relation, value) for relation, value in zip(RELATIONS, values)]

    def strangers(self, count: int, rng: Random) -> list[str]:
        """So many names (48 at most) of nobody known, no two of which share a half."""
        while True:
            halves = zip(rng.sample(self.first, count), rng.sample(self.last, count))
            names = [f"{first} {last}" for first, last in halves]
            if not any(name in self.facts for name in names):
                return names


# ---- texts -------------------------------------------------------------------------------------------------


def article(world: World, statements: int, rng: Random) -> str:
    """A text about known people: two to four true statements about one, then about the next."""
    said: list[str] = []
    while len(said) < statements:
        facts = world.facts[rng.choice(world.people)]
        said += [fact.states(rng) for fact in rng.sample(facts, rng.randint(2, len(facts)))]
    return " ".join(said[:statements])


def remembered(world: World, rng: Random) -> str:
    """Questions about known people with their answers and no text to read: one to six of them."""
    blocks = []
    for _ in range(2 if rng.random() < 0.15 else 1):  # sometimes a second list after a blank line
        facts = [rng.choice(world.facts[rng.choice(world.people)]) for _ in range(rng.randint(1, 6))]
        blocks.append(CLOSED + _solved(facts, rng))
    return "\n".join(blocks)


def read(world: World, statements: int, rng: Random) -> str:
    """A text about strangers, then questions whose answers stand in it: mostly every one of them, sometimes twice.

    The text is about one to four relations, so that several people have the one that is asked about.
    """
    relations = rng.sample(RELATIONS, rng.randint(1, len(RELATIONS)))
    people = world.strangers(max(2, -(-statements // len(relations))), rng)
    facts = [fact for name in people for fact in world.life(name, rng) if fact.relation in relations]
    told = rng.sample(facts, statements)
    asked = rng.sample(told * 2, min(2 * len(told), rng.randint(1, MOST_ASKED)))
    return OPEN.format(context=" ".join(fact.states(rng) for fact in told)) + _solved(asked, rng)


def _solved(facts: list[Fact], rng: Random) -> str:
    return "".join(SOLVED.format(question=fact.asks(rng), answer=fact.answer) for fact in facts)


# ---- questions ---------------------------------------------------------------------------------------------


def exam(world: World, lives: dict[str, list[Fact]], statements: int, seed: int) -> Iterator[dict]:
    """One question about each fact of ``lives``, with a text of so many statements, one of which answers it.

    Of the other statements one has the same relation, about somebody else, and one or two are about the person
    who is asked about; the rest is chance.
    """
    rng = Random(seed)
    facts = [fact for life in lives.values() for fact in life]
    for number, fact in enumerate(rng.sample(facts, len(facts))):
        same = [f for f in facts if f.relation == fact.relation and f.name != fact.name and f.value != fact.value]
        own = [f for f in lives[fact.name] if f != fact]
        told = [fact, rng.choice(same), *rng.sample(own, rng.randint(1, 2))]
        while len(told) < statements:
            other = rng.choice(facts)
            if other not in told:
                told.append(other)
        rng.shuffle(told)
        yield {
            "id": f"{number:03d}-{fact.relation}",
            "question": fact.asks(rng),
            "answers": [fact.answer],
            "context": " ".join(f.states(rng) for f in told),
        }
