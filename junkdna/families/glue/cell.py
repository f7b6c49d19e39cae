"""The settings of a run on a GLUE task, or on files of your own."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from junkdna.errors import UserError
from junkdna.families.encoder.settings import EncoderCell
from junkdna.families.glue import tasks
from junkdna.runs.cell import Command as Common
from junkdna.runs.groups import Graphless, Graphs
from junkdna.runs.pruning import Spelling
from junkdna.runs.schema import file_label
from junkdna.runs.settings import flag, number, path
from junkdna.sparsity.patterns import decimal_text


def percentage(text: str) -> Decimal | tuple[str, Decimal]:
    """Read P, or TASK=P as (task, percentage)."""
    name, _, value = text.rpartition("=")
    try:
        task = tasks.task_name(name) if name else None
    except UserError as error:  # it would name another flag
        raise ValueError(error.faults[0].reason) from None
    share = number(Decimal, 0, 100, above=True)(value)
    return (task, share) if task else share


@dataclass(frozen=True, kw_only=True)
class GlueCell(Graphs, EncoderCell):
    """One run. ``--help`` gives unit, range and default of each field."""

    title = "data"
    family = "glue"

    task_name: str | None = flag(
        tasks.task_name,
        names=("--task_name", "--TASK_NAME"),
        role="axis",
        metavar="TASK",
        many=True,
        help=f"GLUE task(s) in upper or lower case, SST-2 and STS-B included: {' '.join(sorted(tasks.TASKS))}",
    )
    glue_dir: str | None = flag(
        path,
        role="source",
        metavar="DIR",
        help="folder in the layout of the standard GLUE download (DIR/CoLA/train.tsv ...); read instead of the Hub",
    )
    train_file: str | None = flag(
        path,
        role="source",
        metavar="FILE",
        help="your own training data, CSV or JSON lines in UTF-8, with the columns sentence1, sentence2 (optional) and "
        "label. Other names of columns work where the choice is plain. Labels with a decimal point mean regression",
    )
    validation_file: str | None = flag(
        path,
        role="source",
        metavar="FILE",
        help="your own validation data; columns of the same names in any order",
    )
    text_columns: tuple[str, ...] = flag(
        role="data",
        metavar="COLUMN",
        extend=True,
        default=(),
        help="the one or two text columns of your own files, the first text first; other columns are not read; default "
        "sentence1 and sentence2, or else the only candidates",
    )
    label_column: str | None = flag(
        role="data", metavar="COLUMN", help="the label column of your own files; default label"
    )
    train_percentage: Decimal = flag(
        percentage,
        names=("--validation_split_percentage", "--train_percentage"),
        role="axis",
        metavar="P|TASK=P",
        many=True,
        default=Decimal(100),
        help="percentage of the TRAINING set to use, counted from its first row; (0, 100], fractions allowed; default "
        "100. sst2=10 is for that task alone, and replaces the others for it. The name is historical: the whole "
        "validation set is always used",
    )

    @property
    def axes(self) -> dict[str, str]:
        task = self.task_name or file_label(self.train_file)
        return {"task": task, "data": f"{decimal_text(self.train_percentage)} %"}

    @property
    def source(self) -> tuple:
        files = (self.train_file, self.validation_file, self.text_columns, self.label_column)
        return (self.task_name, self.glue_dir, *files)

    @property
    def percentage(self) -> Decimal:
        return self.train_percentage

    def fields(self) -> dict[str, str]:
        return super().fields() | {"task_name": self.axes["task"]}


@dataclass(frozen=True, kw_only=True)
class Command(Spelling, Common, Graphless):
    """How to go about the runs."""

    title = "training"
