"""The loggers by name, or from a file of one's own; their libraries are looked for, not loaded."""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wash_bench.errors import UsageError, nearest
from wash_bench.loggers.contract import Logger
from wash_bench.plugins.importing import import_file, read_source


@dataclass(frozen=True)
class Offered:
    """A logger of ours: its class, as ``module:Class``, and the library that it needs, if any."""

    target: str
    library: str = ""


LOGGERS: Mapping[str, Offered] = {
    "csv": Offered("wash_bench.loggers.csv_file:CsvLogger"),
    "tensorboard": Offered("wash_bench.loggers.tensorboard_events:EventsLogger", "tensorboard"),
    "wandb": Offered("wash_bench.loggers.wandb_run:WandbLogger", "wandb"),
    "mlflow": Offered("wash_bench.loggers.mlflow_run:MlflowLogger", "mlflow"),
}


def check_loggers(specs: Sequence[str]) -> None:
    """A UsageError if a logger is unknown, or its library is not installed."""
    for spec in specs:
        offered = LOGGERS.get(spec)
        if offered is None:
            logger_class(spec)
        elif offered.library and not installed(offered.library):
            raise UsageError(
                f"--log {spec} needs {offered.library}: pip install 'wash-bench[{spec}]'"
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
    place, _, name = spec.rpartition(":")
    if not place.endswith(".py") or not name.isidentifier():
        raise UsageError(
            f"--log {spec}: {nearest(spec, LOGGERS)} (one of your own: path/to/file.py:Class)"
        )
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
