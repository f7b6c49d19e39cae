"""Expected masks are written by hand or made by the dullest possible method: a stable sort of everything."""

from decimal import Decimal

import numpy as np
import pytest
import torch

from junkdna.errors import UserError
from junkdna.sparsity import masks as m
from junkdna.sparsity import scores, select
from junkdna.sparsity.files import load_masks, to_bytes
from junkdna.sparsity.patterns import NM, PerMatrix, Unstructured, removed_count


def by_sorting(weights, count):
    """Global magnitude masks by one stable sort: among equals the earlier position is kept."""
    flat = torch.cat([w.float().abs().reshape(-1) for w in weights.values()])
    falling = np.lexsort((np.arange(len(flat)), -flat.numpy()))
    kept = torch.zeros(len(flat), dtype=torch.bool)
    kept[torch.from_numpy(falling[: len(flat) - count].copy())] = True
    parts = kept.split([w.numel() for w in weights.values()])
    return {name: part.reshape(w.shape) for (name, w), part in zip(weights.items(), parts)}


def random_weights(seed=0, dtype=torch.float32, shapes=((7, 16), (32, 24), (5, 8))):
    generator = torch.Generator().manual_seed(seed)
    return {f"w{i}": torch.randn(shape, generator=generator).to(dtype) for i, shape in enumerate(shapes)}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        assert found[name].dtype == torch.bool and torch.equal(found[name], expected[name]), name


def kept_count(masks):
    return sum(int(mask.sum()) for mask in masks.values())


def test_global_magnitude_by_hand():
    weights = {"a": torch.tensor([[0.1, -3.0], [2.0, -0.2]]), "b": torch.tensor([[0.15, 5.0, -0.05]])}
    found = m.make_masks(weights, Unstructured(Decimal("0.43")))  # 0.43 x 7 = 3.01
    assert_same(found, {"a": torch.tensor([[False, True], [True, True]]), "b": torch.tensor([[False, True, False]])})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sparsity", ["0", "0.001", "0.1", "0.333", "0.5", "0.9", "0.999"])
def test_exact_against_sorting_with_ties_of_half_precision(dtype, sparsity):
    weights = random_weights(dtype=dtype)
    size = sum(w.numel() for w in weights.values())
    count = removed_count(Decimal(sparsity), size)
    found = select.remove_lowest(weights, count)
    assert size - kept_count(found) == count
    assert_same(found, by_sorting(weights, count))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 12])
def test_all_equal_weights_are_removed_from_the_end(count):
    weights = {"a": torch.full((2, 2), 0.5), "b": torch.full((4, 2), -0.5)}
    found = select.remove_lowest(weights, count)
    flat = torch.cat([mask.reshape(-1) for mask in found.values()])
    assert flat.tolist() == [True] * (12 - count) + [False] * count


def test_ties_across_chunks(monkeypatch):
    monkeypatch.setattr(scores, "CHUNK", 5)
    weights = {name: torch.round(w * 2) / 2 for name, w in random_weights(3).items()}
    for count in (1, 100, 333, 700):
        assert_same(select.remove_lowest(weights, count), by_sorting(weights, count))


def test_zeros_denormals_and_signs():
    weights = {"a": torch.tensor([[0.0, -0.0, 1e-45, -1e-45, 1e-38, -1.0]])}
    assert select.remove_lowest(weights, 1)["a"].tolist() == [[True, False, True, True, True, True]]
    assert select.remove_lowest(weights, 3)["a"].tolist() == [[False, False, True, False, True, True]]


def test_no_removed_weight_is_larger_than_a_kept_one_and_masks_are_nested():
    weights = random_weights(1)
    flat = torch.cat([w.abs().reshape(-1) for w in weights.values()])
    previous = None
    for tenths in range(1, 10):
        kept = torch.cat([k.reshape(-1) for k in m.make_masks(weights, Unstructured(Decimal(tenths) / 10)).values()])
        assert flat[~kept].max() <= flat[kept].min()
        assert previous is None or bool((previous | ~kept).all())  # what is kept now was kept before
        previous = kept


def test_weights_are_not_touched():
    weights = random_weights(2)
    before = {name: w.clone() for name, w in weights.items()}
    m.make_masks(weights, Unstructured(Decimal("0.5")))
    m.make_masks(weights, NM(1, 8))
    assert all(torch.equal(weights[name], before[name]) for name in weights)


def test_per_matrix_removes_the_same_fraction_of_each():
    weights = {"small": torch.randn(4, 10) * 1e-3, "large": torch.randn(10, 10)}
    found = m.make_masks(weights, PerMatrix(Decimal("0.3")))
    assert [int((~mask).sum()) for mask in found.values()] == [12, 30]
    assert_same({"large": found["large"]}, by_sorting({"large": weights["large"]}, 30))


