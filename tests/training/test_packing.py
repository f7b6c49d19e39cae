"""Packed batches: the outputs and gradients of padded ones, no example seen by another, and padded where they are
not.
"""

from unittest.mock import Mock

import pytest
import torch
from transformers import AutoModelForSequenceClassification as Model
from transformers import BertConfig, ElectraConfig, MPNetConfig, RobertaConfig

from conftest import paired_features, save_tiny_model, tiny_tokenizer
from junkdna.families.encoder.model import Classifier
from junkdna.models.folder import first_position
from junkdna.training.fast import attention, packing
from junkdna.training.predict import collator

SIZES = {
    "vocab_size": 2000, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 40, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def features(tokenizer):
    return paired_features(tokenizer, 11)


@pytest.fixture(params=[BertConfig, ElectraConfig, RobertaConfig, MPNetConfig])
def model(request):
    torch.manual_seed(0)
    like_roberta = request.param in (RobertaConfig, MPNetConfig)
    config = request.param(**SIZES, **({"pad_token_id": 1} if like_roberta else {}))
    if not like_roberta:
        config.type_vocab_size = 2
    return Model.from_config(config)


def gradients(model):
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("fused", [False, True])
def test_a_row_that_is_filled_up_has_the_outputs_and_gradients_of_the_bare_one(fused, model, tokenizer, features):
    start, labels = first_position(model.config.to_dict()), torch.tensor(features.labels)
    assert packing.pack(model, tokenizer, start) is None
    found = []
    for multiple in (1, 16, 64):
        collate = packing.collator(start, SIZES["num_attention_heads"], fused, multiple, tokenizer.pad_token_id)
        rows = collate(features.rows(range(len(features))))
        bare = int(features.lengths.sum())
        assert rows["input_ids"].shape == rows["position_ids"].shape == (1, -(-bare // multiple) * multiple)
        assert len(rows["packing"].first) == len(features)
        made = model(**rows, labels=labels)
        made.loss.backward()
        found.append((rows["input_ids"].shape[1], made.logits.detach(), gradients(model)))
    (bare, logits, expected), *filled = found
    assert all(length > bare for length, *_ in filled)
    for _, other, grown in filled:
        assert torch.allclose(logits, other, atol=1e-6)
        assert grown.keys() == expected.keys()
        for name, gradient in expected.items():
            assert torch.allclose(grown[name], gradient, atol=1e-6), name


@pytest.mark.parametrize(("precision", "multiple"), [("bf16", 16), ("no", 1)])
def test_bf16_on_a_cpu_has_rows_of_few_lengths(precision, multiple, tmp_path, features):
    from junkdna.families.encoder import layout

    save_tiny_model(tmp_path)
    loaded = Classifier(str(tmp_path), "main", ("a", "b"), True, 40)
    cell = Mock(pad_to_max_length=False, max_length=40)
    accelerator = Mock(device=torch.device("cpu"), mixed_precision=precision)
    way = layout._candidates(cell, loaded, accelerator)[0]
    lengths = {way.collate(features.rows(range(count)))["input_ids"].shape[1] for count in range(1, len(features) + 1)}
    assert way.words == "packed" and way.packed and len(lengths) > 1
    bare = {int(features.lengths[:count].sum()) for count in range(1, len(features) + 1)}
    assert lengths == {-(-length // multiple) * multiple for length in bare}


def test_a_row_of_the_right_length_is_left_as_it_is(tokenizer, features):
    bare = int(features.lengths.sum())
    rows = packing.collator(0, 4, multiple=bare, padding_id=1)(features.rows(range(len(features))))
    assert rows["input_ids"].shape == (1, bare) and len(rows["packing"].groups) == len(
        packing.collator(0, 4)(features.rows(range(len(features))))["packing"].groups
    )


def test_losses_and_gradients_are_those_of_padded_batches(model, tokenizer, features):
    labels = torch.tensor(features.labels)
    pad, pack = (
        collator(tokenizer),
        packing.collator(first_position(model.config.to_dict()), SIZES["num_attention_heads"]),
    )
    model.train()
    padded = model(**pad(features.rows(range(len(features)))), labels=labels)
    padded.loss.backward()
    expected = gradients(model)
    assert packing.pack(model, tokenizer, first_position(model.config.to_dict())) is None
    packed = model(**pack(features.rows(range(len(features)))), labels=labels)
    packed.loss.backward()
    torch.testing.assert_close(packed.logits, padded.logits, rtol=0, atol=1e-6)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert sum(float(g.abs().sum()) for g in expected.values()) > 1
    again = model(**pad(features.rows(range(len(features)))), labels=labels)  # padded batches still work
    torch.testing.assert_close(again.logits, padded.logits, rtol=0, atol=1e-6)


def test_what_mpnet_adds_for_distances_is_added_and_learned(tokenizer, features):
    torch.manual_seed(0)
    model = Model.from_config(MPNetConfig(**SIZES, pad_token_id=1, initializer_range=0.3))
    learned, labels = model.mpnet.encoder.relative_attention_bias.weight, torch.tensor(features.labels)
    rows = features.rows(range(len(features)))
    padded = model(**collator(tokenizer)(rows), labels=labels)
    padded.loss.backward()
    expected = gradients(model)["mpnet.encoder.relative_attention_bias.weight"]
    assert float(expected.abs().max()) > 1e-4
    assert packing.pack(model, tokenizer, first_position(model.config.to_dict())) is None
    packed = model(**packing.collator(2, SIZES["num_attention_heads"])(rows), labels=labels)
    packed.loss.backward()
    torch.testing.assert_close(packed.logits, padded.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(learned.grad, expected, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        learned.zero_()
        assert float((model(**collator(tokenizer)(rows)).logits - padded.logits).abs().max()) > 1e-2


def test_an_mpnet_of_another_build_stays_padded(tokenizer):
    model = Model.from_config(MPNetConfig(**SIZES, pad_token_id=1))
    del model.mpnet.encoder.layer[1].attention.attn
    assert "fail" in packing.pack(model, tokenizer, 2)
    assert not model._forward_pre_hooks and "forward" not in vars(model.mpnet.encoder.layer[-1].attention)


def test_an_mpnet_stays_padded_on_a_gpu(tmp_path):
    from junkdna.families.encoder import layout

    save_tiny_model(tmp_path, model_type="mpnet")
    loaded = Classifier(str(tmp_path), "main", ("a", "b", "c"), True, 38)
    cell = Mock(pad_to_max_length=False, max_length=38)
    said = [
        layout._candidates(cell, loaded, Mock(device=torch.device(device), mixed_precision="no"))[0].words
        for device in ("cpu", "cuda")
    ]
    assert loaded.unpacked is None and said == ["packed", "padded"]
    assert "CPUs only" in layout._unpacked(loaded, torch.device("cuda"))


def test_in_bf16_too(model, tokenizer, features):
    """As near to fp32 as padded batches are: within their rounding."""
    start = first_position(model.config.to_dict())
    pad, labels = collator(tokenizer)(features.rows(range(len(features)))), torch.tensor(features.labels)
    assert packing.pack(model, tokenizer, start) is None
    pack = packing.collator(start, SIZES["num_attention_heads"])(features.rows(range(len(features))))
    exact = model(**pad).logits.detach()
    with torch.autocast("cpu", torch.bfloat16):
        padded, packed = model(**pad).logits.detach().float(), model(**pack, labels=labels)
    packed.loss.backward()
    error = float((padded - exact).abs().max())
    assert error > 0 and float((packed.logits.detach().float() - exact).abs().max()) < 3 * error
    assert all(
        p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters() if p.grad is not None
    )


def test_no_example_sees_another(model, tokenizer, features):
    assert packing.pack(model, tokenizer, first_position(model.config.to_dict())) is None
    pack = packing.collator(first_position(model.config.to_dict()), SIZES["num_attention_heads"])
    rows = features.rows(range(len(features)))
    model.eval()
    with torch.no_grad():
        alone = model(**pack(rows[3:4])).logits
        first = model(**pack([rows[3], *rows])).logits[0]
        last = model(**pack([*rows, rows[3]])).logits[-1]
    torch.testing.assert_close(first, alone[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(last, alone[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropout_is_kept_everywhere(name, tokenizer, features):
    """Outputs in training spread as much as padded ones, with dropout in attention alone and in the rest alone."""
    torch.manual_seed(0)
    model = Model.from_config(BertConfig(**SIZES | {name: 0.2}, type_vocab_size=2)).train()
    batches = {
        "padded": collator(tokenizer)(features.rows(range(len(features)))),
        "packed": packing.collator(0, SIZES["num_attention_heads"])(features.rows(range(len(features)))),
    }
    assert packing.pack(model, tokenizer, 0) is None and model.training
    with torch.no_grad():
        spread = {
            kind: torch.stack([model(**batch).logits for _ in range(200)]).std(0) for kind, batch in batches.items()
        }
    ratio = spread["packed"] / spread["padded"]
    assert float(spread["padded"].min()) > 1e-6 and float(ratio.min()) > 0.7 and float(ratio.max()) < 1.4


def test_a_model_of_another_build_stays_padded(tokenizer):
    from transformers import DistilBertConfig

    model = Model.from_config(DistilBertConfig(vocab_size=2000, dim=32, n_layers=2, n_heads=4, hidden_dim=64))
    assert "distilbert" in packing.pack(model, tokenizer, 0)
    assert model.config._attn_implementation != "packed"


def test_a_wrong_answer_is_noticed_and_undone(tokenizer, features):
    torch.manual_seed(0)
    model = Model.from_config(BertConfig(**SIZES, type_vocab_size=2)).eval()
    batch = collator(tokenizer)(features.rows(range(len(features))))
    with torch.no_grad():
        before = model(**batch).logits
        assert "differ" in packing.pack(model, tokenizer, 3)  # positions that start at 3 are not this model's
        assert torch.equal(model(**batch).logits, before)


@pytest.mark.parametrize("way", ["_fused", "_Grouped"])
def test_each_way_to_attend_is_looked_at(way, tokenizer, monkeypatch):
    torch.manual_seed(0)
    model = Model.from_config(BertConfig(**SIZES, type_vocab_size=2))
    right = getattr(attention, way)
    wrong = (
        (lambda *words: 2 * right(*words)) if way == "_fused" else Mock(apply=lambda *words: 2 * right.apply(*words))
    )
    monkeypatch.setattr(attention, way, wrong)
    assert "differ" in packing.pack(model, tokenizer, 0)


def test_what_is_saved_knows_nothing_of_it(tmp_path, tokenizer):
    save_tiny_model(tmp_path / "model")
    loaded = Classifier(str(tmp_path / "model"), "main", ("0", "1"))
    assert loaded.unpacked is None
    loaded.model.save_pretrained(tmp_path / "saved")
    assert "packed" not in (tmp_path / "saved" / "config.json").read_text()
