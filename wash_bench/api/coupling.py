"""A training rule inside a training loop of the user's own."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from wash_bench.api.modules import ModuleContext, Score, module_of, offered_state
from wash_bench.core.ledger import CommLedger
from wash_bench.core.method import CommShape, Method, predict_comm
from wash_bench.core.module_population import ModulePopulation, check_modules
from wash_bench.core.population import ModelState, Population
from wash_bench.core.step_info import StepInfo
from wash_bench.core.wrapper import MergeRule, Wrapper
from wash_bench.distributed.world import LocalWorld, World
from wash_bench.errors import CellFailure, UsageError
from wash_bench.plugins.options import describe_class, make
from wash_bench.plugins.registry import make_method, named_method
from wash_bench.runner.training_setup import MOST_STEPS, about_exchanges

if TYPE_CHECKING:
    from torch.optim import Optimizer


class Coupling:
    """Couples networks that a loop of your own trains, by any training rule of the suite.

    The parameters become views into the rows of one tensor, so values that the rule changes are
    those of your networks. Your loop keeps its data, loss, optimizers and schedule. Make the
    coupling after the networks are on their device, and call ``step`` once all members have taken
    an optimizer step, after the learning-rate scheduler's own step:

        coupling = wb.Coupling(models, optimizers, "wash", p=0.05, total_steps=10_000)
        for batch in loader:
            ...  # forward, backward and optimizer.step() of each member
            coupling.step()
        net = coupling.predict("average")

    Args:
        models: the networks, of one architecture, float32, on one device. Networks wrapped by
            DistributedDataParallel are unwrapped.
        optimizers: one for each network, of ``torch.optim.Optimizer``.
        method: the rule: a name (``wash``, ``papa+int8``), ``path/to/file.py:Class``, a subclass of
            ``Method``, or a method with its options.
        total_steps: steps of the whole training.
        steps_per_epoch: for rules that count epochs (DART, PAPA-all).
        seed: what the rule draws follows from it and the step, never from a global generator.
        distributed: whether the networks of all ranks of the default process group are one
            population, spread in the order of the ranks. Else the members of this process are.
        **options: options of the method, as ``p=0.05``.

    Raises:
        UsageError: something does not fit; the networks are as they were.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        optimizers: Sequence[Optimizer],
        method: str | type[Method] | Method,
        *,
        total_steps: int,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        distributed: bool = False,
        **options: Any,
    ) -> None:
        for name, value in (("total_steps", total_steps), ("steps_per_epoch", steps_per_epoch)):
            if value is not None and value < 1:
                raise UsageError(f"{name}={value}: give a number of steps from 1")
        self.method = _method_of(method, options)
        _check_rule(self.method, steps_per_epoch)
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch or total_steps
        self._steps_done = 0
        self._world = _world(distributed)
        counts = self._world.all_gather([len(models)])
        self.n = sum(counts)
        members = self._world.members(self.n)
        if len(members) != len(models):
            raise UsageError(
                f"{self.n} networks in {len(counts)} processes: give this one {len(members)}, "
                f"not {len(models)}"
            )
        self.models = [_unwrapped(model) for model in models]
        check_modules(self.models, optimizers)
        try:
            self.method.check_network(self.models[0])
        except CellFailure as failure:
            raise UsageError(f"method {self.method.name!r}: {failure}") from None
        self.population = ModulePopulation(
            self.models, optimizers, members, gather=self._world.all_gather
        )
        self.population.remember(self.method.member_slots())
        self.seed = seed
        self._exchange = self._world.exchange(self.n, seed)
        self._optimizer = optimizers[0]  # its learning rate goes into each StepInfo
        self._base_rate = self._rate = self._current_rate
        self._optimizer.register_step_post_hook(self._take_rate)
        self.start = self._common_start() if self.method.anchored else None
        self.method.start(self.population, self._exchange)
        self._warn()

    @property
    def active(self) -> range:
        """The members of this process, by position, that the rule lets train in the coming step.

        All of them but in a common start, as DART's, whose other members may be left out.
        """
        clock = self._clock(min(self._steps_done, self.total_steps - 1))
        active = self.method.active(self.n, clock)
        return range(sum(member < active for member in self.population.members))

    @property
    def sent(self) -> CommLedger:
        """What was sent: ``sent_values``, ``sent_bytes`` and ``wire_bytes`` per member."""
        return self._exchange.ledger

    @torch.no_grad()
    def step(self) -> None:
        """Couple the members; call it after each round of optimizer steps.

        Raises:
            UsageError: the training is longer than ``total_steps``, a parameter was replaced, or
                the rule moves optimizer state that cannot be moved.
        """
        if self._steps_done >= self.total_steps:
            raise UsageError(
                f"step {self._steps_done + 1} of total_steps={self.total_steps}: give the length "
                "of the whole training as total_steps"
            )
        self.population.check_bound()
        self.method.after_step(self.population, self._exchange, self._clock(self._steps_done))
        self.population.write_back()
        self._steps_done += 1

    @torch.no_grad()
    def predict(
        self,
        name: str | None = None,
        *,
        score: Score | None = None,
        batches: Iterable[Any] | None = None,
    ) -> nn.Module:
        """Return a network that the method delivers, as a module of its own in eval mode.

        BatchNorm statistics of averages are averages too; ``torch.optim.swa_utils.update_bn``
        re-estimates them. Under ``distributed`` every rank calls it, and each has the network.

        Args:
            name: ``average``, or another that the method offers; None for its main one.
            score: the merit of a network on held-out data, higher is better; greedy soups ask.
            batches: training inputs, for rules that re-estimate BatchNorm statistics themselves.

        Returns:
            The network; ``.state_dict()`` has its weights under the module's own names. A
            UsageError says which argument is missing, or what the method offers.
        """
        whole = self._whole()
        if name == "average":
            return module_of(whole, ModelState.mean(whole.states()))
        context = ModuleContext(whole, self.seed, self.start, score, batches)
        return module_of(whole, offered_state(self.method, whole, context, name))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs beside the networks and optimizers.

        Raises:
            UsageError: an exchange is under way.
        """
        if not self.method.at_rest():
            raise UsageError(
                f"{self.method.name}: an exchange is under way; save after the last step of an "
                "epoch"
            )
        return {
            "step": self._steps_done,
            "base_lr": self._base_rate,
            "sent": self.sent.as_dict(),
            "method": self.method.state_dict(),
            "members": dict(self.population.member_state),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` gave; load the networks and optimizers as well."""
        self._steps_done, self._base_rate = state["step"], state["base_lr"]
        self.sent.load(state["sent"])
        device = self.population.device
        self.method.load_state_dict({key: t.to(device) for key, t in state["method"].items()})
        for name, rows in state["members"].items():
            self.population.member_state[name].copy_(rows)

    def _clock(self, step: int) -> StepInfo:
        base = self._optimizer.param_groups[0].get("initial_lr")  # as torch's schedulers set it
        return StepInfo(
            step,
            self.total_steps,
            self.steps_per_epoch,
            lr=self._rate,
            next_lr=self._current_rate,
            base_lr=self._base_rate if base is None else float(base),
        )

    @property
    def _current_rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def _take_rate(self, *_: object) -> None:
        self._rate = self._current_rate

    def _common_start(self) -> ModelState:
        starts = self._world.all_reduce_mean(self.population.weights, self.n)
        apart = bool((self.population.weights != starts).any())
        if any(self._world.all_gather([apart])):
            raise UsageError(
                f"method {self.method.name!r} needs members with a common start: load one "
                "state_dict into all networks"
            )
        return self.population.state(0).clone()

    def _whole(self) -> Population:
        """The whole population as the method wants it measured, at every rank."""
        here = self.population
        exchange = self._world.exchange(self.n, 0)  # whose ledger nobody reads

        def gather(rows: Tensor) -> Tensor:
            return exchange.gather(rows) if rows.shape[1] else rows.new_zeros(self.n, 0)

        whole = here.with_rows(*map(gather, (here.weights, here.buffers, here.counters)))
        whole.member_state = {name: gather(rows) for name, rows in here.member_state.items()}
        return self.method.evaluated(whole)

    def _warn(self) -> None:
        """Warn where parameters are hardly ever exchanged, and where a rule has its own images."""
        if self.total_steps <= MOST_STEPS:
            shape = CommShape(self.population.layout, self.n)
            clocks = (self._clock(step) for step in range(self.total_steps))
            ledger = predict_comm(self.method, shape, clocks)
            size = self.population.layout.size
            if text := about_exchanges(
                self.method.name, ledger, size, remedy="couple them more often"
            ):
                warnings.warn(text, stacklevel=3)
        rule = _layers(self.method)[-1]
        own = [
            words
            for hook, words in (("recipe", "augmentation"), ("order", "order of the data"))
            if getattr(type(rule), hook) is not getattr(Method, hook)
        ]
        if own:
            warnings.warn(
                f"{rule.name} also sets each member's {' and '.join(own)}, which your loop has to "
                "do",
                stacklevel=3,
            )


