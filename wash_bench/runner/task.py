"""A training task: one training with all the cells that read it, the unit of work of a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wash_bench.config import RunConfig, TrainingConfig
from wash_bench.core.method import Method
from wash_bench.runner.progress import Progress, Status
from wash_bench.study.cells import Cell


@dataclass(frozen=True)
class TrainingTask:
    """The cells that share one training and its evaluation. Travels to processes."""

    cells: tuple[Cell, ...]

    @property
    def config(self) -> RunConfig:
        """The settings that the cells have in common."""
        return self.cells[0].config

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
        return self.methods[0].training_config(self.config.training)

    @property
    def trained_config(self) -> RunConfig:
        """The run's settings with those of the training in them."""
        return self.config.model_copy(update={"training": self.training})

    @property
    def methods(self) -> list[Method]:
        """The cells' methods with their options, to ask about themselves: others share them."""
        return [cell.spec.known() for cell in self.cells]

    def new_method(self, place: int = 0) -> Method:
        """Construct the method of a cell, to train and to merge with."""
        return self.cells[place].spec.make()

    def progress(self, status: Status, **more: Any) -> Progress:
        """A progress record of this task; ``more`` are further fields of it."""
        names = tuple(cell.label for cell in self.cells)
        return Progress(self.training_id, names, self.seed, status, **more)

    def part(self, kept: set[str]) -> TrainingTask | None:
        """The task reduced to the cells with these ids; None if it has none of them."""
        cells = tuple(cell for cell in self.cells if cell.cell_id in kept)
        return TrainingTask(cells) if cells else None


Results = list[tuple[str, str | None]]
"""Of every cell of a task: its id, and None or the reason of its failure."""
