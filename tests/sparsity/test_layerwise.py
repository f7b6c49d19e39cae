"""The walk through a model: against one that runs the whole model for every block; the traps; what it leaves alone."""

import pytest
import torch
import transformers
from causal_models import BLOCKS, CONFIGS, TOKENS, causal, samples
from torch import nn

import junkdna as jd
from junkdna.sparsity import files, sparsegpt, wanda
from junkdna.sparsity.layerwise import prune_layerwise
from junkdna.sparsity.masks import Packed, fingerprint, make_masks
from junkdna.sparsity.methods import CALIBRATED, METHODS, with_own_unit
from junkdna.sparsity.scope import Scope
from junkdna.sparsity.scores import random


def literal_walk(model, pattern, method, inputs):
    """Prune block by block; for each, run the whole model sample by sample and listen to every layer on its own."""
    model.eval()
    masks = {}
    decoder = jd.find_decoder(model)
    for number in range(BLOCKS):
        linears = decoder.linears(number)
        for name, heard in listen(model, linears, inputs).items():
            transposed = type(linears[name]).__name__ == "Conv1D"
            masks[name] = prune_one(name, linears[name].weight.data, heard, len(inputs), pattern, method, transposed)
    return masks


@torch.no_grad()
def listen(model, linears, inputs):
    """What every layer is given, (all tokens, columns); OPT hands some of it on without the axis of samples."""
    heard = {name: [] for name in linears}
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, name=name: heard[name].append(args[0].flatten(0, -2)))
        for name, layer in linears.items()
    ]
    for sample in inputs:
        model(input_ids=sample[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(parts) for name, parts in heard.items()}


def prune_one(name, weight, heard, count, pattern, method, transposed):
    """Prune one matrix in place, given its inputs; returns its mask."""
    if method == "sparsegpt":
        made = sparsegpt.Hessian(heard.shape[-1])
        made.add(heard)
        found, mask, _ = sparsegpt.prune(weight, made.finish(count), pattern, transposed)
        weight.copy_(found)
        return mask
    scope = Scope({name: weight}, {}, frozenset({name} if transposed else ()))
    mask = make_masks(scope, pattern, wanda.score(heard.square().sum(0) / count, transposed))[name]
    weight.mul_(mask)
    return mask


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(
    ("method", "pattern"), [("wanda", jd.PerRow(0.5)), ("sparsegpt", jd.NM(2, 4)), ("sparsegpt", jd.PerBlock(0.6))]
)
def test_it_is_the_walk_that_runs_the_whole_model(kind, attention, method, pattern):
    """A batch of 2 and one that is left over, a cache that is on by default, masks that are given or implied."""
    plain, model = causal(kind, attention), causal(kind, attention)
    assert model.config.use_cache and model.training
    expected = literal_walk(plain, pattern, method, samples())
    found = prune_layerwise(model, pattern, method, inputs=samples(), batch_size=2)
    differ = jd.compare(dict(found.masks), expected)
    assert len(differ) == len(jd.decoder_scope(model).matrices) and not any(differ.values()), differ
    for name, weight in weights(model).items():
        torch.testing.assert_close(weight, weights(plain)[name], rtol=1e-4, atol=1e-5)
    assert found.findings["samples"] == 5 and found.findings["tokens"] == 5 * TOKENS
    assert jd.verify(model, found.masks) == found.census.removed == found.census.asked


def test_the_way_attention_is_computed_makes_no_difference():
    """Without its mask, eager attention would look ahead."""
    found = [prune_layerwise(causal("qwen2", way), jd.NM(2, 4), inputs=samples()) for way in ("eager", "sdpa")]
    assert fingerprint(found[0].masks) == fingerprint(found[1].masks)


@pytest.mark.parametrize("method", CALIBRATED)
def test_the_same_inputs_give_the_same_masks_and_others_do_not(method):
    a, b, c = (prune_layerwise(causal(), jd.Unstructured(0.5), method, inputs=samples(seed=s)) for s in (1, 1, 2))
    assert fingerprint(a.masks) == fingerprint(b.masks) != fingerprint(c.masks)


def test_layers_with_the_same_inputs_share_a_statistic(monkeypatch):
    made = []
    monkeypatch.setattr(sparsegpt, "Hessian", lambda *args, kind=sparsegpt.Hessian: made.append(args) or kind(*args))
    prune_layerwise(causal(), jd.NM(2, 4), "sparsegpt", inputs=samples())
    assert [columns for columns, _ in made] == [32, 32, 32, 48] * BLOCKS  # q k v, o, gate up, down


# --- methods without calibration -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "unit", "score"),
    [("magnitude", jd.PerMatrix, jd.magnitude), ("magnitude_row", jd.PerRow, jd.magnitude),
     ("random", jd.PerMatrix, random(7))],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_without_calibration_nothing_is_run_and_the_masks_are_those_of_the_scope(kind, method, unit, score):
    model = causal(kind)
    model.forward = model.base_model.forward = None
    expected = make_masks(jd.decoder_scope(model), unit(0.4), score)
    census = jd.census(jd.decoder_scope(model), expected, unit(0.4), method)
    found = prune_layerwise(model, jd.Unstructured(0.4), method, seed=7)
    assert fingerprint(found.masks) == fingerprint(expected)
    assert found.census.as_dict() == census.as_dict() | {"score": method}  # thresholds of the weights as they were
    assert found.seconds["calibrate"] == 0 and found.findings == {"dead_columns": {}, "damping": {}}


def test_random_depends_on_the_seed():
    hashes = [fingerprint(prune_layerwise(causal(), jd.NM(2, 4), "random", seed=s).masks) for s in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]


# --- what is left as it was ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_only_what_is_in_scope_changes(method):
    model = causal(attention_dropout=0.5)
    model.model.layers[1].eval()
    before, modes = weights(model), [module.training for module in model.modules()]
    done = []
    found = prune_layerwise(
        model, jd.Unstructured(0.5), method, inputs=samples(), exclude=["down_proj"],
        on_block=lambda *numbers: done.append(numbers),
    )  # fmt: skip
    assert done == [(1, 2), (2, 2)] and len(found.masks) == BLOCKS * 6
    assert [module.training for module in model.modules()] == modes
    assert all("forward" not in block.__dict__ and not block._forward_hooks for block in model.model.layers)
    assert not any(module._forward_pre_hooks for module in model.modules())
    for name, weight in weights(model).items():
        if name not in found.masks:
            assert torch.equal(weight, before[name]), name
            continue
        mask = found.masks[name]
        assert (weight[~mask] == 0).all() and not weight[~mask].signbit().any()
        assert torch.equal(weight[mask], before[name][mask]) == (method != "sparsegpt")
    assert found.census.left_out["model.layers.0.mlp.down_proj.weight"] == "excluded by down_proj"
    assert found.census.score == method and found.census.zeros == 0


def test_half_precision_and_frozen_models_are_pruned():
    for method in METHODS:
        model = causal().bfloat16().requires_grad_(False)
        found = prune_layerwise(model, jd.NM(2, 4), method, inputs=samples(), device="cpu")
        assert jd.verify(model, found.masks) == found.census.asked
        assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())


