"""Best member: the member with the highest validation accuracy, and no merge at all.

    n* = argmax_n accuracy_val(theta_n),    theta* = theta_n*

Of equal accuracies the lower validation loss decides, then the lower index. It is the "best
individual model" that the soups are compared with (Wortsman et al. 2022, arXiv 2203.05482, section
3): what a population gives that is neither merged nor run as an ensemble.

The choice is by validation data; the mean accuracy of the members has no choice in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.core.merge_context import Predictor, best_member
from wash_bench.core.wrapper import MergeRule

if TYPE_CHECKING:
    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import Population


class BestMember(MergeRule):
    """The member that validation data prefers."""

    name = "best-member"
    rule = "theta* = the member of the highest validation accuracy, ties by the loss"
    paper = "Wortsman et al. 2022, arXiv 2203.05482 (its best individual model)"
    when = "the control of all merge rules: the best of N networks, chosen and not merged"
    needs = "a validation split"

    def merge(self, population: Population, judge: MergeContext) -> Predictor:
        best = best_member(judge)
        return Predictor([judge.members[best]], (best,))
