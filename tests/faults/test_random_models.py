"""Random models and patterns: exact counts, order, nesting, N:M groups; held weights under random optimizers."""

import itertools
import random
from fractions import Fraction

import pytest
import torch
from torch import nn

from junkdna.errors import UserError
from junkdna.sparsity.census import choose_masks
from junkdna.sparsity.hold import hold
from junkdna.sparsity.masks import make_masks
from junkdna.sparsity.patterns import NM, PerMatrix, PerRow, Unstructured, removed_count
from junkdna.sparsity.scope import find_scope
from junkdna.sparsity.scores import SCORES, named

SHORT, LONG = 50, 500
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
FRACTIONS = {"unstructured": Unstructured, "per_matrix": PerMatrix, "per_row": PerRow}
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, weight_decay=0.1),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, amsgrad=True),
    "adamax": lambda parameters: torch.optim.Adamax(parameters, lr=0.01),
    "nadam": lambda parameters: torch.optim.NAdam(parameters, lr=0.01),
    "radam": lambda parameters: torch.optim.RAdam(parameters, lr=0.01),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.1),
    "adadelta": lambda parameters: torch.optim.Adadelta(parameters, lr=1.0),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, momentum=0.5, centered=True),
    "rprop": lambda parameters: torch.optim.Rprop(parameters, lr=0.01),
    "asgd": lambda parameters: torch.optim.ASGD(parameters, lr=0.1),
}


class Tiny(nn.Module):
    """A chain of linear layers of random widths, with biases and norms that are never pruned."""

    def __init__(self, widths: list[int], embedding: bool):
        super().__init__()
        self.embed = nn.Embedding(7, widths[0]) if embedding else None
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(b) for b in widths[1:])

    def forward(self, x):
        if self.embed is not None:
            x = x + self.embed(torch.arange(x.shape[0]) % 7).to(x.dtype)
        for layer, norm in zip(self.layers, self.norms):
            x = torch.tanh(norm(layer(x)))
        return x


