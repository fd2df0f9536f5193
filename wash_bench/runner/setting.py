"""What a training needs besides its method: device, data, networks; made from the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from wash_bench.config import TrainingConfig
from wash_bench.core.clock import Schedule
from wash_bench.core.layout import Layout
from wash_bench.core.optim import optimizer_slots
from wash_bench.core.population import Population
from wash_bench.data.load import load_data
from wash_bench.data.recipe import Recipe, draw_recipes
from wash_bench.data.source import DataSource
from wash_bench.distributed.group import local_device
from wash_bench.errors import UsageError
from wash_bench.models.build import build_model
from wash_bench.models.check import check_fit
from wash_bench.seeds import derive


def resolve_device(name: str) -> torch.device:
    """``auto`` is the first accelerator that is there, else the CPU.

    Raises:
        UsageError: the device is unknown or not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            there.append("mps")
        raise UsageError(
            f"device {name!r} is not there; this machine has: {', '.join(there)}"
        ) from error
    return device


@dataclass
class Setting:
    """Device and data of an experiment, shared by its trainings."""

    config: TrainingConfig
    device: torch.device
    data: DataSource

    @classmethod
    def of(cls, config: TrainingConfig, download: bool = False) -> Setting:
        device = resolve_device(local_device(config.device))
        return cls(config, device, load_data(config, device, download=download))

    @property
    def schedule(self) -> Schedule:
        config = self.config
        per_epoch = self.data.steps_per_epoch(config.batch_size)
        return Schedule(
            config.schedule,
            config.lr,
            config.lr_min,
            per_epoch * config.epochs,
            per_epoch,
            config.milestones,
        )

    def recipes(self, seed: int) -> list[Recipe]:
        """The base recipe of each member."""
        config, data = self.config, self.data
        return draw_recipes(data.recipe, config.population, seed, config.augment, data.grid)

    def network(self, seed: int, member: int) -> nn.Module:
        """The initialized network of a member; with a shared init everybody is member 0."""
        config, data = self.config, self.data
        owner = 0 if config.init == "shared" else member
        return build_model(
            config.model,
            classes=data.classes,
            channels=data.channels,
            size=data.size,
            stem=config.stem,
            model_args=config.model_args,
            seed_value=derive(seed, "init", owner),
        )

    def check(self) -> Layout:
        """Refuse before training what cannot work; the layout of a member.

        Raises:
            UsageError: the network cannot be trained on such images or batches.
        """
        config, data = self.config, self.data
        data.steps_per_epoch(config.batch_size)
        return check_fit(
            lambda: self.network(0, 0),
            name=config.model,
            classes=data.classes,
            channels=data.channels,
            size=data.size,
            batch_size=config.batch_size,
        )

    def population(self, seed: int, members: Sequence[int] | None = None) -> Population:
        """The initialized members: all of them, or those named."""
        return Population(
            lambda member: self.network(seed, member),
            range(self.config.population) if members is None else members,
            device=self.device,
            channels_last=self.config.channels_last,
            optimizer_slots=optimizer_slots(self.config),
        )
