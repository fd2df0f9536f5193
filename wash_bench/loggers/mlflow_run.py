"""``--log mlflow``: a run of MLflow a training.

The library's own variables hold here as ever: MLFLOW_TRACKING_URI, and MLFLOW_EXPERIMENT_NAME (by
default wash-bench).
"""

import importlib
import os
import time
from collections.abc import Sequence
from typing import Any

from wash_bench.loggers.contract import Event, LoggedTraining, Logger, flat

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
        for first in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self.state, metrics=metrics[first : first + MOST_METRICS])

    def close(self) -> None:
        self._client.set_terminated(self.state)
