"""What the tests share: a tiny model, small data, and the command run in this process or in one of its own.

Everything is built in code, once per session, and needs no network. The folders and files are for reading only: a test
that wants to change one copies it first.
"""

from __future__ import annotations

import csv
import gc
import os
import random
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported; nothing in this process may ask the Hub

SCRIPT = Path(__file__).resolve().parent.parent / "GLUE_tasks" / "Glue_prune_oneshot.py"

SUBJECTS = ["the cat", "the dog", "a bird", "my friend", "the teacher", "a child", "the farmer", "an old man"]
VERBS = ["saw", "found", "liked", "bought", "wanted", "carried", "painted", "remembered"]
GOOD = ["a bright flower", "the sweet cake", "a warm house", "the happy song"]
BAD = ["a broken wheel", "the bitter soup", "a cold cellar", "the sad story"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def pytest_configure(config) -> None:
    """Hide GPUs from tests that are not about them; from those that are (``-m gpu``), all but one: a grid would start a
    job on each.
    """
    wanted = "gpu" in config.option.markexpr and "not gpu" not in config.option.markexpr
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[0] if wanted else ""


MODULES = 100
"""So many more modules than at the last freeze are worth another one."""

frozen = 0
"""Modules that there were at the last freeze."""


def pytest_runtest_setup() -> None:
    """Hide what the libraries have made from the collector of garbage.

    Every run has it look at all objects when it ends, which would take longer than all else that a tiny run does.
    """
    global frozen
    if len(sys.modules) >= frozen + MODULES:
        gc.collect()
        gc.freeze()
        frozen = len(sys.modules)


@dataclass(frozen=True)
class CsvTask:
    """Two classes that the words decide: 64 training and 32 validation rows with the columns sentence1 and label."""

    train: str
    validation: str

    @property
    def flags(self) -> list[str]:
        return ["--train_file", self.train, "--validation_file", self.validation]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> str:
    """Folder of a RoBERTa with 2 layers of width 32, room for 128 tokens, its tokenizer, and no classification head."""
    folder = tmp_path_factory.mktemp("models") / "tiny-roberta"
    save_tiny_model(folder)
    return str(folder)


@pytest.fixture(scope="session")
def csv_task(tmp_path_factory) -> CsvTask:
    """A small learnable task in csv files."""
    folder = tmp_path_factory.mktemp("csv") / "words"
    folder.mkdir()
    for name, rows, seed in (("train", 64, 1), ("validation", 32, 2)):
        write_rows(folder / f"{name}.csv", [("sentence1", "label"), *labelled_sentences(rows, seed)])
    return CsvTask(str(folder / "train.csv"), str(folder / "validation.csv"))


@pytest.fixture(scope="session")
def glue_folder(tmp_path_factory) -> str:
    """CoLA, STS-B, MNLI, RTE and MRPC in the layout of the standard GLUE download, 40 training and 20 other rows
    each.
    """
    root = tmp_path_factory.mktemp("glue")
    for folder, make in GLUE_ROWS.items():
        (root / folder).mkdir()
        evals = ("dev_matched", "dev_mismatched") if folder == "MNLI" else ("dev",)
        for seed, name in enumerate(("train", *evals)):
            header, *rows = make(labelled_sentences(40 if name == "train" else 20, seed))
            lines = ["\t".join(map(str, row)) for row in ([header] if header else []) + rows]
            (root / folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return str(root)


@pytest.fixture
def command(capsys):
    """Call the command in this process: ``command(argv)`` gives (exit code, standard output, standard error)."""
    import Glue_prune_oneshot

    def call(argv: list[str]) -> tuple[int, str, str]:
        capsys.readouterr()
        code = Glue_prune_oneshot.main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def path_with_python(tmp_path_factory) -> str:
    """A PATH whose python is the one that runs the tests."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (folder / "python").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def bash(path_with_python, tmp_path):
    """Call bash in an empty folder: ``bash(words, NAME=value)``; None takes a variable away."""
    from calling import VARIABLES

    def call(*words, **environment) -> subprocess.CompletedProcess:
        mine = os.environ | {"PATH": path_with_python, "OMP_NUM_THREADS": "1"} | dict.fromkeys(VARIABLES) | environment
        return subprocess.run(
            ["bash", *map(str, words)],
            cwd=tmp_path,
            env={name: str(value) for name, value in mine.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return call


def parse(argv):
    """Return what a GLUE command line asks for."""
    import Glue_prune_oneshot
    from junkdna.runs import request

    return request.parse(Glue_prune_oneshot.FAMILY, [str(word) for word in argv])


def run_command(argv: list[str], cwd, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess:
    """Run the command as a user does, in a process and a folder of its own; None takes a variable away."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, argv)],
        cwd=cwd,
        env={name: value for name, value in (os.environ | environment).items() if value is not None},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


# --- the pieces ------------------------------------------------------------------------------------------------------


def save_tiny_model(folder: Path, head: int | None = None, model_type: str = "roberta", **settings) -> None:
    """Write an encoder of random weights with its tokenizer; ``head`` labels give it a classification head."""
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    tokenizer = tiny_tokenizer()
    config = transformers.AutoConfig.for_model(
        model_type,
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 130,
            "type_vocab_size": 1,
            "initializer_range": 0.2,  # at this width the usual 0.02 learns nothing in a few epochs
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            **({"num_labels": head} if head else {}),
            **settings,
        },
    )
    kind = transformers.AutoModelForSequenceClassification if head else transformers.AutoModelForMaskedLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_tokenizer():
    """A tokenizer of whole words, with RoBERTa's special tokens at RoBERTa's places."""
    import tokenizers
    import transformers

    words = sorted({word for phrase in SUBJECTS + VERBS + GOOD + BAD for word in phrase.split()})
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *words])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=128,
    )


