"""Measures the embedded demo: what each task needs, and how each falls under one-shot pruning.

    python check_demo.py             # the table of README.md; about five minutes on two cores

It shares no code with the project's own pruning, on purpose: two programs that agree are worth more than one.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from pathlib import Path

import torch
import transformers
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

HERE = Path(__file__).resolve().parent
TASKS = ("easy", "hard")
SPARSITIES = (0.1, 0.3, 0.5, 0.7, 0.9)  # fraction of the weights in scope that is removed
SEEDS = (41, 42, 43)
LEARNING_RATE, BATCH, EPOCHS, WARMUP = 1e-3, 32, 3, 0.06  # AdamW, linear rise and fall
ENCODER, WITH_HEAD = ("encoder.layer",), ("encoder.layer", "classifier")  # what may be pruned

Rows = tuple[list[str], list[int]]
Masks = dict[str, torch.Tensor]


def read_rows(folder: Path, task: str, split: str) -> Rows:
    """(sentences, labels) of one csv file."""
    with open(folder / task / f"{split}.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["sentence1"] for row in rows], [int(row["label"]) for row in rows]


def bag_of_words(train: Rows, validation: Rows) -> float:
    """Accuracy of logistic regression on word counts: how much the mere presence of words tells."""
    counter = CountVectorizer(token_pattern=r"\S+")
    classifier = LogisticRegression(max_iter=1000).fit(counter.fit_transform(train[0]), train[1])
    return float(classifier.score(counter.transform(validation[0]), validation[1]))


def magnitude_masks(model: PreTrainedModel, sparsity: float, scope: tuple[str, ...]) -> Masks:
    """True where a weight stays. One threshold over all matrices in scope (global)."""
    matrices = {name: p for name, p in model.named_parameters() if p.dim() == 2}
    inside = {name: p for name, p in matrices.items() if any(part in name for part in scope)}
    magnitudes = torch.cat([p.detach().abs().flatten() for p in inside.values()])
    removed = round(sparsity * magnitudes.numel())
    keep = torch.ones(magnitudes.numel(), dtype=torch.bool)
    keep[magnitudes.argsort(stable=True)[:removed]] = False
    parts = keep.split([p.numel() for p in inside.values()])
    return {name: part.view_as(p) for (name, p), part in zip(inside.items(), parts, strict=True)}


@torch.no_grad()
def hold(model: PreTrainedModel, masks: Masks) -> None:
    """Set every removed weight to zero."""
    for name, mask in masks.items():
        model.get_parameter(name).mul_(mask)


@torch.no_grad()
def accuracy(model: PreTrainedModel, tokenizer, rows: Rows) -> float:
    model.eval()
    right = 0
    for start in range(0, len(rows[0]), 100):
        inputs = tokenizer(rows[0][start : start + 100], padding=True, return_tensors="pt")
        labels = torch.tensor(rows[1][start : start + 100])
        right += int((model(**inputs).logits.argmax(-1) == labels).sum())
    return right / len(rows[0])


def fine_tune(model: PreTrainedModel, tokenizer, rows: Rows, masks: Masks) -> None:
    """Plain fine-tuning in place; the mask is put back after every step."""
    hold(model, masks)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, fused=True)
    steps = EPOCHS * -(-len(rows[0]) // BATCH)
    rise = round(WARMUP * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rise, (steps - step) / (steps - rise))
    )
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(rows[0])).split(BATCH):
            inputs = tokenizer([rows[0][i] for i in chosen], padding=True, return_tensors="pt")
            model(**inputs, labels=torch.tensor([rows[1][i] for i in chosen])).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            hold(model, masks)
            schedule.step()
            optimizer.zero_grad()


def measure(
    folder: Path, task: str, seed: int, sparsity: float = 0.0, scope: tuple[str, ...] = ENCODER, pretrained: bool = True
) -> float:
    """Validation accuracy of one fine-tuned model, pruned first if sparsity > 0, or from random weights."""
    torch.manual_seed(seed)
    source = folder / "model"
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if pretrained:
        model = AutoModelForSequenceClassification.from_pretrained(source, trust_remote_code=False)
    else:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        model = AutoModelForSequenceClassification.from_config(config)
    masks = magnitude_masks(model, sparsity, scope) if sparsity else {}
    fine_tune(model, tokenizer, read_rows(folder, task, "train"), masks)
    return accuracy(model, tokenizer, read_rows(folder, task, "validation"))


def cell(values: list[float]) -> str:
    """Mean and standard deviation over seeds, in per cent."""
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=HERE, help="folder that holds model/, easy/ and hard/")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="default: 41 42 43")
    args = parser.parse_args(argv)
    transformers.logging.set_verbosity_error()  # every load would list the classifier as new
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium")

    data = {task: [read_rows(args.demo, task, split) for split in ("train", "validation")] for task in TASKS}
    print("| validation accuracy, % | easy | hard |\n|---|---|---|")
    print(
        "| bag of words, logistic regression |",
        " | ".join(cell([bag_of_words(*data[t])]) for t in TASKS),
        "|",
        flush=True,
    )
    settings = [("random weights, dense", 0.0, ENCODER, False), ("pre-trained, dense", 0.0, ENCODER, True)]
    settings += [(f"encoder pruned, sparsity {s}", s, ENCODER, True) for s in SPARSITIES]
    settings += [(f"encoder and head pruned, sparsity {s}", s, WITH_HEAD, True) for s in SPARSITIES[2:4]]
    started = time.perf_counter()
    for name, *how in settings:
        cells = [cell([measure(args.demo, task, seed, *how) for seed in args.seeds]) for task in TASKS]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    runs = len(settings) * len(args.seeds) * len(TASKS)
    print(f"\n{runs} fine-tunings, {(time.perf_counter() - started) / runs:.1f} s each")


if __name__ == "__main__":
    main()
