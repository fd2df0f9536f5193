"""``--log tensorboard``: event files for ``tensorboard --logdir``, by torch's own writer."""

import json
from collections.abc import Sequence

from torch.utils.tensorboard import SummaryWriter

from wash_bench.loggers.contract import Event, LoggedTraining, Logger


class EventsLogger(Logger):
    """Writes to ``tensorboard/`` in the training's folder; one that goes on adds a file."""

    state = "tensorboard"

    def __init__(self, training: LoggedTraining) -> None:
        super().__init__(training)
        self._writer = SummaryWriter(str(training.folder / self.state))
        if not training.state:
            settings = json.dumps(training.config, indent=1)
            self._writer.add_text("settings", f"```\n{settings}\n```", 0)

    def log(self, step: int, events: Sequence[Event]) -> None:
        for event in events:
            self._writer.add_scalar(event.name, event.value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