def paired_features(tokenizer, count: int):
    """Tokenised pairs of texts of many lengths, with labels 0, 1 and 2."""
    from junkdna.training.tokens import tokenise

    words = ["the", "cat", "saw", "a", "bright", "flower", "and", "my", "friend", "liked", "the", "sweet", "cake"]
    texts = [(" ".join(words[: 1 + i % 7]), " ".join(words[i % 5 :])) for i in range(count)]
    return tokenise(texts, [i % 3 for i in range(count)], tokenizer, 32)


def labelled_sentences(rows: int, seed: int) -> list[tuple[str, int]]:
    """Sentences about good (1) and bad (0) things, half of each."""
    draw = random.Random(seed)
    labels = [i % 2 for i in range(rows)]
    draw.shuffle(labels)
    return [
        (f"{draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(GOOD if label else BAD)}", label)
        for label in labels
    ]


def write_rows(path: Path, rows: list[tuple]) -> Path:
    """Write a csv file, its header first."""
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def _cola(sentences):
    return [None, *(("gj04", label, "" if label else "*", text) for text, label in sentences)]


def _rte(sentences):
    names = ("entailment", "not_entailment")
    return [
        ("index", *PAIR, "label"),
        *((i, text, other(text), names[label]) for i, (text, label) in enumerate(sentences)),
    ]


def _mrpc(sentences):
    rows = [(label, i, i + 1, text, other(text)) for i, (text, label) in enumerate(sentences)]
    return [("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"), *rows]


def _stsb(sentences):
    header = ("index", "genre", "filename", "year", "old_index", "source1", "source2", *PAIR, "score")
    rows = [
        (i, "main", "file", 2012, i, "none", "none", text, other(text), f"{4 * label + i % 3 / 4:.3f}")
        for i, (text, label) in enumerate(sentences)
    ]
    return [header, *rows]


def _mnli(sentences):
    parses = ("sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse")
    header = ("index", "promptID", "pairID", "genre", *parses, *PAIR, "label1", "gold_label")
    names = ("entailment", "neutral", "contradiction")
    rows = [
        (i, i, f"{i}e", "fiction", *("(tree)",) * 4, text, other(text), names[(i + label) % 3], names[(i + label) % 3])
        for i, (text, label) in enumerate(sentences)
    ]
    return [header, *rows]


def other(text: str) -> str:
    """A second sentence for a pair: the same words, the subject left out."""
    return " ".join(text.split()[2:])


PAIR = ("sentence1", "sentence2")
GLUE_ROWS = {"CoLA": _cola, "STS-B": _stsb, "MNLI": _mnli, "RTE": _rte, "MRPC": _mrpc}
