"""What Held does beyond the table: when it writes and when it need not, what it saves, and what it refuses."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

import junkdna as jd
from junkdna.sparsity.matrix import HeldMatrix

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def make_net(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 4)).to(dtype)


def make_masks(net, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(p.shape, generator=generator) < 0.5 for n, p in net.named_parameters() if p.dim() == 2}


def train(net, optimizer, steps=5, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(8, 10, generator=generator).to(net[0].weight.dtype)
        optimizer.zero_grad()
        (net(x).float().square().mean() * scale).backward()
        optimizer.step()


def bits(tensor):
    return tensor.detach().view({8: torch.int64, 4: torch.int32, 2: torch.int16}[tensor.element_size()])


@pytest.fixture
def restores(monkeypatch):
    """Counts how often weights are written after a step."""
    calls, restore = [], HeldMatrix.restore
    monkeypatch.setattr(HeldMatrix, "restore", lambda self: calls.append(self.name) or restore(self))
    return calls


# --- when it writes --------------------------------------------------------------------------------------------------

NOT_NEEDED = {
    "SGD": (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True), "both"),
    "SGD, decay": (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1), "sparse"),
    "SGD, maximize": (lambda p: torch.optim.SGD(p, 0.1, maximize=True), "both"),
    "Adam": (lambda p: torch.optim.Adam(p, 0.01), "both"),
    "Adam, decay": (lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1), "sparse"),
    "Adam, amsgrad": (lambda p: torch.optim.Adam(p, 0.01, amsgrad=True), "both"),
    "AdamW, decay 0": (lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.0), "both"),
    "AdamW, fused": (lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.0, fused=True), "both"),
    "AdamW, foreach": (lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.0, foreach=True), "both"),
    "AdamW, fused, decay": (lambda p: torch.optim.AdamW(p, 0.01, fused=True), "sparse"),
    "AdamW, decay beyond 1": (lambda p: torch.optim.AdamW(p, 0.5, weight_decay=3.0), "neither"),
    "AdamW, rate a tensor": (lambda p: torch.optim.AdamW(p, torch.tensor(0.01), weight_decay=0.0), "neither"),
    "RMSprop": (lambda p: torch.optim.RMSprop(p, 0.01), "neither"),
    "NAdam": (lambda p: torch.optim.NAdam(p, 0.01), "neither"),
}


@pytest.mark.parametrize("kind", ["sparse", "frozen"])
@pytest.mark.parametrize("name", NOT_NEEDED)
def test_weights_are_written_only_where_a_step_could_move_them(name, kind, restores):
    make, when = NOT_NEEDED[name]
    net = make_net()
    masks = make_masks(net)
    start = {n: net.get_parameter(n).detach().clone() for n in masks}
    optimizer = make(net.parameters())
    held = jd.hold(net, masks, kind).attach(optimizer)
    train(net, optimizer, 20, 1e-3)
    assert len(restores) == (0 if when in ("both", kind) else 20 * 2)
    held.verify()
    for n, mask in masks.items():
        expected = start[n] if kind == "frozen" else torch.zeros_like(start[n])
        assert torch.equal(bits(net.get_parameter(n))[~mask], bits(expected)[~mask])
        assert (net.get_parameter(n) != start[n])[mask].any()


@pytest.mark.parametrize("kind", ["sparse", "frozen"])
def test_what_becomes_nan_without_an_eps_is_restored(kind, restores):
    net = make_net()
    optimizer = torch.optim.Adam(net.parameters(), 0.01, eps=0.0)
    held = jd.hold(net, make_masks(net), kind).attach(optimizer)
    train(net, optimizer, 5)
    assert len(restores) == 5 * 2
    assert all(matrix.parameter[~matrix.kept].isfinite().all() for matrix in held.matrices)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["sparse", "frozen"])
def test_half_precision_in_which_eps_is_zero_is_restored(kind, dtype, restores):
    net = make_net(dtype)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)  # eps 1e-8 is 0 in fp16: 0 / 0 for every held weight
    held = jd.hold(net, make_masks(net), kind).attach(optimizer)
    train(net, optimizer, 1, 1e4)
    assert len(restores) == (2 if dtype == torch.float16 else 0)
    if dtype != torch.float16:
        held.verify()
    for matrix in held.matrices:
        assert matrix.parameter[~matrix.kept].isfinite().all()


@pytest.mark.parametrize("kind", ["sparse", "frozen"])
def test_momentum_from_before_the_mask_is_noticed(kind, restores):
    net = make_net()
    optimizer = torch.optim.AdamW(net.parameters(), 0.01, weight_decay=0.0)
    train(net, optimizer)  # dense: every weight has moments now
    held = jd.hold(net, make_masks(net), kind).attach(optimizer)
    train(net, optimizer)
    held.verify()
    assert len(restores) == 5 * 2


def test_momentum_that_is_loaded_later_is_noticed(restores):
    net = make_net()
    dense = torch.optim.AdamW(net.parameters(), 0.01, weight_decay=0.0)
    train(net, dense)
    optimizer = torch.optim.AdamW(net.parameters(), 0.01, weight_decay=0.0)
    held = jd.hold(net, make_masks(net), "sparse").attach(optimizer)
    train(net, optimizer)
    assert not restores
    optimizer.load_state_dict(dense.state_dict())
    train(net, optimizer)
    held.verify()
    assert len(restores) == 5 * 2


@pytest.mark.parametrize("value", [-0.0, 1e-45, -1e-40])
def test_frozen_values_that_adding_zero_may_change_are_restored(value, restores):
    net = make_net()
    masks = make_masks(net)
    with torch.no_grad():
        net[0].weight[~masks["0.weight"]] = value
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    held = jd.hold(net, masks, "frozen").attach(optimizer)
    train(net, optimizer)
    held.verify()
    assert set(restores) == {"0.weight"}
    assert torch.equal(
        bits(net[0].weight[~masks["0.weight"]]), bits(torch.full((int((~masks["0.weight"]).sum()),), value))
    )


def test_zeroed_weights_are_positive_zero_and_kept_ones_untouched():
    for dtype in DTYPES:
        net = make_net(dtype)
        masks = make_masks(net)
        before = {n: net.get_parameter(n).detach().clone() for n in masks}
        jd.hold(net, masks, "sparse")
        for n, mask in masks.items():
            assert (bits(net.get_parameter(n))[~mask] == 0).all()
            assert torch.equal(bits(net.get_parameter(n))[mask], bits(before[n])[mask])


@pytest.mark.parametrize("kind", ["sparse", "frozen"])
def test_only_the_frozen_values_are_kept(kind):
    net = make_net()
    masks = make_masks(net)
    held = jd.hold(net, masks, kind)
    sizes = {m.name: None if m.values is None else m.values.numel() for m in held.matrices}
    assert sizes == {n: int((~mask).sum()) if kind == "frozen" else None for n, mask in masks.items()}
    assert all(matrix.kept.data_ptr() == matrix.mask.data_ptr() for matrix in held.matrices)  # on a CPU: one copy


# --- steps of other shapes -------------------------------------------------------------------------------------------


def test_a_closure_sees_masked_gradients_every_time():
    net = make_net()
    masks = make_masks(net)
    optimizer = torch.optim.LBFGS(net.parameters(), 0.1, max_iter=4)
    held = jd.hold(net, masks, "sparse").attach(optimizer)
    x, weights = torch.randn(8, 10), []

    def closure():
        weights.append([net.get_parameter(n)[~mask].abs().max().item() for n, mask in masks.items()])
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(5)]
    assert len(weights) > 10 and not any(map(any, weights))  # in the middle of a step too
    assert losses[-1] < losses[0]
    assert all((net.get_parameter(n).grad[~mask] == 0).all() for n, mask in masks.items())
    held.verify()


@pytest.mark.parametrize("how", ["given by place", "given by name"])
def test_a_closure_of_an_elementwise_optimizer(how):
    net = make_net()
    optimizer = torch.optim.AdamW(net.parameters(), 0.01, weight_decay=0.0)
    held = jd.hold(net, make_masks(net), "frozen").attach(optimizer)

    def closure():
        optimizer.zero_grad()
        loss = net(torch.ones(2, 10)).square().mean()
        loss.backward()
        return loss

    for _ in range(3):
        assert math.isfinite(optimizer.step(closure) if how == "given by place" else optimizer.step(closure=closure))
    held.verify()


@pytest.mark.parametrize("kind", ["sparse", "frozen"])
@pytest.mark.parametrize("make", [torch.optim.SparseAdam, torch.optim.SGD, torch.optim.Adagrad])
def test_sparse_gradients_of_embeddings(make, kind):
    torch.manual_seed(0)
    table = nn.Embedding(20, 6, sparse=True)
    masks = {"weight": torch.rand(20, 6) < 0.5}
    start = table.weight.detach().clone()
    optimizer = make(table.parameters(), lr=0.1)
    held = jd.hold(table, masks, kind).attach(optimizer)
    for step in range(4):
        optimizer.zero_grad()
        table(torch.tensor([1, 1, step, 7])).square().sum().backward()
        assert table.weight.grad.is_sparse
        optimizer.step()
    held.verify()
    assert (table.weight != start)[masks["weight"]][:6].any()


def test_gradients_can_be_masked_before_they_are_clipped():
    norms = []
    for early in (False, True):
        net = make_net()
        masks = make_masks(net)
        held = jd.hold(net, masks, "sparse").attach(torch.optim.SGD(net.parameters(), 0.1))
        net(torch.ones(4, 10)).square().mean().backward()
        if early:
            held.before_step()
        norms.append(float(nn.utils.clip_grad_norm_(net.parameters(), 1.0)))
    assert norms[1] < norms[0]


def test_after_step_by_hand():
    net = make_net()
    held = jd.hold(net, make_masks(net), "frozen")
    with torch.no_grad():
        net[0].weight += 1
    with pytest.raises(jd.MaskBroken):
        held.verify()
    held.after_step()
    held.verify()


def test_detached_weights_are_free():
    net = make_net()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    held = jd.hold(net, make_masks(net), "sparse").attach(optimizer)
    train(net, optimizer)
    held.detach()
    train(net, optimizer)
    with pytest.raises(jd.MaskBroken, match=r"removed weights of 0\.weight are not 0"):
        held.verify()


def test_attaching_again_ends_the_first_attachment():
    net = make_net()
    first, second = (torch.optim.SGD(net.parameters(), 0.1) for _ in range(2))
    held = jd.hold(net, make_masks(net), "sparse").attach(first).attach(second)
    assert not first._optimizer_step_pre_hooks and len(second._optimizer_step_pre_hooks) == 1
    train(net, second)
    held.verify()


# --- a model that changes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sparse", "frozen"])
@pytest.mark.parametrize("after", [False, True], ids=["before attach", "after attach"])
def test_a_cast_model_is_followed(kind, after):
    net = make_net()
    held = jd.hold(net, make_masks(net), kind)
    start = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, weight_decay=0.1)
    if after:
        held.attach(optimizer)
    net.to(torch.bfloat16)
    if not after:
        held.attach(optimizer)
    train(net, optimizer)
    held.verify()
    for matrix in held.matrices:
        expected = start.to(torch.bfloat16).get_parameter(matrix.name)[~matrix.kept]
        assert torch.equal(bits(matrix.parameter[~matrix.kept]), bits(expected))


def test_wrappers_keep_their_names_to_themselves():
    net = make_net()
    masks = make_masks(net)
    parallel = nn.DataParallel(net)
    compiled = torch.compile(net)
    for wrapped in (parallel, compiled, torch.compile(parallel)):
        assert set(jd.hold(wrapped, masks, "sparse").parameters) == set(masks)
    assert jd.verify(compiled, masks) == sum(int((~mask).sum()) for mask in masks.values())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(12, 8), nn.Linear(8, 12, bias=False)
        self.head.weight = self.table.weight


def test_a_tied_parameter_counts_once_under_any_name():
    model, mask = Tied(), torch.rand(12, 8) < 0.5
    for masks in ({"table.weight": mask}, {"head.weight": mask}, {"table.weight": mask, "head.weight": mask.clone()}):
        held = jd.hold(model, masks, "sparse")
        held.attach(torch.optim.SGD(model.parameters(), 0.1)).verify()
        assert len(held.masks) == 1 and jd.verify(model, masks) == int((~mask).sum())
    with pytest.raises(jd.UserError, match="one tied parameter, but their masks differ"):
        jd.hold(model, {"table.weight": mask, "head.weight": ~mask}, "sparse")


# --- saved and loaded ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sparse", "frozen", "free"])
def test_what_is_saved_and_loaded_goes_on_with_the_same_bits(kind, tmp_path):
    def build():
        net = make_net()
        held = jd.hold(net, make_masks(net), kind)
        return net, held, torch.optim.AdamW(net.parameters(), 0.01, weight_decay=0.1)

    net, held, optimizer = build()
    held.attach(optimizer)
    train(net, optimizer)
    torch.save([net.state_dict(), optimizer.state_dict(), held.state_dict()], tmp_path / "state.pt")
    train(net, optimizer)

    again, held, optimizer = build()
    for part, state in zip((again, optimizer, held), torch.load(tmp_path / "state.pt", weights_only=True)):
        part.load_state_dict(state)
    held.attach(optimizer)
    train(again, optimizer)
    held.verify()
    assert all(torch.equal(bits(a), bits(b)) for a, b in zip(net.parameters(), again.parameters()))


def test_a_state_of_something_else_is_refused():
    net = make_net()
    masks = make_masks(net)
    held = jd.hold(net, masks, "frozen")
    state = held.state_dict()
    with pytest.raises(jd.UserError, match="kind sparse: the saved state is of the kind frozen"):
        jd.hold(make_net(), masks, "sparse").load_state_dict(state)
    with pytest.raises(jd.UserError, match="mask: the saved state is of other masks"):
        jd.hold(make_net(), make_masks(net, seed=2), "frozen").load_state_dict(state)
    with pytest.raises(jd.UserError, match=r"does not hold the frozen values of 0\.weight"):
        held.load_state_dict(state | {"values": {}})
    held.verify()


def test_weights_of_another_model_do_not_pass():
    net = make_net()
    held = jd.hold(net, make_masks(net), "frozen")
    with torch.no_grad():
        net[2].weight.mul_(2)
    with pytest.raises(jd.MaskBroken, match=r"frozen weights of 2\.weight"):
        held.attach(torch.optim.SGD(net.parameters(), 0.1))


# --- what is refused -------------------------------------------------------------------------------------------------


def attach_to(*made):
    return lambda net, masks: jd.hold(net, masks, "sparse").attach(*(make(net) for make in made))


def without(net, masks):
    net[0].weight.requires_grad = False
    jd.hold(net, masks, "sparse").attach(torch.optim.SGD(net.parameters(), 0.1))


REFUSED = {
    "kind sprase: must be one of sparse, frozen, free (did you mean sparse?)": lambda net, m: jd.hold(net, m, "sprase"),
    "mask: is for 0.wieght, which the model does not have (did you mean 0.weight?)": (
        lambda net, m: jd.hold(net, {"0.wieght": m["0.weight"]}, "sparse")
    ),
    "mask: the mask of 0.weight is (10, 16), the parameter is (16, 10)": (
        lambda net, m: jd.hold(net, {"0.weight": m["0.weight"].T}, "sparse")
    ),
    "mask: the mask of 0.weight is torch.float32; it must be a torch.bool tensor, True where kept": (
        lambda net, m: jd.hold(net, {"0.weight": m["0.weight"].float()}, "sparse")
    ),
    "model: 0.weight has no values yet (meta device); load them first": (
        lambda net, m: jd.hold(net.to("meta"), m, "sparse")
    ),
    "optimizer AdamW: does not train 0.weight; attach all optimizers at once": (
        attach_to(lambda net: torch.optim.AdamW(net[2].parameters()))
    ),
    "optimizer: give at least one": attach_to(),
    "optimizer Linear: is not a torch.optim.Optimizer": attach_to(lambda net: net[0]),
    "optimizer NoneType: is not a torch.optim.Optimizer": attach_to(lambda net: None),
    "model: 0.weight is not trained (requires_grad is False)": without,
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_work_is_refused_with_the_reason(reason):
    net = make_net()
    with pytest.raises(jd.UserError) as error:
        REFUSED[reason](net, make_masks(net))
    assert str(error.value).startswith(reason) and "--" not in str(error.value)


def test_zero_3_is_refused():
    net = make_net()
    net[0].weight.ds_id = 0
    with pytest.raises(jd.UserError, match="DeepSpeed's ZeRO 3 has divided its parameters"):
        jd.hold(net, make_masks(make_net()), "sparse")


def test_an_optimizer_of_flattened_copies_is_refused():
    net = make_net()
    flat = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in net.parameters()]))  # as ZeRO 1 and 2 do

    class Wrapper:
        optimizer = torch.optim.SGD([flat], 0.1)

    with pytest.raises(jd.UserError, match="DeepSpeed and FSDP1 hold flattened copies, which is not supported"):
        jd.hold(net, make_masks(net), "sparse").attach(Wrapper())


def test_verify_counts_or_raises():
    net = make_net()
    masks = make_masks(net)
    with pytest.raises(jd.MaskBroken, match=r"removed weights of 0\.weight are not 0"):
        jd.verify(net, masks)
    jd.hold(net, masks, "free")
    assert jd.verify(net, masks) == sum(int((~mask).sum()) for mask in masks.values())


@pytest.mark.parametrize("kind", ["sparse", "frozen"])
def test_training_that_diverged_is_told_apart(kind):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), 1e30, weight_decay=0.1)
    held = jd.hold(net, make_masks(net), kind).attach(optimizer)
    train(net, optimizer, 8)
    with pytest.raises(jd.UserError, match=r"^learning_rate: training diverged, 0\.weight holds NaN or infinite"):
        held.verify()


def test_the_learning_rates_of_a_schedule_are_read_anew(restores):
    net = make_net()
    optimizer = torch.optim.AdamW(net.parameters(), 0.01, weight_decay=50.0)
    held = jd.hold(net, make_masks(net), "sparse").attach(optimizer)
    counts = [0]
    for rate in (0.01, 0.1, 0.01):
        optimizer.param_groups[0]["lr"] = rate
        train(net, optimizer, 2)
        counts.append(len(restores))
    held.verify()
    assert [b - a for a, b in pairwise(counts)] == [0, 4, 0]


class Noisy(torch.optim.AdamW):
    """An optimizer of one's own: it moves every weight, whatever its gradient."""

    def step(self, closure=None):
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(0.01)
        return loss


