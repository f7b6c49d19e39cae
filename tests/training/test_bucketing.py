"""Dividing batches by length."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from junkdna.training.bucketing import COARSE, FINE, REPEATED, Grain, divide, grain_on


@pytest.mark.parametrize(("device", "precision", "grain"), [
    ("cpu", "no", FINE),
    ("cpu", "bf16", REPEATED),
    ("cuda", "bf16", COARSE),
    ("cuda", "no", COARSE),
    ("mps", "no", COARSE),
])  # fmt: skip
def test_the_grain_is_the_devices_at_its_precision(device, precision, grain):
    accelerator = SimpleNamespace(device=torch.device(device), mixed_precision=precision)
    assert grain_on(accelerator, nn.Linear(2, 2)) == grain


def test_a_cut_is_worth_more_where_the_model_is_large():
    def worth(millions, precision="bf16"):
        model = nn.Sequential(*(nn.Linear(1000, 1000, device="meta") for _ in range(millions)), nn.LayerNorm(1000))
        return grain_on(SimpleNamespace(device=torch.device("cpu"), mixed_precision=precision), model).worth

    assert [worth(millions) for millions in (1, 20, 40, 80, 300)] == [1024, 1024, 512, 256, 256]
    assert worth(300, "no") == FINE.worth


def test_lengths_are_padded_to_the_grain():
    grain = Grain(worth=1, tokens=4)
    assert [grain.padded(length) for length in (1, 4, 5, 8)] == [4, 4, 8, 8]
    assert [FINE.padded(length) for length in (1, 7)] == [1, 7]
    assert Grain(worth=1, tokens=4, most=7).padded(np.array([1, 5, 7])).tolist() == [4, 7, 7]  # a model's last place


def test_parts_of_a_coarser_grain_have_few_shapes_and_each_example_once():
    draw = np.random.default_rng(0)
    lengths = draw.integers(5, 40, 4000)
    shapes = {}
    for name, grain in (("any", FINE), ("few", REPEATED)):
        found = set()
        for _ in range(60):
            examples = draw.permutation(4000)[:128]
            parts = divide(examples, (lengths,), grain)
            assert sorted(np.concatenate(parts)) == sorted(examples)
            assert all(len(part) % grain.step(128) == 0 for part in parts)
            found |= {len(part) * grain.padded(int(lengths[part].max())) for part in parts}
        shapes[name] = len(found)
    assert 3 * shapes["few"] < shapes["any"], shapes


def test_an_odd_number_of_examples_leaves_the_last_part_short():
    lengths = np.array([40] * 20 + [5] * 21)
    parts = divide(np.arange(41), (lengths,), Grain(worth=8, shares=4, tokens=4))
    assert [len(part) for part in parts] == [22, 19]  # multiples of 11
    assert len(divide(np.arange(9), (lengths,), Grain(worth=1, shares=1))) == 1


def test_a_cut_must_save_what_it_is_worth():
    lengths = np.array([40] * 16 + [20] * 16)
    assert len(divide(np.arange(32), (lengths,), Grain(worth=320, shares=2))) == 2  # saves 16 x 20
    assert len(divide(np.arange(32), (lengths,), Grain(worth=321, shares=2))) == 1
