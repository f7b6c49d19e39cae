"""The demo's model answers, its files are what its recipe makes, and the recipe repeats."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

import junkdna as jd
import QA_prune_oneshot

DEMO = Path(__file__).resolve().parents[3] / "QA_tasks" / "demo"
TEXTS = ("questions.jsonl", "calibration.txt", "perplexity.txt")


@pytest.fixture(scope="module")
def recipe():
    """The recipe's module; ``world`` beside it is imported by that name."""
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
    assert len(files) >= 10 and sum(path.stat().st_size for path in files) < 4_500_000


def test_questions_and_texts_are_those_of_the_recipe(recipe, tmp_path):
    recipe.write_texts(recipe.World(), tmp_path)
    for name in TEXTS:
        assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes()
    rows = [json.loads(line) for line in (DEMO / "questions.jsonl").read_text().splitlines()]
    assert len(rows) == len({row["id"] for row in rows}) == 384
    assert all(row["answers"][0] in row["context"] for row in rows)
    assert len({row["answers"][0] for row in rows}) > 150


def test_training_repeats_to_the_bit(recipe, tmp_path):
    threads = torch.get_num_threads()
    states = []
    for name in ("a", "b"):
        recipe.main(["--out", str(tmp_path / name), "--steps", "3"])
        states.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    torch.set_num_threads(threads)
    assert states[0] == states[1]
    assert (tmp_path / "a/model/tokenizer.json").read_bytes() == (DEMO / "model/tokenizer.json").read_bytes()


def test_the_dense_model_remembers_and_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(DEMO.parent)
    words = "--model_name_or_path demo/model --data_file demo/questions.jsonl --book open closed --eval_batch_size 64"
    words = [*words.split(), "--sparsity_pattern", "dense", "--max_new_tokens", "8"]
    assert QA_prune_oneshot.main([*words, "--output_dir", str(tmp_path / "{book}")]) == 0
    found = {book: json.loads((tmp_path / book / "all_results.json").read_text()) for book in ("open", "closed")}
    assert found["open"]["eval_exact_match"] >= 0.95 and found["closed"]["eval_exact_match"] >= 0.9
    assert found["open"]["eval_empty"] == found["closed"]["eval_empty"] == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_a_gpu_prunes_and_answers_as_a_cpu_does(method, tmp_path, monkeypatch):
    """In fp32: magnitude's masks are the same; the others' may differ where two scores all but tie."""
    monkeypatch.chdir(DEMO.parent)
    words = "--model_name_or_path demo/model --data_file demo/questions.jsonl --book open --max_eval_samples 96"
    words += f" --prune_method {method} --sparsity 0.5 --calibration demo/calibration.txt --nsamples 16 --seqlen 128"
    found = {}
    for device in ("cuda", "cpu"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda device=device: device == "cuda")
        assert QA_prune_oneshot.main([*words.split(), "--output_dir", str(tmp_path / device)]) == 0
        assert json.loads((tmp_path / device / "run.json").read_text())["hardware"]["device"] == device
        masks = jd.load_masks(tmp_path / device / "mask.safetensors")
        found[device] = masks, json.loads((tmp_path / device / "all_results.json").read_text())
    differ = sum(jd.compare(found["cuda"][0], found["cpu"][0]).values())
    size = sum(mask.numel() for mask in found["cpu"][0].values())
    assert differ == 0 if method == "magnitude" else differ < 0.001 * size
    assert abs(found["cuda"][1]["eval_exact_match"] - found["cpu"][1]["eval_exact_match"]) < 0.03
