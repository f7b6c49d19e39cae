"""Settings of a translation: what is translated and trained on, how it is searched for, what regularises training."""

from __future__ import annotations

from dataclasses import dataclass

from junkdna.families.translation import parallel
from junkdna.runs.settings import flag, number, one_of, path

DIRECTIONS = ("both", "forward", "backward")


def language_pair(text: str) -> str:
    """Read a pair of languages, source-target."""
    parallel.languages(text)
    return text


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What is translated, and what is trained on."""

    title = "data"

    pair: str | None = flag(
        language_pair,
        role="axis",
        metavar="PAIR",
        many=True,
        help="language pair(s) to translate, source-target: en-de en-gu; required",
    )
    data_dir: str | None = flag(
        path,
        role="source",
        metavar="DIR",
        help="folder of test, train and validation texts: test.en-de.en with test.en-de.de, test.en with test.de, or "
        "test.en-de.jsonl, each also .gz; default OPUS-100 from the Hub",
    )
    directions: str = flag(
        one_of(DIRECTIONS),
        role="data",
        metavar="WAY",
        default="both",
        help="directions that are trained and translated: both, forward (en-de: from en to de) or backward; default "
        "both; the score is their mean",
    )
    train_pairs: int | None = flag(
        number(int, 1),
        role="axis",
        metavar="N",
        many=True,
        help="few-shot: sentence pairs to train on, the first N of each language pair, >= 1; default all",
    )
    mix: tuple[str, ...] = flag(
        language_pair,
        role="data",
        metavar="PAIR",
        extend=True,
        default=(),
        help="few-shot: train one model on all of these language pairs; --pair says which are translated; default: on "
        "each pair of --pair alone",
    )
    temperature: float = flag(
        number(float, 0, above=True),
        role="training",
        metavar="T",
        default=1.5,
        help="of --mix: a language pair with n sentence pairs makes up n^(1/T) parts of an epoch, > 0; 1: each in "
        "proportion to its size; large: equally many of each; default 1.5, as the paper's code",
    )
    max_length: int = flag(
        number(int, 1),
        role="data",
        metavar="TOKENS",
        default=256,
        help="leave out sentence pairs of which a side has more tokens, when training; >= 1; default 256, or what the "
        "model has positions for if that is less",
    )
    max_eval_samples: int | None = flag(
        number(int, 1),
        role="data",
        metavar="N",
        help="use the first N sentence pairs of test and of validation only; default all",
    )


@dataclass(frozen=True, kw_only=True)
class Search:
    """How a translation is searched for."""

    title = "generation"

    num_beams: int = flag(
        number(int, 1), role="data", metavar="N", default=5, help="width of the beam, >= 1; default 5, as the paper"
    )
    length_penalty: float = flag(
        number(float),
        role="data",
        metavar="P",
        default=1.0,
        help="a finished translation's log-likelihood is divided by its length to this power; default 1",
    )
    max_new_tokens: int = flag(
        number(int, 1),
        role="data",
        metavar="N",
        default=200,
        help="longest translation in tokens, >= 1; default 200, as the paper",
    )


@dataclass(frozen=True, kw_only=True)
class Regularising:
    """What keeps a fine-tuned translation model from learning its training text by heart."""

    title = "training"

    label_smoothing: float = flag(
        number(float, 0, 1, below=True),
        role="training",
        metavar="E",
        default=0.0,
        help="share of a target token's probability that is spread over the vocabulary, [0, 1); default 0; the paper's "
        "code: 0.2",
    )
    dropout: float | None = flag(
        number(float, 0, 1, below=True),
        role="training",
        metavar="P",
        help="dropout while training, [0, 1); default: as the checkpoint says; the paper's code: 0.3",
    )
    attention_dropout: float | None = flag(
        number(float, 0, 1, below=True),
        role="training",
        metavar="P",
        help="dropout of attention weights while training, [0, 1); default: as the checkpoint says",
    )


@dataclass(frozen=True, kw_only=True)
class After:
    """Pruning what was learned."""

    title = "pruning"

    prune_after_training: bool = flag(
        role="treatment",
        default=False,
        help="the paper's few-shot: fine-tune the dense model, prune it then, and do not train it again; default off: "
        "prune first",
    )
