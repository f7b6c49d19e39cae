"""Models as people have them: contradictory labels, padding on the left, pad tokens in texts, foreign code, weights
that do not fit their configuration, and damaged files. Each run is right, or is refused with one line.
"""

import ast
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_architectures import one_by_one

from conftest import labelled_sentences, run_command, save_tiny_model, tiny_tokenizer, write_rows
from junkdna import choose_masks, find_scope
from junkdna.errors import UserError
from junkdna.models import labels
from junkdna.sparsity import files
from junkdna.sparsity.masks import make_masks
from junkdna.sparsity.patterns import NM, PerRow, Unstructured
from junkdna.training import probe
from junkdna.training.fast import packing
from junkdna.training.tokens import Features, OneLength, parts

ROOT = Path(__file__).resolve().parents[2]
STEPS = ["--max_train_steps", 1, "--sparsity", 0.3, "--freeze_weights", "--max_length", 64]


@pytest.fixture
def copied(tiny_model, tmp_path):
    """A copy of the tiny model: ``copied(key=value)`` changes its config.json; a value of ... takes the key away."""
    made = iter(range(1000))

    def copy(source: str = tiny_model, tokenizer: dict | None = None, **changes) -> Path:
        folder = tmp_path / f"model-{next(made)}"
        shutil.copytree(source, folder)
        for file, new in (("config.json", changes), ("tokenizer_config.json", tokenizer or {})):
            content = json.loads((folder / file).read_text()) | new
            (folder / file).write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))
        return folder

    return copy


@pytest.fixture
def tried(command, csv_task, tmp_path):
    """Run a model for a step: ``tried(folder)`` gives (exit code, output, its one line of error)."""

    def call(folder, *more, rows=csv_task.flags):
        out_folder = tmp_path / "out"
        shutil.rmtree(out_folder, ignore_errors=True)
        code, out, err = command(["--model_name_or_path", folder, *rows, *STEPS, "--output_dir", out_folder, *more])
        if code:
            assert code == 2 and err.count("\n") == 1 and len(err) < 400 + len(str(folder)) and "Traceback" not in err
            assert not (out_folder / "run.json").exists()
        return code, out, err

    return call


# --- the reported metric is the saved model's ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def padded_texts(tmp_path_factory):
    """Training and validation rows, a third of them with the pad token in their text."""
    folder, made = tmp_path_factory.mktemp("pads"), []
    for split, count in (("train", 96), ("validation", 60)):
        rows = [
            (text.replace(" ", " <pad> ", i % 3) if i % 3 else text, "pos" if label else "neg")
            for i, (text, label) in enumerate(labelled_sentences(count, 5))
        ]
        made += [f"--{split}_file", str(write_rows(folder / f"{split}.csv", [("sentence1", "label"), *rows]))]
    return made


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("layout", [[], ["--pad_to_max_length"]])
def test_pad_tokens_in_texts_and_padding_on_either_side(side, layout, copied, command, padded_texts, tmp_path):
    folder = copied(tokenizer={"padding_side": side})
    found = []
    for batch in (1, 64):
        out = tmp_path / f"out-{batch}"
        learn = ["--max_train_steps", 40, "--learning_rate", 3e-3, "--sparsity", 0.3, "--freeze_weights"]
        kept = ["--max_length", 64, "--save_model", "--per_device_eval_batch_size", batch, "--output_dir", out]
        code, said, err = command(["--model_name_or_path", folder, *padded_texts, *learn, *kept, *layout])
        assert code == 0, err
        found.append(json.loads((out / "all_results.json").read_text())["eval_accuracy"])
        assert one_by_one(out, padded_texts[-1])[1] == pytest.approx(found[-1])
        assert ("packed" in said) == (not layout)
        assert transformers.AutoTokenizer.from_pretrained(out).padding_side == "right"
    assert found[0] == found[1] > 0.6


def test_positions_are_the_models_own():
    """Those of transformers' RoBERTa, example by example, with pad tokens anywhere."""
    from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

    draw, tried = np.random.default_rng(0), 0
    for _ in range(200):
        lengths = draw.integers(1, 9, size=draw.integers(1, 6))
        ids = draw.integers(0, 4, size=lengths.sum())
        pad = int(draw.integers(0, 4))
        rows = np.split(ids, np.cumsum(lengths)[:-1])
        own = [RobertaEmbeddings.create_position_ids_from_input_ids(torch.tensor(row)[None], pad)[0] for row in rows]
        assert packing.positions(ids, lengths, pad + 1).tolist() == torch.cat(own).tolist()
        assert packing.positions(ids, lengths, 0).tolist() == [i for length in lengths for i in range(length)]
        tried += 1
    assert tried == 200


