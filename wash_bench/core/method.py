"""What a method is: a training rule and a merge rule. The loop owns everything else.

A method decides who talks to whom, when and about what, and which models come out. It reaches
other members only through the exchange, which keeps the ledger. This module imports no torch,
so that a mistyped option is answered at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from wash_bench.core.budget import Budget, Scaled
from wash_bench.core.layout import Layout
from wash_bench.core.ledger import CommEvent, CommLedger
from wash_bench.core.step_info import Schedule, StepInfo

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from torch import Tensor, nn

    from wash_bench.config import TrainingConfig
    from wash_bench.core.exchange import Exchange
    from wash_bench.core.merge_context import MergeContext, Predictor
    from wash_bench.core.population import Population
    from wash_bench.data.recipe import Recipe


MethodKind = Literal["training", "trajectory", "merge", "exchange"]
KINDS: Mapping[MethodKind, str] = {
    "training": "training rules",
    "trajectory": "averages along a trajectory",
    "merge": "merge rules",
    "exchange": "ways to exchange",
}
"""The kinds of method, in words: a rule by which members train; what goes around a training rule
and measures averages of each member; what makes networks of a trained population; what goes around
a training rule and changes how its exchanges travel."""

Rows = Literal["weights", "buffers"]
TRAINING_HOOKS = frozenset(
    {"active", "after_step", "evaluated", "order", "recipe", "start", "training_config"}
)
"""The methods that decide how members train, and which members are measured."""


class MethodOptions(BaseModel):
    """A method's own settings; unknown names and values out of range are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # An option that came after cells were recorded must leave their identities as they are.
        return {
            name: value
            for name, value in write(self).items()
            if not _is_later(field := type(self).model_fields[name])
            or getattr(self, name) != field.default
        }


def _is_later(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("later"))


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    unverified: str = "",
    later: bool = False,
    **limits: Any,
) -> Any:
    """A field of a method's Options.

    Args:
        default: the default value.
        help: what it does, one line.
        unit: its unit, as ``epochs`` or ``probability``.
        unverified: why the default is not settled by a source, if it is not.
        later: whether cells were recorded before there was the option; it is told, and part of
            their identity, where it differs from its default.
        **limits: pydantic's constraints, as ``ge=0, le=1``.

    Returns:
        What pydantic takes as a field.
    """
    return Field(
        default,
        description=help,
        json_schema_extra={"unit": unit, "unverified": unverified, "later": later},
        **limits,
    )


@dataclass(frozen=True)
class CommShape:
    """What the predicted communication depends on besides the step.

    Attributes:
        layout: the coordinates of one member.
        n: number of members.
        optimizer_slots: optimizer state tensors of the weights' shape (SGD 1, AdamW 2).
    """

    layout: Layout
    n: int
    optimizer_slots: int = 1


class NotPredicted(Exception):
    """A method does not say beforehand what it sends."""


