"""Lookaround: k steps around, one step average (Zhang et al. 2023, NeurIPS, arXiv 2306.07684).

From one common point phi,

    around:   for k steps, every member trains on the same minibatch as the others, each under
              an augmentation of its own
    average:  phi <- (1/N) sum_n theta_n;  theta_n <- phi for every n

and so on to the end (algorithm in the README's figure; lookaround.py of the published code). Each
head keeps its own momentum, which an average leaves as it is. k is counted over the whole
training, across the ends of epochs. All members follow member 0's order of the images.

Deviations: the published code trains one network object in turn as each head, so that all heads
share BatchNorm's running statistics; here every member has its own and they are averaged with
the weights. The last step is not an average: the members end distinct and the average is taken
as the merge. The third branch of the code is RandAugment (after flip and AutoAugment), which the
suite lacks; cutout stands in its place, and a branch adds to the base recipe (crop, flip) instead
of replacing the flip.

Verified in the published code: the rule, k = 5, N = 3, momentum kept per head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.branches import Branch, BranchOptions
from wash_bench.core.ledger import CommEvent
from wash_bench.core.method import CommShape, Method, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import mean_charges, restart_from_mean, start_charges, start_equal

if TYPE_CHECKING:
    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population
    from wash_bench.data.recipe import Recipe


class LookaroundOptions(BranchOptions):
    """Settings of Lookaround."""

    branches: tuple[Branch, ...] = option(
        ("plain", "auto-augment", "cutout"),
        "augmentation of member 0, 1, ..., repeated as needed: "
        "auto-augment, cutout, cutmix, mixup, plain",
        unverified="the published code has RandAugment where the default has cutout",
        min_length=1,
    )
    every: int = option(5, "k, the steps around between two averages", unit="steps", ge=1)


class Lookaround(Method):
    """The same minibatches under different augmentations, averaged every few steps."""

    name = "lookaround"
    rule = "same minibatch, own augmentation; theta_n <- mean every k steps"
    paper = "Zhang et al. 2023, arXiv 2306.07684"
    sends = "one copy of the common start, then all weights every k steps (d/k values a step)"
    when = "one network out of several augmentations of the same images"
    needs = "a common start; an average every few steps"
    Options = LookaroundOptions
    options: LookaroundOptions

    def recipe(self, member: int, base: Recipe, clock: StepInfo) -> Recipe:
        return self.options.recipe(member, base)

    def order(self, member: int, clock: StepInfo) -> int:
        return 0

    def due(self, clock: StepInfo) -> bool:
        """Whether the members are averaged after this step."""
        return (clock.step + 1) % self.options.every == 0 and not clock.last

    def start(self, population: Population, exchange: Exchange) -> None:
        start_equal(population, exchange)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if self.due(clock):
            restart_from_mean(population, exchange)

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        return start_charges(site, clock) + (mean_charges(site) if self.due(clock) else [])