def test_odd_rows_are_looked_at():
    texts = [[5] * 3, [5], [5, 1, 5, 5], [5] * 9, [1, 1, 1, 1], [5] * 4, [6] * 4, [7] * 4, [8] * 5, [9] * 6, [5, 6, 1]]
    starts = np.cumsum([0, *map(len, texts)])
    features = Features({"input_ids": np.concatenate(texts).astype(np.int32)}, starts, [0] * len(texts), 64)
    chosen = [row["input_ids"].tolist() for row in probe.odd_rows([features, features], {1})]
    assert len(chosen) == len({tuple(row) for row in chosen}) <= 9
    assert [5] in chosen and [5] * 9 in chosen and [1, 1, 1, 1] in chosen and [5, 1, 5, 5] in chosen
    assert max([len(row) for row in chosen].count(n) for n in range(10)) >= 2


def test_the_probe_leaves_mode_and_random_state_alone(tiny_model):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_model).train()
    batch = {"input_ids": torch.tensor([[0, 5, 6, 2]])}
    state = torch.get_rng_state()
    first, second = (probe.outputs(model, [batch], "cpu") for _ in range(2))
    assert model.training and torch.equal(torch.get_rng_state(), state) and torch.equal(first, second)


def test_a_batch_of_one_length_is_divided_and_covers_every_row():
    lengths, indices = np.array([3, 5, 3, 4, 5, 3]), np.array([5, 4, 3, 2, 0])
    assert [part.tolist() for part in parts(OneLength(list), lengths, indices)] == [[4], [3], [5, 2, 0]]
    assert [part.tolist() for part in parts(list, lengths, indices)] == [[5, 4, 3, 2, 0]]


def test_divided_batches_take_the_step_of_the_whole_batch():
    """Loss and gradient are those of the mean over all examples, however they are divided."""
    from accelerate import Accelerator

    from conftest import paired_features
    from junkdna.training.bucketing import Grain
    from junkdna.training.predict import collator
    from junkdna.training.step import Stepwise
    from junkdna.training.tokens import Collated

    tokenizer = tiny_tokenizer()
    features = paired_features(tokenizer, 9)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer), type_vocab_size=2, max_position_embeddings=64, num_labels=3, **sizes
    )
    model, found = transformers.RobertaForSequenceClassification(config).eval(), []
    grain = Grain(worth=1, shares=5, tokens=2)
    ways = [
        Collated(features, collator(tokenizer)),
        Collated(features, OneLength(collator(tokenizer))),
        Collated(features, collator(tokenizer, grain.padded), grain),
    ]
    for batches in ways:
        model.zero_grad()
        loss = Stepwise(model, batches, Accelerator(cpu=True))(np.arange(9), 0.5)
        found.append((float(loss), model.classifier.dense.weight.grad.clone()))
    assert [len(batches.parts(np.arange(9))) > 1 for batches in ways] == [False, True, True]
    assert {batches.batch(np.arange(9))["input_ids"].shape[1] % 2 for batches in ways[2:]} == {0}
    for loss, gradient in found[1:]:
        assert found[0][0] == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(found[0][1], gradient, rtol=1e-4, atol=1e-7)


def test_a_model_that_differs_in_every_batch_is_refused(tiny_model, tried, monkeypatch):
    true = probe.in_batches
    monkeypatch.setattr(probe, "in_batches", lambda *given: true(*given) + 1)
    code, _, err = tried(tiny_model)
    assert code == 2 and "other outputs in a batch than alone" in err and str(tiny_model) in err


@pytest.mark.parametrize("columns", [("sentence1",), ("sentence1", "sentence2")])
def test_a_row_without_tokens_is_named(columns, copied, tried, tmp_path):
    folder = copied()
    content = json.loads((folder / "tokenizer.json").read_text())
    leaves_out = {"type": "Replace", "pattern": {"String": "#"}, "content": ""}
    (folder / "tokenizer.json").write_text(json.dumps(content | {"post_processor": None, "normalizer": leaves_out}))
    rows = [(*(text,) * len(columns), label) for text, label in labelled_sentences(8, 1)]
    train = write_rows(tmp_path / "t.csv", [(*columns, "label"), *rows])
    bad = write_rows(tmp_path / "v.csv", [(*columns, "label"), *rows[:2], (*("##",) * len(columns), 1), *rows])
    code, _, err = tried(folder, rows=["--train_file", train, "--validation_file", bad])
    assert code == 2 and "row 3 of the validation data" in err and "produces no tokens for" in err, err
    assert tried(folder, rows=["--train_file", train, "--validation_file", train])[0] == 0