@pytest.mark.parametrize("kind", ["sparse", "frozen"])
def test_a_subclass_of_an_elementwise_optimizer_is_not_trusted(kind):
    net = make_net()
    optimizer = Noisy(net.parameters(), 0.01, weight_decay=0.0)
    held = jd.hold(net, make_masks(net), kind).attach(optimizer)
    train(net, optimizer)
    held.verify()


def test_the_sign_of_a_frozen_zero_is_seen():
    net = make_net()
    masks = make_masks(net)
    with torch.no_grad():
        net[0].weight[~masks["0.weight"]] = 0.0
        held = jd.hold(net, masks, "frozen")
        net[0].weight[~masks["0.weight"]] = -0.0
    with pytest.raises(jd.MaskBroken, match=r"frozen weights of 0\.weight"):
        held.verify()


# --- more than one mask, and other weights for a while ---------------------------------------------------------------


def test_weights_swapped_for_an_evaluation_do_not_take_the_masks_along():
    net = make_net()
    optimizer = torch.optim.AdamW(net.parameters(), 0.01)
    held = jd.hold(net, make_masks(net), "sparse").attach(optimizer)
    train(net, optimizer)
    own = net[0].weight
    net[0].weight = nn.Parameter(own.detach() / 2)  # an average of the weights, say
    held.verify()
    with torch.no_grad():
        net[0].weight += 1
    with pytest.raises(jd.MaskBroken, match=r"removed weights of 0\.weight are not 0"):
        held.verify()  # what the model computes with
    net[0].weight = own
    train(net, optimizer)
    held.verify()


