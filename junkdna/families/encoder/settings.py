"""Settings of a fine-tuned encoder: how its texts are cut, and what becomes of a head that does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from junkdna.runs.cell import Cell
from junkdna.runs.groups import Holding, Training
from junkdna.runs.settings import flag, number


@dataclass(frozen=True, kw_only=True)
class Texts:
    """How many rows are used, and how long they are."""

    title = "data"

    max_length: int = flag(
        number(int, 1),
        role="data",
        metavar="TOKENS",
        default=128,
        help="cut longer inputs to this many tokens, >= 1; default 128",
    )
    pad_to_max_length: bool = flag(
        role="training",
        default=False,
        help="pad every input to --max_length instead of only as far as needed; slower, and dropout draws other "
        "numbers; default off",
    )
    max_train_samples: int | None = flag(
        number(int, 1),
        role="data",
        metavar="ROWS",
        help="use at most this many training rows, after the percentage; default all",
    )
    max_eval_samples: int | None = flag(
        number(int, 1),
        role="data",
        metavar="ROWS",
        help="use at most this many validation rows, to try things out; default all",
    )


@dataclass(frozen=True, kw_only=True)
class Head:
    """What becomes of a head that was made for another task."""

    title = "model"

    ignore_mismatched_sizes: bool = flag(
        role="layout",
        default=False,
        help="replace a head made for another number of labels with a freshly drawn one, instead of refusing it; "
        "default off",
    )


@dataclass(frozen=True, kw_only=True)
class EncoderCell(Texts, Head, Training, Holding, Cell):
    """One run of an encoder that is fine-tuned on texts. A family adds where they come from."""

    title = "data"

    @property
    def source(self) -> tuple:
        """Where the rows come from; cells of the same source share them."""
        raise NotImplementedError

    @property
    def percentage(self) -> Decimal:
        """Percentage of the training rows that is used, the first ones; (0, 100]."""
        return Decimal(100)