# --- a saved model means what was trained ----------------------------------------------------------------------------

NEG_POS = {"id2label": {"0": "neg", "1": "pos"}, "label2id": {"neg": 0, "pos": 1}}
ODD_LABELS = {
    "contradictory": {"id2label": {"0": "neg", "1": "pos"}, "label2id": {"neg": 1, "pos": 0}},
    "from 1": {"id2label": {"1": "neg", "2": "pos"}, "label2id": {"neg": 1, "pos": 2}},
    "repeated names": {"id2label": {"0": "neg", "1": "neg"}},
    "repeated numbers": {"label2id": {"neg": 0, "pos": 0}},
    "left out": {"id2label": {"0": "neg", "2": "pos"}},
    "other names": {"id2label": {"0": "neg", "1": "pos"}, "label2id": {"bad": 0, "good": 1}},
}
SOUND_LABELS = {
    "both": (NEG_POS, ("neg", "pos")),
    "turned": ({"id2label": {"0": "pos", "1": "neg"}, "label2id": {"neg": 1, "pos": 0}}, ("pos", "neg")),
    "in capitals": ({"id2label": {"0": "POS", "1": "NEG"}, "label2id": {"NEG": 1, "POS": 0}}, ("pos", "neg")),
    "names in label2id alone": (
        {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"neg": 1, "pos": 0}},
        ("pos", "neg"),
    ),
    "names in id2label alone": (
        {"id2label": {"0": "pos", "1": "neg"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}},
        ("pos", "neg"),
    ),
    "none": ({}, ("neg", "pos")),
}


@pytest.fixture(scope="module")
def with_head(tmp_path_factory):
    """A tiny model that was trained as a classifier of two labels."""
    folder = tmp_path_factory.mktemp("heads") / "with-head"
    save_tiny_model(folder, head=2)
    return str(folder)


def saved_labels(folder: Path) -> tuple:
    config = json.loads((folder / "config.json").read_text())
    names = tuple(config["id2label"][str(i)] for i in range(len(config["id2label"])))
    assert config["label2id"] == {name: i for i, name in enumerate(names)}
    return names


@pytest.mark.parametrize("odd", ODD_LABELS)
def test_odd_label_maps_are_replaced_where_the_head_is_fresh_and_refused_otherwise(
    odd, copied, with_head, tried, padded_texts, tmp_path
):
    code, out, _ = tried(copied(**ODD_LABELS[odd]), "--save_model", rows=padded_texts)
    assert code == 0 and saved_labels(tmp_path / "out") == ("neg", "pos")
    assert sum("the task's classes take their place" in line for line in out.splitlines()) == 1
    assert "label" in json.loads((tmp_path / "out" / "run.json").read_text())["model"]["notes"][0]
    for architectures in (["RobertaForSequenceClassification"], ["RobertaModel"], None):
        folder = copied(with_head, architectures=architectures, **ODD_LABELS[odd])
        code, _, err = tried(folder, rows=padded_texts)
        assert code == 2 and "label" in err and "config.json" in err and "head's classes are not known" in err


@pytest.mark.parametrize("sound", SOUND_LABELS)
def test_sound_label_maps_are_followed(sound, copied, with_head, tried, padded_texts, tmp_path):
    """The head keeps its order; the saved names are those of the task, and metrics by name are those reported."""
    said, expected = SOUND_LABELS[sound]
    code, _, err = tried(copied(with_head, **said), "--save_model", rows=padded_texts)
    assert code == 0, err
    assert saved_labels(tmp_path / "out") == expected
    reported = json.loads((tmp_path / "out" / "all_results.json").read_text())["eval_accuracy"]
    assert one_by_one(tmp_path / "out", padded_texts[-1])[1] == pytest.approx(reported)


