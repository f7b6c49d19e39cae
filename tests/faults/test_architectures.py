"""Architectures made from small configurations go through the real command: a row alone, rows in batches and the
report agree, and what is saved is what ``from_pretrained`` reads.

A model that cannot be evaluated in batches, or is not an encoder, is refused with one line.
"""

import csv
import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from conftest import tiny_tokenizer, write_rows
from junkdna.training import predict

WIDTH = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 130,
    "type_vocab_size": 2,
    "initializer_range": 0.2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "cls_token_id": 0,
    "sep_token_id": 2,
}
DECODER = {"num_key_value_heads": 2, "head_dim": 16}
"""Names that configurations agree on; what a type calls otherwise stands beside it."""

PACKED = {"bert": {}, "roberta": {}, "camembert": {}, "xlm-roberta": {}, "electra": {"embedding_size": 32}}
PADDED = {
    "albert": {"embedding_size": 32},
    "big_bird": {"attention_type": "original_full"},
    "biogpt": {},
    "bloom": {"n_layer": 2, "n_head": 2},
    "data2vec-text": {},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "ernie": {},
    "esm": {"position_embedding_type": "absolute", "mask_token_id": 4, "token_dropout": False},
    "falcon": {},
    "flaubert": {"emb_dim": 32, "n_layers": 2, "n_heads": 2},
    "gemma": DECODER,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 130},
    "gpt_neo": {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
    "gpt_neox": {},
    "ibert": {},
    "layoutlm": {},
    "lilt": {"hidden_size": 48},
    "llama": DECODER,
    "longformer": {"attention_window": [8, 8]},
    "luke": {"entity_vocab_size": 4, "entity_emb_size": 32},
    "megatron-bert": {},
    "mistral": DECODER,
    "mobilebert": {"embedding_size": 32, "intra_bottleneck_size": 32, "num_feedforward_networks": 1},
    "modernbert": {"global_attn_every_n_layers": 1},
    "mpnet": {},
    "nomic_bert": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "phi": {},
    "qwen2": DECODER,
    "rembert": {"input_embedding_size": 32, "output_embedding_size": 32},
    "roberta-prelayernorm": {},
    "roformer": {"embedding_size": 32},
    "squeezebert": {"embedding_size": 32},
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 2},
    "xlm-roberta-xl": {},
    "xlnet": {"max_position_embeddings": None, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}
ALIKE = {
    "convbert": {"embedding_size": 32, "head_ratio": 1, "conv_kernel_size": 3},
    "fnet": {},
    "nystromformer": {"num_landmarks": 64, "segment_means_seq_len": 64, "conv_kernel_size": 3},
}
REFUSED = {
    "bart": {},
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 1},
}
EVERY = PACKED | PADDED | ALIKE | REFUSED
SHORT = ("bert", "distilbert", "gpt2", "roberta", "squeezebert", "xlnet", "convbert", "t5")
"""One or two of each kind, for every change; all of them take minutes."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Two csv files whose texts are of many lengths, empty, and hold the pad token; and their flags."""
    folder, draw = tmp_path_factory.mktemp("odd"), random.Random(0)
    words = sorted(word for word in tiny_tokenizer().get_vocab() if not word.startswith("<"))

    def text() -> str:
        made = draw.choices(words, k=draw.choice([1, 2, 3, 5, 8, 13, 30]))
        if draw.random() < 0.3:
            made[draw.randrange(len(made))] = "<pad>"
        return " ".join(made)

    flags = []
    for split in ("train", "validation"):
        texts = ["<unk>", "<pad>", "a <pad> <pad>", *(text() for _ in range(21))]
        path = write_rows(folder / f"{split}.csv", [("sentence1", "label"), *((t, i % 2) for i, t in enumerate(texts))])
        flags += [f"--{split}_file", str(path)]
    return flags


@pytest.fixture
def seen(monkeypatch):
    """The outputs of every evaluation, in order, as the command turned them into predictions."""
    found, true = [], predict.as_labels

    def as_labels(outputs, label_order=None):
        found.append(torch.from_numpy(outputs))
        return true(outputs, label_order)

    monkeypatch.setattr(predict, "as_labels", as_labels)
    return found


def save(name: str, folder: Path) -> None:
    """Write a small model of this type, of random weights, with its tokenizer."""
    tokenizer = tiny_tokenizer()
    settings = WIDTH | {"vocab_size": len(tokenizer), "num_labels": 2} | EVERY[name]
    config = AutoConfig.for_model(name, **{key: value for key, value in settings.items() if value is not None})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def flags(name: str, folder: Path, rows: list[str], batch: int, steps: int) -> list:
    """A command line that prunes and trains the model of a folder for a few steps."""
    taken = ["--max_train_steps", steps, "--per_device_train_batch_size", 8, "--per_device_eval_batch_size", batch]
    kept = ["--sparsity", 0.3, "--freeze_weights", "--save_model", "--max_length", 64, "--overwrite_output_dir"]
    return ["--model_name_or_path", folder / name, *rows, *taken, *kept, "--output_dir", folder / "out"]


@torch.no_grad()
def one_by_one(folder: Path, path: str) -> tuple[torch.Tensor, float]:
    """What a reader of the saved model gets for every row alone: its outputs, and the accuracy by its labels' names."""
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    with open(path, newline="") as file:
        texts, labels = zip(*list(csv.reader(file))[1:])
    outputs = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])
    names = [model.config.id2label[int(row.argmax())] for row in outputs]
    return outputs, sum(name == label for name, label in zip(names, labels)) / len(labels)


def check(name: str, folder: Path, rows: list[str], command, seen: list, batches: tuple[int, ...], steps: int) -> None:
    """Run an architecture through the command and compare; refuse what must be refused."""
    save(name, folder / name)
    for batch in batches:
        code, out, err = command(flags(name, folder, rows, batch, steps))
        if name in REFUSED:
            assert code == 2 and err.count("\n") == 1 and f"(type {name!r})" in err, err
            continue
        assert code == 0, err
        words = next(line for line in out.splitlines() if line.startswith("training"))
        assert ("packed," in words) == (name in PACKED) and ("equal length" in words) == (name in ALIKE), words
        alone, accuracy = one_by_one(folder / "out", rows[-1])
        reported = seen[-1]
        assert float((reported - alone).abs().max()) <= 1e-3 * float(alone.abs().max())
        assert torch.equal(reported.argmax(1), alone.argmax(1))
        assert json.loads((folder / "out" / "all_results.json").read_text())["eval_accuracy"] == pytest.approx(accuracy)
        record = json.loads((folder / "out" / "run.json").read_text())
        assert record["plan"]["probe"]["rows"] >= 8 and record["plan"]["probe"]["difference"] <= 1e-4
        census = record["pruning"]
        assert census["removed"] == census["asked"] > 0


@pytest.mark.parametrize("name", SHORT)
def test_what_is_reported_is_what_the_saved_model_gives(name, tmp_path, rows, command, seen):
    check(name, tmp_path, rows, command, seen, batches=(8,), steps=1)


@pytest.mark.slow
def test_every_architecture(tmp_path, rows, command, seen):
    """At two sizes of evaluation batches."""
    tried = 0
    for name in EVERY:
        (tmp_path / f"of-{name}").mkdir()
        check(name, tmp_path / f"of-{name}", rows, command, seen, batches=(32, 3), steps=2)
        tried += 1
    assert tried == len(EVERY) >= 45 and len(SHORT) == 8
