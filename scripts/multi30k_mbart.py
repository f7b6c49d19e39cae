"""A small mBART for Setting 2 on real text: tokenizer and denoising pre-training on Multi30k's captions.

    python scripts/multi30k_mbart.py --captions multi30k_captions --out multi30k --epochs 3

No translation model is small enough to be pruned, trained and pruned again on two cores, so this makes one: about
10 million parameters, for English, German and Czech. Under --out it writes

    majority/    data: 29,000 pairs of en-de, the first 2,900 of en-cs; validation and test of both
    equal/       data: 29,000 pairs of en-de and of en-cs; the same validation and test
    denoised/    the model, for from_pretrained: a mBART that restores captions and has never seen a pair
    state.pt     the training state; the same command goes on from there and ends with the same weights

Denoising is mBART's: of each caption 35 % of the words are hidden, in spans whose length is Poisson (mean 3.5), each
span behind one <mask>; a caption is one sentence, so there is no order of sentences to restore. Translation is then
learned by the project's own command, in Translation_tasks/ (and with equal/ in the place of majority/):

    python Translation_prune_oneshot.py --model_name_or_path ../multi30k/denoised --data_dir ../multi30k/majority \\
      --mix en-de en-cs --pair en-de en-cs --sparsity_pattern dense --max_train_steps 2400 --learning_rate 1e-3 \\
      --lr_scheduler_type inverse_sqrt --num_warmup_steps 400 --label_smoothing 0.1 \\
      --per_device_train_batch_size 128 --mixed_precision bf16 --checkpointing_steps 250 --save_model --seed 41 \\
      --output_dir '../multi30k/translators/majority/{pair}/'
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # before the import: one order of work

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GenerationConfig, MBartConfig, MBartForConditionalGeneration, MBartTokenizer
from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES

CODES = {"en": "en_XX", "de": "de_DE", "cs": "cs_CZ"}
SPLITS = {"train": "train", "validation": "val", "test": "test_2016_flickr"}  # ours: Multi30k's
MINORITY_ROWS = 2900  # a tenth of the training pairs

VOCABULARY = 8192
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
POSITIONS = 256
LAYERS, WIDTH, HEADS, FEED_FORWARD = 3, 256, 4, 2048  # layers of encoder and of decoder

MASKED, SPAN = 0.35, 3.5  # share of the words hidden; mean length of a span in words
CAPTIONS = 64  # of a step, all of nearly one length
POOL = 32  # steps whose captions are drawn together and sorted by length
ROWS = 512  # whose logits are in memory together
LEARNING_RATE, LOWEST, WARMUP, WEIGHT_DECAY = 1.5e-3, 0.02, 0.05, 0.01


# ---- data --------------------------------------------------------------------------------------------------


def captions(folder: Path, split: str, language: str) -> list[str]:
    """The lines of one side of one of our splits, as they are."""
    with gzip.open(folder / f"{SPLITS[split]}.{language}.gz", "rt", encoding="utf-8", newline="\n") as file:
        return file.read().removesuffix("\n").split("\n")


def lay_out(folder: Path, out: Path) -> None:
    """Write the two data folders under the names that the translation command looks for."""
    for split in SPLITS:
        sides = {language: captions(folder, split, language) for language in CODES}
        for language, lines in sides.items():
            _write(out / "equal" / f"{split}.{language}.gz", lines)
            if split != "train":
                _write(out / "majority" / f"{split}.{language}.gz", lines)
        if split == "train":
            for pair, rows in (("en-de", None), ("en-cs", MINORITY_ROWS)):
                for language in pair.split("-"):
                    _write(out / "majority" / f"train.{pair}.{language}.gz", sides[language][:rows])


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))


# ---- tokenizer ---------------------------------------------------------------------------------------------


def train_tokenizer(lines: list[str], size: int) -> MBartTokenizer:
    """A Unigram vocabulary over all languages, in mBART's layout: 4 special tokens, pieces, 25 codes, <mask>."""
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    pieces = size - len(SPECIAL) - len(FAIRSEQ_LANGUAGE_CODES) - 1
    trainer = trainers.UnigramTrainer(
        vocab_size=pieces + 1, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    unigram.train_from_iterator(lines, trainer)
    learned = json.loads(unigram.to_str())["model"]["vocab"]
    scores = {piece: round(score, 6) for piece, score in learned}  # the last digits are new in every run
    del scores["<unk>"]
    vocabulary = [(token, 0.0) for token in SPECIAL]
    vocabulary += sorted(scores.items(), key=lambda piece: (-piece[1], piece[0]))[:pieces]
    vocabulary += [(token, 0.0) for token in (*FAIRSEQ_LANGUAGE_CODES, "<mask>")]
    return MBartTokenizer(vocab=vocabulary, src_lang=CODES["en"], tgt_lang=CODES["de"], model_max_length=POSITIONS)


# ---- denoising ---------------------------------------------------------------------------------------------


def words(tokenizer: MBartTokenizer, lines: list[str]) -> list[list[list[int]]]:
    """Each line as its words, each word as its token ids."""
    rows = []
    for encoded in tokenizer(lines, add_special_tokens=False)["input_ids"]:
        row: list[list[int]] = []
        for token, piece in zip(encoded, tokenizer.convert_ids_to_tokens(encoded)):
            if piece.startswith("▁") or not row:
                row.append([])
            row[-1].append(token)
        rows.append(row)
    return rows


def hide(row: list[list[int]], mask: int, rng: np.random.Generator) -> list[int]:
    """The tokens of a line with spans of words hidden behind a ``mask`` each; a span of no word adds one, and spans
    that touch share one.
    """
    budget = max(1, round(MASKED * len(row)))
    hidden = np.zeros(len(row), dtype=bool)
    starts = set()  # words in front of which a mask stands
    while budget > 0:
        length = min(int(rng.poisson(SPAN)), budget)
        start = int(rng.integers(len(row) - length + 1))
        starts.add(start)
        budget -= max(length - int(hidden[start : start + length].sum()), 1)
        hidden[start : start + length] = True
    tokens: list[int] = []
    for place, word in enumerate(row):
        if place in starts and (not tokens or tokens[-1] != mask):
            tokens.append(mask)
        if not hidden[place]:
            tokens += word
    return [*tokens, mask] if len(row) in starts and tokens[-1] != mask else tokens


class Denoising:
    """The steps' batches: a function of the seed and the epoch, so that a resumed run sees what it would have."""

    def __init__(self, tokenizer: MBartTokenizer, sides: dict[str, list[str]], seed: int) -> None:
        self.seed, self.pad = seed, tokenizer.pad_token_id
        self.end, self.mask = tokenizer.eos_token_id, tokenizer.mask_token_id
        self.rows = [
            (row, tokenizer.convert_tokens_to_ids(CODES[language]))
            for language, lines in sides.items()
            for row in words(tokenizer, lines)
            if row
        ]

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return math.ceil(len(self.rows) / CAPTIONS)

    def epoch(self, number: int) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of one pass over all captions: int64 ids and 0/1 mask, [CAPTIONS, length], -100 behind labels."""
        rng = np.random.Generator(np.random.PCG64([self.seed, number]))
        order = rng.permutation(len(self.rows))
        for pool in range(0, len(order), CAPTIONS * POOL):
            chosen = sorted(order[pool : pool + CAPTIONS * POOL], key=lambda i: sum(map(len, self.rows[i][0])))
            batches = [chosen[i : i + CAPTIONS] for i in range(0, len(chosen), CAPTIONS)]
            for which in rng.permutation(len(batches)):
                yield self._batch(batches[which], rng)

    def _batch(self, chosen: list[int], rng: np.random.Generator) -> dict[str, torch.Tensor]:
        inputs, starts, labels = [], [], []
        for i in chosen:
            row, code = self.rows[i]
            target = [*(token for word in row for token in word), self.end]
            inputs.append([*hide(row, self.mask, rng), self.end, code])
            starts.append([code, *target])
            labels.append([*target, code])
        ids = _padded(inputs, self.pad)
        return {
            "input_ids": ids,
            "attention_mask": (ids != self.pad).long(),
            "decoder_input_ids": _padded(starts, self.pad),
            "labels": _padded(labels, -100),
        }


def _padded(rows: list[list[int]], filler: int) -> torch.Tensor:
    length = max(map(len, rows))
    return torch.tensor([row + [filler] * (length - len(row)) for row in rows])


# ---- training ----------------------------------------------------------------------------------------------


def make_model(tokenizer: MBartTokenizer) -> MBartForConditionalGeneration:
    """mBART's architecture at a small size, from random weights.

    Few layers with wide feed-forward parts: on a CPU with bf16 products these cost least for their weights. So does
    plain attention, as captions are short.
    """
    config = MBartConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS,
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=FEED_FORWARD,
        decoder_ffn_dim=FEED_FORWARD,
        dropout=0.1,
        attention_dropout=0.0,
        scale_embedding=True,
        init_std=0.02,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
    )
    model = MBartForConditionalGeneration(config)
    model.set_attn_implementation("eager")
    return model


def rate(step: int, steps: int) -> float:
    """The share of the learning rate at a step: linear rise, then half a cosine down to LOWEST."""
    rise = max(1, round(WARMUP * steps))
    if step < rise:
        return (step + 1) / rise
    return LOWEST + (1 - LOWEST) * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def loss_of(model: MBartForConditionalGeneration, batch: dict[str, torch.Tensor], bf16: bool) -> torch.Tensor:
    """Mean cross-entropy in nats; the products in bf16 where asked, everything else in fp32."""
    batch = dict(batch)
    labels = batch.pop("labels")
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        hidden = model.model(**batch, use_cache=False).last_hidden_state
        counted = labels != -100
        total = torch.zeros(())
        for rows, targets in zip(hidden[counted].split(ROWS), labels[counted].split(ROWS)):
            total = total + torch.nn.functional.cross_entropy(model.lm_head(rows).float(), targets, reduction="sum")
    return total / counted.sum()


def denoise(model, data: Denoising, epochs: int, bf16: bool, state: Path, every: int, stop: int | None) -> None:
    """Train, saving the whole state to ``state`` every so many steps and going on from it if it is there."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98), eps=1e-6, fused=True
    )
    steps = epochs * data.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    done = 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        torch.set_rng_state(saved["rng"])
        done = saved["step"]
        print(f"goes on after step {done}", flush=True)
    model.train()
    step, began, seen, tokens = 0, time.time(), [], 0
    for epoch in range(epochs):
        if (epoch + 1) * data.steps <= done:
            step += data.steps
            continue
        for batch in data.epoch(epoch):
            step += 1
            if step <= done:
                continue
            loss = loss_of(model, batch, bf16)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            seen.append(loss.item())
            tokens += int((batch["labels"] != -100).sum())
            if step % every == 0 or step in (steps, stop):
                speed = tokens / (time.time() - began)
                print(f"step {step}/{steps}  loss {np.mean(seen):.4f}  {speed:.0f} target tokens/s", flush=True)
                seen = []
                parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
                content = {name: part.state_dict() for name, part in parts.items()}
                torch.save(content | {"rng": torch.get_rng_state(), "step": step}, state.with_suffix(".part"))
                os.replace(state.with_suffix(".part"), state)
            if step == stop:
                return


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True, help="folder of Multi30k's gz files (task 1, raw)")
    parser.add_argument("--out", type=Path, required=True, help="folder that receives data and model")
    parser.add_argument("--epochs", type=int, default=1, help="passes over all captions (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of weights, order and spans (default %(default)s)")
    parser.add_argument("--fp32", action="store_true", help="products in fp32; otherwise bf16")
    parser.add_argument("--every", type=int, default=200, help="steps between two saves (default %(default)s)")
    parser.add_argument("--stop", type=int, help="end after this step, as if interrupted (for measuring and testing)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # one thread adds in one order: the weights repeat

    lay_out(args.captions, args.out)
    sides = {language: captions(args.captions, "train", language) for language in CODES}
    began = time.time()
    if (args.out / "denoised").exists():  # goes on: its numbers must be those of the training state
        tokenizer = MBartTokenizer.from_pretrained(args.out / "denoised", trust_remote_code=False)
    else:
        tokenizer = train_tokenizer([line for lines in sides.values() for line in lines], VOCABULARY)
        tokenizer.save_pretrained(args.out / "denoised")
    data = Denoising(tokenizer, sides, args.seed)
    torch.manual_seed(args.seed)
    model = make_model(tokenizer)
    count = sum(weight.numel() for weight in model.parameters())
    print(f"{len(tokenizer)} tokens, {len(data.rows)} captions, {count} parameters; {time.time() - began:.0f} s")
    denoise(model, data, args.epochs, not args.fp32, args.out / "state.pt", args.every, args.stop)
    if args.stop:
        return
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    model.eval().save_pretrained(args.out / "denoised")


if __name__ == "__main__":
    main()