def test_a_regression_has_one_output(copied, tried, tmp_path):
    rows = [(text, label + i / 100) for i, (text, label) in enumerate(labelled_sentences(16, 3))]
    path = write_rows(tmp_path / "scores.csv", [("sentence1", "label"), *rows])
    flags = ["--train_file", path, "--validation_file", path]
    for said in ({}, ODD_LABELS["from 1"], {"id2label": {"0": "a", "1": "b", "2": "c"}}):
        code, _, err = tried(copied(**said), "--save_model", rows=flags)
        assert code == 0, err
        config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
        assert config.num_labels == 1 and config.problem_type == "regression"


@pytest.mark.parametrize("text", [[], "neg", {"a": "x"}, {"0": "x", "00": "y"}, {"0": "x", "-1": "y"}, {"0.5": "x"}])
def test_maps_that_are_none_are_told(text):
    for key in ("id2label", "label2id"):
        config = {key: {v: k for k, v in text.items()} if key == "label2id" and isinstance(text, dict) else text}
        if text == []:
            assert labels.named(config) == {}
        else:
            with pytest.raises(ValueError, match=key):
                labels.named(config)


# --- weights and configuration fit both ways -------------------------------------------------------------------------


def test_weights_that_the_configuration_leaves_out_are_told(copied, tried):
    code, _, err = tried(copied(num_hidden_layers=1))
    assert code == 2 and "the weights have 16 parameter(s) that" in err and "encoder.layer.1." in err
    code, _, err = tried(copied(num_hidden_layers=3))
    assert code == 2 and "lack 16 parameter(s)" in err
    code, _, err = tried(copied(intermediate_size=48))
    assert code == 2 and "by config.json" in err


@pytest.mark.parametrize("prefix", ["roberta.", ""])
def test_heads_of_other_tasks_and_poolers_may_be_left_over(prefix, copied, tried):
    folder = copied()
    weights = load_file(folder / "model.safetensors")
    named = {key.removeprefix("roberta.") if not prefix else key: value for key, value in weights.items()}
    named = {key: value.contiguous() for key, value in named.items() if prefix or not key.startswith("lm_head")}
    named[f"{prefix}pooler.dense.weight"] = torch.zeros(32, 32)
    named[f"{prefix}embeddings.position_ids"] = torch.arange(130)[None]
    named[f"{prefix}encoder.layer.0.attn.causal_mask"] = torch.ones(1, 1, 8, 8)  # as CodeGen has
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    assert tried(folder)[0] == 0
    named[f"{prefix}encoder.layer.7.output.dense.weight"] = torch.zeros(32, 64)
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    code, _, err = tried(folder)
    assert code == 2 and "the weights have 1 parameter(s) that" in err and f"{prefix}encoder.layer.7." in err


def test_zeros_that_a_model_has_already_are_told(copied, tried, tmp_path):
    folder = copied()
    weights = load_file(folder / "model.safetensors")
    key = "roberta.encoder.layer.0.output.dense.weight"
    weights[key] = weights[key].masked_fill(torch.arange(weights[key].numel()).view_as(weights[key]) % 2 == 0, 0.0)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    _, out, _ = tried(folder)
    before = json.loads((tmp_path / "out" / "run.json").read_text())["pruning"]["zeros_before"]
    zeros = sum(int((w == 0).sum()) for name, w in weights.items() if w.dim() == 2 and "lm_head" not in name)
    assert before == {"weights": zeros, "removed": zeros} and zeros >= 1024
    assert f"{zeros:,} weights in scope were 0 before; {zeros:,} of them are among the removed ones" in out
    _, out, _ = tried(folder, "--score", "largest")
    assert f"{zeros:,} weights in scope were 0 before; 0 of them are among the removed ones" in out


# --- matrices of rank 3 ----------------------------------------------------------------------------------------------


def xlnet():
    config = transformers.XLNetConfig(vocab_size=50, d_model=32, n_layer=1, n_head=4, d_inner=64)
    return transformers.AutoModelForSequenceClassification.from_config(config)


def squeezebert():
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.SqueezeBertConfig(vocab_size=50, embedding_size=32, **sizes)
    return transformers.AutoModelForSequenceClassification.from_config(config)


