"""PAPA-all: the whole population averaged every few epochs (Jolicoeur-Martineau et al. 2024).

At the end of epochs 0, K, 2K, ... (counted from 0; main.py:216-339 of the published code, commit
47ad83a, option ``avg``; its ``mix_from_start`` lets the first epoch count)

    theta_n <- (1/N) sum_m theta_m          for every n

except at the end of the last epoch. All entries of the networks' state are averaged, BatchNorm
running statistics included; integer buffers are equal in all members. The optimizers' momentum
stays as it was. The members end distinct; the single model is their average or the greedy soup.
It is local SGD whose period is counted in epochs.

Deviation: the published code runs REPAIR on every child of a merge, this does not. REPAIR rescales
each channel of a convolution's output. A BatchNorm behind the convolution removes any such
rescaling, as it normalizes by the batch while training, so the repaired network trains on as the
same function; the running statistics forget the merge within a few tens of batches. (For
convolutions without bias the published REPAIR also drops a shift.) In networks without BatchNorm
the merges are not repaired either.

K = 5 is the published setting for CIFAR; for ImageNet it is 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.core.budget import Budget, Scaled, scaled_period
from wash_bench.core.method import option
from wash_bench.core.step_info import StepInfo
from wash_bench.methods.local_sgd import LocalSgd, LocalSgdOptions

if TYPE_CHECKING:
    from wash_bench.core.merge_context import MergeContext, Predictor
    from wash_bench.core.population import Population


class PapaAllOptions(LocalSgdOptions):
    """Settings of PAPA-all."""

    every: int = option(5, "K, the time between two merges", unit="epochs", ge=1)


class PapaAll(LocalSgd):
    """Members replaced by their mean every K epochs."""

    name = "papa-all"
    rule = "theta_n <- mean after epochs 0, K, 2K, ..., the last one excepted"
    paper = "Jolicoeur-Martineau et al. 2024, arXiv 2304.03094"
    sends = "all weights every K epochs"
    when = "PAPA over a slow link: full averages at the ends of some epochs"
    needs = "a training of several K epochs"
    Options = PapaAllOptions
    coupling = ("every",)

    def scaled(self, budget: Budget) -> Scaled:
        """K as a share of the training kept, in whole epochs."""
        every = self.options.every
        return scaled_period("every", every, budget.epochs, budget.paper_epochs, "epochs")

    def due(self, clock: StepInfo) -> bool:
        return clock.epoch_end and not clock.last and clock.epoch % self.options.every == 0

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        return {"average": judge.average(), "greedy": judge.greedy()}
