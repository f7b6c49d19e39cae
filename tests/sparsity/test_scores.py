"""Every score under every pattern, against a stable sort; and the bits of masks made before there were scores."""

import numpy as np
import pytest
import torch

import junkdna as jd
from junkdna.sparsity import scores, select
from junkdna.sparsity.census import asked_count
from junkdna.sparsity.masks import fingerprint
from junkdna.sparsity.patterns import removed_count
from junkdna.sparsity.scope import Scope

SHAPES = [(48, 24), (7, 96), (130, 48)]
BEFORE = {
    ("float32", "magnitude", "unstructured"): "0122e11c3482505b",
    ("float32", "magnitude", "per matrix"): "6b4ea12d0878ed20",
    ("float32", "magnitude", "2:4"): "33861328c9720724",
    ("float32", "magnitude", "3:8"): "82d802d52caee75c",
    ("float32", "magnitude", "5:12"): "a56889fe49ccfb13",
    ("float32", "largest", "unstructured"): "1306290d8512efde",
    ("float32", "largest", "per matrix"): "bbbc983ec142e230",
    ("float32", "random", "unstructured"): "6022f27dd3228a97",
    ("float32", "random", "per matrix"): "23f51681e4fe867a",
    ("bfloat16", "magnitude", "unstructured"): "0122e11c3482505b",
    ("bfloat16", "magnitude", "per matrix"): "836cf545834d34e7",
    ("bfloat16", "magnitude", "2:4"): "00851101690524fc",
    ("bfloat16", "magnitude", "3:8"): "e21d4f2cddcd640d",
    ("bfloat16", "magnitude", "5:12"): "ef5f7afda0a3aa08",
    ("bfloat16", "largest", "unstructured"): "1306290d8512efde",
    ("bfloat16", "largest", "per matrix"): "e22bff06324627a2",
}
PATTERNS = {
    "unstructured": jd.Unstructured(0.5),
    "per matrix": jd.PerMatrix("0.37"),
    "per row": jd.PerRow(0.45),
    "per block": jd.PerBlock(0.45, 10),
    "2:4": jd.NM(2, 4),
    "3:8": jd.NM(3, 8),
    "5:12": jd.NM(5, 12),
}


def made_up(dtype):
    generator = np.random.Generator(np.random.PCG64(7))
    made = [torch.from_numpy(generator.standard_normal(shape, dtype=np.float32)) for shape in SHAPES]
    return {f"layer.{i}.weight": weight.to(dtype) for i, weight in enumerate(made)}


def importance(name, weight):
    """As Wanda's: the magnitude times a norm of every input. In chunks of odd sizes, with many ties."""
    norms = torch.arange(weight.shape[1]) % 5
    product = (weight.float().abs() * norms).mul(8).round()
    yield from product.reshape(-1).split(17)


def whole(name, weight):
    """All in one tensor, in half precision."""
    return weight.abs().bfloat16()


def steady_keep(score, count):
    """Keep all but ``count`` of a list by one stable sort: among equals the earlier is kept."""
    rising = np.lexsort((-np.arange(len(score)), score))
    kept = np.ones(len(score), dtype=bool)
    kept[rising[:count]] = False
    return kept


def by_sorting(score, weights, pattern):
    """The dullest possible method for any score and pattern."""
    found = {}
    for name, weight in weights.items():
        given = score(name, weight)
        parts = [given] if isinstance(given, torch.Tensor) else list(given)
        found[name] = torch.cat([part.reshape(-1) for part in parts]).double().numpy().reshape(weight.shape)
    if isinstance(pattern, jd.Unstructured):
        joined = np.concatenate([score.reshape(-1) for score in found.values()])
        kept = steady_keep(joined, removed_count(pattern.sparsity, len(joined)))
        parts = np.split(kept, np.cumsum([score.size for score in found.values()])[:-1])
        return {name: part.reshape(found[name].shape) for name, part in zip(found, parts)}
    masks = {}
    for name, score in found.items():
        if isinstance(pattern, jd.PerBlock):
            blocks = np.split(score, range(pattern.columns, score.shape[1], pattern.columns), axis=1)
            counts = [removed_count(pattern.sparsity, block.size) for block in blocks]
            each = [steady_keep(block.ravel(), n).reshape(block.shape) for block, n in zip(blocks, counts)]
            masks[name] = np.concatenate(each, axis=1)
            continue
        size = {jd.NM: getattr(pattern, "of", 0), jd.PerRow: score.shape[1], jd.PerMatrix: score.size}[type(pattern)]
        each = [steady_keep(row, removed_count(pattern.sparsity, size)) for row in score.reshape(-1, size)]
        masks[name] = np.stack(each).reshape(score.shape)
    return masks


SCORES = {"magnitude": scores.magnitude, "largest": scores.largest, "random": scores.random(41),
          "importance": importance, "whole": whole}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("score", SCORES)
def test_every_score_under_every_pattern(score, pattern, dtype, monkeypatch):
    monkeypatch.setattr(scores, "CHUNK", 100)
    weights, pattern, score = made_up(dtype), PATTERNS[pattern], SCORES[score]
    masks = jd.make_masks(weights, pattern, score)
    expected = by_sorting(score, weights, pattern)
    assert list(masks) == list(expected)
    assert all(np.array_equal(masks[name].numpy(), expected[name]) for name in masks)
    removed = sum(int((~mask).sum()) for mask in masks.values())
    assert removed == asked_count(pattern, weights) > 0


