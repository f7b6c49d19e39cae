"""The settings of a run that prunes a translation model, as it is or fine-tuned, and has it translate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from junkdna.families.translation import pairs, parallel
from junkdna.runs.cell import Cell
from junkdna.runs.cell import Command as Common
from junkdna.runs.groups import Holding, Training
from junkdna.runs.pruning import Spelling
from junkdna.runs.settings import flag, number, one_of, path, roles

DIRECTIONS = ("both", "forward", "backward")
ZERO_SHOT, FEW_SHOT = "zero-shot", "few-shot"


def language_pair(text: str) -> str:
    """Read a pair of languages, source-target."""
    parallel.languages(text)
    return text


def below_one(text: str) -> float:
    """Read a number from 0, up to but not including 1."""
    value = number(float, 0, 1)(text)
    if value == 1:
        raise ValueError("must be a number >= 0 and < 1")
    return value


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
        below_one,
        role="training",
        metavar="E",
        default=0.0,
        help="share of a target token's probability that is spread over the vocabulary, [0, 1); default 0; the paper's "
        "code: 0.2",
    )
    dropout: float | None = flag(
        below_one,
        role="training",
        metavar="P",
        help="dropout while training, [0, 1); default: as the checkpoint says; the paper's code: 0.3",
    )
    attention_dropout: float | None = flag(
        below_one,
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


@dataclass(frozen=True, kw_only=True)
class TranslationCell(Pairs, Search, Regularising, After, Training, Holding, Cell):
    """One run. ``--help`` gives unit, range and default of each field."""

    title = "training"
    family = "translation"
    also_read = ("generation_config.json", "source.spm", "target.spm", "target_vocab.json")
    more_fields = ("shots",)

    # --- common fields that this family asks for in its own words ----------------------------------------------------

    model_name_or_path: str | None = flag(
        path,
        role="model",
        metavar="MODEL",
        help="pre-trained translation model (mBART, mBART-50, M2M100, NLLB, Marian, T5): a Hub name "
        "(facebook/mbart-large-50-many-to-many-mmt) or a folder; required",
    )
    num_train_epochs: int = flag(
        number(int, 0),
        role="training",
        metavar="N",
        default=0,
        help="few-shot: passes over the training pairs; default 0: zero-shot, no training",
    )

    @property
    def trains(self) -> bool:
        """Whether the model is fine-tuned: few-shot."""
        return bool(self.max_train_steps or self.num_train_epochs)

    @property
    def prunes_first(self) -> bool:
        """Whether the pre-trained model is pruned."""
        return not (self.dense or self.prune_after_training)

    @property
    def shots(self) -> str:
        """ "zero-shot", "few-shot", or "few-shot 1000" where the number of training pairs was given."""
        if not self.trains:
            return ZERO_SHOT
        return f"{FEW_SHOT} {self.train_pairs}" if self.train_pairs else FEW_SHOT

    @property
    def axes(self) -> dict[str, str]:
        return {"shots": self.shots, "pair": self.pair}

    @property
    def label(self) -> str:
        return f"{self.pair} {self.shots}"

    @property
    def treatment(self) -> str:
        if not self.trains:
            return "one-shot"
        return "one-shot after fine-tuning" if self.prune_after_training else super().treatment

    @property
    def hold(self) -> str:
        """How the mask is held; what is not trained after pruning keeps its zeros."""
        return "sparse" if self.prune_after_training or not self.trains else super().hold

    @property
    def method_name(self) -> str:
        name = super().method_name
        return name if self.trains else name.removesuffix("_sparse_to_dense") + "_zero_shot"

    def fields(self) -> dict[str, str]:
        used = self.train_pairs or "all" if self.trains else 0
        return super().fields() | {"shots": self.shots.replace(" ", "-"), "train_pairs": str(used)}

    # --- data --------------------------------------------------------------------------------------------------------

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The language pairs of the training text; none of a zero-shot run."""
        return (self.mix or (self.pair,)) if self.trains else ()

    def ways(self, pair: str) -> list[tuple[str, str]]:
        """The directions of a pair, as (source, target) languages: forward first."""
        forward = parallel.languages(pair)
        return {"both": [forward, forward[::-1]], "forward": [forward], "backward": [forward[::-1]]}[self.directions]

    @property
    def splits_read(self) -> list[tuple[str, str]]:
        """(pair, split) of all text that is read: test of what is asked, training and validation of what is trained."""
        trained = [(pair, split) for pair in self.trained_on for split in ("train", "validation")]
        return [(self.pair, "test"), *trained]

    @property
    def files_read(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for pair, split in self.splits_read if self.data_dir else ():
            files = pairs.find(self.data_dir, pair, split)
            for file in dict.fromkeys((files.source, files.target) if files else ()):
                found[f"--data_dir {Path(file).name}"] = str(file)
        return super().files_read | found

    # --- what cells share --------------------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> tuple:
        """Which pre-trained model, and with which dropout."""
        return (self.model_name_or_path, self.model_revision, self.dropout, self.attention_dropout)

    @property
    def trained(self) -> tuple:
        """Which fine-tuned model, before anything is removed from it afterwards: cells of equal ones share it."""
        later = self.dense or self.prune_after_training
        held = () if later else self._settings("scope", "pattern", "treatment")
        learned = self._settings("source", "data", "model", "training")
        return (*learned, *held, self.trained_on, self.train_pairs, self.seed)

    @property
    def shares_training(self) -> bool:
        """Whether another cell of a grid may want the model that this one has trained."""
        return bool(self.mix) or self.dense or self.prune_after_training

    @property
    def pruned(self) -> tuple:
        """Which mask: cells of equal ones share it."""
        of = self.trained if self.prune_after_training else self._settings("model")
        drawn = self.seed if self.score == "random" else None
        return (*of, *self._settings("scope", "pattern"), drawn)

    def _settings(self, *kinds: str) -> tuple:
        return tuple((name, getattr(self, name)) for name, role in roles(type(self)).items() if role in kinds)


@dataclass(frozen=True, kw_only=True)
class Command(Spelling, Common):
    """How to go about the runs."""

    title = "training"
