"""BLEU and chrF++ of translations, as sacreBLEU computes them, and what copying the source would get.

Every score comes with the statistics of each sentence. Their sums give the score exactly, so that intervals over
sentences can be had later without the texts (``junkdna/report/corpus_scores.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from junkdna.families.metrics import Measure
from junkdna.families.translation.writing import in_script, script_of

MEASURES = (
    Measure("bleu", "higher", "BLEU (0 to 100) of the whole test set"),
    Measure("chrf", "higher", "chrF++ (0 to 100): n-grams of characters and of words"),
    Measure("in_script", "higher", "share of outputs whose letters are mostly of the target language's script"),
    Measure("empty", "lower", "share of outputs without text"),
    Measure("at_cap", "lower", "share of outputs that were cut off at the longest length"),
)
"""What is measured of the translations into one language; shares are fractions."""

MAIN = "bleu"
"""The one of them that is shown first."""


# --- how a language is cut into words --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tokenizer:
    """What sacreBLEU's BLEU calls words: the name of one of its tokenizers, and why it is the one."""

    name: str
    reason: str


UNSPACED = "written without spaces between words: 13a would compare whole phrases"
TOKENIZERS = {
    "Mymr": Tokenizer("char", UNSPACED),
    "Thai": Tokenizer("char", UNSPACED),
    "Laoo": Tokenizer("char", UNSPACED),
    "Khmr": Tokenizer("char", UNSPACED),
    "Tibt": Tokenizer("char", "written without spaces, with a mark after each syllable"),
    "Jpan": Tokenizer("char", f"{UNSPACED}; sacreBLEU's ja-mecab needs a package of its own"),
    "Hani": Tokenizer("zh", f"{UNSPACED}; each Chinese character counts, the rest is cut as by 13a"),
    "Hang": Tokenizer("13a", "sacreBLEU's default, on words between spaces; its ko-mecab needs a package of its own"),
}
"""Scripts that 13a does not suit, or suits in part. None of these tokenizers downloads anything."""

DEFAULT = Tokenizer("13a", "sacreBLEU's default")


def tokenizer(language: str) -> Tokenizer:
    """Return BLEU's tokenizer for a target language, by its script: "de", or a model's own code ("mya_Mymr")."""
    return TOKENIZERS.get(script_of(language), DEFAULT)


# --- scores ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """BLEU and chrF++ (0 to 100) of the translations into one language.

    ``signatures`` are sacreBLEU's, by "bleu" and "chrf". ``statistics`` is what each sentence counts; sums over
    sentences give the scores of a whole. "bleu" is [n-grams that agree, n-grams of the output (n from 1 to 4 each),
    length of the output, of the reference]; "chrf" is [of the output, of the reference, in both] for n-grams of 1 to 6
    characters, then of 1 and 2 words. ``tokenised`` says whether the references look cut into words already: a space
    before most full stops at the end. BLEU and chrF++ of such texts are not those of others.
    """

    bleu: float
    chrf: float
    signatures: dict[str, str]
    tokenizer: Tokenizer
    statistics: tuple[dict[str, list[int]], ...]
    tokenised: bool


def score(outputs: Sequence[str], references: Sequence[str], language: str) -> Scores:
    """Return the scores of outputs against one reference each, in the same order.

    Raises ValueError for lists of unequal length or without rows, TypeError for rows that are not texts.
    """
    _check(outputs, references)
    chosen = tokenizer(language)
    bleu, chrf = _metrics(chosen.name)
    # The library's own steps of corpus_score, which does not give what the sentences count.
    of_bleu, of_chrf = (metric._extract_corpus_statistics(outputs, [references]) for metric in (bleu, chrf))
    return Scores(
        bleu=bleu._aggregate_and_compute(of_bleu).score,
        chrf=chrf._aggregate_and_compute(of_chrf).score,
        signatures={"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())},
        tokenizer=chosen,
        statistics=tuple({"bleu": [*b[2:], *b[:2]], "chrf": c} for b, c in zip(of_bleu, of_chrf)),
        tokenised=_tokenised(references),
    )


def copy_floor(sources: Sequence[str], references: Sequence[str], language: str) -> dict[str, float]:
    """Return what the sources get if they are taken for the translations: "bleu", "chrf", "empty" (0), and "in_script"
    where the script of ``language``, the target's, is known.
    """
    copied = score(sources, references, language)
    floor = {"bleu": copied.bleu, "chrf": copied.chrf, "empty": 0.0}
    if script_of(language) is not None:
        floor["in_script"] = sum(in_script(source, language) for source in sources) / len(sources)
    return floor


def _tokenised(texts: Sequence[str]) -> bool:
    ends = [text.rstrip()[-2:] for text in texts if text.rstrip().endswith(".")]
    return 2 * ends.count(" .") > len(ends)


def _check(outputs: Sequence[str], references: Sequence[str]) -> None:
    """The library cuts the longer list, and takes a text for a list of letters, without a word."""
    for name, rows in (("outputs", outputs), ("references", references)):
        if isinstance(rows, str) or not all(isinstance(row, str) for row in rows):
            raise TypeError(f"{name} must be a list of texts, one a sentence")
    if len(outputs) != len(references) or not outputs:
        raise ValueError(f"{len(outputs)} outputs and {len(references)} references: as many as the other, 1 or more")


@cache
def _metrics(tokenizer_name: str):
    """sacreBLEU's BLEU with a tokenizer, and its chrF++."""
    from sacrebleu.metrics import BLEU, CHRF

    return BLEU(tokenize=tokenizer_name, force=True), CHRF(word_order=2)  # force: says nothing of odd outputs
