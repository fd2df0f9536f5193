"""What a training needs besides its method: device, data, networks; made from the configuration."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import nn

from wash_bench.config import EvaluationConfig, TrainingConfig
from wash_bench.config.values import PRETRAINED
from wash_bench.core.layout import Layout
from wash_bench.core.ledger import CommLedger
from wash_bench.core.method import CommShape, Method, predict_comm
from wash_bench.core.population import Population
from wash_bench.core.step_info import Schedule
from wash_bench.data.load import load_data
from wash_bench.data.recipe import Recipe, draw_recipes
from wash_bench.data.source import DataSource
from wash_bench.distributed.process_group import local_device
from wash_bench.errors import CellFailure, UsageError, inform, note
from wash_bench.evaluate.corrupted import CorruptedImages
from wash_bench.models.batchnorm import batchnorms
from wash_bench.models.build import build_model
from wash_bench.models.check import check_fit
from wash_bench.models.dead import DeadParameters, dead_parameters
from wash_bench.models.head import head_parameters
from wash_bench.models.init_checkpoint import InitCheckpoint
from wash_bench.runner.context import RunContext
from wash_bench.runner.task import TrainingTask
from wash_bench.seeds import derive
from wash_bench.study.device import resolve_device
from wash_bench.train.engines import engine_name
from wash_bench.train.member_hparams import member_hyperparameters
from wash_bench.train.optim import optimizer_slots

_DEAD: dict[Hashable, DeadParameters] = {}  # by architecture and shapes


@dataclass
class TrainingSetup:
    """Device and data of an experiment, shared by its trainings."""

    config: TrainingConfig
    device: torch.device
    data: DataSource

    @classmethod
    def of(cls, config: TrainingConfig, download: bool = False) -> TrainingSetup:
        assert config.init != PRETRAINED, "the settings' reader puts the file in its place"
        device = resolve_device(local_device(config.device))
        if device.type == "cuda":
            torch.cuda.set_device(device)  # where streams and graphs are made
        return cls(config, device, load_data(config, device, download=download))

    def for_seed(self, seed: int) -> TrainingSetup:
        """Return the setting with a seed's own training and validation images."""
        own = copy.copy(self)
        own.data = self.data.for_seed(seed)
        return own

    def but(self, config: TrainingConfig) -> TrainingSetup:
        """Return the same device and data under other settings of the training."""
        return self if config == self.config else replace(self, config=config)

    @property
    def schedule(self) -> Schedule:
        return Schedule.of(self.config, self.data.steps_per_epoch(self.config.batch_size))

    def recipes(self, seed: int) -> list[Recipe]:
        """The base recipe of each member, with what varies between members."""
        config, data = self.config, self.data
        recipes = draw_recipes(data.recipe, config.population, seed, config.augment, data.grid)
        names = {field.name for field in fields(Recipe)}
        return [
            recipe.but(**{name: value for name, value in own.items() if name in names})
            for recipe, own in zip(recipes, self.hyperparameters(seed), strict=True)
        ]

    def hyperparameters(self, seed: int) -> list[dict[str, float]]:
        """What each member trains with instead of the configuration's values; by name."""
        vary = self.config.vary
        return [member_hyperparameters(vary, seed, i) for i in range(self.config.population)]

    @cached_property
    def checkpoint(self) -> InitCheckpoint | None:
        """The checkpoint that all members start from, read; None if there is none."""
        path = self.config.checkpoint
        return InitCheckpoint.read(path) if path else None

    def network(self, seed: int, member: int) -> nn.Module:
        """The initialized network of a member; with a common start everybody is member 0."""
        return self._started(seed, member)[0]

    def fresh(self, seed_value: int) -> nn.Module:
        """Return a network with weights drawn from a seed, whatever the members start from."""
        config, data = self.config, self.data
        return build_model(
            config.model,
            classes=data.classes,
            channels=data.channels,
            size=data.size,
            stem=config.stem,
            model_args=config.network_args,
            seed_value=seed_value,
        )

    def about_start(self) -> str:
        """What checkpoint members start from, and whether their head is new; "" without one."""
        if self.checkpoint is None:
            return ""
        note = self._started(0, 0)[1] or f"{self.checkpoint.path.name}, its head included"
        frozen = f"; {self.about_batchnorm()}" if self.config.freeze_bn else ""
        return f"{note}, sha256 {self.checkpoint.digest[:16]}{frozen}"

    def about_batchnorm(self) -> str:
        """What becomes of the checkpoint's BatchNorm; "" without the one or the other."""
        if self.checkpoint is None or not batchnorms(self._started(0, 0)[0]):
            return ""
        if self.config.freeze_bn:
            return (
                "BatchNorm frozen: the checkpoint's statistics normalize, its scales and shifts "
                "are not trained"
            )
        return (
            "BatchNorm trained: statistics begin as the checkpoint's and follow each member's "
            "batches (--freeze-bn keeps them)"
        )

    def _started(self, seed: int, member: int) -> tuple[nn.Module, str]:
        owner = 0 if self.config.common_start else member
        network, checkpoint = self.fresh(derive(seed, "init", owner)), self.checkpoint
        return network, checkpoint.load_into(network, self.config.model) if checkpoint else ""

    def print_notes(self) -> None:
        """Tell the user, once, what is to be said of the images."""
        while self.data.notes:
            note(self.data.notes.pop(0))

    def check(self, evaluation: EvaluationConfig | None = None) -> Layout:
        """Refuse before training what cannot work, as a UsageError; the layout of a member."""
        # A head that the checkpoint does not give is told of on the standard error stream.
        config, data = self.config, self.data
        self.print_notes()
        data.steps_per_epoch(config.batch_size)
        _ = self.engine
        if evaluation and evaluation.corruptions:
            CorruptedImages(data, evaluation)
        network, about = self._started(0, 0)
        if about:
            note(about)
        if config.linear_probe and not head_parameters(network):
            raise UsageError(
                f"model {config.model!r} has no classifier of its own to probe: "
                "leave --linear-probe out"
            )
        if config.freeze_bn:
            if not batchnorms(network):
                raise UsageError(f"model {config.model!r} has no BatchNorm: leave --freeze-bn out")
            note(self.about_batchnorm())
        if config.drop_path and not _drops_paths(network):
            raise UsageError(
                f"model {config.model!r} drops no residual branches: leave --drop-path out"
            )
        return check_fit(
            lambda: network,
            name=config.model,
            classes=data.classes,
            channels=data.channels,
            size=data.size,
            batch_size=config.batch_size,
        )

    @property
    def architecture(self) -> Hashable:
        """What the network follows from; trainings differ in much besides."""
        fields = {"model", "model_args", "stem", "drop_path", "channels_last"}
        network, data = self.config.key(include=fields), self.data
        return network, data.classes, data.channels, data.size

    @cached_property
    def dead(self) -> DeadParameters:
        """The parameters that no image of this size gives a gradient."""
        data, config, network = self.data, self.config, self.fresh(0)
        # A program may register another network under the same name.
        shapes = tuple(parameter.shape for parameter in network.parameters())
        key = self.architecture, shapes
        if key not in _DEAD:
            _DEAD[key] = dead_parameters(network, data.channels, data.size, config.channels_last)
        return _DEAD[key]

    def about_dead(self) -> str:
        """How many parameters are dead, with the remedy; "" if none is."""
        return self.dead.describe(self.data.size)

    def population(self, seed: int, members: Sequence[int] | None = None) -> Population:
        """The initialized members: all of them, or those named."""
        return Population(
            lambda member: self.network(seed, member),
            range(self.config.population) if members is None else members,
            device=self.device,
            channels_last=self.config.channels_last,
            optimizer_slots=optimizer_slots(self.config),
            own_gradients=self.own_gradients,
        )

    @property
    def own_gradients(self) -> bool:
        """Whether each member has a gradient row of its own."""
        return self.engine == "graph"  # members may be computed side by side

    @property
    def engine(self) -> str:
        """The engine's name; a UsageError if it does not run on the device."""
        return engine_name(self.config, self.device)


