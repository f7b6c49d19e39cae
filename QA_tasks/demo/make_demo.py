"""The recipe of the question-answering demo, start to end: tokenizer, tiny pre-trained Llama, questions, texts.

    python make_demo.py              # remakes everything beside this file; ten minutes on one core
    python make_demo.py --out DIR    # writes it under DIR instead

The model learns three kinds of text: articles about known people, questions about them without any text (closed
book), and texts about strangers with questions about those texts (open book). Reading is only ever trained on
strangers, and their facts hold in one text, so an answer can come from nowhere but the text.

Everything follows from the seeds below. On one machine, with one set of library versions, a second run writes the
same bytes; the questions and texts do so everywhere. ``check_demo.py`` measures what came out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from random import Random

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # before the import: one order of work

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from untrained import ANSWER, BOS, EOS, PAD, QUESTION, SPECIAL, model_config, prepare, train_tokenizer
from world import World, article, exam, read, remembered

STEPS = 1500
READINGS, RECALLS, ARTICLES = 10, 8, 1  # rows of a step; an article's row has exactly ARTICLE_TOKENS
ARTICLE_TOKENS = 256
POOL = 25  # steps whose rows are drawn together and sorted by length, so that little is padded
FEWEST, SHORT, LONG = 2, 4, 8  # statements in a text to be read: SHORT at most in the beginning, later LONG
ALONE = 0.12  # of the steps; until then short reading and nothing else
GROWN = 0.4  # of the steps; from there on the texts have up to LONG statements
END_WEIGHT = 0.3  # of the end of an answer's line; whether a question follows is chance
OTHER_WEIGHT = 0.1  # of the tokens that are no answer; those of a text about strangers are mostly chance
LEARNING_RATE, LOWEST, WARMUP, WEIGHT_DECAY = 2e-3, 0.02, 0.04, 0.05
MODEL_SEED, EXAM_SEED, TEXT_SEED = 13, 384, 7
EXAM_STATEMENTS = 8
CALIBRATION_ARTICLES, PERPLEXITY_ARTICLES, ARTICLE_STATEMENTS = 144, 40, 30


# ---- batches -----------------------------------------------------------------------------------------------

Batch = tuple[torch.Tensor, torch.Tensor]  # int64 tokens [rows, length]; float32 weight of each as a target


class Source:
    """Endless training rows; each is its tokens and the weight of each token as a target."""

    def __init__(self, world: World, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.world, self.rng, self.tokenizer = world, Random(seed), tokenizer
        self.answer = tokenizer.convert_tokens_to_ids(ANSWER)
        self.newlines = {self._ids("\n")[0], tokenizer.convert_tokens_to_ids(QUESTION)}
        self.stream: list[int] = []

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def asked(self, text: str) -> tuple[list[int], list[float]]:
        """A prompt with its answers; only the answers count in full."""
        ids = [SPECIAL.index(BOS), *self._ids(text), SPECIAL.index(EOS)]
        weights, inside = [], False
        for token in ids:
            ends = token in self.newlines
            weights.append(END_WEIGHT if inside and ends else 1.0 if inside else OTHER_WEIGHT)
            inside = token == self.answer or (inside and not ends)
        return ids, weights

    def told(self) -> tuple[list[int], list[float]]:
        """The next stretch of the endless stream of articles; wherever it starts, it goes on from there."""
        while len(self.stream) < ARTICLE_TOKENS:
            text = article(self.world, self.rng.randint(8, 40), self.rng)
            self.stream += [SPECIAL.index(BOS), *self._ids(text), SPECIAL.index(EOS)]
        row, self.stream = self.stream[:ARTICLE_TOKENS], self.stream[ARTICLE_TOKENS:]
        return row, [1.0] * len(row)

    def pool(self, steps: int, longest: int, alone: bool) -> list[list[Batch]]:
        """The batches of so many steps: one of each kind in a step, or reading alone.

        Texts to be read have up to ``longest`` statements.
        """
        rng, world = self.rng, self.world
        reading = [self.asked(read(world, rng.randint(FEWEST, longest), rng)) for _ in range(steps * READINGS)]
        kinds = [(reading, READINGS)]
        if not alone:
            kinds.append(([self.asked(remembered(world, rng)) for _ in range(steps * RECALLS)], RECALLS))
            kinds.append(([self.told() for _ in range(steps * ARTICLES)], ARTICLES))
        columns = []
        for rows, size in kinds:
            rows.sort(key=lambda row: len(row[0]))
            columns.append([_padded(rows[i : i + size]) for i in range(0, len(rows), size)])
            rng.shuffle(columns[-1])
        return [list(step) for step in zip(*columns)]


def _padded(rows: list[tuple[list[int], list[float]]]) -> Batch:
    """Rows of nearly one length as tensors; what is added weighs nothing."""
    length = max(len(ids) for ids, _ in rows)
    pad = SPECIAL.index(PAD)
    ids = torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in rows])
    return ids, torch.tensor([weights + [0.0] * (length - len(weights)) for _, weights in rows])


# ---- training ----------------------------------------------------------------------------------------------


def weighted_loss(model: LlamaForCausalLM, batches: list[Batch]) -> tuple[torch.Tensor, list[float]]:
    """Mean cross-entropy over the targets of several batches, in nats, each target with its weight.

    Also returns, for each batch, the share of those targets that count in full which the model finds likeliest.
    """
    total, weight, right = torch.zeros(()), torch.zeros(()), []
    for ids, weights in batches:
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        counted = weights[:, 1:] > 0
        target, weights = ids[:, 1:][counted], weights[:, 1:][counted]
        logits = model.lm_head(hidden[counted])
        losses = torch.nn.functional.cross_entropy(logits, target, reduction="none")
        total, weight = total + (losses * weights).sum(), weight + weights.sum()
        right.append((logits.detach().argmax(-1) == target)[weights == 1].float().mean().item())
    return total / weight, right


def rate(step: int, steps: int) -> float:
    """The share of the learning rate at a step: linear rise, then half a cosine down to LOWEST."""
    rise = max(1, round(WARMUP * steps))
    if step < rise:
        return (step + 1) / rise
    return LOWEST + (1 - LOWEST) * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def pretrain(source: Source, config: LlamaConfig, steps: int, every: int) -> LlamaForCausalLM:
    """Next-word prediction from random weights; prints loss and accuracy on rows that come next."""
    torch.manual_seed(MODEL_SEED)
    model = LlamaForCausalLM(config)
    prepare(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    plan: list[list[Batch]] = []
    seen, tokens = [], 0
    for step in range(1, steps + 1):
        if not plan:
            grown = min(1.0, max(0.0, (step / steps - ALONE) / (GROWN - ALONE)))
            plan = source.pool(POOL, SHORT + round(grown * (LONG - SHORT)), alone=step < ALONE * steps)
        batches = plan.pop()
        loss, right = weighted_loss(model, batches)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        seen.append(torch.tensor([loss.item(), *right, 0.0, 0.0][:4]))
        tokens += sum(ids.numel() for ids, _ in batches)
        if step % every == 0 or step == steps:
            mean, reading, recall, articles = torch.stack(seen).mean(0).tolist()
            print(
                f"step {step:5d}/{steps}  loss {mean:.3f}  right: reading {reading:.1%}, recall {recall:.1%}, "
                f"articles {articles:.1%}  {tokens} tokens  {time.process_time():.0f} s",
                flush=True,
            )
            seen = []
    return model.eval()


def write_texts(world: World, out: Path) -> None:
    """The questions, a text to calibrate on (an article a line) and another for the perplexity."""
    rows = [json.dumps(row) for row in exam(world, world.facts, EXAM_STATEMENTS, EXAM_SEED)]
    rng = Random(TEXT_SEED + 1)
    for name, lines in (
        ("questions.jsonl", rows),
        ("calibration.txt", [article(world, ARTICLE_STATEMENTS, rng) for _ in range(CALIBRATION_ARTICLES)]),
        ("perplexity.txt", [article(world, ARTICLE_STATEMENTS, rng) for _ in range(PERPLEXITY_ARTICLES)]),
    ):
        (out / name).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")


def main(argv: list[str] | None = None) -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=here, help="folder that receives model/, questions and texts")
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer make a quick, poor model (default %(default)s)")
    parser.add_argument("--every", type=int, default=200, help="steps between two reports (default %(default)s)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # one thread adds in one order: the weights repeat

    args.out.mkdir(parents=True, exist_ok=True)
    world = World()
    write_texts(world, args.out)
    tokenizer = train_tokenizer(world)
    config = model_config(len(tokenizer))
    source = Source(world, tokenizer, MODEL_SEED)
    model = pretrain(source, config, args.steps, args.every)
    print(f"vocabulary {len(tokenizer)}, {sum(p.numel() for p in model.parameters())} parameters")
    model.generation_config = GenerationConfig(
        pad_token_id=config.pad_token_id, bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id
    )
    model.save_pretrained(args.out / "model")
    tokenizer.save_pretrained(args.out / "model")


if __name__ == "__main__":
    main()