def test_wandas_variant_keeps_the_count_of_every_matrix():
    found = prune_layerwise(causal(), jd.Unstructured(0.5), "wanda", inputs=samples(), variant=True)
    assert found.census.score == "wanda_variant" and found.census.removed == found.census.asked
    assert all(2 * matrix.removed == matrix.removed + matrix.kept for matrix in found.census.matrices)
    rows = found.masks["model.layers.0.mlp.up_proj.weight"].sum(1)
    assert len(set(rows.tolist())) > 2


# --- what was found --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", CALIBRATED)
def test_dead_columns_are_counted(method):
    model = causal()
    model.model.layers[1].input_layernorm.weight.data[[3, 9]] = 0
    found = prune_layerwise(model, jd.Unstructured(0.5), method, inputs=samples())
    names = [f"model.layers.1.self_attn.{part}_proj.weight" for part in "qkv"]
    assert found.findings["dead_columns"] == dict.fromkeys(names, 2)
    assert all(not found.masks[name][:, [3, 9]].any() for name in names)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("method", CALIBRATED)
def test_inputs_that_are_not_finite_are_an_error_that_names_the_matrix(method, value):
    model = causal()
    model.model.layers[1].post_attention_layernorm.weight.data[5] = value
    with pytest.raises(jd.UserError, match=r"inputs of model\.layers\.1\.mlp\.gate_proj.* in (1|32) of 32 columns"):
        prune_layerwise(model, jd.NM(2, 4), method, inputs=samples())


