"""Models and calls that are not as usual: wrapped, weight-normalised, empty, under autocast, with gradients of NaN."""

import copy

import pytest
import torch
from causal_models import causal, samples
from torch import nn

import junkdna as jd
from junkdna.errors import UserError


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


# --- gradients that are not finite -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", ["sparse", "frozen"])
def test_held_gradients_are_0_whatever_they_were(kind, bad):
    model = net()
    masks = jd.make_masks(jd.find_scope(model), jd.Unstructured(0.5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    held = jd.hold(model, masks, kind).attach(optimizer)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 16)).square().mean().backward()
        for name, mask in masks.items():  # as of sqrt(|w|) where w is 0
            model.get_parameter(name).grad[~mask] = bad
        held.before_step()
        assert all((model.get_parameter(name).grad[~mask] == 0).all() for name, mask in masks.items())
        optimizer.step()
    held.verify()
    for name, mask in masks.items():
        now = model.get_parameter(name)
        assert torch.equal(now[~mask], before[name][~mask]) and not torch.equal(now[mask], before[name][mask])


def test_held_gradients_of_rows_are_0_whatever_they_were():
    table = nn.Embedding(10, 4, sparse=True)
    masks = jd.make_masks(jd.find_scope(table), jd.Unstructured(0.5))
    held = jd.hold(table, masks, "sparse")
    table(torch.tensor([1, 3])).sum().backward()
    rows = table.weight.grad.coalesce()
    values = torch.where(masks["weight"][rows.indices()[0]], rows.values(), float("nan"))
    table.weight.grad = torch.sparse_coo_tensor(rows.indices(), values, rows.shape).coalesce()
    held.before_step()
    kept = masks["weight"][[1, 3]]
    assert torch.equal(table.weight.grad.coalesce().values(), kept.float())


# --- what a model's parameters are -----------------------------------------------------------------------------------


@pytest.mark.parametrize("normed", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_the_lengths_of_weight_norm_are_no_matrix(normed):
    model = nn.Sequential(normed(nn.Linear(16, 32)), nn.ReLU(), nn.Linear(32, 4))
    scope = jd.find_scope(model)
    assert [tuple(weight.shape) for weight in scope.matrices.values()] == [(32, 16), (4, 32)]
    (lengths,) = (name for name, weight in model.named_parameters() if weight.shape == (32, 1))
    assert scope.left_out[lengths] == "normalisation"
    for pattern in (jd.PerRow(0.5), jd.NM(2, 4)):
        masks, census = jd.choose_masks(scope, pattern)
        jd.hold(model, masks, "sparse")
        assert census.removed == (32 * 16 + 4 * 32) // 2 and model[0].weight.abs().sum() > 0


def wrapped(model):
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    inside = copy.deepcopy(model)
    inside[0] = checkpoint_wrapper(inside[0])
    part = copy.deepcopy(model)
    part[2] = torch.compile(part[2], backend="eager")
    return {
        "compiled": torch.compile(copy.deepcopy(model), backend="eager"),
        "parallel": nn.DataParallel(copy.deepcopy(model)),
        "activation checkpoints": inside,
        "compiled part": part,
    }


@pytest.mark.parametrize("way", ["compiled", "parallel", "activation checkpoints", "compiled part"])
def test_a_wrapped_model_has_the_names_of_what_is_inside(way):
    plain = net()
    scope = jd.find_scope(plain, exclude="^2")
    model = wrapped(plain)[way]
    found = jd.find_scope(model, exclude="^2")
    assert list(found.matrices) == list(scope.matrices) == ["0.weight"] and found.left_out == scope.left_out
    masks = jd.make_masks(found, jd.Unstructured(0.5))
    assert torch.equal(masks["0.weight"], jd.make_masks(scope, jd.Unstructured(0.5))["0.weight"])
    jd.hold(model, masks, "sparse")
    assert jd.verify(model, masks) == 256


def test_names_that_only_look_like_a_wrapper_s_are_left_as_they_are():
    model = nn.Module()
    model.my_orig_mod, model.inner = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    scope = jd.find_scope(model)
    assert list(scope.matrices) == ["my_orig_mod.weight", "inner.weight"]
    jd.hold(model, jd.make_masks(scope, jd.Unstructured(0.5)), "sparse")


def test_zeros_that_are_removed_have_no_sign():
    model = net()
    nn.init.zeros_(model[0].weight)
    _, census = jd.choose_masks(jd.find_scope(model, within="^0"), jd.Unstructured(0.5))
    assert f"{census.threshold:g}" == "0" and "removed 0" in str(census)


# --- layer by layer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_an_autocast_around_the_call_changes_nothing(method):
    model = causal("llama")
    with torch.autocast("cpu", torch.bfloat16):
        inside = jd.prune_layerwise(copy.deepcopy(model), jd.Unstructured(0.5), method, inputs=samples())
        assert torch.is_autocast_enabled("cpu")
    outside = jd.prune_layerwise(copy.deepcopy(model), jd.Unstructured(0.5), method, inputs=samples())
    assert inside.census.mask_hash == outside.census.mask_hash


def test_a_part_that_has_no_values_is_no_obstacle_beside_the_blocks():
    model, whole = causal("llama"), causal("llama")
    model.lm_head.to("meta")
    found = jd.prune_layerwise(model, jd.Unstructured(0.5), "wanda", inputs=samples())
    assert (
        found.census.mask_hash
        == jd.prune_layerwise(whole, jd.Unstructured(0.5), "wanda", inputs=samples()).census.mask_hash
    )


# --- calls that mean nothing -----------------------------------------------------------------------------------------


def said(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


def test_what_means_nothing_is_said_in_one_line(tmp_path):
    scope = jd.find_scope(net())
    assert said(lambda: jd.choose_masks(scope, 0.5)).startswith("pattern 0.5: must be one of Unstructured, PerMatrix")
    assert said(lambda: jd.make_masks(scope, "2:4")).startswith("pattern 2:4: must be one of")
    assert said(lambda: jd.prune_layerwise(causal("llama"), 0.5)).startswith("pattern 0.5: must be one of")
    assert said(lambda: jd.NM(2, 4.0)) == "nm 2:4.0: N and M must be integers"
    assert said(lambda: jd.NM("2", "4")) == "nm 2:4: N and M must be integers"
    assert said(lambda: jd.choose_masks(scope, jd.Unstructured(0.5), "random", seed=-1)).startswith(
        "seed -1: must be an integer"
    )
    empty = jd.find_scope(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 0)))
    refused = said(lambda: jd.choose_masks(empty, jd.PerMatrix(0.5)))
    assert refused == "model: the weight 1.weight is empty (0 x 4); exclude it"


def test_a_mask_file_without_masks_is_refused(tmp_path):
    jd.save_masks(tmp_path / "empty.st", {})
    scope = jd.find_scope(net())
    path = tmp_path / "empty.st"
    assert said(lambda: jd.choose_masks(scope, mask_file=path)) == f"mask {path}: holds no mask"
    assert said(lambda: jd.census(scope, {})) == "mask: holds no mask"
