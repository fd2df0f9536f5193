"""DiWA: diverse weight averaging (Rame et al. 2022, arXiv 2205.09739; code alexrame/diwa).

``uniform`` averages all members. ``restricted`` goes through them by falling validation accuracy:
the average begins as the best one; each next member is added and stays if the validation accuracy
of the average is at least as high as the best so far (domainbed/scripts/diwa.py, commit 354530d:
``>=``). Model soups' greedy soup asks for strictly more and so keeps fewer members where accuracies
tie.

BatchNorm's running statistics are averaged over the chosen members. The published code averages
parameters only, for networks whose BatchNorm is frozen at the pretrained statistics.

Deviations: the paper fine-tunes from one pretrained network, its classifier linear-probed first,
with mildly different hyperparameters, for domain generalization, and selects on held-out images
of the training domains. Here the members are what the run's training rule and initialization make
them; selection is on the validation split. Equal accuracies keep the members' order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from wash_bench.core.merge_context import Predictor
from wash_bench.core.method import MethodOptions, option
from wash_bench.core.wrapper import MergeRule

if TYPE_CHECKING:
    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import Population


class DiwaOptions(MethodOptions):
    """Settings of DiWA."""

    selection: Literal["restricted", "uniform"] = option(
        "restricted", "average the members that do not lower validation accuracy, or all"
    )


def restricted(accuracies: Sequence[float], evaluate: Callable[[list[int]], float]) -> list[int]:
    """Choose the members of the restricted average.

    Args:
        accuracies: validation accuracy of each member by itself.
        evaluate: validation accuracy of the uniform average of the listed members.

    Returns:
        Indices of the members in the order in which they were accepted; never empty.
    """
    first, *others = sorted(range(len(accuracies)), key=lambda member: -accuracies[member])
    chosen, best = [first], accuracies[first]
    for member in others:
        accuracy = evaluate([*chosen, member])
        if accuracy >= best:
            chosen, best = [*chosen, member], accuracy
    return chosen


class Diwa(MergeRule):
    """The average of the members that do not lower its validation accuracy."""

    name = "diwa"
    rule = "members added to the average while validation accuracy does not fall"
    paper = "Rame et al. 2022, arXiv 2205.09739"
    when = "as the greedy soup; equal accuracies keep more members"
    needs = "a validation split"
    Options = DiwaOptions
    options: DiwaOptions

    def merge(self, population: Population, judge: MergeContext) -> Predictor:
        if self.options.selection == "uniform":
            return judge.average()
        members = judge.members
        mean = type(members[0]).mean

        def evaluate(chosen: list[int]) -> float:
            return judge.validation_accuracy(mean([members[member] for member in chosen]))

        chosen = restricted([judge.validation_accuracy(member) for member in members], evaluate)
        return Predictor([mean([members[member] for member in chosen])], tuple(chosen))
