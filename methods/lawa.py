"""LAWA: latest weight averaging (Kaddour 2022, arXiv 2209.14981, section 2).

Each member is measured at the uniform mean of its k latest checkpoints, taken at the end of every
``every``-th epoch, or every ``steps`` steps if that is given; buffers included (lawa.py of the
published code). Fewer than k checkpoints are averaged while there are no more; before the first
one, the weights themselves are measured.

The training is not touched and nothing is sent; each member keeps k vectors of its own.

Verified in the published code: the uniform mean over a queue of checkpoints with their buffers,
k = 10 by default. The paper's ImageNet script averages five epochs where its text says k = 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wash_bench.core.method import MethodOptions, Rows, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.wrapper import Wrapper

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population


class LawaOptions(MethodOptions):
    """Settings of LAWA."""

    k: int = option(
        3, "checkpoints in the mean", unverified="10 in the code, over more steps", ge=1
    )
    every: int = option(1, "period of the checkpoints", unit="epochs", ge=1)
    steps: int = option(0, "the same in steps; 0: by epochs", unit="steps", ge=0)


class Lawa(Wrapper):
    """Each member replaced, when measured, by the mean of its latest checkpoints."""

    name = "lawa"
    rule = "the mean of each member's k latest checkpoints is measured"
    paper = "Kaddour 2022, arXiv 2209.14981"
    when = "the mean of the latest checkpoints, at any time of a training"
    needs = "k more vectors a member"
    Options = LawaOptions
    options: LawaOptions

    def own_slots(self) -> Mapping[str, Rows]:
        slots: dict[str, Rows] = {}
        for slot in range(self.options.k):
            slots |= {f"lawa-{slot}": "weights", f"lawa-buffers-{slot}": "buffers"}
        return slots

    def taken(self, clock: StepInfo) -> tuple[int, bool]:
        """Checkpoints taken so far, and whether one is taken after this step."""
        if self.options.steps:
            count, rest = divmod(clock.step + 1, self.options.steps)
            return count, rest == 0
        count, rest = divmod(clock.epoch + clock.epoch_end, self.options.every)
        return count, clock.epoch_end and rest == 0

    def start(self, population: Population, exchange: Exchange) -> None:
        super().start(population, exchange)
        self.follow(population)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        super().after_step(population, exchange, clock)
        count, due = self.taken(clock)
        if (due and count == 1) or (clock.last and count == 0):
            self.follow(population)
        elif due:
            # Slots hold the latest checkpoints in a ring. Until k have been taken, the mean over
            # the first ``count`` slots is that over all, since the rest are filled with it.
            slot = (count - 1) % self.options.k
            memory = population.member_state
            memory[f"lawa-{slot}"].copy_(population.weights)
            memory[f"lawa-buffers-{slot}"].copy_(population.buffers)
            for kind in ("lawa", "lawa-buffers"):
                for rest in range(count, self.options.k):
                    memory[f"{kind}-{rest}"].copy_(self._mean(population, kind, count))

    def _mean(self, population: Population, kind: str, count: int) -> Tensor:
        """The mean over the first ``count`` slots."""
        import torch

        slots = (population.member_state[f"{kind}-{slot}"] for slot in range(count))
        return sum(slots, torch.zeros(())) / count

    def evaluated(self, population: Population) -> Population:
        weights = self._mean(population, "lawa", self.options.k)
        buffers = self._mean(population, "lawa-buffers", self.options.k)
        return population.with_rows(weights, buffers, population.counters)
