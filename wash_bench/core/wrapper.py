"""Members that never meet: the naive ensemble, and what a wrapper by itself goes around."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wash_bench.core.budget import Budget, Scaled
from wash_bench.core.ledger import CommEvent
from wash_bench.core.merge_context import Predictor
from wash_bench.core.method import TRAINING_HOOKS, CommShape, Method, MethodOptions, Rows
from wash_bench.core.step_info import StepInfo

if TYPE_CHECKING:
    from torch import Tensor, nn

    from wash_bench.config import TrainingConfig
    from wash_bench.core.exchange import Exchange
    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import ModelState, Population
    from wash_bench.data.recipe import Recipe

    Merged = ModelState | Predictor


class Independent(Method):
    """Independent members; the ensemble of their predictions, and the average of their weights."""

    name = "independent"
    rule = "no coupling"
    paper = "none"
    sends = "nothing"

    def training_key(self) -> dict[str, Any]:
        return {"rule": "independent"}

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        """Members never meet."""

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        return ()

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        return {"ensemble": judge.ensemble(), "average": judge.average()}


class Wrapper(Method):
    """Base of the methods that go around another one; an average along a trajectory by default.

    Args:
        options: the wrapper's own options.
        inner: the method inside; independent members if none is given.

    Attributes:
        inner: the method inside.
        own_name: the wrapper's name by itself; ``name`` is that of the whole.
    """

    kind = "trajectory"
    sends = "nothing of its own"

    def __init__(self, options: MethodOptions | None = None, inner: Method | None = None) -> None:
        super().__init__(options)
        self.own_name = type(self).name
        self.alone = inner is None
        if inner is None:
            inner = Independent()
        else:
            self.name = f"{inner.name}+{self.own_name}"  # type: ignore[misc]
            self.rule = f"{inner.rule}; {type(self).rule}"  # type: ignore[misc]
        self.inner = inner
        self.restarts = inner.restarts  # type: ignore[misc]
        self.anchored = type(self).anchored or inner.anchored  # type: ignore[misc]

    def settings(self) -> dict[str, Any]:
        own = super().settings()
        if self.alone:
            return own
        return self.inner.settings() | ({self.own_name: own} if own else {})

    def scaled(self, budget: Budget) -> Scaled:
        return self.inner.scaled(budget)

    def training_key(self) -> dict[str, Any]:
        own = self.options.model_dump(mode="json")
        return {"rule": self.name, "options": own, "around": self.inner.training_key()}

    def training_config(self, config: TrainingConfig) -> TrainingConfig:
        return self.inner.training_config(config)

    def recipe(self, member: int, base: Recipe, clock: StepInfo) -> Recipe:
        return self.inner.recipe(member, base, clock)

    def order(self, member: int, clock: StepInfo) -> int:
        return self.inner.order(member, clock)

    def active(self, n: int, clock: StepInfo) -> int:
        return self.inner.active(n, clock)

    def at_rest(self) -> bool:
        return self.inner.at_rest()

    def idle(self, population: Population, exchange: Exchange, clock: StepInfo) -> slice:
        """This process's rows of the members that the method inside does not train now."""
        active = self.inner.active(exchange.n, clock)
        return slice(sum(member < active for member in population.members), None)

    def start(self, population: Population, exchange: Exchange) -> None:
        self.inner.start(population, exchange)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        self.inner.after_step(population, exchange, clock)

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        return self.inner.charges(site, clock)

    def facts(self, site: CommShape) -> dict[str, Any]:
        return self.inner.facts(site)

    def own_slots(self) -> Mapping[str, Rows]:
        """What the wrapper itself remembers of each member under these options."""
        return self.member_state

    def member_slots(self) -> Mapping[str, Rows]:
        return {**self.inner.member_slots(), **self.own_slots()}

    def follow(self, population: Population, members: slice = slice(None)) -> None:
        """Set what the wrapper remembers of some of this process's members to what they are now."""
        for name, rows in self.own_slots().items():
            population.member_state[name][members] = getattr(population, rows)[members]

    def state_dict(self) -> dict[str, Tensor]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.inner.load_state_dict(state)

    def evaluated(self, population: Population) -> Population:
        return self.inner.evaluated(population)

    def check_network(self, network: nn.Module) -> None:
        self.inner.check_network(network)

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        return self.inner.predictors(population, judge)


def training_hooks(cls: type[MergeRule]) -> list[str]:
    """The hooks by which a merge rule decides about the training after all, sorted."""
    below = cls.__mro__[: cls.__mro__.index(MergeRule)]
    return sorted({hook for part in below for hook in TRAINING_HOOKS & vars(part).keys()})


class MergeRule(Wrapper):
    """Base of the rules that make one network of a trained population.

    A merge rule leaves the training alone, so all merge rules of one training rule (and the
    training rule itself) read one training.
    """

    kind = "merge"
    sends = "nothing beyond what the training sends"

    def training_key(self) -> dict[str, Any]:
        return self.inner.training_key()

    @abstractmethod
    def merge(self, population: Population, judge: MergeContext) -> Merged | Mapping[str, Merged]:
        """The network merged of all members, or several by name, the main one first.

        One that is made of some of the members, or predicts with several networks, is given as a
        Predictor. Training and validation data may be used, through ``judge``.
        """

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        merged = self.merge(population, judge)
        if not isinstance(merged, Mapping):
            merged = {self.own_name: merged}
        everybody = tuple(range(len(judge.members)))
        predictors = {
            name: model if isinstance(model, Predictor) else Predictor([model], everybody)
            for name, model in merged.items()
        }
        return {**predictors, "average": judge.average()}
