"""What a run of questions says of itself: the digests of what it is made of, and the parts of its record."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from junkdna.families.qa import answer, corpus, scores
from junkdna.families.qa.answer import Answer
from junkdna.families.qa.cell import QACell
from junkdna.families.qa.questions import Questions
from junkdna.models import digests
from junkdna.runs import seals
from junkdna.runs.journal import Journal
from junkdna.runs.schema import metric

if TYPE_CHECKING:
    from junkdna.families.qa.asking import Inputs, Pruned


def parts(inputs: Inputs, pruned: Pruned) -> dict[str, str | None]:
    """Everything that a run's numbers are made of, beside its settings."""
    pretrained, rows = inputs.pretrained, Questions((*inputs.asked, *inputs.examples), "")
    ends = sorted(answer.end_tokens(pruned.model, pretrained.tokenizer))
    return {
        "questions": rows.fingerprint,
        "prompts": seals.of(list(inputs.prompts.texts)),
        "model_weights": pretrained.weight_hash,
        "model_config": digests.of_config(pretrained.config, ends_of_text=ends),
        "tokenizer": digests.of_tokenizer(pretrained.tokenizer),
        "calibration": inputs.samples.sha256 if inputs.samples else None,
        "windows": None if inputs.windows is None else corpus.hash_of(inputs.windows),
        "mask": pruned.census.mask_hash if pruned.census else None,
    }


def describe(cell: QACell, journal: Journal, inputs: Inputs, pruned: Pruned) -> None:
    """Put the sections of the record together, with the lines that say them."""
    pretrained = inputs.pretrained
    about = pretrained.about()
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


def count_ends(given: list[Answer]) -> dict[str, int]:
    """How many answers ended for want of numbers, how many were cut off, and the tokens of all."""
    nan, cut = (sum(one.ended == how for one in given) for how in ("nan", "length"))
    return {"nan": nan, "cut": cut, "tokens": sum(one.tokens for one in given)}


def end_lines(cell: QACell, ends: dict[str, int]) -> list[str]:
    """What is said of answers that did not end by themselves."""
    nan, cut = ends["nan"], ends["cut"]
    without = f"; {nan:,} ended because the model put out no numbers" if nan else ""
    return [f"answers   {cut:,} cut off at {cell.max_new_tokens} tokens{without}"] if cut or nan else []


def perplexity(inputs: Inputs, measured: dict) -> dict:
    """Perplexity in a record: None where it is not finite, for which JSON has no number."""
    text, finite = inputs.yardstick, math.isfinite(measured["perplexity"])
    shown = measured | {"perplexity": measured["perplexity"] if finite else None}
    return {"source": text.source, "sha256": text.sha256, **shown, "finite": finite}


def perplexity_line(about: dict) -> str:
    """What ``perplexity`` holds, in words."""
    said = f"{about['perplexity']:.4f}" if about["finite"] else "not finite"
    return f"perplexity {said} on {about['windows']:,} windows of {about['window']:,} tokens"


def _measures(cell: QACell, inputs: Inputs) -> list[dict]:
    """What is measured; chance is what the best single accepted answer gets when it is always given."""
    found = [
        metric(f"eval_{one.name}", better=one.better, chance=inputs.chance[one.name], main=one.name == scores.MAIN)
        for one in scores.MEASURES
    ]
    return [*found, metric("perplexity", better="lower")] if cell.perplexity else found


def _finding_lines(findings: dict) -> list[str]:
    """What the walk came upon, in words: nothing to say, no line."""
    return [
        f"{name.replace('_', ' ')}: {sum(counts.values()):,} in {len(counts)} matrices, such as {next(iter(counts))}"
        for name, counts in findings.items()
        if isinstance(counts, dict) and counts
    ]