def test_matrices_of_rank_3_are_pruned_along_their_inputs():
    """Groups and rows of XLNet's attention and SqueezeBERT's convolutions, found again from what they multiply."""
    scope = find_scope(xlnet(), embeddings=False)
    for last in "qkvro":
        name = f"transformer.layer.0.rel_attn.{last}"
        weight = scope.matrices[name].detach()
        assert weight.shape == (32, 4, 8)
        by_output = weight.reshape(32, 32) if last == "o" else weight.reshape(32, 32).T  # (outputs, inputs)
        for pattern, kept in ((NM(2, 4), 2), (PerRow("0.25"), 24)):
            mask = make_masks(scope, pattern)[name]
            assert mask.shape == weight.shape
            mine = mask.reshape(32, 32) if last == "o" else mask.reshape(32, 32).T
            size = 4 if isinstance(pattern, NM) else 32
            ranked = by_output.abs().reshape(32, -1, size).argsort(-1, descending=True).argsort(-1) < kept
            assert torch.equal(mine.reshape(32, -1, size), ranked)
    scope = find_scope(squeezebert(), embeddings=False)
    convolutions = [name for name, weight in scope.matrices.items() if weight.dim() == 3]
    assert len(convolutions) == 6 and not [r for r in scope.left_out.values() if "rank 3" in r]
    masks, census = choose_masks(scope, NM(2, 4))
    assert all(bool((masks[n].squeeze(-1).unflatten(1, (-1, 4)).sum(-1) == 2).all()) for n in convolutions)
    assert census.removed == census.asked
    masks, census = choose_masks(scope, Unstructured("0.37"))
    values = torch.cat([weight.detach().abs().flatten() for weight in scope.matrices.values()])
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert census.removed == census.asked and values[~kept].max() <= values[kept].min()


def test_segments_of_xlnet_are_embeddings():
    name = "transformer.layer.0.rel_attn.seg_embed"
    assert find_scope(xlnet(), embeddings=False).left_out[name] == "embedding"
    assert find_scope(xlnet()).matrix_shapes[name] == (2, 32) and name not in find_scope(xlnet()).transposed


def test_a_matrix_of_rank_3_whose_inputs_are_not_known_is_refused_unless_excluded():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Conv1d(4, 4, 3))
    model.experts = torch.nn.Parameter(torch.ones(2, 4, 4))
    with pytest.raises(UserError, match=r"experts is stored with rank 3 \(2 x 4 x 4\)"):
        find_scope(model)
    scope = find_scope(model, exclude=["experts"])
    assert scope.left_out["experts"] == "excluded by experts" and "kernel" in scope.left_out["1.weight"]


# --- foreign code ----------------------------------------------------------------------------------------------------

CODE = "from pathlib import Path\nPath({marker!r}).write_text('ran')\nraise SystemExit(3)\n"


def with_code(folder: Path, marker: Path) -> Path:
    for file in ("configuration_own.py", "modeling_own.py", "tokenization_own.py"):
        (folder / file).write_text(CODE.format(marker=str(marker)))
    return folder


OWN = {
    "AutoConfig": "configuration_own.OwnConfig",
    "AutoModelForSequenceClassification": "modeling_own.Own",
    "AutoTokenizer": ["tokenization_own.OwnTokenizer", None],
}


@pytest.mark.parametrize("kind", ["an unknown type", "a known type", "tokenizer", "upstream"])
def test_code_of_a_model_is_neither_executed_nor_asked_about(kind, copied, csv_task, tmp_path):
    """In a process of its own, with somebody who says yes to everything."""
    changes = {"auto_map": OWN}
    if kind == "an unknown type":
        changes["model_type"] = "of-its-own"
    if kind == "upstream":
        changes = {"model_type": "of-its-own", "auto_map": {"AutoConfig": "someone/else--configuration_own.OwnConfig"}}
    tokenizer = {"auto_map": OWN, "tokenizer_class": "OwnTokenizer"} if kind == "tokenizer" else None
    folder = with_code(copied(tokenizer=tokenizer, **({} if kind == "tokenizer" else changes)), tmp_path / "ran")
    out = run_command(
        ["--model_name_or_path", folder, *csv_task.flags, *STEPS, "--output_dir", tmp_path / "out"],
        tmp_path,
        HF_MODULES_CACHE=str(tmp_path / "modules"),
    )
    assert not (tmp_path / "ran").exists() and not (tmp_path / "modules").exists()
    assert "Traceback" not in out.stderr and "y/N" not in out.stdout + out.stderr
    if kind in ("an unknown type", "upstream"):
        assert out.returncode == 2 and out.stderr.count("\n") == 1 and "never executed" in out.stderr, out.stderr
    elif kind == "a known type":
        assert out.returncode == 0 and "(auto_map) is left out" in out.stdout
    else:
        assert out.returncode in (0, 2) and out.stderr.count("\n") <= 1


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
@pytest.mark.parametrize(
    "value",
    ["kernels-community/flash-attn", "someone/kernel@main:forward", "flash_attention_2", "paged|sdpa", {"": "a/b"}],
)
def test_attention_from_elsewhere_is_refused(key, value, copied, tried):
    code, _, err = tried(copied(**{key: value}))
    assert code == 2 and key in err and "never executed" in err
    code, _, err = tried(copied(text_config={key: value}))
    assert code == 2 and "never executed" in err


