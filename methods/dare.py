"""DARE (Yu et al. 2024, arXiv 2311.03099): drop random changes, rescale the rest, then merge.

With delta_n = theta_n - theta_0 the change of member n since the common start, for every
coordinate i independently

    m_n^i ~ Bernoulli(density),   delta_n^i <- m_n^i delta_n^i / density
    theta* = theta_0 + lambda mean_n delta_n

The expectation of what is left is the change itself. ``combine = sum`` adds the members up;
``elect`` merges by TIES' election of a sign instead (mergekit's dare_ties). With density 1 nothing
is drawn and the rule is task arithmetic, or the merge of TIES.

The steps are those of mergekit (arcee-ai/mergekit, commit a6e4028, sparsify.py: ``bernoulli``, and
generalized_task_arithmetic.py). Draws come from the run's seed and the member's number.

The paper merges language models of several tasks; here the members learned the same one.
BatchNorm's running statistics are averaged over the members; ``reestimated`` has them re-estimated
on training images. The members need ``--init shared`` or ``--init checkpoint:PATH``.

Unverified: density and lambda; the paper varies the share that is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.core.method import option
from wash_bench.merging.anchored import (
    COMBINE,
    AnchoredRule,
    Combination,
    ScaledOptions,
    elected,
    joined,
)

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.merge_context import MergeContext


class DareOptions(ScaledOptions):
    """Settings of DARE."""

    density: float = option(
        0.5,
        "share of a member's change that is kept, at random",
        unit="probability",
        unverified="this suite's choice",
        gt=0,
        le=1,
    )
    elect: bool = option(False, "merge what agrees with an elected sign, as TIES")
    combine: Combination = option("mean", COMBINE)


class Dare(AnchoredRule):
    """A random part of what each member learned, rescaled, averaged and added to the start."""

    name = "dare"
    rule = "theta* = theta_0 + lambda mean of m_n (theta_n - theta_0)/q, m_n ~ Bernoulli(q)"
    paper = "Yu et al. 2024, arXiv 2311.03099"
    when = "to see how much of the fine-tunings' changes can be dropped"
    needs = "a common start"
    Options = DareOptions
    options: DareOptions  # pyright: ignore[reportIncompatibleVariableOverride]

    def sparse(self, delta: Tensor, member: int, judge: MergeContext) -> Tensor:
        import torch

        from wash_bench.seeds import numpy_stream

        density = self.options.density
        if density == 1:
            return delta
        kept = numpy_stream(judge.seed, "dare", member).random(len(delta)) < density
        return delta * torch.from_numpy(kept).to(delta.device) / density

    def combined(self, deltas: Tensor) -> Tensor:
        merge = elected if self.options.elect else joined
        return merge(deltas, self.options.combine)
