"""Robust and efficient mean: an M-estimate of location (Vlaski et al. 2022, arXiv 2204.00586).

Median and trimmed mean pay for their robustness with the accuracy of a much smaller population;
the paper seeks rules that are robust and nearly as efficient as the mean. Here, for each
coordinate, Tukey's redescending M-estimate of location by iterative reweighting:

    mu  <- median of theta_1..theta_N
    s   <- 1.4826 median |theta_n - mu|
    repeat:  w_n = (1 - ((theta_n - mu)/(c s))^2)^2, or 0 beyond c s
             mu <- sum_n w_n theta_n / sum_n w_n

c = 4.685 gives 95 % of the mean's efficiency for Gaussian values, 1.4826 makes the median
deviation the standard deviation of Gaussian ones. Where more than half of the values agree, s = 0
and mu is their value. BatchNorm's running statistics get the same rule, integer buffers are the
largest ones.

Unverified: that the paper's estimator has this form (its aim is known from the abstract only; an
MM-estimate, which finds s first and another c, is as likely), c, and the number of iterations.
Deviation: there the rule combines the updates of each round of a distributed training; here it
combines the members once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.method import option
from wash_bench.merging.robust import RobustOptions, RobustRule
from wash_bench.methods.median import median

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.layout import Layout
    from wash_bench.core.population import ModelState

GAUSSIAN = 1.4826  # standard deviation of a Gaussian over its median absolute deviation
ABSTRACT = "the paper's estimator is known from its abstract only"


class RobustMeanOptions(RobustOptions):
    """Settings of the robust mean."""

    c: float = option(
        4.685,
        "distance from which on a value has no weight",
        unit="robust standard deviations",
        unverified=ABSTRACT,
        ge=1,
    )
    iterations: int = option(
        10, "reweighting steps after the median", unit="steps", unverified=ABSTRACT, ge=0
    )


def tukey_location(rows: Tensor, c: float, iterations: int) -> Tensor:
    """Tukey's M-estimate (K,) of the location of sorted columns (N, K)."""
    location = median(rows)
    deviations = (rows - location).abs().sort(dim=0).values
    reach = c * GAUSSIAN * median(deviations)
    for _ in range(iterations):
        # Without spread only what lies at the location itself counts: 0/0 is a small, x/0 a large.
        ratio = ((rows - location) / reach).nan_to_num(nan=0.0, posinf=2.0, neginf=-2.0)
        weights = (1 - ratio.square()).clamp(min=0).square()
        location = (weights * rows).sum(dim=0) / weights.sum(dim=0)
    return location


class RobustMean(RobustRule):
    """A coordinate-wise mean in which far values weigh less, and nothing from some distance on."""

    name = "robust-mean"
    rule = "theta* = sum_n w_n theta_n / sum_n w_n with Tukey's weights about the median"
    paper = "Vlaski et al. 2022, arXiv 2204.00586"
    when = "a spoiled member, with less lost among sound ones than by the median"
    needs = ""
    Options = RobustMeanOptions
    options: RobustMeanOptions

    def combine(self, states: Sequence[ModelState], layout: Layout) -> ModelState:
        from wash_bench.merging.columns import columnwise

        options = self.options
        return columnwise(states, lambda rows: tukey_location(rows, options.c, options.iterations))
