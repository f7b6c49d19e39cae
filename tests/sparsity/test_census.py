"""What a mask removes: counts and thresholds by hand, and the record's section as it has always been."""

import pytest
import torch
from pytest import approx as about
from torch import nn

import junkdna as jd
from junkdna.sparsity.census import zero_count


@pytest.fixture
def scope():
    net = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 4))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.1, -0.2, 0.3, -0.4], [5.0, 6.0, -7.0, 8.0]]))
        net[1].weight.copy_(torch.tensor([[1.0, 1.1], [-1.2, 1.3], [1.4, 1.5], [1.6, 1.7]]))
    return jd.find_scope(net)


def test_the_section_of_the_record(scope):
    masks, census = jd.choose_masks(scope, jd.Unstructured(0.375), fresh=["1.weight"])  # 6 of 16
    assert [int((~mask).sum()) for mask in masks.values()] == [4, 2]
    assert census.as_dict() == {
        "pattern": "unstructured, 37.5000% removed by one global ranking",
        "score": "magnitude",
        "scope": {"weights": 16, "matrices": 2},
        "asked": 6,
        "removed": 6,
        "kept": 10,
        "sparsity": 0.375,
        "threshold": about(1.1),
        "mask_hash": census.mask_hash,
        "zeros_before": {"weights": 0, "removed": 0},
        "head": {"weights": 8, "removed": 2},
        "embeddings": {"weights": 0, "removed": 0},
        "matrices": [
            {"name": "0.weight", "shape": [2, 4], "removed": 4, "kept": 4, "threshold": about(0.4), "head": False},
            {"name": "1.weight", "shape": [4, 2], "removed": 2, "kept": 6, "threshold": about(1.1), "head": True},
        ],
        "left_out": {"1.bias": "bias"},
    }  # fmt: skip
    assert str(census).splitlines() == [
        "unstructured, 37.5000% removed by one global ranking: 6 of 16 weights removed (37.5000%, asked 6) "
        "in 2 matrices; largest magnitude removed 1.1",
        "  0.weight            2 x 4   50.0000% removed",
        "  1.weight            4 x 2   25.0000% removed  (fresh)",
    ]


@pytest.mark.parametrize(
    ("pattern", "each"), [(jd.PerMatrix(0.5), 4), (jd.NM(1, 2), 4), (jd.PerRow(0.25), None)], ids=str
)
def test_what_was_asked_of_each(scope, pattern, each):
    masks, census = jd.choose_masks(scope, pattern)
    asked = [row["asked"] for row in census.as_dict()["matrices"]]
    assert asked == ([each, each] if each else [2, 4])  # of rows of 2, a quarter is 0.5: halves go up
    assert asked == [int((~mask).sum()) for mask in masks.values()] and census.asked == sum(asked) == census.removed


@pytest.mark.parametrize(
    ("score", "words"), [("random", "; control: at random"), ("largest", "; control: the LARGEST magnitudes")]
)
def test_controls_say_so(scope, score, words):
    masks, census = jd.choose_masks(scope, jd.Unstructured(0.5), score, seed=3)
    assert census.pattern.endswith(words) and census.score == score
    function = {"random": jd.random(3), "largest": jd.largest}[score]
    again, counted = jd.choose_masks(scope, jd.Unstructured(0.5), function)
    assert counted == census and not any(jd.compare(masks, again).values())


def test_a_mask_file_takes_the_place_of_pattern_and_score(scope, tmp_path):
    masks, _ = jd.choose_masks(scope, jd.Unstructured(0.5))
    path = tmp_path / "mask.safetensors"
    jd.save_masks(path, {"0.weight": masks["0.weight"]})
    assert [file.name for file in tmp_path.iterdir()] == ["mask.safetensors"]
    loaded, counted = jd.choose_masks(scope, mask_file=str(path))
    assert list(loaded) == ["0.weight"] and torch.equal(loaded["0.weight"], masks["0.weight"])
    assert (counted.pattern, counted.score, counted.asked) == (f"mask file {path}", None, None)
    assert counted.left_out["1.weight"] == "not in the mask file"
    with pytest.raises(jd.UserError, match=r"^pattern: give a pattern"):
        jd.choose_masks(scope)
    jd.save_masks(path, {"0.weight": masks["1.weight"]})
    with pytest.raises(jd.UserError, match=r"the mask of 0\.weight is \(4, 2\), the matrix is \(2, 4\)"):
        jd.choose_masks(scope, mask_file=str(path))
    jd.save_masks(path, {"2.weight": masks["1.weight"]})
    with pytest.raises(jd.UserError, match=r"holds a mask for 2\.weight, which is not in the scope"):
        jd.choose_masks(scope, mask_file=str(path))


def test_masks_of_ones_own(scope):
    counted = jd.census(scope, {"0.weight": torch.ones(2, 4, dtype=torch.bool)})
    assert (counted.removed, counted.threshold, counted.asked) == (0, None, None)
    assert counted.left_out == {"1.bias": "bias", "1.weight": "not masked"}
    assert str(counted).startswith("masks: 0 of 8 weights removed (0.0000%) in 1 matrices")


def test_zeros_are_counted_in_masked_matrices_only(scope):
    masks, census = jd.choose_masks(scope, jd.PerMatrix(0.5))
    parameters = {name: weight * masks[name] for name, weight in scope.matrices.items()}
    assert zero_count(parameters, masks) == census.removed == 8


def test_only_kernels_are_called_kernels():
    """A name may hold the word too, as Funnel's r_kernel does."""
    model = nn.ModuleDict({"r_kernel": nn.Linear(4, 4), "second": nn.Linear(4, 4)})
    _, census = jd.choose_masks(jd.find_scope(model, exclude=["r_kernel"]), jd.Unstructured(0.5))
    assert census.kernels == [] and not [line for line in census.lines("sparse transfer") if "kernel" in line]
    model["looks_around"] = nn.Conv1d(4, 4, 3)
    _, census = jd.choose_masks(jd.find_scope(model), jd.Unstructured(0.5))
    (said,) = [line for line in census.lines("sparse transfer") if "kernel" in line]
    assert said == "1 kernel(s) of convolutions are not matrices and left out, such as looks_around.weight"


def test_how_much_of_the_removed_is_embedding_and_a_row_of_zeros_is_no_exception():
    """A tied table counts once, by any of its names; the row of the padding is zeros that were there before."""
    table, layer, head = nn.Embedding(4, 3, padding_idx=0), nn.Linear(3, 3, bias=False), nn.Linear(3, 4, bias=False)
    with torch.no_grad():
        table.weight[1:] = torch.arange(1.0, 10).view(3, 3)
        layer.weight.fill_(0.5)
    head.weight = table.weight
    scope = jd.find_scope(nn.ModuleDict({"head": head, "layer": layer, "table": table}))
    _, census = jd.choose_masks(scope, jd.Unstructured(0.6667))
    said = census.as_dict()
    assert scope.embeddings == {"head.weight"}
    assert said["embeddings"] == {"weights": 12, "removed": 5}  # three zeros, then the nine halves, then 1 and 2
    assert said["zeros_before"] == {"weights": 3, "removed": 3} and said["removed"] == 14
    _, few = jd.choose_masks(scope, jd.Unstructured(0.0952))
    assert few.as_dict()["zeros_before"] == {"weights": 3, "removed": 2}
    without = jd.find_scope(nn.ModuleDict({"head": head, "layer": layer, "table": table}), embeddings=False)
    assert jd.choose_masks(without, jd.Unstructured(0.5))[1].as_dict()["embeddings"] == {"weights": 0, "removed": 0}
