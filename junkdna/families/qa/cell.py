"""The settings of a run that prunes a causal language model and asks it questions."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from junkdna.families.qa.hubs import TASKS
from junkdna.families.qa.prompts import BOOKS
from junkdna.models import causal_files
from junkdna.models.causal import DTYPES
from junkdna.runs.cell import Cell
from junkdna.runs.cell import Command as Common
from junkdna.runs.settings import derived, flag, model, number, one_of, path
from junkdna.sparsity.methods import CALIBRATED, with_own_unit
from junkdna.sparsity.patterns import Pattern, Unstructured, parse_nm, parse_sparsity

METHODS = {
    "magnitude": "the smallest weights of each matrix",
    "wanda": "the smallest |weight| x norm of its input, of each row",
    "sparsegpt": "the smallest by second order, of each block of 128 inputs; the weights that are kept make up for it",
    "magnitude_row": "control, the smallest weights of each row: between magnitude and wanda",
    "random": "control, drawn with --seed in each matrix",
}
PATTERNS = ("unstructured", "nm", "dense")
CORPORA = ("c4", "wikitext2")
GENERIC = ("questions", "data", "train", "validation", "test", "dev")
"""Names of data files that say nothing; their folder names the task."""


def corpus(text: str) -> str:
    """Read the name of a text: one of ``CORPORA``, or a file."""
    return text if text in CORPORA else path(text)


def released_pattern(text: str) -> str:
    """Read the released script's ``unstructured`` or n:m, n PRUNED of m; return that word, or N:M with N kept."""
    if text == "unstructured":
        return text
    pruned, colon, of = text.partition(":")
    if not (colon and pruned.isdecimal() and of.isdecimal() and 0 < int(pruned) < int(of)):
        raise ValueError("must be unstructured, or n:m with n of m pruned (2:4)")
    made = parse_nm(f"{int(of) - int(pruned)}:{int(of)}")
    return made.ratio


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is asked, and how."""

    title = "data"

    task_name: str | None = flag(
        one_of(TASKS),
        role="axis",
        metavar="TASK",
        many=True,
        help=f"question set(s): {', '.join(TASKS)}; from the Hub, or from --data_file, whose name they then are",
    )
    data_file: str | None = flag(
        path,
        role="source",
        metavar="FILE",
        help="questions of your own, JSON lines (.jsonl, also .gz): question, answers (one text or several), and for "
        "an open book context (a text)",
    )
    book: str = flag(
        one_of(BOOKS),
        role="axis",
        metavar="BOOK",
        many=True,
        default="closed",
        help="open: each question comes with its text; closed: without; default closed",
    )
    context_characters: int | None = flag(
        number(int, 1),
        role="axis",
        metavar="N",
        many=True,
        default=3072,
        help="characters of the text that an open book shows, from its beginning, >= 1; default 3072, as the paper; a "
        "closed book has None, and the word none in its folder's name",
    )
    shots: int = flag(
        number(int, 0),
        role="axis",
        metavar="K",
        many=True,
        default=0,
        help="solved examples in front of each question, from rows that are not asked; >= 0; default 0",
    )
    chat_template: bool = flag(
        role="data",
        default=False,
        help="ask through the model's own chat template, enable_thinking off; default off: the paper's plain prompt",
    )
    max_eval_samples: int = flag(
        number(int, 1),
        role="data",
        metavar="N",
        default=2000,
        help="questions to ask, the first ones; default 2000, as the paper",
    )
    max_new_tokens: int = flag(
        number(int, 1), role="data", metavar="N", default=32, help="longest answer in tokens, >= 1; default 32"
    )
    eval_batch_size: int = flag(
        number(int, 1),
        role="layout",
        metavar="N",
        default=16,
        help="questions answered at a time; the same answers up to rounding; default 16",
    )


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """The field's own measure of pruned language models."""

    title = "data"

    perplexity: str | None = flag(
        corpus,
        role="data",
        metavar="TEXT",
        help="also measure perplexity on this text: wikitext2 (from the Hub) or a file; default off",
    )
    perplexity_window: int | None = flag(
        number(int, 2),
        role="data",
        metavar="TOKENS",
        help="tokens of a window, which do not overlap; default 2048 or the model's positions, whichever is less",
    )
    perplexity_windows: int | None = flag(
        number(int, 1), role="data", metavar="N", help="use the first N windows only; default all"
    )


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A variant of one of the methods."""

    title = "pruning"

    use_variant: bool = flag(
        role="pattern",
        default=False,
        help="wanda's variant: every row loses the share of its scores that gives the sparsity over all rows, so that "
        "rows differ; default off",
    )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The text from which wanda and sparsegpt learn what goes into each matrix. Other runs have None for all of it."""

    title = "calibration"

    calibration: str | None = flag(
        corpus,
        role="scope",
        metavar="TEXT",
        default="c4",
        help="text for wanda and sparsegpt: c4 or wikitext2 (from the Hub), or a file, one document a line (of json "
        "lines their text); default c4",
    )
    nsamples: int | None = flag(
        number(int, 1), role="scope", metavar="N", default=128, help="samples of the text, >= 1; default 128"
    )
    seqlen: int | None = flag(
        number(int, 2),
        role="scope",
        metavar="TOKENS",
        help="tokens of a sample, >= 2; default 2048 or the model's positions, whichever is less",
    )


