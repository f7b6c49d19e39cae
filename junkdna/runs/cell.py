"""A cell: one run as one frozen, fully resolved configuration, built and validated before anything is loaded.

Its JSON form is what ``run.json`` stores under ``settings`` and what a repeated run is compared with.
"""

from __future__ import annotations

import dataclasses
import os
import string
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from junkdna.errors import Fault, UserError, did_you_mean
from junkdna.models import hub
from junkdna.runs.groups import Model, Output, Overwriting
from junkdna.runs.jobs.flags import Jobs
from junkdna.runs.pruning import Dense, Pruning
from junkdna.runs.settings import as_json, as_text, flag, number, roles


@dataclass(frozen=True, kw_only=True)
class Cell(Model, Pruning, Output):
    """The part of a run's configuration that every family has. Field names are the flags' names."""

    title = "training"
    family: ClassVar[str]
    """The family's name; it is in ``run.json``, and a job finds the family by it."""
    also_read: ClassVar[tuple[str, ...]] = ()
    """Files of a model's folder that enter the result, beside its configuration, tokenizer and weights."""
    more_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that ``--output_dir`` may have beside the settings that take several values; ``fields`` fills them."""

    seed: int = flag(
        number(int, 0, 2**32 - 1),
        role="seed",
        metavar="N",
        many=True,
        default=42,
        help="drives all randomness (a fresh head, the order of examples, dropout, calibration, random masks); "
        "0 to 2**32-1; default 42",
    )

    @property
    def axes(self) -> dict[str, str]:
        """What the run is of, in words, the panel of a figure first: {"task": "cola", "data": "100 %"}."""
        raise NotImplementedError

    @property
    def treatment(self) -> str:
        """The paper's name of what is done with the removed weights; families that do not train prune in one shot."""
        return "one-shot"

    @property
    def label(self) -> str:
        """The run's first axis: its task or language pair."""
        return next(iter(self.axes.values()))

    @property
    def model_label(self) -> str:
        name = Path(self.model_name_or_path.rstrip("/")).name
        return name if name not in ("", "..") else Path(os.path.realpath(self.model_name_or_path)).name or "model"

    @property
    def what(self) -> str:
        """What is removed, in words."""
        return str(self.pattern or ("dense" if self.dense else f"mask file {self.mask_file}"))

    @property
    def method_name(self) -> str:
        """A name of the kind of run in the manner of the paper's scripts: Glue_noembed_freeze_weights."""
        words = [self.family.capitalize()]
        if self.dense:
            return "_".join([*words, "dense"])
        held = [name for name, role in roles(type(self)).items() if role == "treatment"]
        words += ["noembed"] if self.noembed else []
        words += [name for name in held if getattr(self, name)] or (["sparse_to_dense"] if held else [])
        return "_".join(words)

    @property
    def unused(self) -> tuple[str, ...]:
        """The settings that mean nothing for this run, as those of another method: recorded as None, never compared."""
        return ()

    @property
    def drawn(self) -> bool:
        """Whether the seed can change the result. A grid makes a run that draws nothing for the first seed alone."""
        return True

    @property
    def files_read(self) -> dict[str, str]:
        """The files, beside those of the model's folder, that enter the result: the flag -> the path."""
        return {"--mask_file": self.mask_file} if self.mask_file else {}

    @property
    def repository(self) -> str:
        """Where ``--push_to_hub`` puts the run: the repository asked for, else one named after what the run is."""
        return self.hub_model_id or hub.repository_name(self.told_by)

    @property
    def told_by(self) -> tuple[str, ...]:
        """The words that tell the run from others, as its folders do in the default output folder."""
        first, *others = (text.removesuffix(" %") for text in self.axes.values())
        given = ((name, getattr(self, name)) for name, role in roles(type(self)).items() if role == "fold")
        folds = [f"{name}{number}" for name, number in given if number is not None]
        return (self.model_label, self.method, first, self.pattern_slug, *others, *folds, str(self.seed))

    def fields(self) -> dict[str, str]:
        """What the fields of ``--output_dir`` stand for.

        They are every setting that may take several values, and model, method and pattern.
        """
        values = {"model": self.model_label, "method": self.method, "pattern": self.pattern_slug}
        for name in axis_fields(type(self)):
            values[name] = as_text(getattr(self, name))
        return values | {"sparsity": self.pattern_slug if self.sparsity is None else as_text(self.sparsity)}

    def settings(self) -> dict:
        """Everything that may change the result, as JSON values."""
        return {name: as_json(getattr(self, name)) for name, role in roles(type(self)).items() if role != "option"}

    def options(self) -> dict:
        """The settings that change no result, as JSON values."""
        return {name: as_json(getattr(self, name)) for name, role in roles(type(self)).items() if role == "option"}

    def header(self) -> dict:
        """What every record of the run says of it: family, axes, treatment, settings and the role of each."""
        settings = self.settings()
        return {
            "family": self.family,
            "axes": self.axes,
            "treatment": self.treatment,
            "roles": {name: role for name, role in roles(type(self)).items() if name in settings},
            "settings": settings,
        }


@dataclass(frozen=True, kw_only=True)
class Command(Dense, Overwriting, Jobs):
    """Flags that every family has beside those of its cell."""


def axis_fields(cell: type[Cell]) -> list[str]:
    """The settings that may take several values, by field."""
    return [field.name for field in dataclasses.fields(cell) if (f := field.metadata.get("flag")) and f.many]


def template_fields(cell: type[Cell]) -> dict[str, str]:
    """The fields that ``--output_dir`` may have, by every name of their flag, with the name that ``Cell.fields``
    knows.
    """
    known = {name: name for name in ("model", "method", "pattern", *cell.more_fields)}
    for field in dataclasses.fields(cell):
        if (declared := field.metadata.get("flag")) and declared.many:
            known |= {name: field.name for name in (*(n.lstrip("-") for n in declared.names), field.name)}
    return {name: field for name, field in known.items() if name == name.lower() and name != "nm_ratio"}


def default_output(cell: type[Cell]) -> str:
    """The template of a family's folders: model, method, the family's own axes, pattern, seed."""
    own = [name for name in axis_fields(cell) if name not in ("sparsity", "nm_ratio", "seed")]
    first, others = own[:1], own[1:]
    parts = ["model", "method", *first, "pattern", *others, "seed"]
    return "./" + "/".join(f"{{{name}}}" for name in parts) + "/"


def output_dir(template: str, cell: Cell) -> str:
    """Fill an output folder's template; raises UserError for a field that does not exist."""
    known = template_fields(type(cell))
    try:
        parts = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise UserError(Fault("output_dir", template, f"is not a valid template: {error}")) from None
    for name, form, conversion in parts:
        if form or conversion:
            raise UserError(Fault("output_dir", template, f"write {{{name}}} without a format"))
        if name not in known:
            raise UserError(
                Fault(
                    "output_dir",
                    template,
                    f"unknown field {{{name}}}{did_you_mean(name, known)}; allowed: "
                    + " ".join(f"{{{field}}}" for field in known),
                )
            )
    if not template.strip():
        raise UserError("--output_dir: is empty; give a folder")
    values = cell.fields()
    for name in dict.fromkeys(name for name, _, _ in parts):
        value = values[known[name]]
        if value.startswith("/") or ".." in value.split("/"):
            reason = f"its field {{{name}}} is {value} here, which would lead out of the folder"
            raise UserError(Fault("output_dir", template, reason))
    return template.format(**{name: values[field] for name, field in known.items()})
