"""The settings of a run on a reasoning task: multiple choice or word problems."""

from __future__ import annotations

from dataclasses import dataclass

from junkdna.families.encoder.settings import EncoderCell
from junkdna.families.reasoning.tasks import CHOICE, EQUATION, FOLDS, SIZES, TASKS, task_name
from junkdna.runs.cell import Command as Common
from junkdna.runs.pruning import Spelling
from junkdna.runs.schema import file_label
from junkdna.runs.settings import flag, number, one_of, path

OF_CHOICE = ("num_choices", "winogrande_size")
"""Settings that mean nothing for word problems."""

OF_EQUATIONS = (
    "fold",
    "show_numbers",
    "num_beams",
    "well_formed",
    "label_smoothing",
    "decoder_layers",
    "decoder_heads",
    "decoder_inner",
    "decoder_dropout",
    "decoder_learning_rate",
    "prune_decoder",
)
"""Settings that mean nothing for multiple choice."""


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """What is asked."""

    title = "data"

    task_name: str | None = flag(
        task_name,
        role="axis",
        metavar="TASK",
        many=True,
        help=f"task(s): {' '.join(TASKS)}",
    )
    data_dir: str | None = flag(
        path,
        role="source",
        metavar="DIR",
        help="folder with the original files, in folders commonsenseqa, winogrande, mawps, svamp; read instead of the "
        "Hub, which has the first two",
    )
    train_file: str | None = flag(
        path,
        role="source",
        metavar="FILE",
        help="your own training data: JSON lines with question, choices, label (or first, second: two lists of texts); "
        "or CSV or JSON lines with text, numbers, equation, answer",
    )
    validation_file: str | None = flag(
        path, role="source", metavar="FILE", help="your own validation data, in the same form"
    )
    winogrande_size: str | None = flag(
        one_of(SIZES),
        role="axis",
        metavar="SIZE",
        many=True,
        default="xl",
        help=f"training set(s) of WinoGrande: {', '.join(f'{name} ({rows:,} rows)' for name, rows in SIZES.items())}; "
        "default xl",
    )
    num_choices: int | None = flag(
        number(int, 2),
        role="axis",
        metavar="K",
        many=True,
        help="multiple choice: keep the right choice and K-1 others, drawn with the seed; >= 2; default all",
    )
    fold: int | None = flag(
        number(int, FOLDS[0], FOLDS[-1]),
        role="fold",
        metavar="N",
        many=True,
        help="fold(s) of MAWPS to validate on, 0 to 4; default all five, whose mean the report gives",
    )
    show_numbers: bool = flag(
        role="data",
        default=False,
        help="word problems: show the model the numbers in the text; default off: it reads number0, number1, ...",
    )


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The decoder that writes equations, and how it learns and searches."""

    title = "word problems"

    decoder_layers: int = flag(
        number(int, 1), role="training", metavar="N", default=2, help="layers of the fresh decoder, >= 1; default 2"
    )
    decoder_heads: int = flag(
        number(int, 1),
        role="training",
        metavar="N",
        default=8,
        help="its heads, which must divide the encoder's width; default 8",
    )
    decoder_inner: int = flag(
        number(int, 1), role="training", metavar="N", default=1024, help="its inner width, >= 1; default 1024"
    )
    decoder_dropout: float = flag(
        number(float, 0, 1, below=True),
        role="training",
        metavar="P",
        default=0.1,
        help="its dropout, [0, 1); default 0.1",
    )
    decoder_learning_rate: float | None = flag(
        number(float, 0, above=True),
        role="training",
        metavar="LR",
        help="its peak learning rate, > 0, with the schedule of the other; default --learning_rate",
    )
    label_smoothing: float = flag(
        number(float, 0, 1, below=True),
        role="training",
        metavar="E",
        default=0.0,
        help="share of a symbol's probability that is spread over all symbols, [0, 1); default 0",
    )
    num_beams: int = flag(
        number(int, 1),
        role="data",
        metavar="N",
        default=5,
        help="width of the beam in evaluation, >= 1 (1: greedy); default 5",
    )
    well_formed: bool = flag(
        role="data",
        default=False,
        help="search among well-formed equations alone, with numbers that the problem has; default off: what is "
        "malformed counts as wrong",
    )


@dataclass(frozen=True, kw_only=True)
class DecoderScope:
    """Whether the decoder may be pruned."""

    title = "pruning"

    prune_decoder: bool = flag(
        role="scope",
        default=False,
        help="word problems: rank the fresh decoder's weights with the encoder's; default off: the decoder stays dense",
    )


@dataclass(frozen=True, kw_only=True)
class ReasoningCell(Tasks, Writing, DecoderScope, EncoderCell):
    """One run. ``--help`` gives unit, range and default of each field."""

    title = "data"
    family = "reasoning"
    more_fields = ("task",)

    @property
    def kind(self) -> str | None:
        """CHOICE or EQUATION; None for files of one's own, which show it when they are read."""
        return TASKS[self.task_name].kind if self.task_name else None

    @property
    def task_label(self) -> str:
        return self.task_name or file_label(self.train_file)

    @property
    def axes(self) -> dict[str, str]:
        size = {"size": self.winogrande_size} if self.winogrande_size else {}
        choices = {"choices": str(self.num_choices)} if self.num_choices else {}
        return {"task": self.task_label, **size, **choices}

    @property
    def source(self) -> tuple:
        drawn = (self.num_choices, self.seed) if self.num_choices else ()
        where = (self.data_dir, self.train_file, self.validation_file)
        return (self.task_name, *where, self.winogrande_size, self.fold, *drawn)

    @property
    def unused(self) -> tuple[str, ...]:
        return {CHOICE: OF_EQUATIONS, EQUATION: OF_CHOICE}.get(self.kind, ())

    def fields(self) -> dict[str, str]:
        own = {"task": self.task_label}
        own |= {name: "all" for name in ("winogrande_size", "num_choices", "fold") if getattr(self, name) is None}
        return super().fields() | own | {"task_name": self.task_label}


@dataclass(frozen=True, kw_only=True)
class Command(Spelling, Common):
    """How to go about the runs."""

    title = "training"
