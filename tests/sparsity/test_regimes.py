"""How masks are held: masking gradients and putting weights back give the same bits."""

import copy

import pytest
import torch
from torch import nn

from junkdna.errors import UserError
from junkdna.sparsity.hold import MaskBroken, hold
from junkdna.sparsity.kinds import KINDS
from junkdna.training.finetune import Recipe, make_optimizer


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 16), nn.Linear(16, 3)
        self.norm = nn.LayerNorm(16)

    def forward(self, x):
        return self.b(torch.tanh(self.norm(self.a(x))))


def setup(seed=0):
    torch.manual_seed(seed)
    net = Net()
    masks = {name: p.abs() > p.abs().median() for name, p in net.named_parameters() if p.dim() == 2}
    return net, {name: mask.detach() for name, mask in masks.items()}


def recipe(decay):
    return Recipe(batch_size=8, epochs=1, learning_rate=1e-2, weight_decay=decay, schedule="constant", seed=0)


def train(net, optimizer, before_step=lambda: None, after_step=lambda: None, steps=60, batches=2):
    """Train on noise, two batches accumulated a step."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for _ in range(batches):
            x, y = torch.randn(8, 12, generator=generator), torch.randint(0, 3, (8,), generator=generator)
            nn.functional.cross_entropy(net(x), y).backward()
        before_step()
        optimizer.step()
        optimizer.zero_grad()
        after_step()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["sparse", "frozen"])
def test_masking_gradients_gives_the_bits_of_putting_weights_back(kind, decay):
    net, masks = setup()
    plain = copy.deepcopy(net)
    held = hold(net, masks, kind)
    optimizer = make_optimizer(net, recipe(decay))
    held.attach(optimizer)
    train(net, optimizer)
    held.verify()

    parameters = dict(plain.named_parameters())
    start = {
        name: (p.detach() * masks[name] if kind == "sparse" else p.detach().clone())
        for name, p in parameters.items()
        if name in masks
    }

    @torch.no_grad()
    def put_back():
        for name, mask in masks.items():
            parameters[name].copy_(torch.where(mask, parameters[name], start[name]))

    put_back()
    train(plain, make_optimizer(plain, recipe(decay)), after_step=put_back)
    for name, p in net.named_parameters():
        assert torch.equal(p, parameters[name]), name


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["sparse", "frozen"])
def test_held_weights_do_not_move_and_their_state_stays_zero(kind, decay):
    net, masks = setup(1)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = make_optimizer(net, recipe(decay))
    hold(net, masks, kind).attach(optimizer)
    train(net, optimizer)
    for name, mask in masks.items():
        p = dict(net.named_parameters())[name]
        expected = torch.zeros(()) if kind == "sparse" else before[name][~mask]
        assert (p[~mask] == expected).all()
        assert (p[mask] != before[name][mask]).float().mean() > 0.99
        for key in ("exp_avg", "exp_avg_sq"):
            assert (optimizer.state[p][key][~mask] == 0).all() and (optimizer.state[p][key][mask] != 0).any()


def test_weight_decay_reaches_kept_matrices_only():
    net, masks = setup(2)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = make_optimizer(net, recipe(0.5))
    hold(net, masks, "frozen").attach(optimizer)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in net.named_parameters():
        shrunk = torch.where(masks[name], before[name] * (1 - 0.005), before[name]) if name in masks else before[name]
        assert torch.equal(p, shrunk), name


def test_sparse_to_dense_zeroes_once_and_lets_go():
    net, masks = setup(3)
    held = hold(net, masks, "free")
    assert all((net.get_parameter(name)[~mask] == 0).all() for name, mask in masks.items())
    optimizer = make_optimizer(net, recipe(0.0))
    held.attach(optimizer)
    train(net, optimizer)
    held.verify()
    assert all((net.get_parameter(name)[~mask] != 0).all() for name, mask in masks.items())


@pytest.mark.parametrize("kind", ["sparse", "frozen"])
@pytest.mark.parametrize("change", [1e-45, 1e-9])
def test_the_check_sees_the_smallest_change_of_one_weight(kind, change):
    net, masks = setup(4)
    holder = hold(net, masks, kind)
    holder.verify()
    name, mask = next(iter(masks.items()))
    where = tuple((~mask).nonzero()[7])
    with torch.no_grad():
        held = net.get_parameter(name)
        held[where] = torch.nextafter(held[where], torch.tensor(9.0)) if kind == "frozen" else change
    with pytest.raises(MaskBroken, match=f"1 .*{name}"):
        holder.verify()


@pytest.mark.parametrize("kind", ["sparse", "frozen"])
def test_a_gradient_that_is_not_finite_is_told_apart_from_a_mask_not_held(kind):
    net, masks = setup(5)
    held = hold(net, masks, kind)
    optimizer = make_optimizer(net, recipe(0.0))
    held.attach(optimizer)
    for p in net.parameters():
        p.grad = torch.full_like(p, float("inf"))
    optimizer.step()
    with pytest.raises(UserError, match="diverged"):
        held.verify()


def test_every_transfer_with_a_mask_has_a_kind():
    assert sorted(KINDS.values()) == ["dense transfer with freezing", "sparse transfer", "sparse-to-dense transfer"]
