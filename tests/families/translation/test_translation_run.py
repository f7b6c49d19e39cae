"""Whole runs of the command: every kind of model, what a run leaves, grids and their single runs, resuming, jobs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny

import junkdna as jd
import Translation_prune_oneshot
from junkdna.report import corpus_scores
from junkdna.runs import keys
from junkdna.training.finetune import FineTuning

SCRIPT = Path(__file__).resolve().parents[3] / "Translation_tasks" / "Translation_prune_oneshot.py"
SHORT = ("--max_new_tokens", 5, "--num_beams", 2)
FEW = (*SHORT, "--num_train_epochs", 2, "--per_device_train_batch_size", 12, "--learning_rate", 5e-3)
GRID = ("--pair", "en-de", "en-gu", "--sparsity", 0.3, 0.5, "--with_dense")
HALF = ("--pair", "en-de", "en-gu", "--sparsity", 0.5, "--with_dense")
TEMPLATE = "{pair}/{shots}/{pattern}"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny mBART and its text: one pair with more training text than the other."""
    root = tmp_path_factory.mktemp("translation")
    tiny.save("mbart", root / "model")
    tiny.write_pair(root / "text", "en-de", train=12, validation=4, test=5)
    tiny.write_pair(root / "text", "en-gu", train=6, validation=4, test=5)
    return root


def argv(world, *words, model="model", text="text"):
    flags = ["--model_name_or_path", world / model, "--data_dir", world / text]
    return [str(word) for word in (*flags, *words)]


def run(world, *words, **where) -> int:
    return Translation_prune_oneshot.main(argv(world, *words, **where))


def load(folder, name="run.json"):
    return json.loads((folder / name).read_text())


