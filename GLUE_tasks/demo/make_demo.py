"""The recipe of the embedded demo, start to end: text, tokenizer, tiny pre-trained RoBERTa, two tasks.

    python make_demo.py              # remakes model/, easy/ and hard/ beside this file; ten minutes on one core
    python make_demo.py --out DIR    # writes them under DIR instead

Everything follows from the seeds below. On one machine, with one set of library versions, a second run writes
the same bytes; the tasks do so everywhere. ``check_demo.py`` measures what came out.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from pathlib import Path
from random import Random

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # before the import: one order of work

import torch
from language import as_csv, corpus, make_tasks
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, RobertaConfig, RobertaForMaskedLM, RobertaTokenizer

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # RoBERTa's names; the order makes the pad id 1
VOCABULARY = 1000  # at most; merging stops earlier, when every word is one token
MAX_TOKENS = 128  # RoBERTa numbers positions from pad id + 1 = 2, hence two more rows in the table

SENTENCES = 120_000  # of pre-training text
PASSES = 4  # over that text, each time with fresh masks
TOKENIZER_SENTENCES = 20_000
BATCH = 64  # sentences of one length, so nothing is padded
MASKED = 0.3  # of the tokens are to be guessed
SHOWN_MASK, SHOWN_WRONG = 0.5, 0.35  # of these, shown as <mask>, or as a wrong token; the rest as they are
LEARNING_RATE, WARMUP, WEIGHT_DECAY = 3e-3, 0.05, 0.01  # linear rise over the first 5 % of steps, then fall to 0
MODEL_SEED = 41


def write_tasks(out: Path) -> None:
    """Write ``<task>/<split>.csv`` under out."""
    for task, splits in make_tasks().items():
        (out / task).mkdir(parents=True, exist_ok=True)
        for split, rows in splits.items():
            (out / task / f"{split}.csv").write_text(as_csv(rows), encoding="utf-8", newline="")


def train_tokenizer(text: list[str]) -> PreTrainedTokenizerBase:
    """Byte-level BPE as in RoBERTa: every byte is in the vocabulary, so nothing is ever <unk>."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=SPECIAL,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    return RobertaTokenizer(vocab=learned["vocab"], merges=merges, model_max_length=MAX_TOKENS)


def model_config(vocabulary: int) -> RobertaConfig:
    """RoBERTa in small: 4 layers of width 64; widths are powers of two, so every usual N:M pattern fits."""
    return RobertaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=MAX_TOKENS + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )


def batches(ids: list[list[int]], rng: Random) -> list[torch.Tensor]:
    """One pass over the text in random order: int64 tensors [<= BATCH, length], each of a single length."""
    by_length = defaultdict(list)
    for row in rng.sample(ids, len(ids)):
        by_length[len(row)].append(row)
    out = [torch.tensor(rows[i : i + BATCH]) for rows in by_length.values() for i in range(0, len(rows), BATCH)]
    rng.shuffle(out)
    return out


def mask_tokens(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide some tokens: returns the input [batch, length] and the boolean places to be guessed.

    A wrong token is drawn from the batch itself, not from the vocabulary: then a particle is often replaced
    by another particle, and the model has to judge whether the one it sees agrees.
    """
    chosen = (torch.rand(ids.shape) < MASKED) & (ids >= len(SPECIAL))
    fate = torch.rand(ids.shape)
    shown = ids.masked_fill(chosen & (fate < SHOWN_MASK), SPECIAL.index("<mask>"))
    words = ids[ids >= len(SPECIAL)]
    wrong = words[torch.randint(len(words), ids.shape)]
    return torch.where(chosen & (fate >= 1 - SHOWN_WRONG), wrong, shown), chosen


def pretrain(ids: list[list[int]], config: RobertaConfig, passes: int) -> RobertaForMaskedLM:
    """Masked-language modelling from random weights; prints the loss, in nats per guessed token."""
    torch.manual_seed(MODEL_SEED)
    rng = Random(MODEL_SEED)
    model = RobertaForMaskedLM(config).eval()  # without dropout, which only slows down so small a model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98), fused=True
    )
    plan = [batch for _ in range(passes) for batch in batches(ids, rng)]
    rise = max(1, round(WARMUP * len(plan)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rise, (len(plan) - step) / max(1, len(plan) - rise))
    )
    started, total, counted = time.perf_counter(), 0.0, 0
    for step, batch in enumerate(plan, start=1):
        shown, chosen = mask_tokens(batch)
        hidden = model.roberta(shown).last_hidden_state[chosen]  # the head is needed there only
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), batch[chosen])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total, counted = total + loss.item(), counted + 1
        if step % 500 == 0 or step == len(plan):
            seconds = time.perf_counter() - started
            print(f"step {step:6d}/{len(plan)}  loss {total / counted:.3f}  {seconds:.0f} s", flush=True)
            total, counted = 0.0, 0
    return model


def main(argv: list[str] | None = None) -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=here, help="folder that receives model/, easy/ and hard/")
    parser.add_argument(
        "--sentences",
        type=int,
        default=SENTENCES,
        help="pre-training sentences; fewer make a quick, poor model (default %(default)s)",
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # one thread adds in one order: the weights repeat
    torch.set_float32_matmul_precision("medium")  # bfloat16 products where the processor has them

    write_tasks(args.out)
    text = list(corpus(args.sentences))
    tokenizer = train_tokenizer(text[:TOKENIZER_SENTENCES])
    ids = tokenizer(text)["input_ids"]
    print(f"{len(text)} sentences, {sum(map(len, ids))} tokens, vocabulary {len(tokenizer)}")
    model = pretrain(ids, model_config(len(tokenizer)), PASSES)
    # The encoder alone: fine-tuning adds its own head and has no use for the masked-language one.
    model.roberta.save_pretrained(args.out / "model")
    tokenizer.save_pretrained(args.out / "model")


if __name__ == "__main__":
    main()
