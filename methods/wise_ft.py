"""WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903): between the start and a fine-tuned network.

    theta* = theta_0 + lambda (theta - theta_0)

with theta_0 the network that fine-tuning began with and theta the fine-tuned one. lambda = 0 is the
start and lambda = 1 the fine-tuned network. Of several ``scales``, validation accuracy chooses.

The paper has one fine-tuned network. Of a population, theta is the member with the greatest
validation accuracy (``of = member``) or the average of all members (``of = average``).

BatchNorm's running statistics are interpolated like the weights, which networks such as the paper's
do not have; ``reestimated`` has them re-estimated on training images. The members need
``--init shared`` or ``--init checkpoint:PATH``; from a random start there is nothing to go back to.

Verified: the formula. Not verified: the paper's own way to lambda; the grid is this suite's. Its
claim is about shifted test data, which validation images of the training distribution do not show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from wash_bench.core.method import option
from wash_bench.core.wrapper import MergeRule
from wash_bench.merging.anchored import SCALES, ScaledOptions, best_of, common_start

if TYPE_CHECKING:
    from wash_bench.core.merge_context import MergeContext, Predictor
    from wash_bench.core.population import ModelState, Population


class WiseFtOptions(ScaledOptions):
    """Settings of WiSE-FT."""

    scales: tuple[float, ...] = option(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        SCALES,
        unverified="this suite's grid",
        min_length=1,
    )
    of: Literal["member", "average"] = option(
        "member", "the fine-tuned network: the best member on validation data, or all averaged"
    )


class WiseFt(MergeRule):
    """A fine-tuned network, drawn back towards where fine-tuning began."""

    name = "wise-ft"
    rule = "theta* = theta_0 + lambda (theta - theta_0), lambda on validation data"
    paper = "Wortsman et al. 2022, arXiv 2109.01903"
    when = "one fine-tuned network that forgot what its checkpoint knew"
    needs = "a checkpoint to go back to; a validation split for lambda"
    anchored = True
    Options = WiseFtOptions
    options: WiseFtOptions

    def merge(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        from wash_bench.core.merge_context import Predictor
        from wash_bench.core.population import ModelState

        start = common_start(judge, self.own_name)
        tuned, members = self.fine_tuned(judge)
        states = [tuned, start]
        combine = ModelState.combine
        candidates = [combine(states, [scale, 1 - scale]) for scale in self.options.scales]
        merged = best_of(candidates, judge)
        models = {self.own_name: Predictor([merged], members)}
        if judge.layout.buffer_size:
            models["reestimated"] = Predictor([judge.reestimated(merged)], members)
        return models

    def fine_tuned(self, judge: MergeContext) -> tuple[ModelState, tuple[int, ...]]:
        """The fine-tuned network, and the members that it is made of."""
        if self.options.of == "average":
            average = judge.average()
            return average.states[0], average.members
        best = best_of(judge.members, judge)
        member = next(n for n, state in enumerate(judge.members) if state is best)
        return best, (member,)
