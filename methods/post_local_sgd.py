"""Post-local SGD: synchronous first, local SGD later (Lin et al. 2020, arXiv 1808.07217).

With S the step of the switch and t the steps taken so far,

    t <= S:  theta_n <- mean                 after every step
    t > S:   theta_n <- mean                 when t - S is a multiple of H

The first phase is large-batch training where the members start together and the optimizer is SGD
(averaging the weights is averaging the gradients, momentum included); with Adam, or from different
initializations, it is local SGD with H = 1. What is averaged, and that the last step does not
average, is local SGD's.

Unverified: the moment of the switch (recalled: the first decay of the learning rate, half-way in
the CIFAR runs) and H (recalled: 16 in the main experiments). The abstract, which was at hand,
settles the two phases only.
"""

import math

from wash_bench.core.method import option
from wash_bench.core.step_info import StepInfo
from wash_bench.methods.local_sgd import LocalSgd, LocalSgdOptions

RECALLED = "recalled, not checked against the paper"


class PostLocalSgdOptions(LocalSgdOptions):
    """Settings of post-local SGD."""

    every: int = option(
        16,
        "H, the time between two averages after the switch",
        unit="steps",
        unverified=RECALLED,
        ge=1,
    )
    switch: float = option(
        0.5,
        "synchronous part of the training, averaged after every step (rounded down to steps)",
        unit="share of steps",
        unverified=RECALLED,
        ge=0,
        le=1,
    )


class PostLocalSgd(LocalSgd):
    """Members averaged after every step at first, every H steps later."""

    name = "post-local-sgd"
    rule = "theta_n <- mean after every step up to the switch, every H steps after it"
    paper = "Lin et al. 2020, arXiv 1808.07217"
    sends = "all weights at every step up to the switch, then every H steps"
    when = "local SGD whose first part is synchronous"
    needs = "SGD, for the first part to be large-batch training"
    Options = PostLocalSgdOptions
    options: PostLocalSgdOptions  # pyright: ignore[reportIncompatibleVariableOverride]

    def switch_steps(self, clock: StepInfo) -> int:
        """S, the length of the synchronous phase."""
        return math.floor(self.options.switch * clock.steps + 1e-9)  # 0.29 * 100 is 28.9999...

    def due(self, clock: StepInfo) -> bool:
        alone = clock.step + 1 - self.switch_steps(clock)
        return not clock.last and (alone <= 0 or alone % self.options.every == 0)
