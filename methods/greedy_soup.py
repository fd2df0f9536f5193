"""Greedy soup (Wortsman et al. 2022, arXiv 2203.05482, section 2; model-soups, main.py:142-198).

Members are trained apart and merged afterwards. They are sorted by held-out accuracy; the soup
begins as the best one; each next member is mixed in, soup <- soup k/(k+1) + member/(k+1), and
kept if and only if the held-out accuracy of the mixture is strictly greater than the best so far.
One pass, no second try.

Deviations: equal accuracies keep the members' order (the published codes leave ties to the sort).
Held-out images are not augmented (in PAPA's code they are, which makes the choice random).
The original soups fine-tunings of one pretrained network; here the members are what the run's
training rule and initialization make them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.core.wrapper import MergeRule

if TYPE_CHECKING:
    from wash_bench.core.merge_context import MergeContext, Predictor
    from wash_bench.core.population import Population


class GreedySoup(MergeRule):
    """Averages of the members, grown greedily on held-out accuracy."""

    name = "greedy-soup"
    rule = "members added to the average while held-out accuracy strictly grows"
    paper = "Wortsman et al. 2022, arXiv 2203.05482"
    when = "members that may not average: what does not help is left out"
    needs = "a validation split"

    def merge(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        return {"greedy": judge.greedy()}