def test_more_damping_is_found_and_a_failure_is_an_error(monkeypatch):
    tried = []
    real = sparsegpt._factor_in_place
    monkeypatch.setattr(sparsegpt, "_factor_in_place", lambda h: tried.append(1) or (len(tried) > 2 and real(h)))
    found = prune_layerwise(causal(), jd.NM(2, 4), "sparsegpt", inputs=samples())
    names = [f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"]
    assert found.findings["damping"] == dict.fromkeys(names, 2)
    monkeypatch.setattr(sparsegpt, "_factor_in_place", lambda h: False)
    with pytest.raises(jd.UserError, match=r"model\.layers\.0\.self_attn\.q_proj\.weight: the Hessian"):
        prune_layerwise(causal(), jd.NM(2, 4), "sparsegpt", inputs=samples())


# --- what is refused -------------------------------------------------------------------------------------------------


class Between(transformers.LlamaModel):
    """A model that does something to the hidden states between its blocks."""

    def forward(self, input_ids=None, **kwargs):
        hook = self.layers[0].register_forward_hook(lambda module, args, output: output * 2)
        try:
            return super().forward(input_ids=input_ids, **kwargs)
        finally:
            hook.remove()


def test_a_model_whose_blocks_do_not_follow_each_other_is_refused():
    model = causal()
    model.model.__class__ = Between
    before = weights(model)
    with pytest.raises(
        jd.UserError, match=r"cannot be replayed block by block \(hidden states differ before block 1\)"
    ):
        prune_layerwise(model, jd.NM(2, 4), inputs=samples())
    assert all(torch.equal(weight, before[name]) for name, weight in weights(model).items())


def test_a_layer_that_is_not_called_is_named():
    model = causal()
    model.model.layers[1].mlp.spare = nn.Linear(32, 32)
    with pytest.raises(jd.UserError, match=r"layers\.1\.mlp\.spare\.weight was not called"):
        prune_layerwise(model, jd.NM(2, 4), inputs=samples())


@pytest.mark.parametrize(
    ("reason", "pattern", "changes"),
    [
        ("method wnada: must be one of .* mean wanda", jd.NM(2, 4), {"method": "wnada"}),
        ("inputs: wanda needs calibration", jd.NM(2, 4), {"inputs": None}),
        (r"inputs torch.int32 .*: must be int64", jd.NM(2, 4), {"inputs": samples().int()}),
        (r"must be int64 of shape", jd.NM(2, 4), {"inputs": samples()[:0]}),
        ("outside the model's vocabulary of 97", jd.NM(2, 4), {"inputs": samples() + 90}),
        ("80 tokens a sample, the model 64 positions", jd.NM(2, 4), {"inputs": samples(2, 80)}),
        ("5 does not divide the 32 input columns of model.layers.0", jd.NM(2, 5), {}),
        ("sparsity 0.0001: removes no weight", jd.Unstructured(0.0001), {}),
        ("variant True: only wanda has a variant", jd.Unstructured(0.5),
         {"method": "magnitude", "variant": True}),
        ("variant True: needs Unstructured or PerMatrix, got N:M", jd.NM(2, 4), {"variant": True}),
        ("sparsegpt removes in blocks", jd.PerRow(0.5), {"method": "sparsegpt"}),
        ("batch_size 0", jd.NM(2, 4), {"batch_size": 0}),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_before_a_weight_changes(reason, pattern, changes):
    model = causal()
    before = weights(model)
    with pytest.raises(jd.UserError, match=reason):
        prune_layerwise(model, pattern, **{"inputs": samples(), **changes})
    assert all(torch.equal(weight, before[name]) for name, weight in weights(model).items())


def test_patterns_may_be_spelled_out():
    assert with_own_unit(jd.Unstructured("0.5"), "sparsegpt") == jd.PerBlock(0.5, 128)
    for method, pattern in (("magnitude", jd.PerRow(0.5)), ("wanda", jd.PerMatrix(0.5)), ("wanda", jd.PerBlock(0.5, 8)),
                            ("sparsegpt", jd.PerBlock(0.5, 16))):  # fmt: skip
        found = prune_layerwise(causal(), pattern, method, inputs=samples())
        assert found.census.removed == found.census.asked and found.census.pattern == str(pattern)


# --- packed masks ----------------------------------------------------------------------------------------------------


def test_packed_masks_are_masks(tmp_path):
    model = causal()
    found = prune_layerwise(model, jd.Unstructured(0.3), "magnitude")
    packed, plain = found.masks, dict(found.masks)
    assert isinstance(packed, Packed) and list(packed) == list(plain) and len(packed) == BLOCKS * 7
    assert all(mask.dtype == torch.bool for mask in packed.values())
    again = Packed()
    for name, mask in plain.items():
        again[name] = mask
    assert fingerprint(packed) == fingerprint(plain) == fingerprint(again) == found.census.mask_hash
    assert files.to_bytes(packed) == files.to_bytes(plain)
    jd.save_masks(tmp_path / "mask", packed)
    assert not any(jd.compare(jd.load_masks(tmp_path / "mask"), packed).values())
    held = sum(bits.numel() for bits, _ in packed._bits.values())
    assert held == sum(mask.numel() for mask in plain.values()) / 8
    jd.hold(model, packed, "sparse").verify()
    with pytest.raises(KeyError):
        packed["no such matrix"]
