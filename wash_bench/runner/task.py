"""A training task: one training with all the cells that read it, the unit of work of a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from wash_bench.config import RunConfig, TrainingConfig
from wash_bench.core.method import Method
from wash_bench.plugins.registry import MethodEntry, make_method
from wash_bench.record.identity import Cell
from wash_bench.runner.progress import Progress, Status


@dataclass(frozen=True)
class TrainingTask:
    """The cells that share one training, each with its method's entry. Travels to processes."""

    config: RunConfig
    cells: tuple[Cell, ...]
    entries: tuple[MethodEntry, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    """What to call methods, by name, of which the run has several variants."""

    @property
    def training_id(self) -> str:
        """The training's id."""
        return self.cells[0].training_id

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.cells[0].seed

    @cached_property
    def training(self) -> TrainingConfig:
        """The settings of the training: those of the run, as the method changes them."""
        return self.methods()[0].training_config(self.config.training)

    @property
    def trained_config(self) -> RunConfig:
        """The run's settings with those of the training in them."""
        return self.config.model_copy(update={"training": self.training})

    def methods(self) -> list[Method]:
        """The cells' methods with their options, made anew."""
        options = self.config.set
        return [make_method(entry, options.get(entry.name, {})) for entry in self.entries]

    def progress(self, status: Status, **more: Any) -> Progress:
        """A progress record of this task; ``more`` are further fields of it."""
        names = tuple(self.labels.get(cell.method, cell.method) for cell in self.cells)
        return Progress(self.training_id, names, self.seed, status, **more)

    def part(self, kept: set[str]) -> TrainingTask | None:
        """The task reduced to the cells with these ids; None if it has none of them."""
        pairs = [
            (cell, entry)
            for cell, entry in zip(self.cells, self.entries, strict=True)
            if cell.cell_id in kept
        ]
        if not pairs:
            return None
        cells, entries = zip(*pairs, strict=True)
        return replace(self, cells=cells, entries=entries)


Results = list[tuple[str, str | None]]
"""Of every cell of a task: its id, and None or the reason of its failure."""
