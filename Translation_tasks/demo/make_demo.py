"""The recipe of the translation demo, start to end: texts, tokenizer, a tiny mBART that translates.

    python make_demo.py              # remakes everything beside this file; ten minutes on one core
    python make_demo.py --out DIR    # writes it under DIR instead

The model learns to translate both ways between Aora and Eila from many pairs and between Aora and Uiro from few,
with both pairs in each step. Everything follows from the seeds below. On one machine, with one set of library
versions, a second run writes the same bytes; the texts do so everywhere. ``check_demo.py`` measures what came out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # before the import: one order of work

import torch
from languages import AORA, EILA, UIRO, make_lexicon, sentences
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GenerationConfig, MBartConfig, MBartForConditionalGeneration, MBartTokenizer
from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES

PAIRS = {f"{AORA}-{EILA}": 12000, f"{AORA}-{UIRO}": 1200}  # training pairs of each
HELD_OUT = {"validation": (200, 2), "test": (200, 3)}  # rows and seed
TRAIN_SEED, MODEL_SEED = 1, 14

CODES = {language: f"{language}_XX" for language in (AORA, EILA, UIRO)}
SPECIAL = BOS, PAD, EOS, UNKNOWN = "<s>", "<pad>", "</s>", "<unk>"
MASK = "<mask>"
VOCABULARY = 1200
POSITIONS = 64

STEPS, TOKENS = 2500, 1000  # tokens of a step, source and target
TEMPERATURE = 1.5  # pairs are drawn n ** (1 / TEMPERATURE) : ..., as in the paper
SMOOTHING = 0.1
LEARNING_RATE, LOWEST, WARMUP, WEIGHT_DECAY = 2e-3, 0.02, 0.06, 0.01


# ---- texts -------------------------------------------------------------------------------------------------


def write_texts(out: Path, pairs: dict[str, int]) -> dict[str, list[dict[str, str]]]:
    """Write all sides of all splits; return the training rows of each pair. No sentence is in two splits."""
    lexicon = make_lexicon()
    held_out = {split: sentences(lexicon, count, seed) for split, (count, seed) in HELD_OUT.items()}
    known = {row[AORA] for rows in held_out.values() for row in rows}
    train = sentences(lexicon, max(pairs.values()), TRAIN_SEED, without=known)
    out.mkdir(parents=True, exist_ok=True)
    rows = {pair: train[:count] for pair, count in pairs.items()}
    for split, lines in held_out.items():
        for language in CODES:
            _write(out / f"{split}.{language}", [row[language] for row in lines])
    for pair, lines in rows.items():
        for language in pair.split("-"):
            _write(out / f"train.{pair}.{language}", [row[language] for row in lines])
    return rows


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")


# ---- tokenizer ---------------------------------------------------------------------------------------------


def train_tokenizer(lines: list[str]) -> MBartTokenizer:
    """A Unigram vocabulary in mBART's layout: special tokens, pieces, its 25 codes, <mask>, and our three codes."""
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    codes = [*FAIRSEQ_LANGUAGE_CODES, MASK, *CODES.values()]
    pieces = VOCABULARY - len(SPECIAL) - len(codes)
    unigram.train_from_iterator(
        lines,
        trainers.UnigramTrainer(
            vocab_size=pieces + 1, special_tokens=[UNKNOWN], unk_token=UNKNOWN, show_progress=False
        ),
    )
    learned = json.loads(unigram.to_str())["model"]["vocab"]
    scores = {piece: round(score, 6) for piece, score in learned}  # the last digits are new in every run
    del scores[UNKNOWN]
    vocabulary = [(token, 0.0) for token in SPECIAL]
    vocabulary += sorted(scores.items(), key=lambda piece: (-piece[1], piece[0]))[:pieces]
    vocabulary += [(token, 0.0) for token in codes]
    return MBartTokenizer(
        vocab=vocabulary,
        additional_special_tokens=list(CODES.values()),
        src_lang=CODES[AORA],
        tgt_lang=CODES[EILA],
        model_max_length=POSITIONS,
    )


# ---- batches -----------------------------------------------------------------------------------------------

Example = tuple[list[int], list[int], int]  # tokens of the source with its end and code, of the target, target's code