def test_every_call_that_could_run_code_of_a_model_says_no():
    looked_at = []
    for path in [*(ROOT / "junkdna").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            named = any(getattr(part, "attr", None) == "from_pretrained" for part in (node.func, *node.args))
            if named:
                looked_at.append(f"{path.name}:{node.lineno}")
                assert words.get("trust_remote_code") == "False", looked_at[-1]
    assert len(looked_at) >= 8


def test_an_attention_that_depends_on_earlier_batches_is_replaced(tried, tmp_path):
    save_tiny_model(tmp_path / "bird", model_type="big_bird", attention_type="block_sparse", block_size=4)
    code, out, err = tried(tmp_path / "bird", "--save_model")
    assert code == 0 and "original_full takes its place" in out, err
    assert transformers.AutoConfig.from_pretrained(tmp_path / "out").attention_type == "original_full"


@pytest.mark.parametrize(
    "own",
    [{"_attn_implementation": value} for value in ("eager", "sdpa", None)] + [{"_attn_implementation_autoset": True}],
)
def test_attention_of_the_library_is_taken(own, copied, tried):
    """The last is a note that earlier versions of the library leave."""
    assert tried(copied(**own))[0] == 0


def test_quantized_weights_are_refused(copied, tried):
    code, _, err = tried(copied(quantization_config={"quant_method": "fp8"}))
    assert code == 2 and "quantized" in err


# --- configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "<pad>", -1, 10**6, 1.5, True, [1], {"a": 1}])
def test_an_impossible_pad_token_is_one_line(value, copied, tried):
    code, _, err = tried(copied(pad_token_id=value))
    assert code == 2 and "pad_token_id" in err and "must be a token's number, 0 to " in err


@pytest.mark.parametrize("value", [None, ...])
def test_without_a_pad_token_the_tokenizers_is_taken(value, copied, tried, padded_texts, tmp_path):
    code, _, err = tried(copied(pad_token_id=value), "--save_model", rows=padded_texts)
    assert code == 0, err
    reported = json.loads((tmp_path / "out" / "all_results.json").read_text())["eval_accuracy"]
    assert one_by_one(tmp_path / "out", padded_texts[-1])[1] == pytest.approx(reported)


@pytest.mark.parametrize(
    "change",
    [
        {"return_dict": False},
        {"output_attentions": False, "output_hidden_states": True},
        {"chunk_size_feed_forward": 7},
    ],
)
def test_how_outputs_are_returned_does_not_matter(change, tiny_model, copied, tried, tmp_path):
    results = []
    for folder in (tiny_model, copied(**change)):
        code, _, err = tried(folder)
        assert code == 0, err
        results.append((tmp_path / "out" / "all_results.json").read_text())
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"num_attention_heads": 5},
        {"hidden_act": "none-such"},
        {"num_hidden_layers": -1},
        {"vocab_size": 0},
        {"model_type": "none-such"},
        {"model_type": 7},
        {"model_type": ...},
        {"id2label": "neg"},
        {"architectures": "RobertaForSequenceClassification"},
        {"is_encoder_decoder": True},
        {"max_position_embeddings": 20},
    ],
)
def test_impossible_configurations_are_one_line(change, copied, tried):
    code, _, err = tried(copied(**change))
    assert code == 2 or "architectures" in change or "id2label" in change, err


# --- damaged and hostile files ---------------------------------------------------------------------------------------


