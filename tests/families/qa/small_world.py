"""A causal model of two small blocks that reads bytes, and twelve questions about colours, for tests of whole runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "QA_tasks" / "QA_prune_oneshot.py"
COLOURS = ["red", "green", "blue", "white"]
THINGS = ["hat", "cup", "bag", "car", "bed", "pen", "box", "key", "cat", "sea", "sky", "egg"]


def save_model(folder: Path, **settings) -> str:
    """Save a Llama of random weights with a byte-level tokenizer; ``settings`` change its configuration."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(special + letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    config = {
        "vocab_size": len(special + letters),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": True,
    }
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**config | settings))
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            if weight.dim() == 2:
                weight *= 20  # else the tied head has it repeat its last token, whatever is removed from it
    model.save_pretrained(folder)
    return str(folder)


def rows() -> list[dict]:
    """Twelve questions with their texts."""
    return [
        {
            "id": f"q{i}",
            "question": f"what colour is the {thing}?",
            "answers": [COLOURS[i % 4], COLOURS[i % 4].upper()],
            "context": f"The {thing} is {COLOURS[i % 4]}. " * 2,
        }
        for i, thing in enumerate(THINGS)
    ]


def save_questions(path: Path, content: list[dict] | None = None) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in content or rows()))
    return str(path)


def save_text(path: Path) -> str:
    """Documents of some hundred bytes, one a line."""
    path.write_text("".join(f"The {thing} stands by the {other}. " * 12 + "\n" for thing in THINGS for other in THINGS))
    return str(path)


def call(argv, cwd=None, **more) -> subprocess.CompletedProcess:
    """Run the command as a user does."""
    command = [sys.executable, str(SCRIPT), *map(str, argv)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, **more)