class Source:
    """Endless batches of examples of nearly one length; both directions of a pair are examples."""

    def __init__(self, tokenizer: MBartTokenizer, rows: dict[str, list[dict[str, str]]], seed: int) -> None:
        self.pad, self.end = tokenizer.pad_token_id, tokenizer.eos_token_id
        self.draw = torch.Generator().manual_seed(seed)
        self.examples: list[list[Example]] = []
        for pair, lines in rows.items():
            one, other = pair.split("-")
            ids = {
                side: tokenizer([row[side] for row in lines], add_special_tokens=False)["input_ids"]
                for side in (one, other)
            }
            code = {side: tokenizer.convert_tokens_to_ids(CODES[side]) for side in (one, other)}
            self.examples.append(
                [
                    ([*ids[a][i], self.end, code[a]], [*ids[b][i], self.end], code[b])
                    for a, b in ((one, other), (other, one))
                    for i in range(len(lines))
                    if max(len(ids[a][i]), len(ids[b][i])) + 2 <= POSITIONS  # with the end and the code
                ]
            )
        sizes = torch.tensor([len(part) for part in self.examples], dtype=torch.float64)
        self.shares = sizes ** (1 / TEMPERATURE)
        self.waiting: list[dict[str, torch.Tensor]] = []

    def batch(self) -> dict[str, torch.Tensor]:
        """The next step's: int64 ids and mask [rows, length]; labels end in -100."""
        if not self.waiting:
            self.waiting = self._pool(4096)
        return self.waiting.pop()

    def _pool(self, size: int) -> list[dict[str, torch.Tensor]]:
        parts = torch.multinomial(self.shares, size, replacement=True, generator=self.draw).tolist()
        places = torch.rand(size, generator=self.draw, dtype=torch.float64).tolist()
        chosen = [self.examples[part][int(place * len(self.examples[part]))] for part, place in zip(parts, places)]
        chosen.sort(key=lambda example: (len(example[0]) + len(example[1]), len(example[0])))
        batches, rows = [], []
        for example in chosen:
            rows.append(example)
            if sum(len(source) + len(target) for source, target, _ in rows) >= TOKENS:
                batches.append(self._padded(rows))
                rows = []
        return [batches[i] for i in torch.randperm(len(batches), generator=self.draw).tolist()]

    def _padded(self, rows: list[Example]) -> dict[str, torch.Tensor]:
        ids = _rectangle([source for source, _, _ in rows], self.pad)
        return {
            "input_ids": ids,
            "attention_mask": (ids != self.pad).long(),
            "decoder_input_ids": _rectangle([[code, *target] for _, target, code in rows], self.pad),
            "labels": _rectangle([[*target, code] for _, target, code in rows], -100),
        }


def _rectangle(rows: list[list[int]], filler: int) -> torch.Tensor:
    length = max(map(len, rows))
    return torch.tensor([row + [filler] * (length - len(row)) for row in rows])


# ---- training ----------------------------------------------------------------------------------------------


def make_model(tokenizer: MBartTokenizer) -> MBartForConditionalGeneration:
    """mBART in small, from random weights: 2 + 2 layers of width 128, all of whose sizes are powers of two."""
    config = MBartConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS,
        d_model=128,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        dropout=0.1,
        scale_embedding=True,
        init_std=0.05,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
    )
    model = MBartForConditionalGeneration(config)
    model.set_attn_implementation("eager")  # the rows are short
    return model


def rate(step: int, steps: int) -> float:
    """The share of the learning rate at a step: linear rise, then half a cosine down to LOWEST."""
    rise = max(1, round(WARMUP * steps))
    if step < rise:
        return (step + 1) / rise
    return LOWEST + (1 - LOWEST) * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def train(model: MBartForConditionalGeneration, source: Source, steps: int, every: int) -> None:
    """Learn to translate, from all pairs at once; prints the loss."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    model.train()
    seen = []
    for step in range(1, steps + 1):
        batch = source.batch()
        labels = batch.pop("labels")
        logits = model(**batch, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=-100, label_smoothing=SMOOTHING
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        seen.append(loss.item())
        if step % every == 0 or step == steps:
            mean = sum(seen) / len(seen)
            print(f"step {step:5d}/{steps}  loss {mean:.3f}  {time.process_time():.0f} s", flush=True)
            seen = []
    model.eval()


def main(argv: list[str] | None = None) -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=here, help="folder that receives model/ and data/")
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer make a quick, poor model (default %(default)s)")
    parser.add_argument("--every", type=int, default=200, help="steps between two reports (default %(default)s)")
    parser.add_argument("--equal", action="store_true", help="as many pairs of Aora-Uiro as of Aora-Eila")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # one thread adds in one order: the weights repeat

    pairs = dict.fromkeys(PAIRS, max(PAIRS.values())) if args.equal else PAIRS
    rows = write_texts(args.out / "data", pairs)
    tokenizer = train_tokenizer([text for lines in rows.values() for row in lines for text in row.values()])
    torch.manual_seed(MODEL_SEED)
    model = make_model(tokenizer)
    print(f"vocabulary {len(tokenizer)}, {sum(p.numel() for p in model.parameters())} parameters", flush=True)
    train(model, Source(tokenizer, rows, MODEL_SEED), args.steps, args.every)
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    model.save_pretrained(args.out / "model")
    tokenizer.save_pretrained(args.out / "model")


if __name__ == "__main__":
    main()
