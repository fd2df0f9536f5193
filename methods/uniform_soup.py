"""Uniform soup (Wortsman et al. 2022, arXiv 2203.05482): the average of all members.

    theta* = (1/N) sum_n theta_n

BatchNorm's running statistics are averaged like the weights; integer buffers are the largest
ones. It is the baseline of all other merge rules, and with ``corrupt`` shows what one bad member
does to an average.

Deviation: the original soups fine-tunings of one pretrained network without BatchNorm; here the
members are what the run's training rule and initialization make them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.merging.robust import RobustRule

if TYPE_CHECKING:
    from wash_bench.core.layout import Layout
    from wash_bench.core.population import ModelState


class UniformSoup(RobustRule):
    """The average of all members."""

    name = "uniform-soup"
    rule = "theta* = (1/N) sum_n theta_n"
    paper = "Wortsman et al. 2022, arXiv 2203.05482"
    when = "members in one basin: the baseline of all merge rules"
    needs = ""

    def combine(self, states: Sequence[ModelState], layout: Layout) -> ModelState:
        return type(states[0]).mean(states)
