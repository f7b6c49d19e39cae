"""Attention on packed rows: what torch computes example by example, in values, gradients and dropout."""

import numpy as np
import pytest
import torch

from junkdna.training.fast.attention import attention, layout

LENGTHS = np.array([3, 20, 1, 17, 16, 33, 2])
HEADS, WIDTH = 3, 5


def rows(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shape = (3, LENGTHS.sum() * HEADS, WIDTH)
    return [x.requires_grad_() for x in torch.randn(shape, generator=generator, dtype=dtype)]


def one_by_one(query, key, value, scale):
    """Every example alone, by torch's own attention."""
    parts = []
    for at in torch.split(torch.arange(LENGTHS.sum()), LENGTHS.tolist()):
        q, k, v = (x.view(-1, HEADS, WIDTH)[at].transpose(0, 1)[None] for x in (query, key, value))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)
        parts.append(out[0].transpose(0, 1).reshape(-1, WIDTH))
    return torch.cat(parts)


def test_the_layout_of_uneven_examples():
    made = layout(np.array([2, 1, 3]), 2, fused=True)
    assert made.first.tolist() == [0, 2, 3]
    assert made.rows.tolist() == [
        0,
        2,
        0,
        1,
        3,
        1,
        4,
        0,
        0,
        5,
        1,
        1,
        6,
        8,
        10,
        7,
        9,
        11,
    ]  # head 0, then head 1, of each
    assert made.padding.tolist() == [2, 5, 7, 8, 10, 11]
    assert made.places.tolist() == [0, 3, 1, 4, 6, 9, 12, 15, 13, 16, 14, 17]
    (group,) = made.groups
    assert (group.examples, group.longest, group.start) == (3, 3, 0)
    assert (group.bias == 0).flatten(1).sum(1).tolist() == [2, 1, 3]


def test_examples_of_similar_length_share_a_grid():
    made = layout(LENGTHS, HEADS)
    assert [(g.examples, g.longest) for g in made.groups] == [(4, 16), (2, 20), (1, 33)]
    assert len(made.rows) == HEADS * (4 * 16 + 2 * 20 + 33) == made.groups[-1].start + HEADS * 33
    assert made.groups[-1].bias is None  # nothing to hide where all are equally long
    assert torch.equal(made.rows[made.places], torch.arange(LENGTHS.sum() * HEADS))


@pytest.mark.parametrize("fused", [False, True])
def test_values_and_gradients_are_torchs(fused):
    mine, theirs, above = rows(), rows(), torch.randn(LENGTHS.sum() * HEADS, WIDTH, dtype=torch.float64)
    found = attention(*mine, layout(LENGTHS, HEADS, fused), 0.3, 0.0)
    expected = one_by_one(*theirs, 0.3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    found.backward(above)
    expected.backward(above)
    for x, y in zip(mine, theirs):
        torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-12)


def test_the_gradient_with_dropout_is_that_of_the_values():
    """Against finite differences, with the same random bits in every evaluation."""
    made = layout(np.array([2, 4, 3]), 2)
    generator = torch.Generator().manual_seed(1)
    inputs = [x.requires_grad_() for x in torch.randn(3, 18, 4, generator=generator, dtype=torch.float64)]

    def attend(*inputs):
        torch.manual_seed(5)
        return attention(*inputs, made, 0.7, 0.3)

    assert torch.autograd.gradcheck(attend, inputs)
    assert not torch.equal(attend(*inputs), attention(*inputs, made, 0.7, 0.0))


def test_dropout_changes_no_mean():
    query, key, value = rows(torch.float32)
    made = layout(LENGTHS, HEADS)
    with torch.no_grad():
        exact = attention(query, key, value, made, 0.3, 0.0)
        torch.manual_seed(0)
        many = torch.stack([attention(query, key, value, made, 0.3, 0.2) for _ in range(2000)])
    error = (many.mean(0) - exact).abs() / (many.std(0) / 2000**0.5)
    assert float(error.max()) < 5 and float(many.std(0).min()) > 0.01
