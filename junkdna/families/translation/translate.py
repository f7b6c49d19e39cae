"""What a model makes of source texts: beam search, in batches by length, one direction at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, StoppingCriteria

from junkdna.families.generating import Watch, by_length, only_what_is_asked
from junkdna.models.languages import Direction
from junkdna.models.translator import Translator


@dataclass(frozen=True)
class Output:
    """A translation: ``tokens`` is how many the model wrote, with the one that ended it.

    ``ended`` says what did: "eos" (the model's own end), "length" (it was cut off), or "nan" (on the way, logits were
    not numbers, or infinite; ``text`` is empty).
    """

    text: str
    tokens: int
    ended: str


def room(translator: Translator, direction: Direction) -> int | None:
    """How many of a source text's own tokens the model has positions for; None: no limit."""
    around = len(direction.before) + len(direction.behind)
    return None if translator.positions is None else max(translator.positions - around, 0)


def fit(translator: Translator, direction: Direction, rows: Sequence[list[int]]) -> tuple[list[list[int]], int]:
    """Cut the end off source texts that are longer than the model's positions; return them, and how many were cut."""
    most = room(translator, direction)
    return [row[:most] for row in rows], sum(most is not None and len(row) > most for row in rows)


def translate(
    translator: Translator,
    model,
    direction: Direction,
    rows: Sequence[list[int]],
    *,
    beams: int,
    length_penalty: float,
    max_new_tokens: int,
    batch_size: int,
    device: torch.device | str,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[Output]:
    """Return the translations of source texts, given as token ids without special tokens, in their order.

    Beam search that ends with the last of ``beams`` finished hypotheses and divides a score by length to the power of
    ``length_penalty``; one beam takes the most likely token each time. Whatever the checkpoint says about generation
    does not count, and padding is never written. At most ``max_new_tokens`` are, the end among them, or as many as the
    model has positions for. Texts are put into batches by length: in fp32 a batch gives what one text at a time gives.
    ``model``, which is ``translator.model`` or what was made of it, is on ``device`` and left in evaluation mode.
    ``on_batch(done, total)`` is called after each batch and may raise. Raises ValueError for a text that is longer
    than the model's positions: ``fit`` cuts it.
    """
    most = room(translator, direction)
    if most is not None and any(len(row) > most for row in rows):
        raise ValueError(f"a source text has more than {most} tokens; fit cuts it")
    config = _config(translator, direction, beams, length_penalty, max_new_tokens)
    found: dict[int, Output] = {}
    model.eval()
    with only_what_is_asked(model):
        for batch in by_length(rows, batch_size):
            inputs = [direction.inputs(rows[number]) for number in batch]
            found |= zip(batch, _write(translator, model, inputs, config, device))
            if on_batch:
                on_batch(len(found), len(rows))
    return [found[number] for number in range(len(rows))]


def _config(
    translator: Translator, direction: Direction, beams: int, length_penalty: float, max_new_tokens: int
) -> GenerationConfig:
    """All that generation is told."""
    search = {"early_stopping": True, "length_penalty": float(length_penalty)} if beams > 1 else {}
    return GenerationConfig(
        max_new_tokens=min(max_new_tokens, translator.positions or max_new_tokens),
        do_sample=False,
        num_beams=beams,
        use_cache=True,
        decoder_start_token_id=direction.start,
        forced_bos_token_id=direction.forced,
        eos_token_id=translator.end,
        pad_token_id=translator.padding,
        suppress_tokens=[translator.padding],
        **search,
    )


def _write(
    translator: Translator, model, rows: list[list[int]], config: GenerationConfig, device: torch.device | str
) -> list[Output]:
    """Return the translations of one batch of whole inputs."""
    ids = torch.full((len(rows), max(map(len, rows))), translator.tokenizer.pad_token_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    watch = Watch(len(rows))
    written = model.generate(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        generation_config=config,
        logits_processor=[watch],
        stopping_criteria=[_StopAtNan(watch)],
    )
    return [_output(translator, row, bad) for row, bad in zip(written[:, 1:].tolist(), watch.first_bad())]


def _output(translator: Translator, written: list[int], bad: int | None) -> Output:
    """What a row of a batch got, behind the decoder's first input; ``bad`` is the first step with logits of NaN.

    Behind its end a row is filled up. A step behind it that went wrong, in the search for a better one, does not count.
    """
    ended = translator.end in written
    tokens = written.index(translator.end) + 1 if ended else len(written)
    if bad is not None and bad < tokens:
        return Output("", bad + 1, "nan")
    return Output(translator.decode(written[: tokens - ended]), tokens, "eos" if ended else "length")


class _StopAtNan(StoppingCriteria):
    """Ends the search for a text where there is nothing to choose by."""

    def __init__(self, watch: Watch):
        self.watch = watch

    def __call__(self, input_ids: torch.Tensor, scores, **_) -> torch.Tensor:
        return self.watch.bad[-1].repeat_interleave(len(input_ids) // self.watch.rows)
