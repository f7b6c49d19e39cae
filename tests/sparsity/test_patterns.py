from decimal import Decimal
from fractions import Fraction

import pytest

from junkdna.errors import UserError
from junkdna.sparsity.patterns import NM, decimal_text, nm_from_sparsity, parse_nm, parse_sparsity, removed_count


def test_the_count_follows_the_typed_decimal_not_its_float():
    assert removed_count(parse_sparsity("0.7"), 10) == 7
    assert removed_count(parse_sparsity("0.29"), 100) == 29  # 0.29 * 100 is 28.999... in floats
    assert removed_count(parse_sparsity("0.5"), 85_526_016) == 42_763_008
    for tenths in range(10):
        assert removed_count(parse_sparsity(f"0.{tenths}"), 303_040_510) == 30_304_051 * tenths


@pytest.mark.parametrize(
    ("sparsity", "size", "count"), [("0.5", 3, 2), ("0.5", 1, 1), ("0.25", 1, 0), ("0.1", 14, 1), ("0.1", 15, 2)]
)
def test_rounding_is_to_the_nearest_and_halves_go_up(sparsity, size, count):
    assert removed_count(Decimal(sparsity), size) == count


@pytest.mark.parametrize("text", ["1", "1.0", "-0.1", "nan", "inf", "half", "", "0.1234567890123"])
def test_sparsities_out_of_range_are_refused(text):
    with pytest.raises(UserError, match=r"^sparsity"):
        parse_sparsity(text)


def test_equal_sparsities_are_one_value():
    assert parse_sparsity("0.50") == parse_sparsity(".5") and decimal_text(parse_sparsity("0.50")) == "0.5"
    assert decimal_text(parse_sparsity("0.0")) == "0" and decimal_text(Decimal("1E+1")) == "10"


@pytest.mark.parametrize("digits", range(7))
def test_two_historical_digits_mean_pruned_of_group(digits):
    pruned = digits + 1
    assert parse_nm(f"{pruned}8") == parse_nm(f"{8 - pruned}:8") == NM(8 - pruned, 8)
    assert parse_nm(f"{pruned}8").sparsity == Fraction(pruned, 8)


@pytest.mark.parametrize(
    "text", ["0:8", "9:8", "2:65", "1:1", "88", "98", "10", "8", "2/8", "-2:8", "2:", "two", "168"]
)
def test_malformed_ratios_are_refused(text):
    with pytest.raises(UserError, match=r"^nm"):
        parse_nm(text)


def test_a_sparsity_picks_n_of_8_only_where_it_is_exact():
    assert [nm_from_sparsity(parse_sparsity(s)).keep for s in ("0", "0.125", "0.5", "0.875")] == [8, 7, 4, 1]
    with pytest.raises(UserError, match=r"0\.625 \(3:8\)"):
        nm_from_sparsity(parse_sparsity("0.6"))


def test_words_say_which_number_is_kept():
    assert "keep 2 of every 8" in str(parse_nm("68")) and parse_nm("68").slug == "2of8"
