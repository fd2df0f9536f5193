"""Coordinate-wise trimmed mean, a robust aggregation of distributed learning.

    k = ceil(beta N) but at most (N - 1)/2
    theta*^i = mean of theta_1^i..theta_N^i without the k smallest and the k largest

It is among the rules that Vlaski et al. (2022, arXiv 2204.00586, abstract) set out to better.
beta = 0 is the uniform soup; from (N - 1)/(2N) on it is the median. BatchNorm's running statistics
get the same rule, integer buffers are the largest ones.

The count is rounded up, so that a positive share always trims where N >= 3. With three members, or
four, every positive share leaves out one value at each side: at N = 3 the rule is the median.

Deviation: there the rule combines the updates of each round of a distributed training; here it
combines the members once, at the end. Unverified: the default of beta, which no source sets for
populations of this size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.method import option
from wash_bench.merging.robust import RobustOptions, RobustRule

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.layout import Layout
    from wash_bench.core.population import ModelState


class TrimmedMeanOptions(RobustOptions):
    """Settings of the trimmed mean."""

    trim: float = option(
        0.2,
        "beta, the share of the members left out at each side",
        unit="share of members",
        unverified="no source sets it for so few members",
        ge=0,
        lt=0.5,
    )


def trimmed(n: int, share: float) -> int:
    """k, how many of ``n`` values are left out at each side; one always stays."""
    return min(math.ceil(share * n - 1e-9), (n - 1) // 2)  # 0.07 * 100 is 7.000000000000001


class TrimmedMean(RobustRule):
    """The coordinate-wise mean of the members without the extreme ones."""

    name = "trimmed-mean"
    rule = "theta* = mean without the beta N smallest and largest values, for each coordinate"
    paper = "a baseline of Vlaski et al. 2022, arXiv 2204.00586"
    when = "one spoiled member among five or more; among three it is the median"
    needs = ""
    Options = TrimmedMeanOptions
    options: TrimmedMeanOptions

    def combine(self, states: Sequence[ModelState], layout: Layout) -> ModelState:
        from wash_bench.merging.columns import columnwise

        k = trimmed(len(states), self.options.trim)

        def rule(rows: Tensor) -> Tensor:
            return rows[k : len(rows) - k].mean(dim=0)

        return columnwise(states, rule)
