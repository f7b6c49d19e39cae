"""What other people's training loops and models do with masks: held, or refused in one line that says why."""

import copy
import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
import transformers
from api_table import Net
from causal_models import causal
from test_callback import make_trainer
from torch import nn
from torch.nn.utils import parametrizations, prune

import junkdna as jd


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


def make_masks(net: nn.Module) -> dict:
    return jd.make_masks(jd.find_scope(net), jd.Unstructured(0.5))


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    net(torch.randn(8, 16)).square().mean().backward()
    optimizer.step()


# --- optimizers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sparse", "frozen"])
def test_two_optimizers_may_train_the_same_weights(kind):
    net = make_net()
    first = torch.optim.RMSprop(net.parameters(), lr=0.1)  # whose steps move held weights
    second = torch.optim.AdamW(net.parameters(), lr=0.01)
    held = jd.hold(net, make_masks(net), kind).attach(first, second)
    for optimizer in (first, second, first):
        step(net, optimizer)
        held.verify()


def test_what_attach_refuses_leaves_an_earlier_attachment_at_work():
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    held = jd.hold(net, make_masks(net), "sparse").attach(optimizer)
    with pytest.raises(jd.UserError, match=r"SGD: does not train 2\.weight"):
        held.attach(torch.optim.SGD([net[0].weight], lr=0.1))
    step(net, optimizer)
    held.verify()


@pytest.mark.parametrize("change", ["reversed", "one group"])
def test_groups_that_change_after_attaching_are_looked_up_again(change):
    net = make_net()
    groups = [
        {"params": [net[0].weight], "weight_decay": 0.0},
        {"params": [net[2].weight], "weight_decay": 0.5},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    held = jd.hold(net, make_masks(net), "frozen").attach(optimizer)
    if change == "reversed":
        optimizer.param_groups.reverse()
    else:
        optimizer.param_groups[1]["params"] += optimizer.param_groups.pop(0)["params"]
    step(net, optimizer)
    held.verify()


def test_a_capturable_step_with_a_rate_of_0_leaves_no_nan():
    net = make_net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, weight_decay=0.0, capturable=True, foreach=False)
    held = jd.hold(net, make_masks(net), "sparse").attach(optimizer)
    attachment = held._attachments[0]
    assert not attachment._left_alone(optimizer)  # so that weights are restored


def test_hooks_of_an_earlier_day_see_weights_that_are_restored():
    net = make_net()
    optimizer = torch.optim.RMSprop(net.parameters(), lr=0.1)
    masks, seen = make_masks(net), []
    optimizer.register_step_post_hook(lambda *_: seen.append(int(net[0].weight[~masks["0.weight"]].count_nonzero())))
    jd.hold(net, masks, "sparse").attach(optimizer)
    step(net, optimizer)
    assert seen == [0]


def test_an_average_of_the_weights_is_looked_into():
    net = make_net()
    masks = make_masks(net)
    jd.hold(net, masks, "sparse")
    assert jd.verify(torch.optim.swa_utils.AveragedModel(net), masks) == 320


def test_a_held_is_neither_copied_nor_pickled():
    held = jd.hold(net := make_net(), make_masks(net), "sparse")
    for copied in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="hold and attach in the copy"):
            copied(held)
    with pytest.raises(jd.UserError, match=r"not what Held\.state_dict returns"):
        held.load_state_dict({})


def test_frozen_values_come_back_in_a_new_process_that_draws_another_head(tmp_path):
    def start(seed: int, steps: int, resume: bool = False) -> tuple:
        torch.manual_seed(seed)
        net = Net()
        masks = jd.make_masks(jd.find_scope(net), jd.PerMatrix(0.5), jd.random(0))
        made = make_trainer(tmp_path, jd.HoldMasks(masks, "frozen"), net, max_steps=steps)
        first = {name: net.get_parameter(name).detach().clone() for name in masks}
        made.train(resume_from_checkpoint=resume)
        return masks, first, net

    masks, first, _ = start(1, 3)
    _, _, net = start(2, 6, resume=True)
    for name, mask in masks.items():
        assert torch.equal(net.get_parameter(name)[~mask], first[name][~mask])
        assert (net.get_parameter(name) != first[name])[mask].any()
    assert not list(tmp_path.rglob("*.partial"))


# --- models ----------------------------------------------------------------------------------------------------------


