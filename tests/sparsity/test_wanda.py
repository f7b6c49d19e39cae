"""Wanda against the published steps, written out again; and what must hold of it."""

import pytest
import torch

import junkdna as jd
from junkdna.sparsity import wanda
from junkdna.sparsity.masks import make_masks
from junkdna.sparsity.scope import Scope

ROWS, COLUMNS, SAMPLES, TOKENS = 12, 40, 6, 9


@pytest.fixture
def layer():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, TOKENS, COLUMNS, generator=generator) * torch.linspace(0.2, 4, COLUMNS)
    return torch.randn(ROWS, COLUMNS, generator=generator), inputs


def squares(inputs, parts=1):
    norms = wanda.ColumnSquares(COLUMNS)
    for part in inputs.tensor_split(parts):
        norms.add(part)
    return norms.mean(len(inputs))


def masked(weight, inputs, pattern, transposed=False, make=wanda.score):
    score = make(squares(inputs), transposed)
    if not transposed:
        return make_masks({"w": weight}, pattern, score)["w"]
    return make_masks(Scope({"w": weight}, {}, frozenset({"w"})), pattern, score)["w"]


def published_scores(weight, inputs):
    """|W| times the root of the running mean of squared norms, sample by sample."""
    mean = torch.zeros(COLUMNS)
    for seen, sample in enumerate(inputs):
        mean = mean * seen / (seen + 1) + sample.float().norm(dim=0) ** 2 / (seen + 1)
    return weight.abs() * mean.sqrt()


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_unstructured_is_the_lowest_of_every_row(layer, sparsity):
    expected = torch.ones(ROWS, COLUMNS, dtype=torch.bool)
    lowest = published_scores(*layer).sort(dim=1, stable=True).indices[:, : int(COLUMNS * sparsity)]
    expected.scatter_(1, lowest, False)
    assert torch.equal(masked(*layer, jd.PerRow(sparsity)), expected)


@pytest.mark.parametrize(("keep", "of"), [(2, 4), (4, 8), (1, 8), (7, 8)])
def test_groups_lose_their_lowest(layer, keep, of):
    expected = torch.ones(ROWS, COLUMNS, dtype=torch.bool)
    scores = published_scores(*layer)
    for column in range(0, COLUMNS, of):
        lowest = scores[:, column : column + of].topk(of - keep, dim=1, largest=False).indices
        expected.scatter_(1, column + lowest, False)
    found = masked(*layer, jd.NM(keep, of))
    assert torch.equal(found, expected)
    assert torch.equal(found.reshape(ROWS, -1, of).sum(2), torch.full((ROWS, COLUMNS // of), keep))


@pytest.mark.parametrize("pattern", [jd.PerRow(0.5), jd.NM(2, 4), jd.PerBlock(0.5, 16), jd.PerMatrix(0.3)])
def test_what_does_not_change_a_mask(layer, pattern):
    weight, inputs = layer
    mask = masked(weight, inputs, pattern)
    assert torch.equal(masked(weight, inputs * 8, pattern), mask)  # the inputs' scale
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(2))
    if not isinstance(pattern, jd.PerMatrix):  # no two scores are equal
        assert torch.equal(masked(weight[order], inputs, pattern), mask[order])
    assert torch.equal(masked(weight.T.contiguous(), inputs, pattern, transposed=True), mask.T)


def test_with_equal_norms_it_is_magnitude_by_row(layer):
    weight, _ = layer
    for pattern in (jd.PerRow(0.6), jd.NM(2, 4)):
        assert torch.equal(masked(weight, torch.ones(3, 5, COLUMNS), pattern), make_masks({"w": weight}, pattern)["w"])


def test_norms_come_out_the_same_in_parts_and_are_squared_in_fp32(layer):
    inputs = layer[1]
    torch.testing.assert_close(squares(inputs, 1), squares(inputs, 4))
    loud = torch.full((2, 3, COLUMNS), 60000.0, dtype=torch.float16)
    torch.testing.assert_close(squares(loud), torch.full((COLUMNS,), 3 * 60000.0**2))
    assert squares(loud.fill_(torch.inf)).isinf().all()


def test_weights_of_a_dead_input_go_first_and_those_that_stay_are_the_earlier(layer):
    weight, inputs = layer
    inputs = inputs * (torch.arange(COLUMNS) < COLUMNS - 30)
    mask = masked(weight, inputs, jd.PerRow(0.5))
    assert mask[:, :20].all() and not mask[:, 20:].any()


# --- the variant -----------------------------------------------------------------------------------------------------


def published_variant(scores, sparsity):
    """Bisect alpha in [0, 0.8] from 0.4; each row loses the sorted scores that sum to at most alpha of it."""
    ordered, places = scores.sort(dim=1, stable=True)
    sums = ordered.cumsum(1)
    low, high, alpha = 0.0, 0.8, 0.4
    while True:
        removed = torch.zeros_like(scores, dtype=torch.bool)
        removed.scatter_(1, places, sums <= alpha * scores.sum(1, keepdim=True))
        found = float(removed.float().mean())
        if abs(found - sparsity) <= 0.001 or high - low < 0.001:
            return ~removed, alpha
        low, high = (low, alpha) if found > sparsity else (alpha, high)
        alpha = (low + high) / 2


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7])
def test_the_variant_removes_what_the_search_removes_and_the_exact_count(sparsity):
    generator = torch.Generator().manual_seed(3)
    weight, inputs = torch.randn(200, COLUMNS, generator=generator) ** 3, torch.rand(3, 4, COLUMNS, generator=generator)
    mask = masked(weight, inputs, jd.PerMatrix(sparsity), make=wanda.variant_score)
    expected, _ = published_variant(weight.abs() * squares(inputs).sqrt(), sparsity)
    assert int((~mask).sum()) == round(200 * COLUMNS * sparsity)
    assert not ((mask & ~expected).any() and (expected & ~mask).any())  # one holds the other
    assert int((mask ^ expected).sum()) <= 0.001 * mask.numel() + 1
    assert len(set(mask.sum(1).tolist())) > 3  # rows lose different fractions
    transposed = masked(weight.T.contiguous(), inputs, jd.PerMatrix(sparsity), True, wanda.variant_score)
    assert int((transposed.T ^ mask).sum()) <= 2  # equal shares of two rows are met in another order


def test_in_the_variant_too_the_earlier_of_equals_stays():
    weight = torch.ones(1, 8)
    mask = make_masks({"w": weight}, jd.PerMatrix(0.5), wanda.variant_score(torch.ones(8)))["w"]
    assert mask.tolist() == [[True] * 4 + [False] * 4]
    mask = make_masks({"w": weight}, jd.PerMatrix(0.25), wanda.variant_score(torch.zeros(8)))["w"]
    assert mask.tolist() == [[True] * 6 + [False] * 2]  # all dead
