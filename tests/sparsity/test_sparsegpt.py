"""SparseGPT against the published steps, written out again in fp64; and what must hold of it."""

import pytest
import torch

import junkdna as jd
from junkdna.sparsity import sparsegpt
from junkdna.sparsity.masks import make_masks
from junkdna.sparsity.patterns import removed_count
from junkdna.sparsity.sparsegpt import Hessian, NotPositive, factor, prune

SAMPLES = 4


def layer(rows=96, columns=256, tokens=400, seed=0):
    """A weight and inputs, (samples, tokens, columns), that are correlated and of which 8 columns are inflated."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    mixing = torch.randn(columns, columns, generator=generator) / columns**0.5
    inputs = torch.randn(SAMPLES, tokens, columns, generator=generator) @ (torch.eye(columns) + mixing)
    inputs[..., torch.randperm(columns, generator=generator)[:8]] *= 20
    return weight, inputs


def hessian(inputs):
    made = Hessian(inputs.shape[-1])
    for sample in inputs:
        made.add(sample)
    return made.finish(len(inputs))


def published(weight, inputs, pattern):
    """The column loop, with U from the inverse; only the mask's count is exact."""
    weight, x = weight.double().clone(), inputs.double().reshape(-1, inputs.shape[-1])
    columns = weight.shape[1]
    h = 2 / len(inputs) * x.T @ x
    h += 0.01 * h.diagonal().mean() * torch.eye(columns)
    u = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    removed = torch.zeros(weight.shape, dtype=torch.bool)
    for start in range(0, columns, 128):
        stop = min(start + 128, columns)
        if isinstance(pattern, jd.PerBlock):
            scores = (weight[:, start:stop] ** 2 / u.diagonal()[start:stop] ** 2).flatten()
            lowest = scores.argsort()[: removed_count(pattern.sparsity, scores.numel())]
            removed[:, start:stop] = (
                torch.zeros(len(scores), dtype=torch.bool).index_fill(0, lowest, True).reshape(-1, stop - start)
            )
        errors = torch.zeros(len(weight), stop - start).double()
        for i in range(start, stop):
            if isinstance(pattern, jd.NM) and (i - start) % pattern.of == 0:
                group = slice(i, i + pattern.of)
                lowest = (weight[:, group] ** 2 / u.diagonal()[group] ** 2).argsort(1)[:, : pattern.of - pattern.keep]
                removed.scatter_(1, i + lowest, True)
            error = (weight[:, i] - weight[:, i].masked_fill(removed[:, i], 0)) / u[i, i]
            weight[:, i:stop] -= error[:, None] * u[i, i:stop]
            weight[removed[:, i], i] = 0
            errors[:, i - start] = error
        weight[:, stop:] -= errors @ u[start:stop, stop:]
    return weight, ~removed


PATTERNS = [jd.PerBlock(0.3), jd.PerBlock(0.5), jd.PerBlock(0.9), jd.NM(2, 4), jd.NM(4, 8), jd.NM(1, 8), jd.NM(16, 32)]


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("columns", [256, 608])
def test_masks_equal_and_weights_to_1e4(pattern, columns):
    weight, inputs = layer(columns=columns)
    expected, mask = published(weight, inputs, pattern)
    found, found_mask, findings = prune(weight, hessian(inputs), pattern)
    assert torch.equal(found_mask, mask)
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert findings == {"dead_columns": 0, "damping": 0}
    transposed, transposed_mask, _ = prune(weight.T.contiguous(), hessian(inputs), pattern, transposed=True)
    assert torch.equal(transposed_mask.T, mask) and torch.allclose(transposed.T, found, atol=1e-5)


@pytest.mark.parametrize("pattern", [jd.PerBlock(0), jd.PerBlock(0.123), jd.NM(7, 8), jd.NM(2, 3), jd.NM(3, 5)])
def test_counts_are_exact_and_no_group_is_cut(pattern):
    weight, inputs = layer(rows=10, columns=300)
    found, mask, _ = prune(weight, hessian(inputs), pattern)
    if isinstance(pattern, jd.NM):
        if 300 % pattern.of:
            weight, inputs = layer(rows=10, columns=296)
            found, mask, _ = prune(weight, hessian(inputs), pattern)
        assert (mask.reshape(10, -1, pattern.of).sum(2) == pattern.keep).all()
    else:
        for block in mask.split(128, dim=1):
            assert int((~block).sum()) == removed_count(pattern.sparsity, block.numel())
    assert (found[~mask] == 0).all() and not found[~mask].signbit().any()
    if pattern.sparsity == 0:
        assert torch.equal(found, weight)


def output_error(weight, found, inputs):
    x = inputs.reshape(-1, inputs.shape[-1])
    return float(((found - weight) @ x.T).norm() ** 2 / (weight @ x.T).norm() ** 2)


def test_it_is_better_than_its_mask_alone_and_no_better_than_least_squares():
    weight, inputs = layer()
    found, mask, _ = prune(weight, hessian(inputs), jd.PerBlock(0.5))
    x = inputs.reshape(-1, inputs.shape[-1]).double()
    best = torch.zeros_like(weight).double()
    for row, kept in enumerate(mask):
        best[row, kept] = torch.linalg.lstsq(x[:, kept], x @ weight[row].double()).solution
    magnitude = weight * make_masks({"w": weight}, jd.PerMatrix(0.5))["w"]
    errors = [
        output_error(weight.double(), made.double(), inputs.double())
        for made in (best, found, weight * mask, magnitude)
    ]
    assert errors == sorted(errors) and errors[0] < 0.95 * errors[1] and errors[1] < 0.8 * errors[2]


