"""One training with all the cells that read it: the unit of work of a process."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from wash_bench.config import SCHEMA_VERSION, RunConfig
from wash_bench.core.method import Method, Site
from wash_bench.distributed.world import World
from wash_bench.errors import CellFailure, WashBenchError
from wash_bench.plugins.registry import MethodEntry, make_method
from wash_bench.record.environment import capture, continued
from wash_bench.record.files import write_json
from wash_bench.record.identity import Cell, cell_config
from wash_bench.record.store import Store, TrainingFolder
from wash_bench.runner.measuring import measure, reason_of
from wash_bench.runner.progress import Observer, Progress
from wash_bench.runner.setting import Setting
from wash_bench.runner.training import Training
from wash_bench.train import checkpoint


@dataclass(frozen=True)
class Task:
    """The cells that share one training, each with its method's entry. Travels to processes."""

    config: RunConfig
    cells: tuple[Cell, ...]
    entries: tuple[MethodEntry, ...]

    @property
    def training_id(self) -> str:
        return self.cells[0].training_id

    @property
    def seed(self) -> int:
        return self.cells[0].seed

    def methods(self) -> list[Method]:
        options = self.config.set
        return [make_method(entry, options.get(entry.name, {})) for entry in self.entries]

    def progress(self, status: str, **more: Any) -> Progress:
        names = tuple(cell.method for cell in self.cells)
        return Progress(self.training_id, names, self.seed, status, **more)


Results = list[tuple[str, str | None]]


def perform(
    task: Task,
    store: Store,
    setting: Setting,
    world: World,
    observer: Observer,
    *,
    debug: bool = False,
) -> Results:
    """Train if need be, evaluate, and write the cells' records.

    Every process of the world calls it; rank 0 evaluates and writes.

    Args:
        task: the cells.
        store: the run folder.
        setting: device and data.
        world: the processes that hold the population together.
        observer: is told the progress.
        debug: print the traceback of an error in a method's or a network's code.

    Returns:
        (cell id, None or the reason of its failure) of every cell.

    Raises:
        WashBenchError: the machine failed (disk full, out of memory): nothing is recorded as
            failed and the same command tries again.
    """
    folder = store.training(task.training_id)
    failures: dict[str, str] = {}
    measured: dict[str, dict[str, Any]] = {}
    with machine_failures(store.root):
        try:
            training, notes = _train(task, folder, setting, world, observer)
            population = training.whole()
            if population is not None:
                measured, failures = measure(
                    task, folder, training, population, notes, observer, debug
                )
        except CellFailure as failure:
            failures = {cell.cell_id: str(failure) for cell in task.cells}
        except (WashBenchError, OSError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a method's or a network's own code runs into
            if world.ranks > 1:
                raise  # the others do not know of it
            reason = reason_of(error, debug)
            failures = {cell.cell_id: reason for cell in task.cells}
        if world.rank == 0:
            _write_cells(task, store, folder, measured, failures)
    status = "failed" if len(failures) == len(task.cells) else "finished"
    observer(task.progress(status, message="; ".join(sorted(set(failures.values())))))
    return world.share([(cell.cell_id, failures.get(cell.cell_id)) for cell in task.cells])


@contextlib.contextmanager
def machine_failures(root: Path) -> Iterator[None]:
    """Turn what the machine refuses into one line that says what to do."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of the output went away
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise WashBenchError(
                f"the disk of {root} is full; free some space and run the same command again"
            ) from error
        reason = f"{error.strerror or error} ({error.filename or root})"
        raise WashBenchError(reason) from error
    except torch.OutOfMemoryError as error:
        raise WashBenchError(
            "the device is out of memory; lower --batch-size or --population, or set --amp bf16"
        ) from error


def _write_cells(
    task: Task,
    store: Store,
    folder: TrainingFolder,
    measured: dict[str, dict[str, Any]],
    failures: dict[str, str],
) -> None:
    if len(failures) == len(task.cells):
        folder.set_status("failed", "; ".join(sorted(set(failures.values()))))
    for cell, method in zip(task.cells, task.methods(), strict=True):
        reason = failures.get(cell.cell_id)
        store.write_cell(
            {
                "schema": SCHEMA_VERSION,
                "cell_id": cell.cell_id,
                "training_id": cell.training_id,
                "evaluation_id": cell.evaluation_id,
                "experiment_id": cell.experiment_id,
                "method": cell.method,
                "seed": cell.seed,
                "status": "failed" if reason else "finished",
                "reason": reason,
                "config": cell_config(task.config, cell, method.settings()),
                "options": method.settings(),
                "summary": {} if reason else measured[cell.cell_id],
                "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )


def _train(
    task: Task, folder: TrainingFolder, setting: Setting, world: World, observer: Observer
) -> tuple[Training, dict[str, Any]]:
    """The trained population, and the notes of its state."""
    training = Training(
        setting,
        task.methods()[0],
        task.seed,
        folder,
        world,
        eval_every=task.config.eval_every,
        checkpoint_every=task.config.checkpoint_every,
        tell=observer,
        base=task.progress("training"),
    )
    state = checkpoint.pointer(folder.path)
    if state is not None and state["finished"]:
        return training, training.load_finished()
    if world.rank == 0:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.path / "training.json", _about(task, training))
        environment = capture(str(setting.device)) | _fine_tuning(setting, task.seed)
        if state is not None:
            environment = continued(folder.environment_so_far(), environment)
        write_json(folder.environment, environment)
        folder.set_status("running")
    world.wait()
    notes = training.run()
    if world.rank == 0:
        folder.set_status("finished")
    return training, notes


def _fine_tuning(setting: Setting, seed: int) -> dict[str, str]:
    """The checkpoint and the members' own hyperparameters, where a training has them."""
    told = {"start": setting.about_start()}
    if setting.config.vary:
        told["hyperparameters"] = "; ".join(
            " ".join(f"{name}={value:g}" for name, value in own.items())
            for own in setting.hyperparameters(seed)
        )
    return {key: text for key, text in told.items() if text}


def _about(task: Task, training: Training) -> dict[str, Any]:
    """The settings of a training and what its method tells about itself."""
    method, population = training.method, training.population
    site = Site(population.layout, training.n, len(population.optimizer_state))
    options = method.settings()
    return {
        "config": cell_config(task.config, task.cells[0], options),
        "rule": method.training_key(),
        "facts": method.facts(site),
        "recipes": [recipe.as_dict() for recipe in training.recipes],
        "hyperparameters": training.setting.hyperparameters(task.seed),
        "start": training.setting.about_start(),
        "parameters": population.layout.size,
    }
