"""Networks of the user's as modules: merging them, and the barrier between two."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from wash_bench.core.merge_context import Predictor, StudentLoss, StudentStart
from wash_bench.core.method import Method
from wash_bench.core.module_population import check_alike, is_channels_last
from wash_bench.core.population import ModelState, Population, bind
from wash_bench.errors import UsageError, nearest
from wash_bench.evaluate.population_context import UsualMerges
from wash_bench.models.batchnorm import batchnorms
from wash_bench.plugins.registry import find_method, make_method

Score = Callable[[nn.Module], float]
_Value = TypeVar("_Value")


@torch.no_grad()
def merge_modules(
    models: Sequence[nn.Module],
    methods: str | Sequence[str],
    *,
    anchor: nn.Module | None = None,
    score: Score | None = None,
    batches: Iterable[Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> dict[str, nn.Module]:
    """Merge networks of one architecture, which stay as they are.

    Args:
        models: the networks, float32.
        methods: merge rules, as ``"uniform-soup,ties"``.
        anchor: the network that all were trained from, for rules that need it.
        score: the merit of a network on held-out data, higher is better; greedy soups ask.
        batches: training inputs; averages get BatchNorm statistics of them where a rule asks.
        options: options of the methods by name.
        seed: for what a rule draws.

    Returns:
        The merged network of each rule, in eval mode.

    Raises:
        UsageError: the networks differ, or a rule needs what is missing.
    """
    population = _population(models)
    initial = _population([models[0], anchor]).state(1) if anchor else None
    context = ModuleContext(population, seed, initial, score, batches)
    merged = {}
    for name in methods.split(",") if isinstance(methods, str) else methods:
        method = make_method(find_method(name), (options or {}).get(name))
        if method.kind != "merge":
            raise UsageError(f"{name} is a training method: use wash_bench.Coupling for it")
        if method.anchored and anchor is None:
            raise UsageError(f"{name} needs anchor=, the network that all were trained from")
        merged[name] = module_of(population, offered_state(method, population, context, None))
    return merged


@torch.no_grad()
def barrier_points(
    first: nn.Module,
    second: nn.Module,
    loss: Score,
    points: int = 11,
    batches: Iterable[Any] | None = None,
) -> list[dict[str, Any]]:
    """Return the losses on the straight segment between two networks.

    Args:
        first: a network.
        second: another one of its architecture.
        loss: the loss of a network.
        points: how many, the ends included.
        batches: training inputs, of which BatchNorm statistics are re-estimated as well, each
            time anew.

    Returns:
        The rows of one pair in a barrier file: ``alpha``, ``bn`` (``averaged`` or
        ``reestimated``) and ``loss``.

    Raises:
        UsageError: the networks differ, or there are too few points.
    """
    if points < 3:
        raise UsageError(f"points={points}: give 3 or more")
    population = _population([first, second])
    context = ModuleContext(population, 0, None, None, batches)
    variants = ["averaged"] + ["reestimated"] * (batches is not None and bool(batchnorms(first)))
    rows = []
    for alpha in torch.linspace(0, 1, points, dtype=torch.float64).tolist():
        own = ModelState.combine(population.states(), [1 - alpha, alpha])
        for bn in variants:
            state = own if bn == "averaged" else context.reestimated(own)
            value = float(loss(module_of(population, state)))
            rows.append(
                {"kind": "pair", "a": "0", "b": "1", "alpha": alpha, "bn": bn, "loss": value}
            )
    return rows


def _population(models: Sequence[nn.Module]) -> Population:
    """Copies of the networks as the rows of a population."""
    check_alike(models)
    return Population(
        lambda member: copy.deepcopy(models[member]),
        len(models),
        device=next(models[0].parameters()).device,
        channels_last=is_channels_last(models[0]),
    )


def module_of(population: Population, state: ModelState) -> nn.Module:
    """Return a network in eval mode whose tensors are views of a state's."""
    module = population.shell()
    bind(module, population.layout, state, None, population.channels_last)
    for ours, theirs in zip(module.parameters(), population.modules[0].parameters(), strict=True):
        ours.requires_grad_(theirs.requires_grad)
    return module.eval()


def offered_state(
    method: Method, population: Population, context: ModuleContext, name: str | None
) -> ModelState:
    """Return a copy of the network that a method offers under a name; None for its main one.

    Raises:
        UsageError: it offers no such network, or needs what is missing.
    """
    offered = method.predictors(population, context)
    name = name or next(iter(offered))
    if name not in offered:
        raise UsageError(f"{method.name} offers no {name!r}: {nearest(name, offered)}")
    states = offered[name].states
    if not states:
        raise UsageError(f"{name!r} needs score=, the merit of a network on held-out data")
    if len(states) > 1:
        raise UsageError(
            f"{name!r} predicts with several networks: average the outputs of the members, or ask "
            "for 'average'"
        )
    return states[0].clone()


class ModuleContext(UsualMerges):
    """Implements ``MergeContext`` for networks of the user's, who scores them and has the data.

    Args:
        population: the members.
        seed: for what a rule draws.
        initial: the weights that all members started from, where they are known.
        score: the merit of a network on held-out data, higher is better.
        batches: training inputs, for BatchNorm statistics.
    """

    def __init__(
        self,
        population: Population,
        seed: int,
        initial: ModelState | None,
        score: Score | None,
        batches: Iterable[Any] | None,
    ) -> None:
        self.members = population.states()
        self.layout = population.layout
        self.seed = seed
        self._population = population
        self._initial = initial
        self._score = score
        self._batches = batches

    def validation_accuracy(self, state: ModelState) -> float:
        network = module_of(self._population, state.clone())  # the user's code may change it
        return float(_given(self._score, "score")(network))

    def validation_loss(self, state: ModelState) -> float:
        return -self.validation_accuracy(state)

    def training_batches(
        self, images: int = 0, batch_size: int = 250
    ) -> Iterator[tuple[Tensor, Tensor]]:
        raise UsageError("this network needs labelled images: merge the members' files instead")

    def validation_batches(self, batch_size: int = 250) -> Iterator[tuple[Tensor, Tensor]]:
        return self.training_batches()

    def network(self, state: ModelState, gradients: bool = False) -> nn.Module:
        return module_of(self._population, state).requires_grad_(gradients)

    def reestimated(self, state: ModelState, images: int = 0) -> ModelState:
        if not batchnorms(self._population.modules[0]):
            return state
        batches, own = _given(self._batches, "batches"), state.clone()
        module = module_of(self._population, own)  # whose statistics are views of its state's
        torch.optim.swa_utils.update_bn(batches, module, state.weights.device)
        return own

    def initial(self) -> ModelState | None:
        return self._initial

    def trained(self, loss: StudentLoss, start: StudentStart, epochs: float = 1.0) -> ModelState:
        raise UsageError("this network is trained by the suite's loop: use wash_bench.run for it")

    def greedy(self) -> Predictor:
        # Methods offer it beside others: who asks for it is told that the score is missing.
        return super().greedy() if self._score else Predictor([], ())


def _given(value: _Value | None, name: str) -> _Value:
    if value is None:
        raise UsageError(f"this network needs {name}=: see Coupling.predict")
    return value