def test_with_independent_inputs_it_is_magnitude_by_block_and_changes_nothing():
    weight, _ = layer(columns=300)
    for pattern in (jd.PerBlock(0.5), jd.NM(2, 4)):
        found, mask, _ = prune(weight, 3 * torch.eye(300), pattern)
        assert torch.equal(mask, make_masks({"w": weight}, pattern)["w"])
        assert torch.equal(found[mask], weight[mask])


def test_what_does_not_change_a_mask():
    weight, inputs = layer()
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(1))
    for pattern in (jd.PerBlock(0.5), jd.NM(2, 4)):
        found, mask, _ = prune(weight, hessian(inputs), pattern)
        scaled, scaled_mask, _ = prune(weight, hessian(4 * inputs), pattern)
        assert torch.equal(scaled_mask, mask) and torch.allclose(scaled, found, atol=1e-6)
        moved, moved_mask, _ = prune(weight[order], hessian(inputs), pattern)
        assert torch.equal(moved_mask, mask[order]) and torch.allclose(moved, found[order], atol=1e-6)


def test_of_equal_weights_the_earlier_stay():
    for pattern, first_row in ((jd.PerBlock(0.75, 8), [True] * 8), (jd.NM(1, 4), [True, False, False, False] * 2)):
        _, mask, _ = prune(torch.ones(4, 8), torch.eye(8), pattern)
        assert mask[0].tolist() == first_row and int(mask.sum()) == 8


def test_half_precision_weights_are_worked_on_in_fp32():
    weight, inputs = layer()
    half = weight.bfloat16()
    expected, mask, _ = prune(half.float(), hessian(inputs), jd.NM(2, 4))
    before = half.clone()
    found, found_mask, _ = prune(half, hessian(inputs), jd.NM(2, 4))
    assert found.dtype == torch.bfloat16 and torch.equal(half, before)
    assert torch.equal(found_mask, mask) and torch.equal(found, expected.bfloat16())


# --- the Hessian -----------------------------------------------------------------------------------------------------


def test_a_hessian_is_that_of_its_samples_in_any_parts():
    _, inputs = layer(columns=300)
    x = inputs.reshape(-1, 300).double()
    found = hessian(inputs)
    torch.testing.assert_close(found.double(), 2 / SAMPLES * x.T @ x, rtol=1e-4, atol=1e-2)
    assert torch.equal(found, found.T)
    at_once = Hessian(300)
    at_once.add(inputs)
    torch.testing.assert_close(at_once.finish(SAMPLES), found, rtol=1e-4, atol=1e-2)
    with pytest.raises(RuntimeError, match="is finished"):
        at_once.finish(SAMPLES)


@pytest.mark.parametrize("columns", [1, 100, 256, 700])
def test_the_factor_is_upper_and_in_place(columns):
    _, inputs = layer(columns=max(columns, 8))
    h = hessian(inputs[..., :columns].contiguous())
    damped = h.double() + 0.01 * h.diagonal().mean().double() * torch.eye(columns)
    found = factor(h)
    upper = found.upper.double().triu()
    assert found.upper.data_ptr() == h.data_ptr()
    assert float((upper @ upper.T - damped).norm() / damped.norm()) < 1e-6


def test_fewer_tokens_than_columns_need_the_usual_damping_only():
    weight, inputs = layer(tokens=20)
    found, _, findings = prune(weight, hessian(inputs), jd.PerBlock(0.5))
    assert findings["damping"] == 0 and found.isfinite().all()


def test_a_dead_input_is_counted_and_its_weights_go_first():
    weight, inputs = layer(rows=20)
    inputs[..., [3, 200]] = 0
    found, mask, findings = prune(weight, hessian(inputs), jd.PerBlock(0.5))
    assert findings["dead_columns"] == 2 and not mask[:, [3, 200]].any()
    found, mask, _ = prune(weight, hessian(inputs), jd.NM(3, 4))
    assert not mask[:, [3, 200]].any()
    inputs[..., :4] = 0
    found, mask, _ = prune(weight, hessian(inputs), jd.NM(2, 4))
    assert mask[:, :4].tolist() == [[True, True, False, False]] * 20
    assert torch.equal(found[:, :2], weight[:, :2])  # what stays keeps its value


def test_more_damping_is_counted_and_starts_from_the_same_hessian():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(600, 600, generator=generator, dtype=torch.float64)).Q
    values = torch.linspace(1, 2, 600, dtype=torch.float64).index_fill(0, torch.tensor([0]), -0.05)
    h = basis @ values.diag() @ basis.T
    h = ((h + h.T) / 2).float()
    damped = h.double() + 10 * 0.01 * h.diagonal().mean().double() * torch.eye(600)
    found = factor(h.clone())
    upper = found.upper.double().triu()
    assert found.damped == 1 and float((upper @ upper.T - damped).norm() / damped.norm()) < 1e-6
    assert prune(torch.randn(5, 600, generator=generator), h, jd.NM(2, 4))[2]["damping"] == 1


def test_what_is_not_a_number_is_never_replaced(monkeypatch):
    with pytest.raises(NotPositive):
        factor(torch.full((4, 4), torch.nan))
    monkeypatch.setattr(sparsegpt, "ATTEMPTS", 1)
    with pytest.raises(NotPositive):
        factor(-torch.eye(4))