@pytest.mark.parametrize(("dtype", "score", "pattern"), BEFORE)
def test_the_bits_of_masks_made_before(dtype, score, pattern):
    masks = jd.make_masks(made_up(getattr(torch, dtype)), PATTERNS[pattern], SCORES[score])
    assert fingerprint(masks)[:16] == BEFORE[dtype, score, pattern]


@pytest.mark.parametrize("sparsity", ["0.001", "0.1", "0.5", "0.9", "0.999"])
@pytest.mark.parametrize("ties", [False, True])
def test_rows_are_exact_one_by_one(sparsity, ties):
    weight = torch.randn(300, 1000, generator=torch.Generator().manual_seed(1))
    weight = (weight * 3).round() if ties else weight
    pattern = jd.PerRow(sparsity)
    kept = jd.make_masks({"w": weight}, pattern)["w"]
    count = removed_count(pattern.sparsity, 1000)
    assert ((~kept).sum(1) == count).all()
    for row, mask in zip(weight.abs(), kept):
        assert np.array_equal(mask.numpy(), steady_keep(row.numpy(), count))


@pytest.mark.parametrize("pattern", [jd.PerRow(0.3), jd.NM(2, 4), jd.NM(5, 12), jd.NM(1, 2)], ids=str)
@pytest.mark.parametrize("band", [1, 100, 1 << 22])
def test_a_transposed_matrix_gets_the_mask_of_its_transpose(pattern, band, monkeypatch):
    monkeypatch.setattr(scores, "CHUNK", 64)
    monkeypatch.setattr(select, "BAND", band)
    weight = (torch.randn(24, 10, generator=torch.Generator().manual_seed(2)) * 4).round()
    scope = Scope({"w": weight}, {}, frozenset({"w"}))
    expected = jd.make_masks({"w": weight.T.contiguous()}, pattern)["w"].T
    assert torch.equal(jd.make_masks(scope, pattern)["w"], expected)
    assert asked_count(pattern, scope.matrices, scope.transposed) == int((~expected).sum())


def test_a_width_of_a_transposed_matrix_is_its_inputs():
    scope = Scope({"w": torch.randn(6, 8)}, {}, frozenset({"w"}))
    with pytest.raises(jd.UserError, match="4 does not divide the 6 input columns of w"):
        jd.make_masks(scope, jd.NM(2, 4))


def negative(name, weight):
    yield -weight.abs()


def not_a_number(name, weight):
    yield torch.where(weight == weight.max(), torch.nan, weight.abs())


def too_few(name, weight):
    yield weight.abs()[1:]


def too_many(name, weight):
    yield from [weight.abs()] * 2


def integers(name, weight):
    yield weight.abs().long()


def below_zero(name, weight):
    yield torch.full(weight.shape, -1, dtype=torch.int32)


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (negative, "negative: gives negative or NaN values for layer.0.weight"),
        (not_a_number, "not_a_number: gives negative or NaN values for layer.0.weight"),
        (too_few, "too_few: gives only 1,128 scores for the 1,152 weights of layer.0.weight"),
        (too_many, "too_many: gives more scores for the 1,152 weights of layer.0.weight"),
        (integers, "integers: gives torch.int64 for layer.0.weight; give floats or int32"),
        (below_zero, "below_zero: gives negative or NaN values for layer.0.weight"),
    ],
)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_score_that_is_not_one_is_refused_by_name(score, reason, pattern):
    with pytest.raises(jd.UserError) as error:
        jd.make_masks(made_up(torch.float32), PATTERNS[pattern], score)
    assert str(error.value) == f"score {reason}"


@pytest.mark.parametrize("pattern", ["unstructured", "per matrix"])
def test_a_score_that_changes_its_mind_is_refused(pattern):
    def moody(name, weight):
        yield torch.rand(weight.shape)

    with pytest.raises(jd.UserError, match="score moody: returns different values on a second call"):
        jd.make_masks(made_up(torch.float32), PATTERNS[pattern], moody)


def test_negative_zeros_and_infinities_are_ordered():
    def given(name, weight):
        yield torch.tensor([[-0.0, 0.0, torch.inf, 1e-45]])

    masks = jd.make_masks({"w": torch.ones(1, 4)}, jd.Unstructured(0.5), given)
    assert masks["w"].tolist() == [[False, False, True, True]]


def test_names_of_scores():
    assert [scores.score_name(scores.named(name, 1)) for name in scores.SCORES] == list(scores.SCORES)
    with pytest.raises(jd.UserError, match=r"one of magnitude, largest, random \(did you mean magnitude\?\)"):
        scores.named("magnitud")


def test_what_cannot_be_ranked_here_is_refused():
    with pytest.raises(jd.UserError, match="no values yet"):
        jd.make_masks({"w": torch.ones(2, 2, device="meta")}, jd.Unstructured(0.5))


@pytest.mark.parametrize("columns", [0, -1, 1.5, True, "128"])
def test_a_block_has_at_least_one_column(columns):
    with pytest.raises(jd.UserError, match=f"^columns {columns}: must be an integer of 1 or more"):
        jd.PerBlock(0.5, columns)


@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_rows_are_ranked_the_same_on_any_device(count):
    scores = torch.randint(0, 6, (30, 20), generator=torch.Generator().manual_seed(0)).float()
    kept = select.keep_all_but(scores, count)
    assert torch.equal(select._keep_all_but_anywhere(scores, count), kept)
    expected = np.stack([steady_keep(row, count) for row in scores.numpy()])
    assert np.array_equal(kept.numpy(), expected)
    best = select.keep_best(scores, count)
    assert torch.equal(select._keep_best_anywhere(scores, count), best)
    expected = np.stack([steady_keep(column, 30 - count) for column in scores.T.numpy()], axis=1)
    assert np.array_equal(best.numpy(), expected)