def setting_for(tasks: Sequence[TrainingTask], context: RunContext) -> TrainingSetup:
    """Return the setting of tasks of one data set and network, once it is clear that all can work.

    Every process of the world calls it; rank 0 may download, and checks.

    Raises:
        UsageError: a task cannot work.
    """
    world = context.world
    if world.rank:
        world.barrier()
        return TrainingSetup.of(tasks[0].config.training)
    setting = TrainingSetup.of(tasks[0].config.training, context.download)
    for task in tasks:
        if (n := task.training.population) < world.ranks:
            raise UsageError(
                f"method {task.cells[0].method!r} trains {n} network{'s' if n > 1 else ''}, which "
                f"{world.ranks} processes cannot share: run it without --nproc"
            )
    check_tasks(tasks, setting)
    world.barrier()
    return setting


def check_tasks(
    tasks: Sequence[TrainingTask], setting: TrainingSetup
) -> list[tuple[TrainingConfig, Layout]]:
    """Refuse, as a UsageError, tasks that cannot work, and say which networks have dead parameters.

    Returns:
        The different settings of a training, each with the layout of a member.
    """
    different: dict[str, TrainingTask] = {}
    for task in tasks:
        different.setdefault(task.training.key(), task)
    layouts = [(task.training, check_task(task, setting)) for task in different.values()]
    check_rules(tasks, setting)
    networks = [setting.but(training) for training, _ in layouts]
    own = {network.architecture: network for network in networks}
    notes = [each.about_dead() for each in own.values()]
    for task, (training, layout) in zip(different.values(), layouts, strict=True):
        schedule, slots = setting.but(training).schedule, len(optimizer_slots(training))
        site = CommShape(layout, training.population, slots)
        for method in task.methods if schedule.steps <= MOST_STEPS else ():
            ledger = predict_comm(method, site, schedule)
            notes.append(about_exchanges(method.name, ledger, layout.size))
    for text in filter(None, dict.fromkeys(notes)):
        inform(text)
    return layouts


