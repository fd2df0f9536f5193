"""One training with all the cells that read it: the unit of work of a process."""

from __future__ import annotations

import csv
import errno
import time
import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch

from wash_bench.config import SCHEMA_VERSION, RunConfig
from wash_bench.core.ledger import Ledger
from wash_bench.core.method import Method, Site
from wash_bench.errors import CellFailure, WashBenchError
from wash_bench.evaluate.barrier import Point
from wash_bench.evaluate.judging import PopulationJudge
from wash_bench.evaluate.measure import measure_method, measure_population
from wash_bench.record.environment import capture, continued
from wash_bench.record.files import write_atomically, write_json
from wash_bench.record.identity import Cell, cell_config
from wash_bench.record.store import Store, TrainingFolder
from wash_bench.registry import MethodEntry, make_method
from wash_bench.runner.progress import Observer, Progress
from wash_bench.runner.setting import Setting
from wash_bench.runner.training import Training


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


def perform(
    task: Task, store: Store, setting: Setting, observer: Observer, *, debug: bool = False
) -> list[tuple[str, str | None]]:
    """Train if need be, evaluate, and write the cells' records.

    Args:
        task: the cells.
        store: the run folder.
        setting: device and data.
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
    try:
        _train_and_measure(task, folder, setting, observer, measured, failures, debug)
    except CellFailure as failure:
        folder.set_status("failed", str(failure))
        failures = {cell.cell_id: str(failure) for cell in task.cells}
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise WashBenchError(
                f"the disk of {store.root} is full; free some space and run the same command again"
            ) from error
        reason = f"{error.strerror or error} ({error.filename or store.root})"
        raise WashBenchError(reason) from error
    except torch.OutOfMemoryError as error:
        raise WashBenchError(
            "the device is out of memory; lower --batch-size or --population, or set --amp bf16"
        ) from error
    except WashBenchError:
        raise
    except Exception as error:  # whatever a method's or a network's own code runs into
        reason = _reason(error, debug)
        folder.set_status("failed", reason)
        failures = {cell.cell_id: reason for cell in task.cells}

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
                "config": cell_config(task.config, cell, method.options.model_dump(mode="json")),
                "options": method.options.model_dump(mode="json"),
                "summary": {} if reason else measured[cell.cell_id],
                "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
    status = "failed" if len(failures) == len(task.cells) else "finished"
    observer(task.progress(status, message="; ".join(sorted(set(failures.values())))))
    return [(cell.cell_id, failures.get(cell.cell_id)) for cell in task.cells]


def _reason(error: Exception, debug: bool) -> str:
    """What a method's or a network's code ran into, and where, on one line."""
    if debug:
        traceback.print_exception(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"


def _train_and_measure(
    task: Task,
    folder: TrainingFolder,
    setting: Setting,
    observer: Observer,
    measured: dict[str, dict[str, Any]],
    failures: dict[str, str],
    debug: bool,
) -> None:
    """Fill ``measured`` (summary by cell id), or ``failures``."""
    methods = task.methods()
    training = Training(
        setting,
        methods[0],
        task.seed,
        folder,
        eval_every=task.config.eval_every,
        checkpoint_every=task.config.checkpoint_every,
        tell=observer,
        base=task.progress("training"),
    )
    if folder.population.exists():  # renamed from the last checkpoint: surer than the status
        notes = training.load_finished()
    else:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.path / "training.json", _about(task, training))
        environment = capture(str(setting.device))
        if folder.checkpoint.exists():
            environment = continued(folder.environment_so_far(), environment)
        write_json(folder.environment, environment)
        folder.set_status("running")
        notes = training.run()
        folder.set_status("finished")

    began = time.monotonic()
    evaluator = training.evaluator()
    judge = PopulationJudge(evaluator)
    evaluation_id = task.cells[0].evaluation_id
    shared = folder.evaluation(evaluation_id)
    if shared is None:
        shared = _measure_shared(task, training, evaluator, judge, observer)
        _write_barrier(folder.barrier(evaluation_id), shared.pop("points"))
        shared |= _costs(training, notes)
        shared["eval_seconds"] = time.monotonic() - began
        folder.write_evaluation(evaluation_id, shared)
    bins = task.config.evaluation.ece_bins
    for cell, method in zip(task.cells, methods, strict=True):
        try:
            measured[cell.cell_id] = shared | measure_method(evaluator, judge, method, bins)
        except CellFailure as failure:
            failures[cell.cell_id] = str(failure)
        except (WashBenchError, OSError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # one method's merge; the others that read the training go on
            failures[cell.cell_id] = _reason(error, debug)


def _about(task: Task, training: Training) -> dict[str, Any]:
    """The settings of a training and what its method tells about itself."""
    method, population = training.method, training.population
    site = Site(population.layout, population.n, len(population.optimizer_state))
    options = method.options.model_dump(mode="json")
    return {
        "config": cell_config(task.config, task.cells[0], options),
        "rule": method.training_key(),
        "facts": method.facts(site),
        "recipes": [recipe.as_dict() for recipe in training.recipes],
        "parameters": population.layout.size,
    }


def _measure_shared(
    task: Task, training: Training, evaluator, judge: PopulationJudge, observer: Observer
) -> dict[str, Any]:
    progress = replace(training.progress, status="evaluating", seconds_left=None)
    observer(progress)

    def pulse(done: int, total: int) -> None:
        observer(replace(progress, step=done, steps=total))

    summary, points = measure_population(evaluator, judge, task.config.evaluation, pulse)
    return summary | {"points": points}


def _costs(training: Training, notes: dict[str, Any]) -> dict[str, Any]:
    """The ledger and the clock, per member."""
    population, steps = training.population, training.schedule.steps
    ledger = Ledger(population.n)
    ledger.load(notes["ledger"])
    return {
        "parameters": population.layout.size,
        "steps": steps,
        "sent_values_per_step": ledger.sent_values / steps,
        "sent_values_total": ledger.sent_values,
        "sent_bytes_total": ledger.sent_bytes,
        "wire_bytes_per_step": ledger.wire_bytes / steps,
        "wire_bytes_total": ledger.wire_bytes,
        "exchanges": ledger.as_dict(),
        "train_seconds": notes["train_seconds"],
    }


def _write_barrier(path, points: list[Point]) -> None:
    write_atomically(path, partial(_write_rows, points))


def _write_rows(points: list[Point], path) -> None:
    rows = [point.as_dict() for point in points]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
