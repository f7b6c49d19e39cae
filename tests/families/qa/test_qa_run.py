"""Whole runs of the command: what they leave, that a grid equals its single runs, resuming, jobs, the model's files."""

import json
import os
import shutil
import signal
import time
from collections import Counter

import pytest
import small_world
import torch

import junkdna as jd
import QA_prune_oneshot
import warm
from junkdna.runs import keys
from warm import Warm

pytestmark = pytest.mark.xdist_group("questions")  # its grid is run once

METHODS, SPARSITIES, BOOKS = ("magnitude", "wanda", "sparsegpt"), ("0.3", "0.5"), ("open", "closed")
SHORT = ("--max_new_tokens", 4, "--nsamples", 4, "--seqlen", 32)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Flags that name the small model, its questions and its text."""
    root = tmp_path_factory.mktemp("qa")
    (root / "model").mkdir()
    return {
        "--model_name_or_path": small_world.save_model(root / "model"),
        "--data_file": small_world.save_questions(root / "colours.jsonl"),
        "--calibration": small_world.save_text(root / "text.txt"),
    }


def run(world, *words, **changed) -> int:
    flags = world | {f"--{name}": value for name, value in changed.items()}
    return QA_prune_oneshot.main([str(word) for pair in flags.items() for word in pair] + [str(word) for word in words])


def load(folder, name):
    return json.loads((folder / name).read_text())


def contents(folder):
    """The bytes of what a run leaves, less the record, which holds times."""
    names = ("all_results.json", "predictions.jsonl", "mask.safetensors")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


GRID = ("--prune_method", *METHODS, "--sparsity", *SPARSITIES, "--book", *BOOKS, *SHORT)
TEMPLATE = "{prune_method}/{pattern}/{book}"


@pytest.fixture(scope="module")
def grid(world, tmp_path_factory):
    """The folder of a grid of 12 runs, and what was done for it, how often."""
    from junkdna.families.qa import answer, prompts, scores

    root, calls = tmp_path_factory.mktemp("grid"), Counter()

    def counted(name, real):
        def call(*given, **how):
            calls[name] += 1
            return real(*given, **how)

        return call

    with pytest.MonkeyPatch.context() as patch:
        watched = {"prune_layerwise": jd, "build": prompts, "tokenise": answer, "constant": scores}
        for name, place in watched.items():
            patch.setattr(place, name, counted(name, getattr(place, name)))
        assert run(world, *GRID, "--output_dir", root / TEMPLATE) == 0
    return root, calls


def test_a_grid_does_everything_once_and_equals_its_single_runs_byte_for_byte(world, grid, tmp_path):
    """A pruned model for both books, prompts for all pruned models, chance for all."""
    root, calls = grid
    assert calls == {"prune_layerwise": 6, "build": 2, "tokenise": 2, "constant": 1}
    seen = 0
    for method in METHODS:
        for sparsity in SPARSITIES:
            for book in BOOKS:
                out = tmp_path / f"{method}-{sparsity}-{book}"
                words = ("--prune_method", method, "--sparsity", sparsity, "--book", book, *SHORT, "--output_dir", out)
                assert run(world, *words) == 0
                alone = contents(out)
                assert len(alone) == 3 and alone == contents(root / method / sparsity / book)
                seen += 1
    assert seen == 12


def test_what_a_run_leaves_says_what_was_done(world, grid):
    folder = grid[0] / "wanda" / "0.5" / "open"
    record, results = load(folder, "run.json"), load(folder, "all_results.json")
    assert record["family"] == "qa" and record["treatment"] == "one-shot" and record["status"] == "done"
    assert record["axes"] == {"task": "colours", "book": "open", "context": "3072", "shots": "0"}
    assert {"score": "wanda", "sparsity_pattern": "unstructured", "sparsity": 0.5, "noembed": True}.items() <= record[
        "settings"
    ].items()
    assert record["calibration"]["tokens"] == 4 * 32 and record["calibration"]["sha256"]
    assert set(record["read"]) >= {"model.safetensors", "--data_file", "--calibration"}
    names = {metric["name"]: metric for metric in record["metrics"]}
    assert names["containment"]["main"] and names["two_way_containment"]["chance"] == 1.0
    assert names["exact_match"]["chance"] == pytest.approx(3 / 12)
    assert names["empty"]["better"] == "lower"
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"q{i}" for i in range(12)]
    for name in ("exact_match", "containment", "two_way_containment", "f1", "empty"):
        assert results[f"eval_{name}"] == pytest.approx(sum(line["scores"][name] for line in lines) / 12)
    assert results["eval_samples"] == 12
    assert results["sparsity"] == results["zero_fraction"] == 0.5  # rows of 32 and 48 inputs, all even


def test_records_and_results_hold_what_the_schema_says(world, tmp_path):
    words = ("--prune_method", "wanda", "--perplexity", world["--calibration"], "--perplexity_window", 64, *SHORT)
    assert run(world, *words, "--perplexity_windows", 2, "--output_dir", tmp_path) == 0
    common = {key for names in keys.RUN for key in names.split(", ")} - {"plan", "best", "collapsed", "model_files"}
    assert set(load(tmp_path, "run.json")) == common | set(keys.ASKED)
    metrics = {"exact_match", "containment", "two_way_containment", "f1", "empty"}
    others = {"eval_samples", "sparsity", "zero_fraction", "perplexity"}
    assert set(load(tmp_path, "all_results.json")) == {f"eval_{name}" for name in metrics} | others
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert all(set(json.loads(line)) == set(keys.PREDICTIONS) for line in lines) and len(lines) == 12


def test_questions_whose_answers_normalise_to_nothing_are_asked_and_counted(world, tmp_path, monkeypatch, capsys):
    from junkdna.families.qa import questions

    rows = tuple(questions.Question(str(i), "which?", (answer,)) for i, answer in enumerate(("A", "red", "+")))
    monkeypatch.setattr(questions, "read_hub", lambda *_: questions.Questions(rows, "a stand-in for the Hub"))
    given = {flag: value for flag, value in world.items() if flag != "--data_file"}
    for name, asked in (("all", 3), ("none", 2)):
        rows = rows if name == "all" else rows[1:2] * 2
        words = (*SHORT, "--max_eval_samples", asked, "--output_dir", tmp_path / name)
        assert run(given, *words, task_name="nq_open") == 0
    found, bare = (load(tmp_path / name, "run.json")["data"]["eval"] for name in ("all", "none"))
    assert (found["used"], found["unanswerable"]) == (3, 2) and "unanswerable" not in bare
    assert capsys.readouterr().out.count("2 of them cannot be scored") == 1


def test_counts_are_exact_in_every_unit(world, grid):
    for method, columns in (("magnitude", None), ("wanda", 1), ("sparsegpt", 128)):
        masks = jd.load_masks(grid[0] / method / "0.3" / "closed" / "mask.safetensors")
        assert len(masks) == 14  # seven linear layers in each of two blocks, and nothing else
        for name, mask in masks.items():
            assert name.startswith("model.layers.")
            wanted = round(0.3 * mask.numel())
            if columns == 1:
                wanted = mask.shape[0] * round(0.3 * mask.shape[1])
            assert mask.numel() - int(mask.sum()) == wanted


def test_a_finished_grid_is_left_alone_and_changed_files_are_refused(world, grid, capsys, tmp_path):
    assert run(world, *GRID, "--output_dir", grid[0] / TEMPLATE) == 0
    assert "0 done, 12 were done before" in capsys.readouterr().out
    changed = small_world.rows()
    changed[3]["answers"] = ["purple"]
    other = small_world.save_questions(tmp_path / "colours.jsonl", changed)
    out = tmp_path / "run"
    assert run(world, *SHORT, "--output_dir", out) == 0
    shutil.copy(other, tmp_path / "kept.jsonl")
    assert run(world, *SHORT, "--output_dir", out, data_file=other) == 2
    assert "a different run (data_file" in capsys.readouterr().err
    assert run(world, *SHORT, "--output_dir", tmp_path / "own", data_file=other) == 0
    small_world.save_questions(tmp_path / "colours.jsonl")
    assert run(world, *SHORT, "--output_dir", tmp_path / "own", data_file=other) == 2
    assert "made of other files (--data_file" in capsys.readouterr().err


def test_damaged_predictions_are_refused_by_name(world, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(world, *SHORT, "--output_dir", out) == 0
    text = (out / "predictions.jsonl").read_text()
    (out / "predictions.jsonl").write_text(text.replace('"exact_match": 0.0', '"exact_match": 1.0', 1))
    assert run(world, *SHORT, "--output_dir", out) == 2
    assert "predictions.jsonl: is damaged or was changed" in capsys.readouterr().err


def test_killed_in_the_middle_the_repeated_command_gives_the_same_bytes(world, grid, tmp_path):
    flags = [word for pair in world.items() for word in pair]
    process = Warm(QA_prune_oneshot.main, [*flags, *GRID, "--output_dir", tmp_path / TEMPLATE], tmp_path)
    until = time.time() + 120
    while not list(tmp_path.glob("*/*/*/all_results.json")) and time.time() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait().returncode == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("all_results.json")}
    assert 0 < len(done) < 12
    assert run(world, *GRID, "--output_dir", tmp_path / TEMPLATE) == 0
    assert all(path.stat().st_mtime_ns == made for path, made in done.items())
    for folder in sorted(path.parent for path in grid[0].rglob("all_results.json")):
        assert contents(tmp_path / folder.relative_to(grid[0])) == contents(folder)


def test_two_local_jobs_give_the_same_bytes(world, grid, tmp_path):
    flags = [str(word) for pair in world.items() for word in pair]
    words = [*flags, *GRID, "--output_dir", tmp_path / TEMPLATE, "--num_jobs", 2]
    called = warm.run(QA_prune_oneshot.main, words, tmp_path)
    assert called.returncode == 0, called.stderr
    made = sorted(path.parent for path in grid[0].rglob("all_results.json"))
    assert len(made) == 12
    for folder in made:
        assert contents(tmp_path / folder.relative_to(grid[0])) == contents(folder)


def test_a_dense_run_stands_first_and_a_saved_model_is_the_one_that_was_asked(world, tmp_path):
    from transformers import AutoModelForCausalLM

    words = ("--sparsity", 0.5, "--with_dense", "--save_model", *SHORT)
    assert run(world, *words, "--output_dir", tmp_path / "{prune_method}-{pattern}", prune_method="sparsegpt") == 0
    dense = AutoModelForCausalLM.from_pretrained(tmp_path / "dense-dense").state_dict()
    own = AutoModelForCausalLM.from_pretrained(world["--model_name_or_path"]).state_dict()
    assert all(torch.equal(own[name], value) for name, value in dense.items())
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "sparsegpt-0.5").state_dict()
    masks = jd.load_masks(tmp_path / "sparsegpt-0.5" / "mask.safetensors")
    assert all(bool((pruned[name][~mask] == 0).all()) for name, mask in masks.items())
    assert not torch.equal(pruned["model.layers.0.mlp.up_proj.weight"], own["model.layers.0.mlp.up_proj.weight"])
    untouched = [name for name in own if name not in masks]
    assert untouched and all(torch.equal(own[name], pruned[name]) for name in untouched)


def test_a_mask_file_removes_the_same_weights_again(world, tmp_path):
    assert run(world, "--sparsity", 0.5, *SHORT, "--output_dir", tmp_path / "first") == 0
    mask = tmp_path / "first" / "mask.safetensors"
    assert run(world, "--mask_file", mask, *SHORT, "--output_dir", tmp_path / "second") == 0
    assert contents(tmp_path / "second") == contents(tmp_path / "first")


def test_context_shots_and_perplexity_are_what_was_asked(world, tmp_path):
    words = ("--book", *BOOKS, "--context_characters", 12, 3072, "--shots", 0, 2, *SHORT)
    yardstick = ("--perplexity", world["--calibration"], "--perplexity_window", 64, "--perplexity_windows", 5)
    template = tmp_path / "{book}-{context_characters}-{shots}"
    assert run(world, *words, *yardstick, "--sparsity_pattern", "dense", "--output_dir", template) == 0
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["closed-none-0", "closed-none-2", *(f"open-{c}-{k}" for c in (12, 3072) for k in (0, 2))]
    short = load(tmp_path / "open-12-0", "run.json")
    assert short["data"]["eval"]["cut"] == 12 and short["data"]["eval"]["lost"] > 0
    shots = load(tmp_path / "open-3072-2", "run.json")
    assert shots["data"]["eval"]["used"] == 10 and len(shots["data"]["examples"]) == 2
    lines = (tmp_path / "open-3072-2" / "predictions.jsonl").read_text().splitlines()
    asked = {line["id"] for line in map(json.loads, lines)}
    assert not asked & set(shots["data"]["examples"])
    assert len({load(tmp_path / name, "all_results.json")["perplexity"] for name in made}) == 1
    assert short["perplexity"]["windows"] == 5 and short["perplexity"]["tokens"] == 5 * 63


def test_the_released_script_s_flags_are_spellings(world, tmp_path):
    model = world["--model_name_or_path"]
    others = {name: value for name, value in world.items() if name != "--model_name_or_path"}
    words = ("--sparsity_ratio", 0.5, "--sparsity_type", "2:8", "--include_context", *SHORT)
    assert run(others, "--model", model, *words, "--output_dir", tmp_path / "a", prune_method="magnitude") == 0
    assert run(world, "--nm_ratio", "6:8", "--book", "open", *SHORT, "--output_dir", tmp_path / "b") == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert load(tmp_path / "a", "all_results.json")["sparsity"] == 0.25


def test_what_ends_an_answer_is_part_of_what_a_run_is_made_of(world, tmp_path, capsys):
    """The tokens that end a text stand in generation_config.json alone for many chat models."""
    model = shutil.copytree(world["--model_name_or_path"], tmp_path / "model")
    words = ("--sparsity", 0.5, *SHORT)
    assert run(world, *words, "--output_dir", tmp_path / "out", model_name_or_path=model) == 0
    ends = json.loads((model / "generation_config.json").read_text()) | {"eos_token_id": [2, 7]}
    (model / "generation_config.json").write_text(json.dumps(ends))
    assert run(world, *words, "--output_dir", tmp_path / "out", model_name_or_path=model) == 2
    assert "generation_config.json of" in capsys.readouterr().err
    assert run(world, *words, "--output_dir", tmp_path / "other", model_name_or_path=model) == 0
    first, second = (load(tmp_path / name, "run.json")["identity"] for name in ("out", "other"))
    assert [name for name in first if first[name] != second[name]] == ["model_config"]


def test_methods_of_one_grid_are_uploaded_to_repositories_of_their_own():
    from junkdna.runs.request import parse

    def cells(words):
        given = f"--model_name_or_path o/m --task_name nq_open {words}"
        return parse(QA_prune_oneshot.FAMILY, given.split()).cells

    made = cells("--prune_method magnitude magnitude_row wanda sparsegpt random --with_dense")
    made += cells("--prune_method wanda --use_variant")
    assert len({cell.repository for cell in made}) == len(made) == 7
    assert cells("--prune_method wanda --push_to_hub --hub_model_id me/mine")[0].repository == "me/mine"


BEYOND = {
    "--perplexity_window": (["--perplexity", "text.txt", "--perplexity_window", 513], "positions for at most 512"),
    "--seqlen": (["--seqlen", 513], "positions for at most 512"),
    "--nsamples": (["--nsamples", 10**9], "GB of memory is free"),
    "--nm_ratio": (["--nm_ratio", "3:7"], "7 does not divide the model's hidden_size 32"),
}


@pytest.mark.parametrize("flag", BEYOND)
def test_what_does_not_fit_is_refused_once_the_configuration_is_loaded(flag, world, tmp_path, capsys, monkeypatch):
    """Of a name on the Hub and of a GGUF file nothing is known before. With rotary positions a model goes on beyond
    those it has without a word.
    """
    from junkdna.models import causal_files

    monkeypatch.setattr(causal_files, "check", lambda *_: None)
    monkeypatch.chdir(os.path.dirname(world["--calibration"]))
    words, said = BEYOND[flag]
    assert run(world, *words, "--prune_method", "wanda", "--output_dir", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {flag} ") and said in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_memory_of_the_gpu_that_torch_only_keeps_counts_as_free(monkeypatch):
    """Else the second model of a grid would be left on the CPU, beside the empty room of the first."""
    from junkdna.families.qa import asking

    kept, moved = [24_000], []
    monkeypatch.setattr(torch.cuda, "empty_cache", kept.clear)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (24_000 - sum(kept), 24_000))
    model = torch.nn.Linear(10, 100)
    monkeypatch.setattr(model, "to", moved.append)
    asking._placed(model, torch.device("cuda"))
    assert moved == [torch.device("cuda")]


def test_without_room_for_the_mask_the_answers_are_kept(world, tmp_path, capsys, monkeypatch):
    from junkdna.runs import disk

    out, real = tmp_path / "out", disk.write_bytes

    def write(path, content):
        if path.name == "mask.safetensors":
            raise disk.DiskError(path, "cannot be written", OSError(28, "No space left on device"))
        real(path, content)

    monkeypatch.setattr(disk, "write_bytes", write)
    assert run(world, *SHORT, "--output_dir", out) == 1
    assert "mask.safetensors cannot be written" in capsys.readouterr().err
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 12 and load(out, "all_results.json")
