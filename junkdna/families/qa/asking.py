"""The parts of a run of questions: what it starts from, the pruned model, its answers, the record.

A grid keeps each of them for as long as its cells ask for the same: one pruned model answers all of its questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import torch

from junkdna.errors import Fault, Faults, UserError
from junkdna.families.qa import about, answer, corpus, family, prompts, questions, scores
from junkdna.families.qa.answer import Answer
from junkdna.families.qa.cell import QACell
from junkdna.families.qa.corpus import Samples
from junkdna.families.qa.prompts import Prompts
from junkdna.families.qa.questions import Question, Questions
from junkdna.families.removed import Removed
from junkdna.models import memory
from junkdna.models.causal import Causal
from junkdna.runs import records, seals
from junkdna.runs.journal import Journal, metric_words
from junkdna.runs.shared import Shared
from junkdna.training import device as devices

LENGTH = 2048
"""Tokens of a calibration sample and of a window of perplexity, where the model has positions for them."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a run starts from: the rows, those that are asked, their prompts as text and as tokens, what chance gets,
    the pre-trained model, the device, and the texts for calibration and perplexity with what is taken from them.
    """

    whole: Questions
    asked: tuple[Question, ...]
    examples: tuple[Question, ...]
    prompts: Prompts
    tokens: list[torch.Tensor]
    chance: dict[str, float]
    pretrained: Causal
    device: torch.device
    samples: Samples | None
    calibration: corpus.Corpus | None
    windows: torch.Tensor | None
    yardstick: corpus.Corpus | None


@dataclass(frozen=True, kw_only=True)
class Pruned(Removed):
    """A model and what was removed from it. ``findings``: what the walk over the blocks came upon, ``seconds`` what it
    took.
    """

    model: torch.nn.Module
    findings: dict = field(default_factory=dict)
    seconds: dict = field(default_factory=dict)


# --- before the method -----------------------------------------------------------------------------------------------


def load(cell: QACell, shared: Shared, journal: Journal) -> Inputs:
    """Load what cells have in common, each part once: rows, tokenizer, texts; no weights yet.

    All that can be refused is refused here, long before the pruned model has answered. Raises UserError.
    """
    whole = family.read(cell, shared)
    asked, examples = questions.choose(whole, cell.max_eval_samples, cell.shots, cell.seed)
    pretrained = shared.keep("model", cell.model_key, partial(Causal, *cell.model_key))
    faults = Faults()
    family.check_model(cell, pretrained.config.to_dict(), faults)
    faults.raise_any()
    journal.lap("data")
    made, tokens = _prompts(cell, shared, pretrained, asked, examples)
    _check_positions(cell, pretrained, tokens)
    source = (cell.task_name, cell.data_file, len(asked))
    chance = shared.keep(f"chance of {cell.label}", source, partial(scores.constant, asked))
    calibration, samples = _calibration(cell, shared, pretrained) if cell.calibrated else (None, None)
    yardstick, windows = _yardstick(cell, shared, pretrained) if cell.perplexity else (None, None)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        devices.use_fast_exact_matmul()
    else:
        devices.use_exact_kernels()
    return Inputs(
        whole=whole,
        asked=asked,
        examples=examples,
        prompts=made,
        tokens=tokens,
        chance=chance,
        pretrained=pretrained,
        device=device,
        samples=samples,
        calibration=calibration,
        windows=windows,
        yardstick=yardstick,
    )


def _prompts(
    cell: QACell,
    shared: Shared,
    pretrained: Causal,
    asked: tuple[Question, ...],
    examples: tuple[Question, ...],
) -> tuple[Prompts, list[torch.Tensor]]:
    """The prompts and their tokens. Each way of asking is a kind of its own: a pruned model is asked in all of them."""

    def make() -> tuple[Prompts, list[torch.Tensor]]:
        made = prompts.build(
            asked,
            book=cell.book,
            context_characters=cell.context_characters,
            examples=examples,
            tokenizer=pretrained.tokenizer if cell.chat_template else None,
        )
        return made, answer.tokenise(pretrained.tokenizer, made)

    drawn = cell.seed if cell.shots else None
    key = (cell.model_key, cell.data_file, cell.max_eval_samples, cell.chat_template, drawn)
    return shared.keep(f"prompts of {', '.join(cell.axes.values())}", key, make)


def _check_positions(cell: QACell, pretrained: Causal, tokens: list[torch.Tensor]) -> None:
    """Raise UserError if the model has no positions for a prompt and its answer."""
    sizes = list(map(len, tokens))
    limit, longest = pretrained.positions, max(sizes)
    beyond = sum(size + cell.max_new_tokens > limit for size in sizes) if limit else 0
    if beyond:
        flag = "context_characters" if cell.book == "open" else "shots" if cell.shots else "max_new_tokens"
        reason = (
            f"{beyond:,} of {len(sizes):,} questions need up to {longest + cell.max_new_tokens:,} tokens with "
            f"their answers, and the model has positions for {limit:,}; give less"
        )
        raise UserError(Fault(flag, getattr(cell, flag), reason))


def _calibration(cell: QACell, shared: Shared, pretrained: Causal) -> tuple[corpus.Corpus, Samples]:
    """The text for calibration, and the samples of it."""
    size = cell.seqlen or _usual_length(pretrained)
    _check_room(cell, pretrained, size)
    text = shared.keep("calibration text", cell.calibration, partial(corpus.read_text, cell.calibration))
    drawn = (cell.nsamples, size, cell.seed)
    make = partial(corpus.samples, pretrained.tokenizer, text, *drawn)
    return text, shared.keep("samples", (cell.calibration, cell.model_key, *drawn), make)


def _yardstick(cell: QACell, shared: Shared, pretrained: Causal) -> tuple[corpus.Corpus, torch.Tensor]:
    """The text for perplexity, and its windows."""
    text = shared.keep("text", cell.perplexity, partial(corpus.read_text, cell.perplexity, "perplexity"))
    cut = (cell.perplexity_window or _usual_length(pretrained), cell.perplexity_windows)
    make = partial(corpus.windows, pretrained.tokenizer, text, *cut)
    return text, shared.keep("windows", (cell.perplexity, cell.model_key, *cut), make)


def _usual_length(pretrained: Causal) -> int:
    return min(LENGTH, pretrained.positions or LENGTH)


def _check_room(cell: QACell, pretrained: Causal, size: int) -> None:
    """Raise UserError if there is no room for the calibration samples: their tokens, and what a block makes of them."""
    width = getattr(pretrained.config, "hidden_size", 0)
    takes, free = cell.nsamples * size * (8 + width * pretrained.dtype.itemsize), memory.available()
    if takes > free:
        reason = f"samples of {size:,} tokens take {takes / 1e9:,.1f} GB; {free / 1e9:,.1f} GB of memory is free"
        raise UserError(Fault("nsamples", cell.nsamples, reason))


@contextmanager
def walking(journal: Journal, model: torch.nn.Module) -> Iterator[Callable[[int, int], None]]:
    """Show how far the walk over a model's blocks has come; yields what is to be called after each."""
    with journal.progress(model.config.num_hidden_layers) as progress:
        yield lambda done, total: progress.reach(done, "blocks pruned")


