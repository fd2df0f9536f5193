"""``--log csv``: a table in the training's folder, one row a number."""

import csv
from collections.abc import Sequence

from wash_bench.loggers.contract import Event, LoggedTraining, Logger

COLUMNS = ("step", "epoch", "member", "metric", "value")


class CsvLogger(Logger):
    """Appends to ``log.csv``; ``member`` is empty for the whole population."""

    def __init__(self, training: LoggedTraining) -> None:
        super().__init__(training)
        path = training.folder / "log.csv"
        self._file = path.open("a", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        if not path.stat().st_size:
            self._rows.writerow(COLUMNS)

    def log(self, step: int, events: Sequence[Event]) -> None:
        self._rows.writerows([getattr(event, column) for column in COLUMNS] for event in events)
        self._file.flush()

    def close(self) -> None:
        self._file.close()
