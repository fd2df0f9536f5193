"""``--log csv``: a table in the training's folder, one row a number."""

import csv
import importlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wash_bench.loggers.contract import Event, LoggedTraining, Logger, flat

COLUMNS = ("step", "epoch", "member", "metric", "value")


class CsvLogger(Logger):
    """Appends to ``log.csv``; ``member`` is empty for the whole population."""

    layers = True

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

    def finish(self, step: int, results: Mapping[str, float], files: Sequence[Path]) -> None:
        self._rows.writerows((step, "", "", name, value) for name, value in results.items())

    def close(self) -> None:
        self._file.close()


class EventsLogger(Logger):
    """Writes to ``tensorboard/`` in the training's folder; one that goes on adds a file."""

    state = "tensorboard"

    def __init__(self, training: LoggedTraining) -> None:
        super().__init__(training)
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(training.folder / self.state))
        if not training.state:
            settings = json.dumps(training.config, indent=1)
            self._writer.add_text("settings", f"```\n{settings}\n```", 0)

    def log(self, step: int, events: Sequence[Event]) -> None:
        for event in events:
            self._writer.add_scalar(event.name, event.value, step)
        self._writer.flush()

    def finish(self, step: int, results: Mapping[str, float], files: Sequence[Path]) -> None:
        for name, value in results.items():
            self._writer.add_scalar(f"results/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


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

    def finish(self, step: int, results: Mapping[str, float], files: Sequence[Path]) -> None:
        self._run.summary.update(results)
        for path in files:
            self._run.save(str(path), base_path=str(path.parent), policy="now")

    def close(self) -> None:
        self._run.finish()


MOST_METRICS, MOST_PARAMS, LONGEST = 1000, 100, 500  # of one call; characters of a parameter


class MlflowLogger(Logger):
    """``state`` is the id of the run, which a training that goes on is added to."""

    def __init__(self, training: LoggedTraining) -> None:
        super().__init__(training)
        mlflow: Any = importlib.import_module("mlflow")
        self._entities: Any = importlib.import_module("mlflow.entities")
        self._client = mlflow.MlflowClient()
        if training.state:
            self.state = training.state
            self._client.update_run(self.state, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "wash-bench")
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        run = self._client.create_run(
            experiment, tags={"group": training.group}, run_name=training.name
        )
        self.state = run.info.run_id
        params = [
            self._entities.Param(key, str(value)[:LONGEST])
            for key, value in flat(training.config).items()
        ]
        for first in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self.state, params=params[first : first + MOST_PARAMS])

    def log(self, step: int, events: Sequence[Event]) -> None:
        now = round(time.time() * 1000)
        metrics = [self._entities.Metric(event.name, event.value, now, step) for event in events]
        self._log(metrics)

    def finish(self, step: int, results: Mapping[str, float], files: Sequence[Path]) -> None:
        now = round(time.time() * 1000)
        self._log([self._entities.Metric(*item, now, step) for item in results.items()])
        for path in files:
            self._client.log_artifact(self.state, str(path))

    def _log(self, metrics: Sequence[Any]) -> None:
        for first in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self.state, metrics=metrics[first : first + MOST_METRICS])

    def close(self) -> None:
        self._client.set_terminated(self.state)
