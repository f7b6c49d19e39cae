"""The settings of a run that prunes a translation model, as it is or fine-tuned, and has it translate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from junkdna.families.translation import pairs, parallel
from junkdna.families.translation.settings import After, Pairs, Regularising, Search
from junkdna.runs.cell import Cell
from junkdna.runs.cell import Command as Common
from junkdna.runs.groups import Holding, Training
from junkdna.runs.pruning import Spelling
from junkdna.runs.settings import flag, model, number, roles

ZERO_SHOT, FEW_SHOT = "zero-shot", "few-shot"


@dataclass(frozen=True, kw_only=True)
class TranslationCell(Pairs, Search, Regularising, After, Training, Holding, Cell):
    """One run. ``--help`` gives unit, range and default of each field."""

    title = "training"
    family = "translation"
    also_read = ("generation_config.json", "source.spm", "target.spm", "target_vocab.json")
    more_fields = ("shots",)

    # --- common fields that this family asks for in its own words ----------------------------------------------------

    model_name_or_path: str | None = flag(
        model,
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
    def drawn(self) -> bool:
        """Whether the run trains, or draws what is removed; the search for a translation draws nothing."""
        return self.trains or self.score == "random"

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
    def model_key(self) -> tuple:
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