def test_a_weight_that_is_only_a_parametrization_s_input_is_left_out_unless_zeros_stay():
    net = make_net()
    parametrizations.orthogonal(net[0])
    scope = jd.find_scope(net)
    assert list(scope.matrices) == ["2.weight"]
    assert scope.left_out["0.parametrizations.weight.original"] == "the model computes with what Orthogonal makes of it"
    net = make_net()
    parametrizations.spectral_norm(net[0])
    masks = make_masks(net)
    jd.hold(net, masks, "sparse")
    removed = ~masks["0.parametrizations.weight.original"]
    assert removed.any() and not net[0].weight[removed].any()


def test_what_torch_has_pruned_already_is_refused():
    net = make_net()
    prune.random_unstructured(net[0], "weight", 0.5)
    with pytest.raises(jd.UserError, match=r"0 is pruned by torch\.nn\.utils\.prune already; call its prune\.remove"):
        jd.find_scope(net)
    assert list(jd.find_scope(net, exclude=["^0"]).matrices) == ["2.weight"]
    prune.remove(net[0], "weight")
    assert jd.find_scope(net).size == 640


@pytest.mark.parametrize("way", ["parametrized", "pruned"])
def test_a_language_model_whose_weights_are_made_of_others_is_refused(way):
    model = causal("llama")
    layer = model.model.layers[0].mlp.up_proj
    parametrizations.orthogonal(layer) if way == "parametrized" else prune.random_unstructured(layer, "weight", 0.5)
    with pytest.raises(jd.UserError, match=r"computes model\.layers\.0\.mlp\.up_proj\.weight out of other parameters"):
        jd.prune_layerwise(model, jd.Unstructured(0.5), "magnitude")


def test_compiled_blocks_have_bare_names():
    model = causal("llama")
    plain = jd.decoder_scope(model)
    for number, block in enumerate(model.model.layers):
        model.model.layers[number] = torch.compile(block)
    assert list(jd.decoder_scope(model).matrices) == list(plain.matrices)
    done = jd.prune_layerwise(model, jd.Unstructured(0.5), "magnitude")
    assert done.masks.keys() == plain.matrices.keys() and jd.verify(model, done.masks)


def test_a_convolution_called_conv1d_is_a_convolution():
    class Conv1D(nn.Conv1d):
        pass

    scope = jd.find_scope(nn.Sequential(Conv1D(8, 12, 1)))
    assert not scope.transposed
    mask = jd.make_masks(scope, jd.PerRow(0.5))["0.weight"]
    assert mask.sum(1).flatten().tolist() == [4] * 12
    assert jd.find_scope(nn.Sequential(transformers.pytorch_utils.Conv1D(8, 12))).transposed == {"0.weight"}


REFUSED_MODELS = {
    "no matrix of it is trained": lambda: jd.find_scope(make_net().requires_grad_(False)),
    "no matrix of it is trained ": lambda: jd.find_scope(make_net().requires_grad_(False), within="0"),
    "0.weight has no shape yet": lambda: jd.find_scope(nn.Sequential(nn.LazyLinear(3))),
    "model OrderedDict: must be a torch.nn.Module": lambda: jd.hold(make_net().state_dict(), {}, "sparse"),
    "the dictionary is empty": lambda: jd.hold(make_net(), {}, "sparse"),
    "the dictionary is empty ": lambda: jd.verify(make_net(), {}),
    "mask list: must be a dictionary": lambda: jd.hold(make_net(), [], "sparse"),
    "the mask of 0.weight is ndarray; it must be a torch.bool tensor": lambda: jd.hold(
        make_net(), {"0.weight": np.ones((32, 16), bool)}, "sparse"
    ),
    "max_norm, whose forward pass moves frozen weights": lambda: jd.hold(
        table := nn.Sequential(nn.Embedding(8, 4, max_norm=1)), make_masks(table), "frozen"
    ),
}


@pytest.mark.parametrize("reason", REFUSED_MODELS)
def test_a_model_or_masks_that_cannot_be_held_are_refused(reason):
    with pytest.raises(jd.UserError) as error:
        REFUSED_MODELS[reason]()
    assert reason.strip() in str(error.value) and "\n" not in str(error.value)


def test_infinite_weights_cannot_be_frozen():
    net = make_net()
    masks = make_masks(net)
    with torch.no_grad():
        net[0].weight[~masks["0.weight"]] = float("inf")
    with pytest.raises(jd.UserError, match=r"0\.weight holds NaN or infinite values, which cannot be frozen"):
        jd.hold(net, masks, "frozen")
    jd.hold(net, masks, "sparse").verify()