# --- the method's last part ------------------------------------------------------------------------------------------


def ask(cell: QACell, shared: Shared, journal: Journal, inputs: Inputs, pruned: Pruned) -> None:
    """Ask all questions, score the answers, and write the record. Claims the folder first."""
    reads = about.parts(inputs, pruned)
    records.check_mask(cell.mask_file, reads["mask"])
    journal.made_of(reads)
    about.describe(cell, journal, inputs, pruned)
    hardware = devices.describe(SimpleNamespace(device=inputs.device, num_processes=1))
    with journal.open(hardware):
        model = _placed(pruned.model, inputs.device)
        with journal.progress(len(inputs.asked)) as progress:
            given = answer.answers(
                model,
                inputs.pretrained.tokenizer,
                inputs.tokens,
                max_new_tokens=cell.max_new_tokens,
                batch_size=cell.eval_batch_size,
                device=_device_of(model),
                on_batch=lambda done, total: progress.reach(done, "questions"),
            )
        journal.lap("answer")
        measured = _perplexity(cell, shared, inputs, model) if cell.perplexity else None
        journal.lap("perplexity")
        _record(cell, journal, inputs, pruned, given, measured)


def _placed(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Put the model on the device if it fits there beside what answering takes; else leave it on the CPU."""
    if device.type == "cuda":
        size = memory.size_of(model.parameters())
        torch.cuda.empty_cache()  # torch keeps what the last model and the walk had there, and it counts as taken
        if size * 1.2 < torch.cuda.mem_get_info(device)[0] or _device_of(model).type == device.type:
            model.to(device)
    return model


def _device_of(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device


def _perplexity(cell: QACell, shared: Shared, inputs: Inputs, model: torch.nn.Module) -> dict:
    """The pruned model's perplexity, measured once for all cells that ask it."""
    make = partial(corpus.perplexity, model, inputs.windows, device=_device_of(model))
    wanted = (cell.perplexity, cell.perplexity_window, cell.perplexity_windows)
    return shared.keep("perplexity", (cell.pruned, *wanted), make)


def _record(
    cell: QACell, journal: Journal, inputs: Inputs, pruned: Pruned, given: list[Answer], measured: dict | None
) -> None:
    """Score the answers, count the zeros of the model that gave them, and write everything."""
    scored = [scores.score(one.raw, question.answers) for one, question in zip(given, inputs.asked)]
    values = {f"eval_{name}": value for name, value in scores.mean(scored).items()}
    results = values | {"eval_samples": len(scored)}
    ends = about.count_ends(given)
    extra = {"answers": ends}
    lines = [f"result    {metric_words(values)}", *about.end_lines(cell, ends)]
    if measured:
        extra["perplexity"] = found = about.perplexity(inputs, measured)
        results["perplexity"] = found["perplexity"]
        lines.append(about.perplexity_line(found))
    shares, zeros = pruned.zeros(pruned.model)
    journal.results(
        results | shares,
        masks=pruned.masks,
        predictions=map(_prediction, inputs.asked, inputs.prompts.texts, given, scored),
        save=inputs.pretrained.save,
        timings={f"walk_{name}": round(value, 3) for name, value in pruned.seconds.items()},
        record=extra,
        lines=lines + zeros,
    )


def _prediction(question: Question, prompt: str, given: Answer, scored: dict[str, float]) -> dict:
    """A line of ``predictions.jsonl``."""
    return {
        "id": question.id,
        "prompt_sha256": seals.digest(prompt.encode()),
        "raw": given.raw,
        "answer": scores.normalise(given.raw),
        "ended": given.ended,
        "scores": scored,
    }
