"""Hands the recorded events of a training to its loggers, each step once, whatever they raise."""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wash_bench.errors import UsageError, nearest
from wash_bench.loggers.contract import Event, LoggedTraining, Logger
from wash_bench.python_file import import_file, is_in_file, read_source
from wash_bench.record.schema import read_summed, write_summed
from wash_bench.record.store import TrainingFolder

LAYERS = "+layers"
"""Ends the name of a logger that gets the series of single layers."""
_LAYER = "_layer/"  # in their names
_OF_CELL = ("method_", "merge_", "predictor_")  # results that differ between merge rules
_SAID: set[str] = set()  # one line for a logger that fails, not one a training


class LogFeed:
    """Reads ``events.jsonl`` as it grows.

    How far each logger was told stands in ``logged.json``, so that a training that goes on repeats
    no step, and no cell's results. It is written before a logger is told: a process that is killed
    in between loses the logger an epoch, which the records still have.

    Args:
        specs: names of loggers, or ``path/to/file.py:Class``.
        training: the training, without a logger's state.
        events: the file of its events.
        note: tells the user what is no failure.
    """

    def __init__(
        self,
        specs: Sequence[str],
        training: LoggedTraining,
        events: Path,
        note: Callable[[str], None],
    ) -> None:
        self._events = events
        self._place = training.folder / "logged.json"
        self._read = 0  # bytes
        self._note = note
        self._loggers: dict[str, Logger] = {}
        self._told: dict[str, dict[str, Any]] = self._so_far() if specs else {}
        for spec in specs:
            told = self._told.setdefault(spec, {"step": 0, "state": "", "cells": []})
            with_state = replace(training, state=told["state"])
            self._try(spec, lambda s=spec, t=with_state: self._make(s, t))
            if spec in self._loggers and told["state"] != self._loggers[spec].state:
                told["state"] = self._loggers[spec].state
                write_summed(self._place, self._told)

    def __bool__(self) -> bool:
        return bool(self._loggers)

    def send(self) -> None:
        """Tell the loggers what was written since; the events must have reached the file."""
        for step, events in _by_step(self._new()):
            for spec in [s for s in self._loggers if step > self._told[s]["step"]]:
                self._told[spec]["step"] = step
                write_summed(self._place, self._told)
                own = [e for e in events if self._loggers[spec].layers or _LAYER not in e.metric]
                self._try(spec, lambda s=spec, n=step, e=own: self._loggers[s].log(n, e))

    def finish(self, record: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Tell the loggers the results of a finished cell that they do not know yet.

        Args:
            record: of the cell.
            files: CSV files of the evaluation.
        """
        step = int(record["summary"].get("steps") or 0)
        evaluation, cell = f"{record['evaluation_id']}/", record["cell_id"]
        for spec in list(self._loggers):
            cells = self._told[spec]["cells"]
            if evaluation + cell in cells:
                continue
            known = any(each.startswith(evaluation) for each in cells)
            results = results_of(record, of_population=not known)
            cells.append(evaluation + cell)
            write_summed(self._place, self._told)
            points = () if known else files
            self._try(spec, lambda s=spec, r=results, p=points: self._loggers[s].finish(step, r, p))

    def close(self) -> None:
        """End the logs."""
        for spec in list(self._loggers):
            self._try(spec, self._loggers[spec].close)
        self._loggers.clear()

    def _make(self, spec: str, training: LoggedTraining) -> None:
        name = spec.removesuffix(LAYERS)
        self._loggers[spec] = logger_class(name)(training)
        if name != spec:
            self._loggers[spec].layers = True

    def _try(self, spec: str, call: Callable[[], None]) -> None:
        """Call, and give the logger up if it fails: a log is not worth a training."""
        try:
            call()
        except (Exception, SystemExit) as error:
            self._loggers.pop(spec, None)
            if spec not in _SAID:
                _SAID.add(spec)
                told = " ".join(f"{type(error).__name__}: {error}".split())
                self._note(f"--log {spec} failed ({told}); training goes on without it")

    def _so_far(self) -> dict[str, dict[str, Any]]:
        try:
            found = read_summed(self._place)
            return {
                spec: {
                    "step": int(told["step"]),
                    "state": str(told["state"]),
                    "cells": [*told.get("cells", ())],
                }
                for spec, told in found.items()
            }
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            return {}

    def _new(self) -> Iterator[Event]:
        with self._events.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                row = json.loads(line)
                if row.get("value") is not None:  # the line of the version has none
                    yield Event(**row)


def results_of(record: Mapping[str, Any], *, of_population: bool = True) -> dict[str, float]:
    """Return the finite numbers of a cell's summary by name, as ``Logger.finish`` takes them.

    Args:
        record: of the cell.
        of_population: also those that all merge rules of the population share.
    """
    found = {}
    for key, value in record["summary"].items():
        if isinstance(value, int | float) and math.isfinite(value):
            if key.startswith(_OF_CELL):
                found[f"{key}/{record['method']}"] = float(value)
            elif of_population:
                found[key] = float(value)
    return found


def send_training(
    folder: TrainingFolder,
    records: Sequence[Mapping[str, Any]],
    specs: Sequence[str],
    note: Callable[[str], None],
) -> None:
    """Tell loggers a training, and the results of its cells, as far as they do not know them.

    Args:
        folder: of the training.
        records: of its finished cells, one at least.
        specs: as ``--log`` takes them.
        note: tells the user what is no failure.
    """
    first = records[0]
    config = read_summed(folder.path / "training.json")["config"]
    about = LoggedTraining(folder.path.name, first["experiment_id"], folder.path, config)
    feed = LogFeed(specs, about, folder.events, note)
    try:
        if feed and folder.events.is_file():
            feed.send()
        for record in records:
            barrier = folder.barrier(record["evaluation_id"])
            feed.finish(record, [barrier] if barrier.is_file() else [])
    finally:
        feed.close()


def _by_step(events: Iterator[Event]) -> Iterator[tuple[int, list[Event]]]:
    """The events of each step together, in ascending order of steps."""
    found: dict[int, list[Event]] = {}
    for event in events:
        found.setdefault(event.step, []).append(event)
    yield from sorted(found.items())


@dataclass(frozen=True)
class Offered:
    """A logger of ours: its class, as ``module:Class``, and the library that it needs, if any."""

    target: str
    library: str = ""


LOGGERS: Mapping[str, Offered] = {
    "csv": Offered("wash_bench.loggers.writers:CsvLogger"),
    "tensorboard": Offered("wash_bench.loggers.writers:EventsLogger", "tensorboard"),
    "wandb": Offered("wash_bench.loggers.writers:WandbLogger", "wandb"),
    "mlflow": Offered("wash_bench.loggers.writers:MlflowLogger", "mlflow"),
}


def check_loggers(specs: Sequence[str]) -> None:
    """A UsageError if a logger is unknown, or its library is not installed."""
    for spec in specs:
        name = spec.removesuffix(LAYERS)
        offered = LOGGERS.get(name)
        if offered is None:
            logger_class(name)
        elif offered.library and not installed(offered.library):
            raise UsageError(
                f"--log {spec} needs {offered.library}: pip install 'wash-bench[{name}]'"
            )


def installed(library: str) -> bool:
    """Whether a library could be imported, as far as can be told without doing so."""
    try:
        return importlib.util.find_spec(library) is not None
    except ValueError:  # imported already, by a module that was made by hand
        return True


def logger_class(spec: str) -> type[Logger]:
    """The class of a name or of ``path/to/file.py:Class``.

    Returns:
        A Logger that lacks no method.

    Raises:
        UsageError: there is none, or it is no Logger.
    """
    if spec in LOGGERS:
        return pkgutil.resolve_name(LOGGERS[spec].target)
    if not is_in_file(spec):
        raise UsageError(
            f"--log {spec}: {nearest(spec, LOGGERS)} (one of your own: path/to/file.py:Class)"
        )
    place, _, name = spec.rpartition(":")
    path = Path(place).expanduser().resolve()
    module = import_file(path, read_source(path, "logger file"), "logger file")
    cls = getattr(module, name, None)
    if not (inspect.isclass(cls) and issubclass(cls, Logger)):
        raise UsageError(
            f"--log {spec}: {place} has no class {name!r} that is a subclass of "
            "wash_bench.loggers.Logger"
        )
    if missing := sorted(cls.__abstractmethods__):
        raise UsageError(f"--log {spec}: {name} lacks the method(s) {', '.join(missing)}")
    return cls
