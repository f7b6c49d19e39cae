"""The recipe of the small mBART: its data folders, its spans, and that it goes on from where it was stopped."""

import gzip
import importlib.util
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from junkdna.families.translation import pairs

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "multi30k_mbart.py"
SMALL = {"VOCABULARY": 80, "LAYERS": 1, "WIDTH": 16, "HEADS": 2, "FEED_FORWARD": 32, "CAPTIONS": 8, "POOL": 2}
SMALL |= {"MINORITY_ROWS": 5}
WORDS = {"en": "a dog cat runs sits here there", "de": "ein Hund Katze rennt sitzt hier dort",
         "cs": "jeden pes kočka běží sedí tady tam"}  # fmt: skip


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("multi30k_mbart", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in SMALL.items():
        monkeypatch.setattr(module, name, value)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


@pytest.fixture
def captions(tmp_path):
    """A folder in Multi30k's layout; 24 captions to train on."""
    folder = tmp_path / "captions"
    folder.mkdir()
    for split, count in (("train", 24), ("val", 3), ("test_2016_flickr", 4)):
        for language, words in WORDS.items():
            draw = np.random.default_rng(count)
            lines = [" ".join(draw.choice(words.split(), draw.integers(4, 9))) for _ in range(count)]
            (folder / f"{split}.{language}.gz").write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    return folder


def test_spans_hide_as_many_words_as_they_should_and_change_no_other(script):
    rng = np.random.default_rng(0)
    rows = [[[10 * i, 10 * i + 1] for i in range(1, length + 1)] for length in (1, 2, 5, 12, 40) for _ in range(200)]
    gone = []
    for row in rows:
        given = script.hide(row, 7, rng)
        kept = [token for token in given if token != 7]
        assert kept == sorted(kept) and set(kept) <= {token for word in row for token in word}
        assert 7 in given and (7, 7) not in list(itertools.pairwise(given))  # one mask a span
        assert all(token + 1 in kept for token in kept if token % 10 == 0)  # whole words
        gone.append(1 - len(kept) / sum(map(len, row)))
    assert 0.28 < np.mean(gone[-200:]) < 0.36  # a span of no word counts as one


def test_its_folders_are_read_by_the_translation_command(script, captions, tmp_path):
    script.lay_out(captions, tmp_path)
    for arm, few in (("equal", 24), ("majority", 5)):
        sizes = {
            (pair, split): len(pairs.read(pairs.require(str(tmp_path / arm), pair, split)))
            for pair in ("en-de", "en-cs")
            for split in ("train", "validation", "test")
        }
        assert sizes["en-de", "train"] == 24 and sizes["en-cs", "train"] == few
        assert {sizes[pair, "test"] for pair in ("en-de", "en-cs")} == {4}


def test_an_interrupted_run_ends_with_the_same_bytes(script, captions, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    words = ["--captions", str(captions), "--epochs", "2", "--every", "2"]
    script.main([*words, "--out", str(whole)])
    for stop in (["--stop", "5"], ["--stop", "11"], []):  # in either epoch
        script.main([*words, "--out", str(parts), *stop])
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (whole / "denoised" / name).read_bytes() == (parts / "denoised" / name).read_bytes()
    assert not os.path.exists(parts / "state.part")