RARE = 3.0
"""Exchanges of a parameter in the whole training, below which members drift apart."""
MOST_STEPS = 100_000  # of a training whose communication is predicted before it, in a second


def about_exchanges(
    name: str,
    ledger: CommLedger | None,
    size: int,
    remedy: str = "add --rescale-coupling, or couple them more often",
) -> str:
    """Warn where a method's parameters, of ``size``, are hardly ever exchanged; else ""."""
    often, events = ledger.exchanges_of_parameter(size) if ledger else (0.0, 0)
    if not 0 < often < min(RARE, events / 2):  # a few averages of all weights are enough
        return ""
    return (
        f"{name}: a parameter is exchanged {often:.2g} times in the whole training, too rarely for "
        f"the members to stay in one loss basin; {remedy}"
    )


def check_task(task: TrainingTask, setting: TrainingSetup) -> Layout:
    """Return the layout of a member; a UsageError, before any training, if a task cannot work."""
    try:
        return setting.but(task.training).check(task.config.evaluation)
    except UsageError as error:
        if task.training == task.config.training:
            raise
        raise UsageError(f"method {task.cells[0].method!r}: {error}") from None


def check_rules(tasks: Sequence[TrainingTask], setting: TrainingSetup) -> None:
    """Refuse, as a UsageError before training, a method that its network or start is not for."""
    rules: dict[Hashable, tuple[TrainingSetup, dict[str, Method]]] = {}
    for task in tasks:
        own = setting.but(task.training)
        _, methods = rules.setdefault(own.architecture, (own, {}))
        for method in task.methods:
            if method.anchored and not own.config.common_start:
                raise UsageError(
                    f"method {method.name!r} needs members with a common start: run it with "
                    "--init shared, or merge with --anchor FILE, the network that all began as"
                )
            methods.setdefault(method.name, method)
    for own, methods in rules.values():  # one network at a time
        network = own.fresh(0)
        for name, method in methods.items():
            try:
                method.check_network(network)
            except CellFailure as failure:
                raise UsageError(f"method {name!r}: {failure}") from None


def _drops_paths(network: nn.Module) -> bool:
    """Whether a network has layers of stochastic depth, as timm's and torchvision's are named."""
    names = {type(layer).__name__.lower() for layer in network.modules()}
    return any("droppath" in name or "stochasticdepth" in name for name in names)