class Method(ABC):
    """Base of every method. Subclasses set the texts and write ``after_step``.

    Attributes:
        kind: what it is for, one of ``KINDS``.
        name: the name on the command line.
        rule: the update in one line.
        paper: the source.
        sends: what travels, in one line.
        when: what it is for, in one line; or empty.
        needs: what it cannot do without, in one line; or empty.
        Options: the settings, a subclass of MethodOptions.
        member_state: what the method remembers of each member, by name: rows like the weights,
            (N, D), or like the float buffers, (N, F). They lie in ``population.member_state``,
            zero until ``start`` fills them.
        coupling: names of the options that ``scaled`` reads and returns: how strongly, or how
            often, members are coupled.
        restarts: whether after each average of whole members all go on from one point, which the
            average is or an outer step gives; a compressed exchange remembers differences to it.
        anchored: whether the rule needs the weights that all members started from.
    """

    kind: ClassVar[MethodKind] = "training"
    name: ClassVar[str]
    rule: ClassVar[str]
    paper: ClassVar[str]
    sends: ClassVar[str]
    when: ClassVar[str] = ""
    needs: ClassVar[str] = ""
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    member_state: ClassVar[Mapping[str, Rows]] = {}
    coupling: ClassVar[tuple[str, ...]] = ()
    restarts: ClassVar[bool] = False
    anchored: ClassVar[bool] = False

    def __init__(self, options: MethodOptions | None = None) -> None:
        self.options = self.Options() if options is None else options

    def settings(self) -> dict[str, Any]:
        """All options with their values, as JSON data: what a record holds."""
        return self.options.model_dump(mode="json")

    def scaled(self, budget: Budget) -> Scaled:
        """What the coupling's options become in a training of another length.

        Returns:
            Of these options, which are those of the papers' training, the ones that change so that
            a coordinate is exchanged as often in the whole of ``budget.steps``. By default none.
        """
        return Scaled()

    # The training rule -----------------------------------------------------------------------

    def training_key(self) -> dict[str, Any]:
        """What identifies the training: methods with equal keys share one training."""
        return {"rule": self.name, "options": self.settings()}

    def training_config(self, config: TrainingConfig) -> TrainingConfig:
        """Return the settings under which this method trains; by default those of the run.

        The training's identity is of what this returns, the experiment's of the run's settings, so
        that the method stands in the table of the others. A control that trains other members
        than the population, or for longer, changes the settings here.
        """
        return config

    def recipe(self, member: int, base: Recipe, clock: StepInfo) -> Recipe:
        """The augmentation of ``member`` for the step that ``clock`` names; ``base`` by default."""
        return base

    def order(self, member: int, clock: StepInfo) -> int:
        """The member whose data order ``member`` follows in the epoch that ``clock`` names."""
        return member

    def active(self, n: int, clock: StepInfo) -> int:
        """How many members, counted from the first, train in the step that ``clock`` names."""
        return n

    def at_rest(self) -> bool:
        """Whether no exchange is under way, so that the training can be saved after this step."""
        return True

    def start(self, population: Population, exchange: Exchange) -> None:  # noqa: B027
        """Called once, before the first step of a training that starts from nothing."""

    @abstractmethod
    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        """The coupling, called after every member has taken its optimizer step."""

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        """What the exchange of this step sends, from arithmetic alone.

        ``plan`` and ``comm`` predict with it, and it is checked against the ledger. Charges are
        expected ones where it is drawn what is sent. What ``start`` sends, before the first step,
        is charged with step 0.

        Raises:
            NotPredicted: the method has no charges, which is the default: what it sends is known
                from the ledger of a training alone.
        """
        raise NotPredicted

    def facts(self, site: CommShape) -> dict[str, Any]:
        """What a reader of the record may want to know beside the options, as JSON data."""
        return {}

    def member_slots(self) -> Mapping[str, Rows]:
        """``member_state`` under these options."""
        return self.member_state

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that a resumed training or the merge needs, the same for all members."""
        # What differs between members is in ``member_state``.
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """Take back what ``state_dict`` gave."""

    def evaluated(self, population: Population) -> Population:
        """The members of a whole population as they are measured; by default as they trained."""
        return population

    def check_network(self, network: nn.Module) -> None:  # noqa: B027
        """Refuse, as a CellFailure, a network that the method cannot work on.

        Called before any training.
        """

    # The merge rule --------------------------------------------------------------------------

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        """The models that come out by name, the main one first; by default the members' average."""
        return {"average": judge.average()}


def predict_comm(
    method: Method, site: CommShape, schedule: Schedule | Iterable[StepInfo]
) -> CommLedger | None:
    """Add up ``method.charges`` over the clocks of a training.

    Returns:
        The ledger that the exchange would keep: exactly, where the rule is deterministic; in
        expectation, with the variance beside it, where coordinates are drawn. None if the method
        has no charges.
    """
    clocks = schedule.clocks() if isinstance(schedule, Schedule) else schedule
    # A method has a handful of different moments in some 10^5 steps: count first, multiply later.
    moments: Counter[tuple[CommEvent, ...]] = Counter()
    try:
        moments.update(tuple(method.charges(site, clock)) for clock in clocks)
    except NotPredicted:
        return None
    ledger = CommLedger(site.n)
    for charges, times in moments.items():
        for charge in charges:
            ledger.add(charge, times)
    return ledger
