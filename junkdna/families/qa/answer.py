"""What a model answers: greedily, in batches, up to the end of the first line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, StoppingCriteria

from junkdna.families.generating import Watch, by_length, only_what_is_asked
from junkdna.families.qa.prompts import Prompts


@dataclass(frozen=True)
class Answer:
    """What a model wrote: ``raw`` is the first line as decoded, ``tokens`` how many it took, with the one that ended
    it.

    ``ended`` says what did: "line" (the line's end), "eos" (the model's own end), "length" (it was cut off), or "nan"
    (logits that are not numbers, or infinite; ``raw`` is what was written before).
    """

    raw: str
    tokens: int
    ended: str


def answers(
    model,
    tokenizer,
    prompts: Prompts,
    *,
    max_new_tokens: int,
    batch_size: int,
    device: torch.device | str,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[Answer]:
    """Return a causal language model's answers to all prompts, in their order.

    The most likely token is taken each time, whatever the checkpoint says about sampling, penalties and forced tokens.
    Prompts are put into batches by their lengths and padded on the left, where nothing sees the padding: in fp32 a
    batch gives the text that one prompt at a time gives. ``model`` is on ``device`` and left in evaluation mode.
    ``on_batch(done, total)`` is called after each batch and may raise.
    """
    rows = tokenise(tokenizer, prompts)
    ends = _Ends(tokenizer, end_tokens(model, tokenizer))
    padding = _padding(model, tokenizer, ends.tokens)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=sorted(ends.tokens) or None,
        pad_token_id=padding,
    )
    found: dict[int, Answer] = {}
    model.eval()
    with only_what_is_asked(model):
        for batch in by_length(rows, batch_size):
            written = _write(model, [rows[number] for number in batch], config, ends, device)
            found |= zip(batch, written)
            if on_batch:
                on_batch(len(found), len(rows))
    return [found[number] for number in range(len(rows))]


def lengths(tokenizer, prompts: Prompts) -> list[int]:
    """Return how many tokens each prompt has, special ones included."""
    return list(map(len, tokenise(tokenizer, prompts)))


def tokenise(tokenizer, prompts: Prompts) -> list[list[int]]:
    """Return the prompts' token ids, without the end mark that some tokenizers put behind a text."""
    if not prompts.texts:
        return []
    encoded = tokenizer(list(prompts.texts), add_special_tokens=not prompts.whole, verbose=False)["input_ids"]
    end = None if prompts.whole else tokenizer.eos_token_id
    return [ids[:-1] if len(ids) > 1 and ids[-1] == end else ids for ids in encoded]


# --- one batch -------------------------------------------------------------------------------------------------------


def _write(model, rows: list[list[int]], config: GenerationConfig, ends: _Ends, device) -> list[Answer]:
    """Return the answers to the prompts of one batch."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), config.pad_token_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :] = torch.tensor(row)
        mask[number, longest - len(row) :] = 1
    watch = Watch(len(rows))
    written = model.generate(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        generation_config=config,
        logits_processor=[watch],
        stopping_criteria=[_Stop(ends, watch)],
    )
    bad = watch.first_bad()
    return [ends.answer(row, step) for row, step in zip(written[:, longest:].tolist(), bad)]


class _Ends:
    """Where an answer ends: at the model's end tokens, or at a token with a line's end in it."""

    def __init__(self, tokenizer, tokens: frozenset[int]):
        self.tokenizer, self.tokens = tokenizer, tokens
        self._line_ends: dict[int, bool] = {}

    def line(self, token: int) -> bool:
        """Whether a token's text holds a line's end; that byte is part of no longer character."""
        if token not in self._line_ends:
            self._line_ends[token] = "\n" in self._text([token])
        return self._line_ends[token]

    def answer(self, written: list[int], bad: int | None) -> Answer:
        """Return the answer in what a row of a batch got; ``bad`` is the first step whose logits were none."""
        for step, token in enumerate(written):
            if step == bad:
                return Answer(self._text(written[:step]), step + 1, "nan")
            if token in self.tokens:
                return Answer(self._text(written[:step]), step + 1, "eos")
            if self.line(token):
                return Answer(self._text(written[: step + 1]).split("\n")[0], step + 1, "line")
        return Answer(self._text(written).split("\n")[0], len(written), "length")

    def _text(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class _Stop(StoppingCriteria):
    """Ends a row with its line, or where there is nothing to choose by; the model's end tokens are not its matter."""

    def __init__(self, ends: _Ends, watch: Watch):
        self.ends, self.watch = ends, watch

    def __call__(self, input_ids: torch.Tensor, scores, **_) -> torch.Tensor:
        lines = [self.ends.line(token) for token in input_ids[:, -1].tolist()]
        return torch.tensor(lines, device=input_ids.device) | self.watch.bad[-1]


# --- the checkpoint's tokens and settings ----------------------------------------------------------------------------


def end_tokens(model, tokenizer) -> frozenset[int]:
    """All tokens that end a text, as checkpoint, configuration and tokenizer name them: chat models have several."""
    named = (model.generation_config.eos_token_id, getattr(model.config, "eos_token_id", None), tokenizer.eos_token_id)
    tokens = {token for one in named for token in (one if isinstance(one, (list, tuple)) else [one])}
    return frozenset(token for token in tokens if _exists(model, token))


def _padding(model, tokenizer, ends: frozenset[int]) -> int:
    """A token to pad with that the model has; which one does not matter, as nothing sees it."""
    wanted = (tokenizer.pad_token_id, *sorted(ends), 0)
    return next(token for token in wanted if _exists(model, token))


def _exists(model, token: int | None) -> bool:
    return isinstance(token, int) and 0 <= token < model.get_input_embeddings().weight.shape[0]
