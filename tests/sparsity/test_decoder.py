"""Which models fit, and what is in scope of each."""

import copy

import pytest
import torch
import transformers
from causal_models import BLOCKS, CONFIGS, causal
from torch import nn

import junkdna as jd
from junkdna.sparsity.decoder import MODEL_TYPES

PREFIXES = {"opt": "model.decoder.layers", "gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}
LINEARS = {"opt": 6, "gpt2": 4, "gpt_neox": 4}


def test_every_known_type_is_tested():
    assert set(CONFIGS) == set(MODEL_TYPES) and len(CONFIGS) == 7


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_scope_is_every_linear_layer_of_the_blocks_and_nothing_else(kind):
    model = causal(kind)
    decoder, scope = jd.find_decoder(model), jd.decoder_scope(model)
    prefix = PREFIXES.get(kind, "model.layers")
    assert decoder.prefix == prefix and len(decoder.blocks) == BLOCKS and decoder.base is model.base_model
    inside = {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if name.startswith(f"{prefix}.") and isinstance(module, (nn.Linear, transformers.pytorch_utils.Conv1D))
    }
    assert list(scope.matrices) == list(inside) and len(inside) == BLOCKS * LINEARS.get(kind, 7)
    assert all(scope.matrices[name] is module.weight for name, module in inside.items())
    assert scope.transposed == (frozenset(inside) if kind == "gpt2" else frozenset())
    others = {name for name, _ in model.named_parameters()} - set(inside)
    assert scope.left_out.keys() == others
    kinds = set(scope.left_out.values())
    assert "embedding" in kinds and kinds <= {"embedding", "bias", "normalisation", "outside the decoder blocks"} | {
        "rank 1, not a matrix"
    }
    assert sum(map(len, map(decoder.linears, range(BLOCKS)))) == len(inside)


def test_weights_that_are_not_trained_are_in_scope():
    model = causal().requires_grad_(False)
    assert len(jd.decoder_scope(model).matrices) == BLOCKS * 7


def test_the_head_and_opts_projections_stay():
    assert jd.decoder_scope(causal()).left_out["lm_head.weight"] == "outside the decoder blocks"
    left_out = jd.decoder_scope(causal("opt")).left_out
    assert left_out["model.decoder.project_in.weight"] == "outside the decoder blocks"


def test_exclude_takes_expressions():
    scope = jd.decoder_scope(causal(), exclude=["down_proj", r"layers\.0\.self"])
    assert len(scope.matrices) == BLOCKS * 6 - 4
    assert scope.left_out["model.layers.0.self_attn.q_proj.weight"] == r"excluded by layers\.0\.self"
    assert len(jd.decoder_scope(causal(), exclude="down_proj").matrices) == BLOCKS * 6
    for wrong, reason in (("lm_head", "matches no matrix"), ("(", "not a valid"), ("layers", "no matrix is left")):
        with pytest.raises(jd.UserError, match=reason):
            jd.decoder_scope(causal(), exclude=[wrong])


def test_a_compiled_model_is_its_model():
    model = causal()
    assert jd.find_decoder(torch.compile(model)).blocks == jd.find_decoder(model).blocks


def test_a_model_without_a_library_around_it():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

    model = nn.ModuleDict({"blocks": nn.ModuleList([Block(), Block()])})
    assert list(jd.decoder_scope(model).matrices) == ["blocks.0.inner.weight", "blocks.1.inner.weight"]


def misfits():
    two = nn.ModuleList([nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4))])
    shared = nn.ModuleList([nn.Sequential(layer := nn.Linear(4, 4)), nn.Sequential(layer)])
    experts = nn.ModuleList([nn.Sequential(nn.Linear(4, 4)) for _ in range(2)])
    experts[1].stacked = nn.Parameter(torch.randn(3, 4, 4))
    packed = copy.deepcopy(nn.ModuleList([nn.Sequential(nn.Linear(4, 4))]))
    packed[0][0].weight = nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    config = transformers.T5Config(
        vocab_size=20, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    bart = transformers.BartConfig(vocab_size=20, d_model=16, decoder_layers=1, decoder_attention_heads=2)
    return {
        "attention to an encoder's states": transformers.BartForCausalLM(bart),
        "no lists of blocks": nn.Sequential(nn.Linear(4, 4)),
        "2 lists of blocks": transformers.T5ForConditionalGeneration(config),
        "several classes": nn.ModuleDict({"a": two}),
        "shares weights": nn.ModuleDict({"a": shared}),
        "mixture of experts": nn.ModuleDict({"a": experts}),
        "as if quantised": nn.ModuleDict({"a": packed}),
    }


@pytest.mark.parametrize("reason", misfits())
def test_what_does_not_fit_is_told_what_would(reason):
    with pytest.raises(jd.UserError, match=f"{reason}.*a model fits if.*llama, mistral"):
        jd.decoder_scope(misfits()[reason])
