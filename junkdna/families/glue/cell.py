"""A run on a GLUE task, or on files of one's own, as its settings."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from junkdna.families.encoder.settings import EncoderCell
from junkdna.families.glue import tasks
from junkdna.runs.settings import flag, number, path
from junkdna.sparsity.patterns import decimal_text


def percentage(text: str) -> tuple[str | None, Decimal]:
    """Read P or TASK=P, as (task or None, percentage)."""
    name, _, value = text.rpartition("=")
    return (tasks.task_name(name) if name else None), number(Decimal, 0, 100, above=True)(value)


@dataclass(frozen=True, kw_only=True)
class GlueCell(EncoderCell):
    """One run. ``--help`` gives unit, range and default of each field."""

    title = "data"
    family = "glue"

    task_name: str | None = flag(
        tasks.task_name,
        names=("--task_name", "--TASK_NAME"),
        role="axis",
        metavar="TASK",
        many=True,
        help=f"GLUE task(s), any case, SST-2 and STS-B too: {' '.join(sorted(tasks.TASKS))}",
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
        help="own training data, csv or json lines: columns sentence1, optionally sentence2, and label (or else the first "
        "one or two columns that are not label); float labels mean regression",
    )
    validation_file: str | None = flag(path, role="source", metavar="FILE", help="own validation data, same columns")
    train_percentage: Decimal = flag(
        percentage,
        names=("--validation_split_percentage", "--train_percentage"),
        role="axis",
        metavar="P|TASK=P",
        many=True,
        default=(None, Decimal(100)),
        help="percentage of the TRAINING set that is used, its first rows; (0, 100], fractions allowed; default 100. "
        "sst2=10 is for that task alone, which then takes no others. The name is historical: the validation set is "
        "always used whole",
    )

    @property
    def axes(self) -> dict[str, str]:
        task = self.task_name or file_label(self.train_file)
        return {"task": task, "data": f"{decimal_text(self.train_percentage)} %"}

    @property
    def source(self) -> tuple:
        return (self.task_name, self.glue_dir, self.train_file, self.validation_file)

    @property
    def percentage(self) -> Decimal:
        return self.train_percentage

    def fields(self) -> dict[str, str]:
        return super().fields() | {"task_name": self.axes["task"]}


def file_label(train_file: str) -> str:
    """Name a task after its training file, or after that file's folder if the file is called 'train'."""
    path = Path(train_file)
    return path.absolute().parent.name if path.stem.lower() == "train" else path.stem