def make_model(draw: random.Random, of: int) -> nn.Module:
    """A model whose widths an N:M group divides, with weights of a random kind: plain, tied, few values, zeros."""
    widths = [of * draw.randint(1, max(1, 24 // of)) for _ in range(draw.randint(2, 4))]
    model = Tiny(widths, draw.random() < 0.4).to(draw.choice(DTYPES))
    kind = draw.choice(["plain", "plain", "few", "equal", "zeros", "scales"])
    with torch.no_grad():
        for parameter in model.parameters():
            if kind == "few":
                parameter.copy_((parameter * 8).round() / 8)
            elif kind == "equal":
                parameter.fill_(0.5)
            elif kind == "zeros":
                parameter.mul_(torch.rand(parameter.shape) < 0.5)
            elif kind == "scales":
                parameter.mul_(10.0 ** draw.randint(-3, 2))
    return model


def scores_of(name: str, weight):
    """A score that depends on the weights alone, as one tensor of the matrix's shape."""
    chunks = [chunk.reshape(-1) for chunk in named(name)("", weight)]
    return torch.cat(chunks).reshape(weight.shape).double()


def in_order(scores, mask) -> bool:
    """Whether the largest removed is at most the smallest kept."""
    return bool(mask.all()) or not bool(mask.any()) or bool(scores[~mask].max() <= scores[mask].min())


def check_pattern(draw: random.Random) -> None:
    """One model, all scores and patterns."""
    of = draw.choice([2, 4, 8, 5])
    model = make_model(draw, of)
    scope = find_scope(model, embeddings=draw.random() < 0.5)
    total, seed = scope.size, draw.randrange(1000)
    low, high = sorted(draw.sample([i / 100 for i in range(100)], 2))
    for name in SCORES:
        score = named(name, seed)
        for kind, pattern in FRACTIONS.items():
            masks = {share: masks_of(scope, pattern(share), score) for share in (low, high)}
            for share, made in masks.items():
                check_counts(kind, share, made, total)
                if name != "random":
                    check_order(kind, made, {n: scores_of(name, w) for n, w in scope.matrices.items()})
            assert all(not (masks[high][n] & ~masks[low][n]).any() for n in scope.matrices)  # nested
        check_groups(scope, score, name, of, draw)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    if asked := removed_count(Unstructured(high).sparsity, total):
        _, census = choose_masks(scope, Unstructured(high), "magnitude")
        assert census.removed == census.asked == asked
    for name, parameter in model.named_parameters():  # ``prune`` changes no weight
        assert torch.equal(parameter.data, before[name])


def masks_of(scope, pattern, score) -> dict:
    """The masks, or masks that keep everything where the pattern is refused because it removes nothing."""
    exact = pattern.sparsity
    counts = {
        Unstructured: lambda: removed_count(exact, scope.size),
        PerMatrix: lambda: sum(removed_count(exact, weight.numel()) for weight in scope.matrices.values()),
        PerRow: lambda: sum(removed_count(exact, weight.shape[1]) for weight in scope.matrices.values()),
    }
    if exact > 0 and counts[type(pattern)]() == 0:
        with pytest.raises(UserError, match="removes no weight"):
            make_masks(scope, pattern, score)
        return {name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in scope.matrices.items()}
    return make_masks(scope, pattern, score)


def check_counts(kind: str, share: float, masks: dict, total: int) -> None:
    exact = Unstructured(share).sparsity
    if kind == "unstructured":
        assert sum(int((~mask).sum()) for mask in masks.values()) == removed_count(exact, total)
    elif kind == "per_matrix":
        assert all(int((~mask).sum()) == removed_count(exact, mask.numel()) for mask in masks.values())
    else:
        for mask in masks.values():
            assert set((~mask).sum(1).tolist()) == {removed_count(exact, mask.shape[1])}


def check_order(kind: str, masks: dict, scores: dict) -> None:
    if kind == "unstructured":
        flat = [torch.cat([one[name].reshape(-1) for name in masks]) for one in (scores, masks)]
        assert in_order(flat[0], flat[1])
    elif kind == "per_matrix":
        assert all(in_order(scores[name], masks[name]) for name in masks)
    else:
        assert all(in_order(s, m) for name in masks for s, m in zip(scores[name], masks[name]))


def check_groups(scope, score, name: str, of: int, draw: random.Random) -> None:
    keep = draw.randint(1, of)
    masks = make_masks(scope, NM(keep, of), score)
    for matrix, mask in masks.items():
        groups = mask.reshape(-1, of)
        assert set(groups.sum(1).tolist()) == {keep}
        if name != "random":
            scores = scores_of(name, scope.matrices[matrix]).reshape(-1, of)
            assert all(in_order(s, m) for s, m in zip(scores, groups))
    more = make_masks(scope, NM(max(1, keep - 1), of), score)
    assert all(not (more[matrix] & ~masks[matrix]).any() for matrix in masks)
    assert Fraction(of - keep, of) == NM(keep, of).sparsity


def check_regime(draw: random.Random) -> str:
    """One model, one way to hold, one optimizer, a few steps: held weights are exactly what they must be."""
    model = make_model(draw, 4).float()
    scope = find_scope(model, embeddings=draw.random() < 0.5)
    pattern = draw.choice([Unstructured(0.5), PerMatrix(0.7), PerRow(0.3), NM(2, 4)])
    masks = make_masks(scope, pattern, named(draw.choice(SCORES), 1))
    before = {name: weight.detach().clone() for name, weight in scope.matrices.items()}
    kind, name = draw.choice(["sparse", "frozen", "free"]), draw.choice(sorted(OPTIMIZERS))
    held = hold(model, masks, kind)
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    held.attach(optimizer)
    for _ in range(draw.randint(2, 6)):
        model(torch.randn(5, model.layers[0].in_features)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=draw.random() < 0.5)
    held.verify()
    for matrix, mask in masks.items():
        now = dict(model.named_parameters())[matrix].detach()
        if kind == "sparse":
            assert not now[~mask].any()
        elif kind == "frozen":
            assert torch.equal(now[~mask].view(torch.int32), before[matrix][~mask].view(torch.int32))
    return f"{kind} {name}"


def check_all(count: int) -> None:
    regimes = []
    for number in range(count):
        draw = random.Random(number)
        torch.manual_seed(number)
        check_pattern(draw)
        regimes.append(check_regime(draw))
    assert len(regimes) == count
    assert len(set(regimes)) >= min(20, count // 3)


def test_random_models_and_patterns():
    check_all(SHORT)


@pytest.mark.slow
def test_many_random_models_and_patterns():
    check_all(LONG)


def test_every_optimizer_holds_every_kind():
    tried = 0
    for name in OPTIMIZERS:
        for kind in ("sparse", "frozen"):

            class Draw(random.Random):
                def choice(self, options, name=name, kind=kind):
                    wanted = {"sparse": kind, name: name}
                    return next((wanted[one] for one in options if one in wanted), super().choice(options))

            torch.manual_seed(tried)
            assert check_regime(Draw(tried)).endswith(name)
            tried += 1
    assert tried == 2 * len(OPTIMIZERS) == 26
