"""Attention as plain products, which a CPU learns with in bf16, against torch's fused attention."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import DistilBertConfig, DistilBertForSequenceClassification
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from junkdna.training import plain_attention
from junkdna.training.finetune import FineTuning
from junkdna.training.plain_attention import attend
from junkdna.training.recipe import Recipe
from junkdna.training.step import Batches


def made(read: int, seen: int, dtype=torch.bfloat16) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(read * seen)
    sizes = [(3, 2, length, 8) for length in (read, seen, seen)]
    return [torch.randn(size, generator=draw).to(dtype).requires_grad_() for size in sizes]


def seen_by(kind: str, read: int, seen: int) -> torch.Tensor | None:
    """A mask: of padding, or of padding and of what is to the right; as numbers: the same to be added."""
    mask = torch.ones(3, 1, read, seen, dtype=torch.bool)
    mask[1, :, :, seen - 2 :] = False
    if kind == "causal":
        mask &= torch.ones(read, seen, dtype=torch.bool).tril()
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min) if kind == "numbers" else mask


CASES = [
    ("all", 5, 7, {"is_causal": False}),
    ("unmasked, causal", 6, 6, {"is_causal": True}),
    ("one token", 1, 6, {"is_causal": True}),
    ("padding", 5, 7, {}),
    ("causal", 6, 6, {}),
    ("numbers", 5, 7, {"scaling": 0.2}),
]


@pytest.mark.parametrize(("kind", "read", "seen", "kwargs"), CASES, ids=[case[0] for case in CASES])
def test_values_and_gradients_are_those_of_the_fused_kernel(kind, read, seen, kwargs):
    module = SimpleNamespace(is_causal=True, training=True)
    mask = seen_by(kind, read, seen) if kind in ("padding", "causal", "numbers") else None
    found = []
    for way, dtype in ((attend, torch.bfloat16), (sdpa_attention_forward, torch.float32)):
        inputs = made(read, seen, dtype)
        out, weights = way(module, *inputs, mask, **kwargs)
        assert out.shape == (3, read, 2, 8) and out.dtype == dtype and weights is None
        (out.float() * torch.arange(8)).sum().backward()
        found.append([out, *(x.grad for x in inputs)])
    for ours, theirs in zip(*found):
        scale = float(theirs.detach().abs().max())
        torch.testing.assert_close(ours.float(), theirs, rtol=0, atol=0.02 * scale)  # bf16 keeps 8 bits


def test_the_fused_kernel_stays_without_a_gradient_and_in_fp32(monkeypatch):
    module = SimpleNamespace(is_causal=False, training=True)
    monkeypatch.setattr(torch, "matmul", None)
    inputs = made(4, 4, torch.float32)
    assert torch.equal(attend(module, *inputs, None)[0], sdpa_attention_forward(module, *inputs, None)[0])
    with torch.no_grad():
        inputs = made(4, 4)
        assert torch.equal(attend(module, *inputs, None)[0], sdpa_attention_forward(module, *inputs, None)[0])
    with pytest.raises(TypeError):
        attend(module, *made(4, 4), None)


def test_dropout_falls_on_the_weights_in_training_alone():
    module = SimpleNamespace(is_causal=False, training=True)
    query, key, _ = made(4, 200)
    value = torch.ones(3, 2, 200, 8, dtype=torch.bfloat16)
    torch.manual_seed(0)
    dropped, _ = attend(module, query, key, value, None, dropout=0.5)
    assert dropped.float().std() > 0.05 and float(dropped.detach().float().mean()) == pytest.approx(1, abs=0.1)
    module.training = False
    torch.testing.assert_close(attend(module, query, key, value, None, dropout=0.5)[0].float(), torch.ones(3, 4, 2, 8))


class Two(Batches):
    lengths = np.array([4, 4])


@pytest.mark.parametrize(("precision", "before", "after"), [
    ("bf16", "sdpa", plain_attention.NAME),
    ("bf16", "eager", "eager"),
    ("no", "sdpa", "sdpa"),
])  # fmt: skip
def test_a_model_is_taught_where_a_cpu_learns_in_bf16(precision, before, after):
    AcceleratorState._reset_state()  # it refuses a second precision in one process
    config = DistilBertConfig(dim=8, n_heads=2, n_layers=1, hidden_dim=8, vocab_size=20, max_position_embeddings=8)
    model = DistilBertForSequenceClassification(config)
    model.set_attn_implementation(before)
    recipe = Recipe(batch_size=2, epochs=1, learning_rate=1e-3, weight_decay=0.0, schedule="linear", seed=7)
    batch = {"input_ids": torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]]), "attention_mask": torch.ones(2, 4).long()}
    model.eval()
    with torch.no_grad():
        first = model(**batch).logits
    FineTuning(model, Two(), recipe, Accelerator(cpu=True, mixed_precision=precision))
    assert model.config._attn_implementation == after
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, first)  # what is asked of it without a gradient keeps its bits
