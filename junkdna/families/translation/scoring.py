"""What a run's translations are worth: scores of each direction and their means, results, predictions, lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property

from junkdna.families.translation import scores
from junkdna.families.translation.inputs import Asked
from junkdna.families.translation.translate import Output
from junkdna.runs import seals
from junkdna.runs.schema import metric

SHARES = ("in_script", "empty", "at_cap")
"""The measures that are shares of sentences."""


class Way:
    """The translations of one direction, and their scores."""

    def __init__(self, asked: Asked, outputs: Sequence[Output]):
        self.asked, self.outputs, self.name = asked, outputs, asked.name
        self.language = asked.direction.target
        self.scores = scores.score([one.text for one in outputs], asked.references, self.language)
        self.sentences = [self._sentence(one) for one in outputs]

    def _sentence(self, one: Output) -> dict[str, int]:
        """What one translation adds to each share; the script is left out where it is not known."""
        written = scores.in_script(one.text, self.language)
        counted = {} if written is None else {"in_script": int(written)}
        return counted | {"empty": int(not one.text.strip()), "at_cap": int(one.ended == "length")}

    @cached_property
    def values(self) -> dict[str, float]:
        """The direction's value of every measure."""
        count = len(self.sentences)
        shares = {name: sum(one[name] for one in self.sentences) / count for name in self.sentences[0]}
        return {"bleu": self.scores.bleu, "chrf": self.scores.chrf, **shares}

    def about(self) -> dict:
        """The direction's part of the record."""
        tokenizer = self.scores.tokenizer
        return {
            **self.values,
            "floor": self.asked.floor,
            "signatures": self.scores.signatures,
            "tokenizer": tokenizer.name,
            "tokenizer_reason": tokenizer.reason,
            "references_tokenised": self.scores.tokenised,
            "ended": dict(sorted(Counter(one.ended for one in self.outputs).items())),
            "tokens": sum(one.tokens for one in self.outputs),
        }

    def predictions(self) -> Iterator[dict]:
        """The lines of ``predictions.jsonl``."""
        rows = zip(self.asked.sources, self.outputs, self.scores.statistics, self.sentences)
        for number, (source, one, statistics, sentence) in enumerate(rows):
            yield {
                "id": f"{self.name}/{number}",
                "direction": self.name,
                "source_sha256": seals.digest(source.encode()),
                "output": one.text,
                "ended": one.ended,
                "tokens": one.tokens,
                "statistics": statistics,
                "scores": sentence,
            }

    def lines(self) -> list[str]:
        """The direction's scores in a line."""
        copied, chosen = self.asked.floor, self.scores.tokenizer
        shares = ", ".join(
            f"{name.replace('_', ' ')} {self.values[name]:.1%}" for name in SHARES if name in self.values
        )
        return [
            f"{self.name:<10}BLEU {self.values['bleu']:.2f} ({chosen.name}; copying the source {copied['bleu']:.2f}), "
            f"chrF++ {self.values['chrf']:.2f}; {shares}"
        ]


def results(ways: Sequence[Way]) -> dict[str, float]:
    """The mean over directions of every measure, and each direction's: "eval_bleu", "eval_bleu_en-de" ..."""
    means = mean([way.values for way in ways])
    each = {f"eval_{name}_{way.name}": way.values[name] for name in means for way in ways if name in way.values}
    return {f"eval_{name}": value for name, value in means.items()} | each


def mean(values: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every measure that any of the directions has, over those that have it."""
    names = [measure.name for measure in scores.MEASURES if any(measure.name in one for one in values)]
    having = {name: [one[name] for one in values if name in one] for name in names}
    return {name: sum(found) / len(found) for name, found in having.items()}


def lines(values: dict[str, float]) -> list[str]:
    """The means in a line."""
    return [f"result    BLEU {values['eval_bleu']:.2f}, chrF++ {values['eval_chrf']:.2f}, mean of the directions"]


def measures(asked: Sequence[Asked]) -> list[dict]:
    """What is measured; chance is what copying the source gets."""
    chance = mean([one.floor for one in asked])
    known = [m for m in scores.MEASURES if m.name != "in_script" or "in_script" in chance]
    return [
        metric(f"eval_{one.name}", better=one.better, chance=chance.get(one.name), main=one.name == scores.MAIN)
        for one in known
    ]
