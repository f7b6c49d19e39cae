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
from causal_models import causal, samples
from test_callback import make_trainer
from torch import nn
from torch.nn.utils import parametrizations, prune

import junkdna as jd
from junkdna.sparsity import optimizers


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
    first = torch.optim.RMSprop(
        net.parameters(), lr=0.1, weight_decay=0.1
    )  # moves what is not 0, whatever its gradient
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


@pytest.mark.parametrize("capturable", [False, True])
def test_a_capturable_step_is_not_trusted(capturable):
    """With a rate of 0, as at the start of a warm-up, such a step computes 0 / 0; it needs a GPU or a compiler."""
    optimizer = torch.optim.AdamW(make_net().parameters(), lr=0.0, weight_decay=0.0, capturable=capturable)
    assert optimizers.leaves_alone(optimizer, optimizer.param_groups[0], zero=True) is not capturable


def test_hooks_of_an_earlier_day_see_weights_that_are_restored():
    net = make_net()
    optimizer = torch.optim.RMSprop(net.parameters(), lr=0.1, weight_decay=0.5)
    masks, seen = make_masks(net), []
    before = net[0].weight.detach().clone()
    optimizer.register_step_post_hook(lambda *_: seen.append(int((net[0].weight != before)[~masks["0.weight"]].sum())))
    jd.hold(net, masks, "frozen").attach(optimizer)
    step(net, optimizer)
    assert seen == [0]


@pytest.mark.parametrize("within", ["a pre-hook", "a closure"])
def test_a_state_that_is_loaded_in_the_middle_of_a_step_is_looked_at(within):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    held = jd.hold(net, make_masks(net), "sparse")
    step(net, optimizer)  # before it is attached: it remembers held weights
    state = optimizer.state_dict()
    held.after_step()
    held.attach(optimizer)

    def closure():
        if within == "a closure":
            optimizer.load_state_dict(state)
        loss = net(torch.randn(8, 16)).square().mean()
        loss.backward()
        return loss

    if within == "a pre-hook":
        optimizer.register_step_pre_hook(lambda *_: optimizer.load_state_dict(state))
    optimizer.step(closure)
    held.verify()


def test_what_attach_refuses_leaves_the_matrices_where_they_were():
    net = make_net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.5)
    held = jd.hold(net, make_masks(net), "frozen").attach(optimizer)
    own, net[0].weight = net[0].weight, nn.Parameter(net[0].weight.detach().clone())
    with pytest.raises(jd.UserError, match=r"does not train 0\.weight"):
        held.attach(optimizer)
    net[0].weight = own
    step(net, optimizer)
    held.verify()


def test_a_saved_state_that_lacks_a_matrix_changes_nothing():
    net = make_net()
    held = jd.hold(net, make_masks(net), "frozen")
    state = held.state_dict()
    values = {"0.weight": state["values"]["0.weight"] + 1}
    with pytest.raises(jd.UserError, match=r"does not hold the frozen values of 2\.weight"):
        held.load_state_dict(state | {"values": values})
    held.verify()


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
    def start(folder, seed: int, steps: int, resume: bool | str = False) -> tuple:
        torch.manual_seed(seed)
        net = Net()
        masks = jd.make_masks(jd.find_scope(net), jd.PerMatrix(0.5), jd.random(0))
        made = make_trainer(folder, jd.HoldMasks(masks, "frozen"), net, max_steps=steps)
        first = {name: net.get_parameter(name).detach().clone() for name in masks}
        made.train(resume_from_checkpoint=resume)
        return masks, first, net

    here, other = tmp_path / "here", tmp_path / "other"
    masks, first, _ = start(here, 1, 3)
    _, _, net = start(here, 2, 6, resume=True)
    for name, mask in masks.items():
        assert torch.equal(net.get_parameter(name)[~mask], first[name][~mask])
        assert (net.get_parameter(name) != first[name])[mask].any()
    assert not list(tmp_path.rglob("*.partial"))
    start(other, 3, 3)  # its own checkpoint of the same step is not that which is resumed from
    _, _, net = start(other, 1, 6, resume=str(here / "checkpoint-3"))
    assert all(torch.equal(net.get_parameter(name)[~mask], first[name][~mask]) for name, mask in masks.items())
    (saved,) = (here / "checkpoint-6").glob("held-*.pt")
    saved.write_bytes(saved.read_bytes()[:100])
    with pytest.raises(jd.UserError, match=r"resume_from_checkpoint .*held-.*: cannot be read"):
        start(here, 2, 9, resume=True)


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
    with pytest.raises(
        jd.UserError, match=r"0\.weight is pruned by torch\.nn\.utils\.prune already; call its prune\.remove"
    ):
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
    with pytest.raises(jd.UserError, match="its blocks are compiled one by one; use wanda before"):
        jd.prune_layerwise(model, jd.Unstructured(0.5), "wanda", inputs=samples())
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


def half_trained() -> nn.Sequential:
    net = make_net()
    net[0].requires_grad_(False)
    return net


def test_scores_may_have_the_shape_that_is_stored():
    scope = jd.find_scope(nn.Sequential(nn.Conv2d(8, 12, 1)))
    given = torch.rand(12, 8, 1, 1)
    mask = jd.make_masks(scope, jd.PerRow(0.5), lambda name, weight: given)["0.weight"]
    assert (given[mask].min() > 0) and mask.sum((1, 2, 3)).tolist() == [4] * 12


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
    "within zzz: matches no matrix": lambda scope: jd.find_scope(half_trained(), within="zzz"),
    "exclude ^2: no matrix is left": lambda scope: jd.find_scope(half_trained(), exclude=["^2"]),
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
    for refused in ("0.30000000000000004", 0.9999999999999, 1e-13, Fraction(1, 10**13), Fraction(3, 3), float("nan")):
        with pytest.raises(jd.UserError):
            jd.Unstructured(refused)


def test_integers_of_numpy_are_integers():
    assert jd.NM(np.int64(2), np.int64(4)) == jd.NM(2, 4) and type(jd.NM(np.int64(2), np.int64(4)).keep) is int
    assert jd.PerBlock(0.5, columns=np.int64(8)) == jd.PerBlock(0.5, 8)
    for refused in (True, 2.0, "2", torch.tensor(2.0), np.array([1, 2])):
        with pytest.raises(jd.UserError):
            jd.NM(refused, 4)
