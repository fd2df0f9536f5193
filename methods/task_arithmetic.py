"""Task arithmetic (Ilharco et al. 2023, arXiv 2212.04089): changes since a common start, added.

With theta_0 the network that all members were fine-tuned from,

    delta_n = theta_n - theta_0                       the task vector of member n
    theta*  = theta_0 + lambda sum_n delta_n

``combine = mean`` averages the task vectors instead; with lambda = 1 that is the uniform soup. Of
several ``scales``, validation accuracy chooses lambda.

The form is that of mergekit (arcee-ai/mergekit, commit a6e4028, generalized_task_arithmetic.py),
whose sum is divided by the sum of the members' weights if it is asked to normalize. The paper adds
tasks that differ; here the members learned the same one, so that their task vectors have much in
common and small lambdas, about 1/N, are where to look.

BatchNorm's running statistics are averaged over the members, for those of the start need not be of
a trained network; ``reestimated`` has them re-estimated on training images. The members need
``--init shared`` or ``--init checkpoint:PATH``.

Unverified: how the paper chooses lambda; the grid is this suite's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.core.method import option
from wash_bench.merging.anchored import (
    COMBINE,
    SCALES,
    AnchoredRule,
    Combination,
    ScaledOptions,
    joined,
)

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.merge_context import MergeContext


class TaskArithmeticOptions(ScaledOptions):
    """Settings of task arithmetic."""

    scales: tuple[float, ...] = option(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        SCALES,
        unverified="this suite's grid",
        min_length=1,
    )
    combine: Combination = option("sum", COMBINE)


class TaskArithmetic(AnchoredRule):
    """The common start plus a multiple of the sum of what the members learned."""

    name = "task-arithmetic"
    rule = "theta* = theta_0 + lambda sum_n (theta_n - theta_0), lambda on validation data"
    paper = "Ilharco et al. 2023, arXiv 2212.04089"
    when = "fine-tunings of one checkpoint, and how far to go along their changes"
    needs = "a common start; a validation split for lambda"
    Options = TaskArithmeticOptions
    options: TaskArithmeticOptions  # pyright: ignore[reportIncompatibleVariableOverride]

    def sparse(self, delta: Tensor, member: int, judge: MergeContext) -> Tensor:
        return delta

    def combined(self, deltas: Tensor) -> Tensor:
        return joined(deltas, self.options.combine)
