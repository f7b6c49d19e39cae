"""The parts of a run of questions: what it starts from, the pruned model, its answers, the record.

A grid keeps each of them for as long as its cells ask for the same: one pruned model answers all of its questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import torch

from junkdna.errors import Fault, Faults, UserError
from junkdna.families.qa import answer, corpus, family, prompts, questions, scores
from junkdna.families.qa.answer import Answer
from junkdna.families.qa.cell import QACell
from junkdna.families.qa.corpus import Samples
from junkdna.families.qa.prompts import Prompts
from junkdna.families.qa.questions import Question, Questions
from junkdna.families.removed import Removed
from junkdna.models import digests, memory
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
    the model's checkpoint, the device, and the texts for calibration and perplexity with what is taken from them.
    """

    whole: Questions
    asked: tuple[Question, ...]
    examples: tuple[Question, ...]
    prompts: Prompts
    tokens: list[torch.Tensor]
    chance: dict[str, float]
    checkpoint: Causal
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
    checkpoint = shared.keep("checkpoint", cell.checkpoint, partial(Causal, *cell.checkpoint))
    faults = Faults()
    family.check_model(cell, checkpoint.config.to_dict(), faults)
    faults.raise_any()
    journal.lap("data")
    made, tokens = _prompts(cell, shared, checkpoint, asked, examples)
    _check_positions(cell, checkpoint, tokens)
    source = (cell.task_name, cell.data_file, len(asked))
    chance = shared.keep(f"chance of {cell.label}", source, partial(scores.constant, asked))
    text = samples = yardstick = windows = None
    usual = min(LENGTH, checkpoint.positions or LENGTH)
    if cell.calibrated:
        size = cell.seqlen or usual
        _check_room(cell, checkpoint, size)
        text = shared.keep("calibration text", cell.calibration, partial(corpus.read_text, cell.calibration))
        drawn = (cell.nsamples, size, cell.seed)
        make = partial(corpus.samples, checkpoint.tokenizer, text, *drawn)
        samples = shared.keep("samples", (cell.calibration, cell.checkpoint, *drawn), make)
    if cell.perplexity:
        size = cell.perplexity_window or usual
        read = partial(corpus.read_text, cell.perplexity, "perplexity")
        yardstick = shared.keep("text", cell.perplexity, read)
        cut = (size, cell.perplexity_windows)
        make = partial(corpus.windows, checkpoint.tokenizer, yardstick, *cut)
        windows = shared.keep("windows", (cell.perplexity, cell.checkpoint, *cut), make)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        devices.use_fast_exact_matmul()
    return Inputs(
        whole=whole,
        asked=asked,
        examples=examples,
        prompts=made,
        tokens=tokens,
        chance=chance,
        checkpoint=checkpoint,
        device=device,
        samples=samples,
        calibration=text,
        windows=windows,
        yardstick=yardstick,
    )


def _prompts(
    cell: QACell,
    shared: Shared,
    checkpoint: Causal,
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
            tokenizer=checkpoint.tokenizer if cell.chat_template else None,
        )
        return made, answer.tokenise(checkpoint.tokenizer, made)

    drawn = cell.seed if cell.shots else None
    key = (cell.checkpoint, cell.data_file, cell.max_eval_samples, cell.chat_template, drawn)
    return shared.keep(f"prompts of {', '.join(cell.axes.values())}", key, make)


def _check_positions(cell: QACell, checkpoint: Causal, tokens: list[torch.Tensor]) -> None:
    """Raise UserError if the model has no positions for a prompt and its answer."""
    sizes = list(map(len, tokens))
    limit, longest = checkpoint.positions, max(sizes)
    beyond = sum(size + cell.max_new_tokens > limit for size in sizes) if limit else 0
    if beyond:
        flag = "context_characters" if cell.book == "open" else "shots" if cell.shots else "max_new_tokens"
        reason = (
            f"{beyond:,} of {len(sizes):,} questions need up to {longest + cell.max_new_tokens:,} tokens with "
            f"their answers, and the model has positions for {limit:,}; give less"
        )
        raise UserError(Fault(flag, getattr(cell, flag), reason))