@dataclass(frozen=True, kw_only=True)
class QACell(Asking, Yardstick, Calibration, Variant, Cell):
    """One run. ``--help`` gives unit, range and default of each field."""

    title = "model"
    family = "qa"
    also_read = ("generation_config.json",)  # names the tokens that end an answer

    gguf_file: str | None = flag(
        role="model",
        metavar="FILE",
        help="load this GGUF file of the model's folder (needs the package gguf); default none",
    )
    dtype: str = flag(
        one_of(DTYPES),
        role="model",
        metavar="TYPE",
        default="auto",
        help="what the weights are kept and computed in: auto (the checkpoint's own; fp32 for fp16 without a GPU), "
        "fp32, bf16, fp16; default auto",
    )
    # --- common fields that this family asks for in its own words ----------------------------------------------------

    model_name_or_path: str | None = flag(
        model,
        names=("--model_name_or_path", "--model"),
        role="model",
        metavar="MODEL",
        help="pre-trained causal language model: a Hub name (lmsys/vicuna-7b-v1.3) or a folder; required",
    )
    score: str | None = flag(
        one_of(METHODS),
        names=("--prune_method", "--score"),
        role="pattern",
        metavar="METHOD",
        many=True,
        help="what is removed; default magnitude. " + "; ".join(f"{k}: {v}" for k, v in METHODS.items()),
    )
    sparsity_pattern: str | None = flag(
        one_of(PATTERNS),
        role="pattern",
        metavar="PATTERN",
        help="unstructured, nm (N of every M neighbouring inputs are kept) or dense (nothing is removed); default "
        "unstructured, or nm with --nm_ratio",
    )
    sparsity: Decimal | None = flag(
        parse_sparsity,
        names=("--sparsity", "--sparsity_ratio"),
        role="pattern",
        metavar="S",
        many=True,
        help="fraction of the weights of every linear layer that is REMOVED, [0, 1); 0 removes nothing; default 0.5",
    )
    noembed: bool = derived("scope", lambda: True)
    seed: int = flag(
        number(int, 0, 2**32 - 1),
        role="seed",
        metavar="N",
        many=True,
        default=0,
        help="drives all randomness (calibration samples, solved examples, random masks); a run that draws "
        "none of them is made for the first seed alone; 0 to 2**32-1; default 0",
    )

    @property
    def axes(self) -> dict[str, str]:
        return {
            "task": self.task_name or task_of_file(self.data_file),
            "book": self.book,
            "context": self.context_label,
            "shots": str(self.shots),
        }

    @property
    def context_label(self) -> str:
        """How much of the text is shown, in words; "none", which the report knows, for a closed book."""
        return str(self.context_characters) if self.book == "open" else "none"

    @property
    def calibrated(self) -> bool:
        """Whether what is removed depends on the calibration text."""
        return self.score in CALIBRATED and not self.mask_file

    @property
    def drawn(self) -> bool:
        """Whether the run draws solved examples, calibration samples, or what is removed."""
        return bool(self.shots) or self.calibrated or (self.score == "random" and not self.mask_file)

    @property
    def unused(self) -> tuple[str, ...]:
        learned = () if self.calibrated else tuple(field.name for field in dataclasses.fields(Calibration))
        return learned if self.book == "open" else (*learned, "context_characters")

    @property
    def told_by(self) -> tuple[str, ...]:
        # the pattern's name does not say by which score: without it those of a grid would replace each other
        return (*super().told_by, *filter(None, [self.score]), *["variant"] * self.use_variant)

    @property
    def pattern(self) -> Pattern | None:
        if self.sparsity_pattern != "unstructured":
            return super().pattern
        return with_own_unit(Unstructured(self.sparsity), self.score, self.use_variant)

    @property
    def what(self) -> str:
        variant = ", variant" if self.use_variant else ""
        return f"{self.score}{variant}: {super().what}" if self.score else super().what

    @property
    def method_name(self) -> str:
        return "QA"

    @property
    def files_read(self) -> dict[str, str]:
        gguf = causal_files.gguf_path(self.model_name_or_path, self.gguf_file)
        found = {"--gguf_file": gguf, "--data_file": self.data_file}
        if self.calibrated and self.calibration not in CORPORA:
            found["--calibration"] = self.calibration
        if self.perplexity and self.perplexity not in CORPORA:
            found["--perplexity"] = self.perplexity
        return super().files_read | {flag: path for flag, path in found.items() if path}

    @property
    def model_key(self) -> tuple:
        """Which model: cells of equal ones share it."""
        return (self.model_name_or_path, self.model_revision, self.gguf_file, self.dtype)

    @property
    def pruned(self) -> tuple:
        """Which pruned model: cells of equal ones share it, whatever they ask it."""
        what = (self.score, self.sparsity_pattern, self.sparsity, self.nm_ratio, self.use_variant, self.mask_file)
        drawn = (self.calibration, self.nsamples, self.seqlen) if self.calibrated else ()
        return (*self.model_key, *what, *self.prune_exclude, *drawn, None if self.dense else self.seed)

    def fields(self) -> dict[str, str]:
        method = "dense" if self.dense else self.score or "mask"
        named = {"task_name": self.axes["task"], "score": method, "context_characters": self.context_label}
        return super().fields() | named


@dataclass(frozen=True, kw_only=True)
class Command(Common):
    """How to go about the runs; and the released script's spellings."""

    title = "pruning"

    sparsity_type: str | None = flag(
        released_pattern,
        role="option",
        metavar="TYPE",
        help="the released script's spelling: unstructured, or n:m with n of m PRUNED; --nm_ratio says what is kept",
    )
    include_context: bool = flag(
        role="option", default=False, help="the released script's spelling of --book open; default off"
    )


def task_of_file(data_file: str) -> str:
    """Name a task after its file, or after that file's folder if the file's name says nothing."""
    stem = os.path.basename(data_file)
    for suffix in (".gz", ".jsonl", ".json"):
        stem = stem.removesuffix(suffix)
    return Path(data_file).absolute().parent.name if stem.lower() in GENERIC else stem
