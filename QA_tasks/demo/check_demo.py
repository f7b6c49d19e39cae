"""Measures the question-answering demo: what is remembered, what is read, and how each falls under pruning.

    python check_demo.py             # the table of README.md; a few minutes on one core

It shares no code with the project's own pruning, on purpose: two programs that agree are worth more than one.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from random import Random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from world import CLOSED, NAMES, OPEN, World, exam

HERE = Path(__file__).resolve().parent
LONGEST = 4  # tokens of an answer; the longest right one has three with the end of its line
SPARSITIES = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8)


def read_questions(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def prompt(row: dict, book: str) -> str:
    """The paper's prompt, which the answer follows."""
    front = OPEN.format(context=row["context"]) if book == "open" else CLOSED
    return f"{front}Q: {row['question']}\nA:"


@torch.no_grad()
def answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> list[str]:
    """The first line that follows each prompt, word by word the likeliest; prompts of one length go together."""
    ids = tokenizer(prompts)["input_ids"]
    by_length = defaultdict(list)
    for place, row in enumerate(ids):
        by_length[len(row)].append(place)
    out = [""] * len(prompts)
    for length, places in by_length.items():
        rows = torch.tensor([ids[place] for place in places])
        for _ in range(LONGEST):
            hidden = model.model(input_ids=rows, use_cache=False).last_hidden_state[:, -1]
            rows = torch.cat([rows, model.lm_head(hidden).argmax(-1, keepdim=True)], dim=1)
        for place, row in zip(places, rows[:, length:]):
            out[place] = tokenizer.decode(row).replace(tokenizer.eos_token, "\n").partition("\n")[0]
    return out


def accuracy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: list[dict], book: str) -> float:
    """The share of questions answered with exactly a right answer, a space in front."""
    given = answers(model, tokenizer, [prompt(row, book) for row in questions])
    return sum(text in [f" {answer}" for answer in row["answers"]] for text, row in zip(given, questions)) / len(given)


def prune(model: PreTrainedModel, sparsity: float) -> None:
    """Zero the smallest weights of every linear layer inside the blocks, each matrix by itself."""
    for layer in model.model.layers.modules():
        if isinstance(layer, torch.nn.Linear):
            flat = layer.weight.data.view(-1)
            flat[flat.abs().argsort(stable=True)[: round(sparsity * flat.numel())]] = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE, help="where model/ and questions.jsonl are")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    world, rng = World(), Random(1)
    known = read_questions(folder / "questions.jsonl")
    # Controls: known people in texts that contradict what is known, and strangers.
    other = {name: world.life(name, rng) for name in world.people}
    strange = {name: world.life(name, rng) for name in world.strangers(NAMES, rng)}
    exams = {"contradicted": list(exam(world, other, 8, 1)), "strangers": list(exam(world, strange, 8, 1))}
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    print("sparsity   open  closed  contradicted, open  strangers, open  strangers, closed")
    for sparsity in (0.0, *SPARSITIES):
        model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
        prune(model, sparsity)
        cells = [accuracy(model, tokenizer, known, book) for book in ("open", "closed")]
        cells += [accuracy(model, tokenizer, exams[name], "open") for name in ("contradicted", "strangers")]
        cells.append(accuracy(model, tokenizer, exams["strangers"], "closed"))
        print(f"{sparsity:8.1f}  " + "  ".join(f"{100 * cell:5.1f}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
