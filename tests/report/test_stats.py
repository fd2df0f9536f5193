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
from wash_bench.report.tables.table import format_estimate, with_interval


def test_interval_is_students_t():
    # By hand: mean 2, std 1, t(0.975, 2) = 4.302653, half-width 4.302653 / sqrt(3).
    value = estimate([1.0, 2.0, 3.0])
    assert (value.mean, value.std, value.n) == (2.0, 1.0, 3)
    assert value.half_width == pytest.approx(2.484138, abs=1e-6)


def test_one_seed_has_no_interval_and_says_so():
    value = estimate([5.0])
    assert (value.mean, value.std, value.half_width, value.contains_zero) == (5, None, None, None)


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=8))
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


# How they are shown ---------------------------------------------------------------------------


def test_two_seeds_are_shown_as_they_are():
    value = estimate([90.0, 91.0])
    assert value.half_width is None and value.contains_zero is None
    assert with_interval(value, 2) == "90.00, 91.00"
    assert with_interval(paired({0: 1.0, 1: 1.0}, {0: 0.5, 1: 2.0}), 1, signed=True) == "+0.5, −1.0"
    assert value.bar() == (0.5, 0.5)  # of a figure, whose legend says so
    assert "values themselves" in intervals([0, 1])
    assert "Student" not in intervals([0, 1]) and "Student" in intervals([0, 1, 2])
    assert (style.bars(2), style.bars(1)) == ("bars: range of 2 seeds", "one seed")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([98.0, 99.0, 100.0], "99.00 +1.00/−2.48"),
        ([0.0, 1.0, 2.0], "1.00 +2.48/−1.00"),
        ([50.0, 51.0, 52.0], "51.00 ± 2.48"),
        ([100.0, 100.0, 100.0], "100.00 ± 0.00"),
        ([100.0, 99.0], "100.00, 99.00"),
        ([7.0], "7.00"),
    ],
)
def test_intervals_of_accuracies_end_where_accuracies_do(values, text):
    assert format_estimate(estimate(values), METRICS["average_acc"]) == text
    assert "/" not in format_estimate(estimate(values), METRICS["barrier_loss_max"])