# --- masks, scores, patterns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_masks_of_another_dtype_are_refused_everywhere(dtype, tmp_path):
    net = make_net()
    scope, masks = jd.find_scope(net), make_masks(net)
    other = {name: mask.to(dtype) for name, mask in masks.items()}
    for use in (
        lambda: jd.census(scope, other),
        lambda: jd.compare(masks, other),
        lambda: jd.save_masks(tmp_path / "mask.safetensors", other),
    ):
        with pytest.raises(jd.UserError, match=f"the mask of 0.weight is {dtype}; it must be a torch.bool tensor"):
            use()
    assert not list(tmp_path.iterdir())


REFUSED_RANKINGS = {
    "gives (16, 32) scores for the (32, 16) weights of 0.weight": lambda scope: jd.make_masks(
        scope, jd.PerRow(0.5), lambda name, weight: weight.detach().abs().T
    ),
    "gives ndarray for 0.weight; give tensors": lambda scope: jd.make_masks(
        scope, jd.PerRow(0.5), lambda name, weight: weight.detach().abs().numpy()
    ),
    "gives NoneType for 0.weight; give tensors": lambda scope: jd.make_masks(
        scope, jd.PerRow(0.5), lambda name, weight: None
    ),
    "score random: must be a function": lambda scope: jd.make_masks(scope, jd.PerRow(0.5), "random"),
    "the weight c has rank 4": lambda scope: jd.make_masks({"c": torch.randn(8, 8, 3, 3)}, jd.NM(2, 4)),
    "the weight b has rank 1": lambda scope: jd.make_masks({"b": torch.randn(8)}, jd.Unstructured(0.5)),
    "the weight z is torch.complex64": lambda scope: jd.make_masks(
        {"z": torch.randn(8, 8, dtype=torch.complex64)}, jd.Unstructured(0.5)
    ),
    "weights Sequential: must be a scope": lambda scope: jd.make_masks(make_net(), jd.Unstructured(0.5)),
    "exclude 1: is not a valid regular expression": lambda scope: jd.find_scope(make_net(), exclude=[1]),
}


@pytest.mark.parametrize("reason", REFUSED_RANKINGS)
def test_what_cannot_be_ranked_is_refused(reason):
    with pytest.raises(jd.UserError) as error:
        REFUSED_RANKINGS[reason](jd.find_scope(make_net()))
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_calibration_samples_of_another_kind_are_named():
    model = causal("llama")
    for inputs in ([[1, 2]], {"input_ids": torch.ones(1, 2, dtype=torch.int64)}, np.ones((1, 2), np.int64)):
        with pytest.raises(jd.UserError, match=f"inputs {type(inputs).__name__}: must be one tensor"):
            jd.prune_layerwise(model, jd.Unstructured(0.5), "wanda", inputs=inputs)


def test_sparsities_that_arithmetic_has_made_are_rounded_and_typed_ones_are_not():
    assert [jd.Unstructured(s).sparsity for s in np.linspace(0.1, 0.9, 9)] == [Decimal(i) / 10 for i in range(1, 10)]
    assert jd.Unstructured(0.9 * (1 - (1 - 1 / 10) ** 3)).sparsity == Decimal("0.2439")
    assert jd.PerRow(1 - 0.9).sparsity == Decimal("0.1")
    assert jd.PerMatrix(Fraction(1, 3)).sparsity == jd.PerMatrix(1 / 3).sparsity == Decimal("0.333333333333")
    assert jd.Unstructured(np.float32(0.3)).sparsity == Decimal("0.3")
    for refused in ("0.30000000000000004", 0.9999999999999, Fraction(3, 3), float("nan")):
        with pytest.raises(jd.UserError):
            jd.Unstructured(refused)


def test_integers_of_numpy_are_integers():
    assert jd.NM(np.int64(2), np.int64(4)) == jd.NM(2, 4) and type(jd.NM(np.int64(2), np.int64(4)).keep) is int
    assert jd.PerBlock(0.5, columns=np.int64(8)) == jd.PerBlock(0.5, 8)
    for refused in (True, 2.0, "2"):
        with pytest.raises(jd.UserError):
            jd.NM(refused, 4)