def test_the_controls():
    weights = random_weights(4)
    size = sum(w.numel() for w in weights.values())
    largest = select.remove_lowest(weights, 100, scores.largest)
    flat = torch.cat([w.abs().reshape(-1) for w in weights.values()])
    kept = torch.cat([mask.reshape(-1) for mask in largest.values()])
    assert int((~kept).sum()) == 100 and flat[kept].max() <= flat[~kept].min()

    random = {seed: select.remove_lowest(weights, size // 2, scores.random(seed)) for seed in (1, 2)}
    assert all(size - kept_count(found) == size // 2 for found in random.values())
    assert m.fingerprint(random[1]) == m.fingerprint(select.remove_lowest(weights, size // 2, scores.random(1)))
    assert sum(m.compare(random[1], random[2]).values()) > size / 3  # about half differ
    assert abs(float(flat[~torch.cat([k.reshape(-1) for k in random[1].values()])].mean() / flat.mean()) - 1) < 0.15


@pytest.mark.parametrize(("keep", "of"), [(1, 2), (2, 4), (1, 4), (3, 8), (7, 8), (8, 8), (5, 12), (63, 64)])
def test_nm_against_sorting_each_group(keep, of):
    weight = torch.round(torch.randn(6, 192, generator=torch.Generator().manual_seed(of)) * 4) / 4  # many ties
    found = select.nm_mask("w", weight, NM(keep, of)).reshape(-1, of)
    for group, mask in zip(weight.abs().reshape(-1, of).tolist(), found.tolist()):
        order = sorted(range(of), key=lambda i: (-group[i], i))
        assert [i for i in range(of) if mask[i]] == sorted(order[:keep])
    assert (found.sum(1) == keep).all()


def test_nm_by_hand_groups_run_along_the_input_columns():
    weight = torch.tensor([[1.0, -4.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 5.0, 5.0, -1.0, 2.0, -3.0, 1.0]])
    expected = [
        [False, True, True, False, True, True, False, False],
        [True, True, False, False, False, True, True, False],
    ]
    assert select.nm_mask("w", weight, NM(2, 4)).tolist() == expected


def test_nm_in_chunks_is_the_same(monkeypatch):
    weight = torch.randn(16, 48, generator=torch.Generator().manual_seed(5))
    whole = select.nm_mask("w", weight, NM(3, 12))
    monkeypatch.setattr(scores, "CHUNK", 50)
    assert torch.equal(select.nm_mask("w", weight, NM(3, 12)), whole)


def test_a_width_that_m_does_not_divide_is_refused_by_name():
    with pytest.raises(UserError, match=r"8 does not divide the 12 input columns of layer\.3"):
        m.make_masks({"layer.3": torch.ones(4, 12)}, NM(2, 8))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("pattern", [Unstructured(Decimal("0.5")), PerMatrix(Decimal("0.5")), NM(1, 2)])
def test_nan_and_infinity_are_refused_by_name(bad, pattern):
    weights = random_weights()
    weights["w1"][3, 3] = bad
    with pytest.raises(UserError, match="w1"):
        m.make_masks(weights, pattern)


def test_a_sparsity_that_removes_nothing_is_refused():
    with pytest.raises(UserError, match="removes no weight"):
        m.make_masks({"a": torch.ones(4, 4)}, Unstructured(Decimal("0.001")))
    assert kept_count(m.make_masks({"a": torch.ones(4, 4)}, Unstructured(Decimal(0)))) == 16


def test_mask_files_are_one_bit_a_weight_and_come_back_equal(tmp_path):
    masks = m.make_masks(random_weights(6, shapes=((7, 5), (300, 100), (1, 3))), Unstructured(Decimal("0.37")))
    path = tmp_path / "mask.safetensors"
    path.write_bytes(to_bytes(masks))
    assert_same(load_masks(str(path)), masks)
    assert path.stat().st_size < 30_038 / 8 + 600
    assert m.fingerprint(load_masks(str(path))) == m.fingerprint(masks)


def test_the_fingerprint_sees_bits_names_and_shapes():
    mask = torch.ones(2, 8, dtype=torch.bool)
    flipped = mask.clone()
    flipped[1, 7] = False
    others = [{"a": flipped}, {"b": mask}, {"a": mask.reshape(4, 4)}]
    assert len({m.fingerprint(masks) for masks in [{"a": mask}, *others]}) == 4


def test_compare_counts_differences_and_refuses_other_matrices():
    a = {"x": torch.tensor([[True, False, True]])}
    assert m.compare(a, {"x": torch.tensor([[True, True, False]])}) == {"x": 2}
    with pytest.raises(ValueError, match="same matrices"):
        m.compare(a, {"y": a["x"]})


def test_what_is_no_mask_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    text, other = tmp_path / "text.safetensors", tmp_path / "other.safetensors"
    text.write_text("not a mask")
    save_file({"a": torch.ones(2)}, other)
    for path in (text, other, tmp_path / "none"):
        with pytest.raises(UserError, match=r"^mask "):
            load_masks(str(path))


@pytest.mark.parametrize("count", [1, 7, 500, 983, 999, 1000])
def test_a_sample_that_misleads_changes_nothing(count, monkeypatch):
    """Every tenth weight, all that the sample sees, is a thousand times as large as the others."""
    weight = torch.rand(1000, generator=torch.Generator().manual_seed(0)) + 0.5
    weight[::10] *= 1000
    searches, search = [], select._search
    monkeypatch.setattr(select, "SAMPLE", 110)  # of 1,000: every tenth
    monkeypatch.setattr(select, "_search", lambda *words: searches.append(1) or search(*words))
    kept = select.remove_lowest({"w": weight.view(20, 50)}, count)["w"].view(-1)
    assert torch.equal(kept, weight.argsort().argsort() >= count)
    assert count > 900 or len(searches) == 2