@pytest.mark.parametrize("first", ["sparse", "frozen"])
def test_masks_attached_later_take_the_place_of_earlier_ones(first):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    earlier = jd.hold(net, make_masks(net), first).attach(optimizer)
    train(net, optimizer)
    masks = make_masks(net, seed=1)
    held = jd.hold(net, masks, "sparse").attach(optimizer)
    train(net, optimizer)
    held.verify()
    for act in (earlier.before_step, earlier.after_step, earlier.verify):  # it has nothing left to answer for
        act()
    held.verify()
    assert net[0].weight[masks["0.weight"] & ~make_masks(net)["0.weight"]].any()
    with pytest.raises(jd.MaskBroken):
        earlier.attach(optimizer)
    held.attach(optimizer)
    regrown = masks["0.weight"] & ~make_masks(net)["0.weight"]
    assert net[0].weight[regrown].count_nonzero() > 0.9 * regrown.sum()  # a unit may have lost all that it led to
    jd.hold(net, masks, "free").attach(optimizer)
    train(net, optimizer)
    assert net[0].weight.count_nonzero() > 0.9 * net[0].weight.numel()


def test_masks_of_other_matrices_stay_beside_each_other():
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    masks = make_masks(net)
    both = [jd.hold(net, {name: mask}, "sparse").attach(optimizer) for name, mask in masks.items()]
    again = jd.hold(net, {"2.weight": masks["2.weight"]}, "sparse").attach(optimizer)
    both[1].detach()
    train(net, optimizer)
    for held in (both[0], again):
        held.verify()


def test_a_mask_that_is_edited_later_changes_nothing_that_is_held():
    net, masks = make_net(), make_masks(make_net())
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    held = jd.hold(net, masks, "sparse").attach(optimizer)
    given = {name: mask.clone() for name, mask in masks.items()}
    masks["0.weight"].fill_(True)
    train(net, optimizer)
    held.verify()
    assert jd.verify(net, given) == sum(int((~mask).sum()) for mask in given.values())


def test_frozen_values_that_a_cast_makes_subnormal_are_restored():
    net = make_net()
    with torch.no_grad():
        net[0].weight.mul_(1e-7)
    held = jd.hold(net, make_masks(net), "frozen")
    net.half()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, maximize=True)
    held.attach(optimizer)
    train(net, optimizer)
    held.verify()
