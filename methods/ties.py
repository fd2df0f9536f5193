"""TIES merging (Yadav et al. 2023, arXiv 2306.01708): trim, elect a sign, merge what agrees.

With delta_n = theta_n - theta_0 the change of member n since the common start,

    trim:   of delta_n only the largest values by magnitude stay, a share ``density``
    elect:  s = sign of sum_n delta_n, for each coordinate (+ where the sum is 0)
    merge:  delta = mean of the delta_n whose sign is s; values that were trimmed have no say
    theta*  = theta_0 + lambda delta

A coordinate where nobody agrees, as all were trimmed, stays at the start. With density 1 and
members that all moved in one direction it is the uniform soup.

The defaults are those of the authors' code, which fusion_bench follows: each member's vector is
trimmed as a whole (``per = model``), density 0.2, lambda 1. ``per = tensor`` is mergekit's ranking
(arcee-ai/mergekit, commit a6e4028, sparsify.py and generalized_task_arithmetic.py), tensor by
tensor, which earlier versions had as the default: presets under which TIES was recorded keep it.
int(density K) of K values are taken, at least one. ``combine = sum`` adds what agrees. mergekit's
renormalization of what is left after a trim is not offered.

The paper merges networks of several tasks; here the members learned the same one. BatchNorm's
running statistics are averaged over the members; ``reestimated`` has them re-estimated on training
images. The members need ``--init shared`` or ``--init checkpoint:PATH``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.core.method import option
from wash_bench.merging.anchored import (
    COMBINE,
    AnchoredRule,
    Combination,
    ScaledOptions,
    Scope,
    elected,
    trimmed,
)

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.merge_context import MergeContext


class TiesOptions(ScaledOptions):
    """Settings of TIES."""

    density: float = option(
        0.2,
        "share of a member's change that is kept, the largest values",
        unit="share of values",
        gt=0,
        le=1,
    )
    per: Scope = option(
        "model",
        "rank the values of the whole network (the authors'), or of each tensor (mergekit's)",
    )
    combine: Combination = option("mean", COMBINE)


class Ties(AnchoredRule):
    """The largest changes since the common start, merged where they agree in sign."""

    name = "ties"
    rule = "theta* = theta_0 + lambda mean of the largest theta_n - theta_0 of the elected sign"
    paper = "Yadav et al. 2023, arXiv 2306.01708"
    when = "fine-tunings whose changes quarrel in sign"
    needs = "a common start"
    Options = TiesOptions
    options: TiesOptions  # pyright: ignore[reportIncompatibleVariableOverride]

    def sparse(self, delta: Tensor, member: int, judge: MergeContext) -> Tensor:
        return trimmed(delta, self.options.density, judge.layout, self.options.per)

    def combined(self, deltas: Tensor) -> Tensor:
        return elected(deltas, self.options.combine)