def _check_room(cell: QACell, checkpoint: Causal, size: int) -> None:
    """Raise UserError if there is no room for the calibration samples: their tokens, and what a block makes of them."""
    width = getattr(checkpoint.config, "hidden_size", 0)
    takes, free = cell.nsamples * size * (8 + width * checkpoint.dtype.itemsize), memory.available()
    if takes > free:
        reason = f"samples of {size:,} tokens take {takes / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are free"
        raise UserError(Fault("nsamples", cell.nsamples, reason))


@contextmanager
def walking(journal: Journal, model: torch.nn.Module) -> Iterator[Callable[[int, int], None]]:
    """Show how far the walk over a model's blocks has come; yields what is to be called after each."""
    with journal.progress(model.config.num_hidden_layers) as progress:
        yield lambda done, total: progress.reach(done, "blocks pruned")


# --- the method's last part ------------------------------------------------------------------------------------------


def ask(cell: QACell, shared: Shared, journal: Journal, inputs: Inputs, pruned: Pruned) -> None:
    """Ask all questions, score the answers, and write the record. Claims the folder first."""
    reads = _identity(inputs, pruned)
    records.check_mask(cell.mask_file, reads["mask"])
    journal.made_of(reads)
    _describe(cell, journal, inputs, pruned)
    hardware = devices.describe(SimpleNamespace(device=inputs.device, num_processes=1))
    with journal.open(hardware):
        model = _placed(pruned.model, inputs.device)
        with journal.progress(len(inputs.asked)) as progress:
            given = answer.answers(
                model,
                inputs.checkpoint.tokenizer,
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
        if size * 1.2 < torch.cuda.mem_get_info(device)[0] or _device_of(model) == device:
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
    ends = _ends(given)
    extra = {"answers": ends}
    lines = [f"result    {metric_words(values)}", *_end_lines(cell, ends)]
    if measured:
        extra["perplexity"] = about = _about_perplexity(inputs, measured)
        results["perplexity"] = about["perplexity"]
        lines.append(_perplexity_line(about))
    shares, zeros = pruned.zeros(pruned.model)
    journal.results(
        results | shares,
        masks=pruned.masks,
        predictions=map(_prediction, inputs.asked, inputs.prompts.texts, given, scored),
        save=inputs.checkpoint.save,
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


# --- what is said of a run -------------------------------------------------------------------------------------------


def _identity(inputs: Inputs, pruned: Pruned) -> dict[str, str | None]:
    """Everything that a run's numbers are made of, beside its settings."""
    checkpoint, rows = inputs.checkpoint, Questions((*inputs.asked, *inputs.examples), "")
    ends = sorted(answer.end_tokens(pruned.model, checkpoint.tokenizer))
    return {
        "questions": rows.fingerprint,
        "prompts": seals.of(list(inputs.prompts.texts)),
        "model_weights": checkpoint.weight_hash,
        "model_config": digests.of_config(checkpoint.config, ends_of_text=ends),
        "tokenizer": digests.of_tokenizer(checkpoint.tokenizer),
        "calibration": inputs.samples.sha256 if inputs.samples else None,
        "windows": None if inputs.windows is None else corpus.hash_of(inputs.windows),
        "mask": pruned.census.mask_hash if pruned.census else None,
    }


def _describe(cell: QACell, journal: Journal, inputs: Inputs, pruned: Pruned) -> None:
    """Put the sections of the record together, with the lines that say them."""
    checkpoint = inputs.checkpoint
    about = checkpoint.about()
    journal.section(
        "model",
        about,
        f"{cell.model_name_or_path}: {about['parameters']:,} parameters, {about['dtype']}",
        *about["notes"],
    )
    data = _about_data(inputs)
    journal.section("data", data, *_data_lines(cell, inputs, data["eval"].get("unanswerable", 0)))
    journal.measures(_measures(cell, inputs))
    if inputs.samples:
        taken, text = inputs.samples, inputs.calibration
        rows, tokens = taken.ids.shape
        content = {"source": text.source, "sha256": text.sha256, "samples_sha256": taken.sha256, "taken": taken.taken}
        content |= {"samples": rows, "tokens_per_sample": tokens, "tokens": rows * tokens, "available": taken.available}
        line = f"{text.source}: {rows:,} samples of {tokens:,} tokens, from {taken.taken} of {taken.available:,} tokens"
        journal.section("calibration", content, line, title="calibrate")
    journal.pruned(pruned.census)
    if pruned.census and not cell.mask_file:
        journal.section("walk", pruned.findings, *_finding_lines(pruned.findings))


def _about_data(inputs: Inputs) -> dict:
    used = Questions(inputs.asked, "")
    bare = used.unanswerable
    return {
        "source": inputs.whole.source,
        "eval": {
            "rows": len(inputs.whole),
            "used": len(inputs.asked),
            "sha256": used.fingerprint,
            "cut": inputs.prompts.cut,
            "lost": inputs.prompts.lost,
            "longest_prompt": max(map(len, inputs.tokens)),
            **({"unanswerable": bare} if bare else {}),
        },
        "examples": [example.id for example in inputs.examples],
    }


def _data_lines(cell: QACell, inputs: Inputs, bare: int) -> list[str]:
    """What is said of the data; ``bare`` questions have no answer of which normalisation leaves anything."""
    made, longest = inputs.prompts, max(map(len, inputs.tokens))
    lines = [
        f"{cell.label}, {cell.book} book: {len(inputs.asked):,} of {len(inputs.whole):,} questions, "
        f"{len(inputs.examples)} solved examples, prompts of up to {longest:,} tokens"
    ]
    if bare:
        lines.append(
            f"{bare:,} of them cannot be scored: nothing is left of their accepted answers after normalisation "
            "(no punctuation, no articles)"
        )
    if cell.book == "open":
        lines.append(
            f"{made.cut:,} texts are cut at {cell.context_characters:,} characters; "
            f"{made.lost:,} of them lose every answer that they hold"
        )
    return lines


def _ends(given: list[Answer]) -> dict[str, int]:
    """How many answers ended for want of numbers, how many were cut off, and the tokens of all."""
    nan, cut = (sum(one.ended == how for one in given) for how in ("nan", "length"))
    return {"nan": nan, "cut": cut, "tokens": sum(one.tokens for one in given)}


def _end_lines(cell: QACell, ends: dict[str, int]) -> list[str]:
    """What is said of answers that did not end by themselves."""
    nan, cut = ends["nan"], ends["cut"]
    without = f"; {nan:,} ended because the model put out no numbers" if nan else ""
    return [f"answers   {cut:,} cut off at {cell.max_new_tokens} tokens{without}"] if cut or nan else []


def _about_perplexity(inputs: Inputs, measured: dict) -> dict:
    """Perplexity in a record: None where it is not finite, for which JSON has no number."""
    text, finite = inputs.yardstick, math.isfinite(measured["perplexity"])
    shown = measured | {"perplexity": measured["perplexity"] if finite else None}
    return {"source": text.source, "sha256": text.sha256, **shown, "finite": finite}


def _perplexity_line(about: dict) -> str:
    said = f"{about['perplexity']:.4f}" if about["finite"] else "not finite"
    return f"perplexity {said} on {about['windows']:,} windows of {about['window']:,} tokens"


def _measures(cell: QACell, inputs: Inputs) -> list[dict]:
    """What is measured; chance is what the best single accepted answer gets when it is always given."""
    found = [
        {
            "name": measure.name,
            "key": f"eval_{measure.name}",
            "better": measure.better,
            "chance": inputs.chance[measure.name],
            "main": measure.name == scores.MAIN,
        }
        for measure in scores.MEASURES
    ]
    if cell.perplexity:
        found.append({"name": "perplexity", "key": "perplexity", "better": "lower", "chance": None, "main": False})
    return found


def _finding_lines(findings: dict) -> list[str]:
    """What the walk came upon, in words: nothing to say, no line."""
    return [
        f"{name.replace('_', ' ')}: {sum(counts.values()):,} in {len(counts)} matrices, such as {next(iter(counts))}"
        for name, counts in findings.items()
        if isinstance(counts, dict) and counts
    ]