def header(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


HOSTILE = {
    "empty": b"",
    "seven bytes": b"\x01" * 7,
    "a length beyond the file": struct.pack("<Q", 1 << 62) + b"{}",
    "no JSON": header(b"\xff\xfe{}"),
    "a list": header(b"[1, 2]"),
    "deep": header(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "no offsets": header(b'{"a": {"dtype": "F32", "shape": [1]}}'),
    "offsets of text": header(b'{"a": {"data_offsets": [0, "x"]}, "b": {"data_offsets": [0, 1]}}'),
    "offsets of objects": header(b'{"a": {"data_offsets": {}}}'),
    "one offset": header(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}') + b"\0" * 4,
    "negative": header(b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}'),
    "a huge shape": header(b'{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}}'),
    "an unknown type": header(b'{"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}') + b"\0" * 4,
    "overlapping": header(
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
        b' "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    )
    + b"\0" * 4,
    "none of its weights": header(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}') + b"\0" * 4,
}


@pytest.mark.parametrize("odd", HOSTILE)
def test_hostile_files_of_weights_and_masks_are_one_line(odd, copied, tried, tiny_model, csv_task, command, tmp_path):
    folder = copied()
    (folder / "model.safetensors").write_bytes(HOSTILE[odd])
    assert tried(folder)[0] == 2
    mask = tmp_path / "odd.safetensors"
    mask.write_bytes(HOSTILE[odd])
    used = ["--mask_file", mask, "--freeze_weights", "--max_length", 64, "--output_dir", tmp_path / "masked"]
    code, _, err = command(["--model_name_or_path", tiny_model, *csv_task.flags, *used])
    assert code == 2 and err.count("\n") == 1 and "--mask_file" in err and "odd.safetensors" in err
    assert not (tmp_path / "masked").exists() and len(HOSTILE) == 15


@pytest.mark.parametrize(
    "content", ["", "[]", "7", "{" * 100_000, '{"a":' * 100_000, "\ufeff{}", '{"hidden_size": NaN}']
)
def test_a_damaged_configuration_is_one_line(content, copied, tried):
    folder = copied()
    (folder / "config.json").write_text(content)
    assert tried(folder)[0] == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"a":' * 100_000, '{"model": {"type": "none-such"}}'])
@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_tokenizer_is_one_line_or_runs(file, content, copied, tried):
    folder = copied()
    (folder / file).write_text(content)
    code, _, _ = tried(folder)
    assert code == 2 or (file, content) in (
        ("tokenizer_config.json", "{}"),
        ("tokenizer_config.json", '{"model": {"type": "none-such"}}'),
    )


def test_an_index_names_files_of_its_folder_only(copied, tried):
    folder = copied()
    outside = folder.parent / "outside.safetensors"
    (folder / "model.safetensors").rename(outside)
    keys = load_file(outside)
    for name in ("../outside.safetensors", str(outside)):
        index = {"metadata": {}, "weight_map": dict.fromkeys(keys, name)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        code, _, err = tried(folder)
        assert code == 2 and "model.safetensors.index.json" in err


SHAPES = [
    [], [0, 8], [-8, -8], [8], [9, 9], [8.0, 8], ["8", 8], [[8], 8], [1 << 40, 1 << 40], [1 << 70], [True, 64], None,
    64, "64", {"0": 8}, [None], [8, 8, 8],
]  # fmt: skip


def test_masks_of_absurd_shapes_are_one_line(tmp_path):
    bits, tried = torch.zeros(8, dtype=torch.uint8), 0
    path = tmp_path / "m.safetensors"
    for shape in SHAPES:
        save_file({"a": bits}, path, {files.FORMAT: json.dumps({"a": shape})})
        with pytest.raises(UserError, match=r"m\.safetensors: cannot be read"):
            files.load_masks(path)
        tried += 1
    for text in ("", "[]", "7", "{}", "[" * 200_000, '{"b": [8, 8]}', '{"a": [8, 8], "b": [8, 8]}'):
        save_file({"a": bits}, path, {files.FORMAT: text})
        with pytest.raises(UserError, match=r"m\.safetensors: cannot be read"):
            files.load_masks(path)
        tried += 1
    for other in (bits.float(), bits.view(2, 4), bits.to(torch.int8), torch.full((8,), 255, dtype=torch.uint8)):
        save_file({"a": other}, path, {files.FORMAT: json.dumps({"a": [7, 9]})})
        with pytest.raises(UserError, match=r"m\.safetensors: cannot be read"):
            files.load_masks(path)
        tried += 1
    save_file({"a": bits}, path, {files.FORMAT: json.dumps({"a": [8, 8]})})
    assert files.load_masks(path)["a"].shape == (8, 8) and tried == 28
