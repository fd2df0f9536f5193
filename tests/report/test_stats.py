"""Means over seeds, their intervals and ranks, against hand calculations."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wash_bench.metrics import METRICS
from wash_bench.report import style
from wash_bench.report.numbers.stats import estimate, paired
from wash_bench.report.tables.caption import intervals
from wash_bench.report.tables.grid import with_interval, written
from wash_bench.report.tables.main_table import rank


def test_interval_is_students_t():
    # By hand: mean 2, std 1, t(0.975, 2) = 4.302653, half-width 4.302653 / sqrt(3).
    value = estimate([1.0, 2.0, 3.0])
    assert (value.mean, value.std, value.n) == (2.0, 1.0, 3)
    assert value.half_width == pytest.approx(2.484138, abs=1e-6)


def test_one_seed_has_no_interval_and_says_so():
    value = estimate([5.0])
    assert (value.mean, value.std, value.half_width, value.contains_zero) == (5, None, None, None)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8))
def test_interval_agrees_with_scipy(values):
    from scipy import stats

    value = estimate(values)
    assert value.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
    scale = stats.sem(values)
    if scale > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=value.mean, scale=scale)
        assert value.half_width == pytest.approx((high - low) / 2, rel=1e-6)


def test_missing_values_are_left_out_and_infinities_are_not():
    assert estimate([1.0, math.nan, 3.0]).n == 2
    assert estimate([1.0, math.inf]).mean == math.inf
    assert estimate([1.0, math.inf]).half_width is None
    assert math.isnan(estimate([]).mean)


def test_paired_difference_uses_common_seeds():
    # Differences 1.0, 1.2, 1.4 however far the seeds lie apart; seed 9 has no partner.
    a = {0: 51.0, 1: 71.2, 2: 91.4, 9: 0.0}
    b = {2: 90.0, 1: 70.0, 0: 50.0}
    value = paired(a, b)
    assert value.mean == pytest.approx(1.2)
    assert value.half_width == pytest.approx(4.302653 * 0.2 / math.sqrt(3), abs=1e-6)
    assert value.contains_zero is False


def test_rank_marks_the_best_and_what_seeds_cannot_tell_from_it():
    values = {
        "best": {0: 90.0, 1: 91.0, 2: 92.0},
        "near": {0: 90.2, 1: 90.8, 2: 91.7},  # differences -0.2, 0.2, 0.3: contains 0
        "below": {0: 89.0, 1: 90.05, 2: 91.0},  # differences 1.0, 0.95, 1.0: does not
    }
    assert rank(values) == ({"best"}, {"near"})


def test_rank_compares_nothing_where_there_is_nothing_to_compare():
    assert rank({"a": {0: 1.0}, "b": {0: 2.0}}) == ({"b"}, set())
    assert rank({"a": {0: 1.0}}) == (set(), set())
    assert rank({"a": {0: 1.0}, "b": {}}) == (set(), set())
    assert rank({"a": {0: 1.0}, "b": {0: 1.0}}) == (set(), set())
    assert rank({"a": {0: 1.0}, "b": {0: 1.0}, "c": {0: 0.5}}) == ({"a", "b"}, set())


def test_differences_of_an_image_are_not_told_apart_whatever_their_spread():
    a, b = {0: 80.25, 1: 81.25, 2: 79.25}, {0: 80.0, 1: 81.0, 2: 79.0}  # one image of 397 each
    assert paired(a, b).contains_zero is False
    assert paired(a, b, 397).contains_zero
    assert rank({"a": a, "b": b}, 397) == ({"a"}, {"b"})
    far = {seed: value - 10 for seed, value in a.items()}
    assert paired(a, far, 397).half_width == pytest.approx(1.96 * 100 * math.sqrt(0.1 / 397))
    assert rank({"a": a, "far": far}, 397) == ({"a"}, set())


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_the_least_error_is_that_of_the_images_on_which_two_networks_differ(hits):
    """McNemar's standard error of a difference, from the images themselves, is never less."""
    m = len(hits)
    only_a, only_b = sum(a and not b for a, b in hits), sum(b and not a for a, b in hits)
    d = 100 * (only_a - only_b) / m
    error = 100 * math.sqrt(only_a + only_b) / m
    seeds = {0: 50.0 + d, 1: 50.0 + d}, {0: 50.0, 1: 50.0}
    assert paired(*seeds, m).half_width <= 1.96 * error + 1e-9


# How they are shown ---------------------------------------------------------------------------


def test_two_seeds_are_shown_with_their_range_and_judged_by_t():
    value = estimate([90.0, 91.0])
    assert value.shown == 0.5 and value.half_width == pytest.approx(12.706205 * 0.5, abs=1e-5)
    assert with_interval(value, 2) == "90.50 ± 0.50"
    assert estimate([-0.5, 1.5]).contains_zero
    assert "half the difference of the two" in intervals([0, 1])
    assert "Student" not in intervals([0, 1]) and "Student" in intervals([0, 1, 2])
    assert estimate([1.0, 2.0, 3.0]).shown == estimate([1.0, 2.0, 3.0]).half_width
    assert (style.bars(2), style.bars(1)) == ("bars: range of 2 seeds", "one seed")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([98.0, 99.0, 100.0], "99.00 +1.00/−2.48"),
        ([0.0, 1.0, 2.0], "1.00 +2.48/−1.00"),
        ([50.0, 51.0, 52.0], "51.00 ± 2.48"),
        ([100.0, 100.0], "100.00 ± 0.00"),
        ([7.0], "7.00"),
    ],
)
def test_intervals_of_accuracies_end_where_accuracies_do(values, text):
    assert written(estimate(values), METRICS["average_acc"]) == text
    assert "/" not in written(estimate(values), METRICS["barrier_loss_max"])
