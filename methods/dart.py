"""DART: diversify, aggregate, repeat (Jain et al. 2023, CVPR; algorithm in the README's figure).

1. One network is trained under the common recipe for the first part of the training.
2. Diversify: it is copied to all members with its whole training state; member m trains with an
   augmentation of its own.
3. Aggregate: every lambda epochs the members' weights and BatchNorm statistics are averaged and
   everybody restarts from the average.
4. Steps 2 and 3 repeat to the end; the single model is the average.

The optimizer's state is neither averaged nor reset at an aggregation, as in the published
DomainBed code (trainer.py:432-472). The last step is not an aggregation: the members end distinct
and the average is taken as the merge, so that members and ensemble can be compared with it.

Deviations: in the figure the branches share the budget of one network, (E - E')/(M r) epochs a
round; here each member trains in full, as the members of all other methods do. A compute-matched
budget is out of scope. A share that comes to zero epochs leaves the start to the run's initial
weights (shared initialization gives the common start of the algorithm).

Unverified: the length of the common start, lambda, and the branches and their strengths (the
code of the in-domain experiments is not published; the results table names AutoAugment, Cutout
and CutMix). Which setting of DART the WASH paper compares with is not known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.branches import Branch, BranchOptions
from wash_bench.core.budget import Budget, Scaled, scaled_period
from wash_bench.core.ledger import CommEvent, charge_broadcast
from wash_bench.core.method import CommShape, Method, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import mean_charges, restart_from_mean

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.ledger import Content
    from wash_bench.core.population import Population
    from wash_bench.data.recipe import Recipe


class DartOptions(BranchOptions):
    """Settings of DART."""

    branches: tuple[Branch, ...] = option(
        ("auto-augment", "cutout", "cutmix"),
        "augmentation of member 0, 1, ..., repeated as needed: "
        "auto-augment, cutout, cutmix, mixup, plain",
        unverified="recalled; the code of the in-domain experiments is not published",
        min_length=1,
    )
    warmup: float = option(
        0.5,
        "common start, in which only one network is trained (rounded down to epochs)",
        unit="share of epochs",
        unverified="recalled; the code of the in-domain experiments is not published",
        ge=0,
        lt=1,
    )
    every: int = option(
        5,
        "lambda, the time between two aggregations",
        unit="epochs",
        unverified="the interval of the in-domain experiments is not known",
        ge=1,
    )
    cutout: int = option(
        8,
        "side of the square of the cutout branch",
        unit="pixels",
        unverified="the branch's strength is not known",
        ge=1,
    )
    cutmix: float = option(
        1.0,
        "alpha of the cutmix branch's Beta(alpha, alpha)",
        unverified="the branch's strength is not known",
        gt=0,
    )


class Dart(Method):
    """Branches with their own augmentation, averaged and restarted every few epochs."""

    name = "dart"
    rule = "common start, then own augmentations; theta_n <- mean every lambda epochs"
    paper = "Jain et al. 2023, arXiv 2302.14685"
    sends = "one copy of the common start, then all weights every lambda epochs"
    when = "few exchanges, and members that differ by their augmentation"
    needs = "augmentations that help by themselves; a training long enough for warm-up and restarts"
    Options = DartOptions
    options: DartOptions
    coupling = ("every",)

    def scaled(self, budget: Budget) -> Scaled:
        """Lambda's share of the training kept, in whole epochs; the start is a share anyway."""
        every = self.options.every
        return scaled_period("every", every, budget.epochs, budget.paper_epochs, "epochs")

    def warmup_epochs(self, clock: StepInfo) -> int:
        """E', the epochs in which only member 0 trains."""
        share = self.options.warmup * clock.epochs
        return math.floor(share + 1e-9)  # 0.29 * 100 is 28.999999999999996

    def warming_up(self, clock: StepInfo) -> bool:
        return clock.epoch < self.warmup_epochs(clock)

    def active(self, n: int, clock: StepInfo) -> int:
        return 1 if self.warming_up(clock) else n

    def recipe(self, member: int, base: Recipe, clock: StepInfo) -> Recipe:
        if self.warming_up(clock):
            return base
        return self.options.recipe(member, base)

    def copies(self, clock: StepInfo) -> bool:
        """Whether the common start ends with this step."""
        return clock.epoch_end and clock.epoch + 1 == self.warmup_epochs(clock)

    def aggregates(self, clock: StepInfo) -> bool:
        """Whether the members restart from their average after this step."""
        epochs = clock.epoch + 1 - self.warmup_epochs(clock)
        return (
            clock.epoch_end and not clock.last and epochs > 0 and epochs % self.options.every == 0
        )

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if self.copies(clock):
            for rows, content in self._training_state(population):
                exchange.broadcast_(rows, 0, content)
        elif self.aggregates(clock):
            restart_from_mean(population, exchange)

    def _training_state(self, population: Population) -> list[tuple[Tensor, Content]]:
        rows: list[tuple[Tensor, Content]] = [
            (population.weights, "weights"),
            *((state, "optimizer") for state in population.optimizer_state.values()),
            (population.buffers, "buffers"),
            (population.counters, "buffers"),
            (population.optimizer_steps.unsqueeze(1), "buffers"),
        ]
        return [(tensor, content) for tensor, content in rows if tensor.shape[1]]

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        n, layout = site.n, site.layout
        if self.copies(clock):
            optimizer = charge_broadcast(n, layout.size, "optimizer")
            beside = ((layout.buffer_size, 4), (layout.counter_size, 8), (1, 4))
            return [
                charge_broadcast(n, layout.size),
                *[optimizer] * site.optimizer_slots,
                *(charge_broadcast(n, size, "buffers", item) for size, item in beside if size),
            ]
        if self.aggregates(clock):
            return mean_charges(site)
        return ()
