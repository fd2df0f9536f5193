"""The robust merge rules' common part: one member may be corrupted before they merge."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from wash_bench.core.method import MethodOptions, option
from wash_bench.core.wrapper import MergeRule
from wash_bench.seeds import numpy_stream

if TYPE_CHECKING:
    from wash_bench.core.layout import Layout
    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import ModelState, Population


class RobustOptions(MethodOptions):
    """Settings that the robust rules and the uniform soup share."""

    corrupt: Literal["none", "noise", "sign", "zero"] = option(
        "none",
        "spoil one member, drawn from the run's seed, before merging: its weights get noise of "
        "ten times their size, the opposite sign, or are 0; the merge without it is 'clean'",
    )


class RobustRule(MergeRule):
    """A merge rule that is shown with one corrupted member.

    With ``corrupt`` the main model is the merge of the corrupted population and ``clean`` the
    merge of the sound one. The same seed spoils the same member in the same way under every rule,
    hence the rules' rows can be compared. Members, ensemble and average in the record are always
    those of the sound population.
    """

    Options = RobustOptions
    options: Any  # RobustOptions, or more of a rule's own

    @abstractmethod
    def combine(self, states: Sequence[ModelState], layout: Layout) -> ModelState:
        """One state of the members' states."""

    def merge(self, population: Population, judge: MergeContext) -> dict[str, ModelState]:
        states, layout = judge.members, population.layout
        clean = self.combine(states, layout)
        if self.options.corrupt == "none":
            return {self.own_name: clean}
        from wash_bench.merging.corrupt import corrupt

        rng = numpy_stream(judge.seed, "corrupt")
        member = int(rng.integers(len(states)))
        spoiled = corrupt(states, member, self.options.corrupt, rng)
        return {self.own_name: self.combine(spoiled, layout), "clean": clean}
