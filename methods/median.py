"""Coordinate-wise median: the robust aggregation that distributed learning starts from.

    theta*^i = median(theta_1^i, ..., theta_N^i)

For even N it is the mean of the two middle values. It is among the rules that Vlaski et al. (2022,
arXiv 2204.00586, abstract) set out to better, and stays among the sound members' values as long as
fewer than half of the members are spoiled. BatchNorm's running statistics get the same rule,
integer buffers are the largest ones.

Deviation: there the rule combines the updates of each round of a distributed training; here it
combines the members once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.merging.robust import RobustRule

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.layout import Layout
    from wash_bench.core.population import ModelState


def median(rows: Tensor) -> Tensor:
    """The median (K,) of sorted columns (N, K)."""
    n = len(rows)
    return (rows[(n - 1) // 2] + rows[n // 2]) / 2


class Median(RobustRule):
    """The coordinate-wise median of the members."""

    name = "median"
    rule = "theta* = median of theta_1..theta_N, for each coordinate"
    paper = "a baseline of Vlaski et al. 2022, arXiv 2204.00586"
    when = "one spoiled member among three or more"
    needs = ""

    def combine(self, states: Sequence[ModelState], layout: Layout) -> ModelState:
        from wash_bench.merging.columns import columnwise

        return columnwise(states, median)
