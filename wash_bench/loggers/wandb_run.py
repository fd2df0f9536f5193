"""``--log wandb``: a run of Weights & Biases a training, grouped by experiment.

The library's own variables hold here as ever: WANDB_PROJECT (by default wash-bench), WANDB_MODE
(offline), WANDB_API_KEY.
"""

import importlib
import os
from collections.abc import Sequence
from typing import Any

from wash_bench.loggers.contract import Event, LoggedTraining, Logger


class WandbLogger(Logger):
    """``state`` is the id of the run, by which it is resumed."""

    def __init__(self, training: LoggedTraining) -> None:
        super().__init__(training)
        wandb: Any = importlib.import_module("wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "wash-bench"),
            name=training.name,
            group=training.group,
            dir=str(training.folder),
            config=dict(training.config),
            id=training.state or None,
            resume="allow" if training.state else None,
            reinit=True,  # trainings follow one another in one process
        )
        self.state = str(self._run.id)

    def log(self, step: int, events: Sequence[Event]) -> None:
        values = {event.name: event.value for event in events}
        self._run.log(values | {"epoch": events[0].epoch}, step=step)

    def close(self) -> None:
        self._run.finish()
