"""What a logger is: it is told the events of one training, an epoch at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Event:
    """One number of a training, as ``events.jsonl`` has it (docs/records.md lists the metrics).

    Attributes:
        step: optimizer steps done.
        epoch: epochs done.
        member: index of the member, None for the whole population.
        metric: what it is, as ``train_loss``.
        value: finite.
    """

    step: int
    epoch: float
    member: int | None
    metric: str
    value: float

    @property
    def name(self) -> str:
        """The metric with its member, as ``train_loss/member-0``."""
        return self.metric if self.member is None else f"{self.metric}/member-{self.member}"


@dataclass(frozen=True)
class LoggedTraining:
    """The training that a logger is made for.

    Attributes:
        name: its id: rule, network, data set, N, seed, and a hash of its settings.
        group: the experiment: what trainings that may be compared have in common.
        folder: its folder in the run folder, where a logger may write files of its own.
        config: all settings, as JSON data.
        state: the ``state`` of the logger that an earlier run made for this training; empty if
            this is the first.
    """

    name: str
    group: str
    folder: Path
    config: Mapping[str, Any]
    state: str = ""


class Logger(ABC):
    """Writes the events of one training somewhere.

    It is made when the training starts or goes on, in the process that trains it. What any method
    raises is said once; the training goes on without this logger.

    Attributes:
        training: what it was made for.
        state: a text to find its log again, kept beside the records once the logger is made.
        layers: whether it gets the series of single layers, of which a network has dozens;
            ``--log NAME+layers`` sets it.
    """

    state: str = ""
    layers: bool = False

    def __init__(self, training: LoggedTraining) -> None:
        self.training = training

    @abstractmethod
    def log(self, step: int, events: Sequence[Event]) -> None:
        """Write the events of an epoch, all of one step; each step comes once, in their order."""

    def finish(  # noqa: B027 (a log of the training alone needs none)
        self, step: int, results: Mapping[str, float], files: Sequence[Path]
    ) -> None:
        """Write what was measured after the training.

        Called once per cell. A training has one, or one per merge rule that reads it.

        Args:
            step: the last one of the training.
            results: as in summary.csv: ``average_acc``, ``ensemble_nll`` and so on are of the
                population; what differs between merge rules has their name, as
                ``method_acc/greedy-soup``.
            files: the points of the barriers, CSV.
        """

    def close(self) -> None:  # noqa: B027 (most files need no end)
        """End the log: the training is done, or stops."""


def flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings without nesting, as ``training.lr``; empty tables are left out."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        else:
            found[above + key] = value
    return found