def contents(folder):
    """What a run leaves, byte for byte, less the record, which holds times; its history without the seconds."""
    names = ("all_results.json", "predictions.jsonl", "mask.safetensors")
    found = {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
    lines = (folder / "history.jsonl").read_text().splitlines() if (folder / "history.jsonl").exists() else []
    epochs = [{k: v for k, v in json.loads(line).items() if not k.endswith("seconds")} for line in lines]
    return found | {"epochs": epochs, "identity": load(folder)["identity"]["mask"]}


def finished(root):
    return sorted(path.parent for path in root.rglob("all_results.json"))


# --- models of every kind --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_models_of_every_kind_go_zero_shot_and_few_shot(kind, world, tmp_path):
    tiny.save(kind, world / kind)
    common = ("--pair", "en-de", "--max_eval_samples", 2, "--max_new_tokens", 4, "--num_beams", 2, "--noembed")
    if kind.startswith("marian"):
        common += ("--directions", "forward")
    assert run(world, *common, "--output_dir", tmp_path / "zero", model=kind) == 0
    few = ("--max_train_steps", 1, "--freeze_weights", "--sparsity", 0.5, "--save_model")
    assert run(world, *common, *few, "--output_dir", tmp_path / "few", model=kind) == 0
    record, results = load(tmp_path / "few"), load(tmp_path / "few", "all_results.json")
    assert record["model"]["kind"] == kind.replace("mt5", "t5").replace("umt5", "t5").replace("ut5", "t5")
    assert results["train_loss"] < 20 and results["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert all("embed" not in m["name"] and "shared" not in m["name"] for m in record["pruning"]["matrices"])
    assert len((tmp_path / "few" / "predictions.jsonl").read_text().splitlines()) == (
        2 if kind.startswith("marian") else 4
    )


# --- what a run leaves -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zero_shot(world, tmp_path_factory):
    """The folder of a zero-shot grid of 6 runs, and how often a model was pruned for it."""
    root, pruned, real = tmp_path_factory.mktemp("zero"), [], jd.choose_masks

    def counted(scope, pattern, *how, **more):
        pruned.append(str(pattern))
        return real(scope, pattern, *how, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jd, "choose_masks", counted)
        assert run(world, *GRID, *SHORT, "--output_dir", root / TEMPLATE) == 0
    return root, pruned


def test_what_a_zero_shot_run_leaves_says_what_was_done(zero_shot):
    folder = zero_shot[0] / "en-de" / "zero-shot" / "0.3"
    record, results = load(folder), load(folder, "all_results.json")
    assert (record["family"], record["treatment"], record["status"]) == ("translation", "one-shot", "done")
    assert record["axes"] == {"shots": "zero-shot", "pair": "en-de"} and "plan" not in record
    assert {"sacrebleu", "sentencepiece"} <= record["versions"].keys()  # what scores, and what cuts texts
    assert list(record["model"]["languages"]) == ["en-de", "de-en"]
    for name in ("bleu", "chrf", "in_script", "empty", "at_cap"):
        both = [results[f"eval_{name}_{way}"] for way in ("en-de", "de-en")]
        assert results[f"eval_{name}"] == pytest.approx(sum(both) / 2)
    metrics = {metric["name"]: metric for metric in record["metrics"]}
    assert metrics["bleu"]["main"] and not metrics["chrf"]["main"] and metrics["empty"]["better"] == "lower"
    floors = [record["scores"][way]["floor"]["chrf"] for way in ("en-de", "de-en")]
    assert metrics["chrf"]["chance"] == pytest.approx(sum(floors) / 2) and floors[0] > 0
    assert record["scores"]["en-de"]["tokenizer"] == "13a" and "13a" in record["scores"]["en-de"]["signatures"]["bleu"]
    assert results["eval_samples"] == 10 and results["zero_fraction"] == results["sparsity"]
    assert record["pruning"]["zeros_before"] == {"weights": 16, "removed": 16}  # the padding's row counts as what it is
    assert record["pruning"]["embeddings"]["weights"] > 0


def test_sums_of_the_sentences_statistics_give_the_scores(zero_shot):
    for folder in finished(zero_shot[0]):
        results = load(folder, "all_results.json")
        lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        for way in load(folder)["scores"]:
            mine = [line for line in lines if line["direction"] == way]
            assert [line["id"] for line in mine] == [f"{way}/{i}" for i in range(5)]
            for name, score in (("bleu", corpus_scores.bleu), ("chrf", corpus_scores.chrf)):
                total = np.sum([line["statistics"][name] for line in mine], axis=0)
                assert float(score(total)) == pytest.approx(results[f"eval_{name}_{way}"], abs=1e-9)
            for name in ("in_script", "empty", "at_cap"):
                share = sum(line["scores"][name] for line in mine) / 5
                assert results[f"eval_{name}_{way}"] == pytest.approx(share)


def test_records_results_and_translations_hold_what_the_schema_says(world, tmp_path):
    assert run(world, "--pair", "en-gu", *FEW, "--prune_after_training", "--output_dir", tmp_path / "run") == 0
    common = {key for names in keys.RUN for key in names.split(", ")} - {"best", "collapsed", "model_files"}
    assert set(load(tmp_path / "run")) == common | set(keys.TRANSLATED) - {"trained_by"}
    measures = {"bleu", "chrf", "in_script", "empty", "at_cap"}
    each = {f"eval_{name}{way}" for name in measures for way in ("", "_en-gu", "_gu-en")}
    others = {"eval_samples", "train_loss", "train_samples", "epoch", "step", "sparsity", "zero_fraction", "eval_loss"}
    assert set(load(tmp_path / "run", "all_results.json")) == each | others
    lines = (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 10 and all(set(json.loads(line)) == set(keys.TRANSLATIONS) for line in lines)
    data = load(tmp_path / "run")["data"]
    assert data["train"]["en-gu"]["used"] == 6 and data["validation"]["en-gu"]["used"] == 4


def test_rows_without_text_and_long_ones_are_counted_and_left_out(world, tmp_path):
    text = shutil.copytree(world / "text", tmp_path / "text")
    for side, more in (("en", "\n  \nthe cat " + "sees the dog " * 9), ("de", "leer\nleer\ndie Katze")):
        with open(text / f"train.en-de.{side}", "a") as file:
            file.write(f"{more}\n")
    few = ("--pair", "en-de", *FEW, "--max_length", 30, "--sparsity_pattern", "dense", "--output_dir", tmp_path / "run")
    assert run(world, *few, text=text) == 0
    found = load(tmp_path / "run")["data"]
    train = found["train"]["en-de"]
    assert (train["rows"], train["empty"], train["used"], train["dropped"]) == (15, 2, 12, 1)
    assert found["test"]["recurring"] == 0


def test_test_rows_that_are_training_rows_too_are_counted_and_said(world, tmp_path, capsys):
    text = shutil.copytree(world / "text", tmp_path / "text")
    for side in ("en", "de"):
        rows = (text / f"test.en-de.{side}").read_text().splitlines()
        with open(text / f"train.en-de.{side}", "a") as file:
            file.write("\n".join([*rows[:2], rows[2 if side == "en" else 3], rows[0]]) + "\n")
    few = ("--pair", "en-de", *FEW, "--sparsity_pattern", "dense", "--output_dir", tmp_path / "run")
    assert run(world, *few, text=text) == 0
    rows = list(zip(*((text / f"test.en-de.{side}").read_text().splitlines() for side in ("en", "de"))))
    assert load(tmp_path / "run")["data"]["test"]["recurring"] == sum(row in rows[:2] for row in rows) >= 2
    assert " of the test rows are rows of the training text too" in capsys.readouterr().out


def test_a_saved_model_is_the_one_that_translated_and_its_ties_are_kept(world, tmp_path):
    from safetensors import safe_open
    from transformers import AutoModelForSeq2SeqLM

    few = ("--pair", "en-de", *FEW, "--freeze_weights", "--sparsity", 0.5, "--save_model")
    assert run(world, *few, "--output_dir", tmp_path / "run") == 0
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run")
    assert model.lm_head.weight is model.model.shared.weight is model.model.decoder.embed_tokens.weight
    with safe_open(tmp_path / "run" / "model.safetensors", "pt") as file:
        stored = set(file.keys())
    assert "model.shared.weight" in stored and not [name for name in stored if "embed_tokens" in name or "lm_" in name]
    masks, named = jd.load_masks(tmp_path / "run" / "mask.safetensors"), dict(model.named_parameters())
    assert all(bool((named[name][~mask] == 0).all()) for name, mask in masks.items())
    mask = tmp_path / "run" / "mask.safetensors"
    again = ("--pair", "en-de", *FEW, "--freeze_weights", "--mask_file", mask, "--output_dir", tmp_path / "again")
    assert run(world, *again) == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "run")
    after = ("--pair", "en-de", *FEW, "--prune_after_training", "--mask_file", mask, "--output_dir", tmp_path / "after")
    assert run(world, *after) == 0
    assert (tmp_path / "after" / "mask.safetensors").read_bytes() == mask.read_bytes()


def test_changed_text_is_refused_by_name(world, tmp_path, capsys):
    text = shutil.copytree(world / "text", tmp_path / "text")
    few = ("--pair", "en-gu", *FEW, "--freeze_weights", "--output_dir", tmp_path / "run")
    assert run(world, *few, text=text) == 0
    assert run(world, *few, text=text) == 0 and "already done" in capsys.readouterr().out
    shutil.copy(text / "test.en-gu.en", text / "train.en-gu.en")
    shutil.copy(text / "test.en-gu.gu", text / "train.en-gu.gu")
    assert run(world, *few, text=text) == 2
    assert "(--data_dir train.en-gu.en" in capsys.readouterr().err


# --- grids, resuming, jobs -------------------------------------------------------------------------------------------


def test_a_zero_shot_grid_prunes_once_for_all_pairs_and_equals_its_single_runs(world, zero_shot, tmp_path):
    root, pruned = zero_shot
    assert len(pruned) == len(set(pruned)) == 2 and len(finished(root)) == 6
    for pair in ("en-de", "en-gu"):
        for words in (("--sparsity_pattern", "dense"), ("--sparsity", 0.3), ("--sparsity", 0.5)):
            out = tmp_path / pair / str(words[1])
            assert run(world, "--pair", pair, *words, *SHORT, "--output_dir", out) == 0
            assert contents(out) == contents(root / pair / "zero-shot" / str(words[1]))


WAYS = {"after": ("--prune_after_training",), "held": ("--freeze_weights",)}
MIX = (*FEW, "--mix", "en-de", "en-gu")


@pytest.fixture(scope="module")
def few_shot(world, tmp_path_factory):
    """The folders of two few-shot grids of 4 runs on a mix of both pairs, and how many trainings each took."""
    root, trained, steps, real = tmp_path_factory.mktemp("few"), {}, [], FineTuning.train_step
    for way, words in WAYS.items():
        steps.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FineTuning, "train_step", lambda self, examples: steps.append(1) or real(self, examples))
            assert run(world, *HALF, *MIX, *words, "--output_dir", root / way / TEMPLATE) == 0
        trained[way] = len(steps) / 6  # 36 examples, 12 a step, two epochs
    return root, trained


@pytest.mark.parametrize("way", WAYS)
def test_a_few_shot_grid_trains_once_what_is_trained_alike_and_equals_its_single_runs(way, world, few_shot, tmp_path):
    root, trained = few_shot
    assert trained == {"after": 1, "held": 2}
    for pair in ("en-de", "en-gu"):
        assert run(world, "--pair", pair, "--sparsity", 0.5, *MIX, *WAYS[way], "--output_dir", tmp_path / pair) == 0
        assert contents(tmp_path / pair) == contents(root / way / pair / "few-shot" / "0.5")
        assert len(contents(tmp_path / pair)["epochs"]) == 2
    records = {folder: load(folder) for folder in finished(root / way)}
    first = [folder for folder, record in records.items() if "trained_by" not in record]
    assert len(first) == trained[way] and all("evaluate" in records[folder]["timings"] for folder in first)
    for folder in records.keys() - first:
        by = records[folder]["trained_by"]
        donor = records[Path(by.pop("folder"))]
        assert by == {name: donor[name] for name in by} and {"started", "code", "hardware", "resumed"} <= by.keys()
        assert "trained_by" not in donor and "evaluate" not in records[folder]["timings"]


def test_killed_in_the_middle_the_repeated_command_gives_the_same_bytes(world, few_shot, tmp_path):
    words = argv(world, *HALF, *MIX, *WAYS["after"], "--checkpointing_steps", 1, "--output_dir", tmp_path / TEMPLATE)
    process = subprocess.Popen([sys.executable, str(SCRIPT), *words], stdout=subprocess.DEVNULL)
    until = time.time() + 300
    while not list(tmp_path.glob("*/*/*/checkpoint-[2-6]")) and time.time() < until:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not finished(tmp_path) and list(tmp_path.rglob("checkpoint-*"))
    assert Translation_prune_oneshot.main(words) == 0
    assert load(tmp_path / "en-de" / "few-shot" / "dense")["resumed"][0]["step"] >= 2
    assert not list(tmp_path.rglob("checkpoint-*"))
    for folder in finished(few_shot[0] / "after"):
        assert contents(tmp_path / folder.relative_to(few_shot[0] / "after")) == contents(folder)


@pytest.mark.parametrize("way", WAYS)
def test_ended_while_it_translates_a_run_goes_on_from_the_end_of_its_training(way, world, few_shot, tmp_path, capsys):
    from junkdna.families.translation import translating

    words = argv(world, "--pair", "en-de", "--sparsity", 0.5, *MIX, *WAYS[way], "--output_dir", tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translating, "translate", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
        assert Translation_prune_oneshot.main(words) == 143
    said = capsys.readouterr().err
    assert "checkpoint" in said and "the same command continues from there" in said and not finished(tmp_path)
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FineTuning, "train_step", lambda self, examples: steps.append(1))
        assert Translation_prune_oneshot.main(words) == 0
    assert not steps and contents(tmp_path) == contents(few_shot[0] / way / "en-de" / "few-shot" / "0.5")


def test_a_training_that_was_taken_over_is_kept_too(world, few_shot, tmp_path, capsys):
    from junkdna.families.translation import translating

    words = argv(world, *HALF, *MIX, *WAYS["after"], "--output_dir", tmp_path / TEMPLATE)
    calls, real = [], translating.translate

    def until_the_second_run(*given, **how):
        calls.append(1)
        return real(*given, **how) if len(calls) <= 2 else os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translating, "translate", until_the_second_run)
        assert Translation_prune_oneshot.main(words) == 130
    assert "and a checkpoint of step 6 are kept; the same command continues from there" in capsys.readouterr().err
    assert len(finished(tmp_path)) == 1 and len(list(tmp_path.rglob("checkpoint-6"))) == 1
    assert Translation_prune_oneshot.main(words) == 0
    first, *others = (load(folder) for folder in sorted(finished(tmp_path), key=lambda f: load(f)["started"]))
    assert "trained_by" not in first and {run["trained_by"]["started"] for run in others} == {first["started"]}
    for folder in finished(few_shot[0] / "after"):
        assert contents(tmp_path / folder.relative_to(few_shot[0] / "after")) == contents(folder)


