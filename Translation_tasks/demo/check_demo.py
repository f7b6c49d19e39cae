"""Measures the translation demo: how well each pair is translated, and how that falls under pruning.

    python check_demo.py             # the table of README.md; a few minutes on one core

It shares no code with the project's own pruning and translating, on purpose: two programs that agree are worth more
than one. Beam search of 5, as there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import sacrebleu
import torch
from languages import AORA, EILA, LANGUAGES, UIRO
from transformers import MBartForConditionalGeneration, MBartTokenizer, PreTrainedModel

HERE = Path(__file__).resolve().parent
DIRECTIONS = ((AORA, EILA), (EILA, AORA), (AORA, UIRO), (UIRO, AORA))
SPARSITIES = (0.1, 0.3, 0.5, 0.7, 0.9)


def read(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


@torch.no_grad()
def translate(
    model: PreTrainedModel, tokenizer: MBartTokenizer, texts: list[str], source: str, target: str, size: int = 50
) -> list[str]:
    """The likeliest translations of a beam search; texts of about one length go together."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = [""] * len(texts)
    tokenizer.src_lang = f"{source}_XX"
    start = tokenizer.convert_tokens_to_ids(f"{target}_XX")
    for first in range(0, len(order), size):
        places = order[first : first + size]
        batch = tokenizer([texts[i] for i in places], return_tensors="pt", padding=True)
        ids = model.generate(**batch, decoder_start_token_id=start, num_beams=5, early_stopping=True, max_new_tokens=64)
        for i, text in zip(places, tokenizer.batch_decode(ids, skip_special_tokens=True)):
            out[i] = text
    return out


def prune(model: PreTrainedModel, sparsity: float) -> None:
    """Zero the smallest weights of all matrices together, embedding and positions among them."""
    matrices = [weight for weight in model.parameters() if weight.ndim == 2]
    sizes = torch.cat([weight.detach().abs().flatten() for weight in matrices])
    gone = torch.zeros(len(sizes), dtype=torch.bool)
    gone[sizes.argsort(stable=True)[: round(sparsity * len(sizes))]] = True
    for weight, part in zip(matrices, gone.split([weight.numel() for weight in matrices])):
        weight.data[part.view_as(weight)] = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE, help="where model/ and data/ are")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    test = {language: read(folder / "data" / f"test.{language}") for language in LANGUAGES}
    tokenizer = MBartTokenizer.from_pretrained(folder / "model")
    print("BLEU      " + "".join(f"{a}-{b:10}" for a, b in DIRECTIONS) + "(chrF++ in brackets)")
    copies = [(test[a], test[b]) for a, b in DIRECTIONS]
    print("copying   " + row(copies), flush=True)
    for sparsity in (0.0, *SPARSITIES):
        model = MBartForConditionalGeneration.from_pretrained(folder / "model").eval()
        prune(model, sparsity)
        outputs = [(translate(model, tokenizer, test[a], a, b), test[b]) for a, b in DIRECTIONS]
        print(f"{sparsity:<10}" + row(outputs), flush=True)


def row(pairs: list[tuple[list[str], list[str]]]) -> str:
    """BLEU and chrF++ of each direction's outputs."""
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF(word_order=2)
    scores = [(bleu.corpus_score(out, [right]).score, chrf.corpus_score(out, [right]).score) for out, right in pairs]
    return "".join(f"{b:4.1f} ({c:4.1f})  " for b, c in scores)


if __name__ == "__main__":
    main()