def _method_of(method: str | type[Method] | Method, options: Mapping[str, Any]) -> Method:
    if isinstance(method, Method):
        if options:
            raise UsageError(f"{', '.join(options)}: the method has its options already")
        return method
    if isinstance(method, str):
        return make_method(named_method(method), options)
    if not (inspect.isclass(method) and issubclass(method, Method)):
        raise UsageError(f"method: takes a name or a subclass of Method, not {method!r}")
    return make(method.name, method, options)


def _layers(method: Method) -> list[Method]:
    """The method and what is inside it, the training rule last."""
    layers = [method]
    while isinstance(layers[-1], Wrapper):
        layers.append(layers[-1].inner)
    return layers


def _check_rule(method: Method, steps_per_epoch: int | None) -> None:
    """Refuse, as a UsageError, what is no rule for a loop of the user's own."""
    if isinstance(method, MergeRule):
        raise UsageError(f"{method.name} merges trained networks: use wash_bench.merge for it")
    rule = _layers(method)[-1]
    if type(rule).training_config is not Method.training_config:
        raise UsageError(f"{rule.name} trains other networks than a population: name another rule")
    described = [describe_class(part.name, "", type(part)) for part in _layers(method)]
    units = [option.unit for each in described for option in each.options]
    if steps_per_epoch is None and any("epochs" in unit for unit in units):
        raise UsageError(f"{method.name} counts epochs: give steps_per_epoch")


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def _world(distributed: bool) -> World:
    if not distributed:
        return LocalWorld()
    if not torch.distributed.is_initialized():
        raise UsageError("distributed=True: call torch.distributed.init_process_group first")
    from wash_bench.distributed.ranks import DistributedWorld

    return DistributedWorld()