def test_two_local_jobs_give_the_same_bytes(world, few_shot, tmp_path):
    words = argv(world, *HALF, *MIX, *WAYS["held"], "--num_jobs", 2, "--output_dir", tmp_path / TEMPLATE)
    called = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=550)
    assert called.returncode == 0, called.stderr
    assert len(finished(tmp_path)) == 4
    for folder in finished(few_shot[0] / "held"):
        assert contents(tmp_path / folder.relative_to(few_shot[0] / "held")) == contents(folder)


def test_two_processes_share_the_work_and_equal_one(world, tmp_path):
    """Of five sentences a way each process translates every other one."""
    tiny.save("mbart", world / "still", dropout=0.0)
    common = (*MIX, "--pair", "en-gu", "--sparsity", 0.5, "--prune_after_training")
    assert run(world, *common, "--output_dir", tmp_path / "one", model="still") == 0
    words = argv(world, *common, "--per_device_train_batch_size", 6, "--output_dir", tmp_path / "two", model="still")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    called = subprocess.run([*launcher, str(SCRIPT), *words], capture_output=True, text=True, timeout=300)
    assert called.returncode == 0, called.stderr
    one, two = (load(tmp_path / name, "all_results.json") for name in ("one", "two"))
    assert two == pytest.approx(one, abs=1e-5) and two["eval_samples"] == 10
    for name in ("predictions.jsonl", "mask.safetensors"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


@pytest.mark.parametrize("words", [(), (*FEW, "--prune_after_training")])
def test_several_processes_compare_their_masks_before_they_translate(words, world, tmp_path, monkeypatch):
    """Each translates a part of the text with a model of its own."""
    from junkdna.families.translation import translating

    compared = []
    monkeypatch.setattr(translating, "check_same_on_all", compared.append)
    monkeypatch.setattr(
        translating, "translate", lambda *_, **__: pytest.fail("not compared") if not compared else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        run(world, "--pair", "en-de", *words, *SHORT, "--output_dir", tmp_path / "run")
    assert len(compared) == 1 and len(compared[0]) == 19
