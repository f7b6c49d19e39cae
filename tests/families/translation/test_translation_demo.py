"""The demo's model translates, its files are what its recipe makes, and the recipe repeats."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

import Translation_prune_oneshot

DEMO = Path(__file__).resolve().parents[3] / "Translation_tasks" / "demo"


@pytest.fixture(scope="module")
def recipe():
    """The recipe's module; ``languages`` beside it is imported by that name."""
    sys.path.insert(0, str(DEMO))
    try:
        spec = importlib.util.spec_from_file_location("make_demo", DEMO / "make_demo.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(DEMO))


def test_it_is_small():
    files = [path for path in DEMO.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) >= 16 and sum(path.stat().st_size for path in files) < 5_000_000


def test_the_texts_are_those_of_the_recipe_and_no_test_sentence_is_trained_on(recipe, tmp_path):
    recipe.write_texts(tmp_path, recipe.PAIRS)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 10 and names == sorted(path.name for path in (DEMO / "data").iterdir())
    rows = {}
    for name in names:
        assert (tmp_path / name).read_bytes() == (DEMO / "data" / name).read_bytes()
        rows[name] = (DEMO / "data" / name).read_text().splitlines()
    trained = set(rows["train.ao-ei.ao"])
    assert len(trained) == 12_000 and len(rows["train.ao-ui.ao"]) == 1200
    assert rows["train.ao-ui.ao"] == rows["train.ao-ei.ao"][:1200]
    assert len(set(rows["test.ao"])) == 200 and not trained & {*rows["test.ao"], *rows["validation.ao"]}


def test_the_two_relatives_are_equally_far_in_letters_and_stems(recipe):
    words = recipe.make_lexicon().words
    same = {
        relative: sum(
            len(a) == len(b) for kind in words["ao"] for a, b in zip(words["ao"][kind], words[relative][kind])
        )
        for relative in ("ei", "ui")
    }
    assert all(len(set(sum(words[one].values(), ()))) == 200 for one in words)  # no two stems are alike
    assert abs(same["ei"] - same["ui"]) < 20


def test_training_repeats_to_the_bit(recipe, tmp_path):
    threads = torch.get_num_threads()
    states = []
    for name in ("a", "b"):
        recipe.main(["--out", str(tmp_path / name), "--steps", "3"])
        states.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    torch.set_num_threads(threads)
    assert states[0] == states[1]
    assert (tmp_path / "a/model/tokenizer.json").read_bytes() == (DEMO / "model/tokenizer.json").read_bytes()


def test_the_dense_model_translates_the_majority_well_and_the_minority_worse(tmp_path, monkeypatch):
    monkeypatch.chdir(DEMO.parent)
    words = "--model_name_or_path demo/model --data_dir demo/data --pair ao-ei ao-ui --max_eval_samples 60"
    words = [*words.split(), "--sparsity_pattern", "dense", "--num_beams", "2", "--max_new_tokens", "60"]
    assert Translation_prune_oneshot.main([*words, "--output_dir", str(tmp_path / "{pair}")]) == 0
    found = {pair: json.loads((tmp_path / pair / "all_results.json").read_text()) for pair in ("ao-ei", "ao-ui")}
    much, little = (found[pair]["eval_bleu"] for pair in ("ao-ei", "ao-ui"))
    assert much >= 60 and much - 10 > little > 15
    chance = json.loads((tmp_path / "ao-ui/run.json").read_text())["metrics"][0]["chance"]
    assert chance < 3 and found["ao-ei"]["eval_empty"] == 0
