"""The evaluation of a task: of its trained population, once, and of each cell's own models.

What is measured says ``evaluate.measure``; this module says when, and where it is written.
"""

import csv
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from wash_bench.config import EvaluationConfig
from wash_bench.core.branches import recipe_of
from wash_bench.core.ledger import CommLedger
from wash_bench.core.method import CommShape, Method, predict_comm
from wash_bench.core.population import ModelState, Population
from wash_bench.core.step_info import Schedule, StepInfo
from wash_bench.core.wrapper import Independent
from wash_bench.data.recipe import Recipe
from wash_bench.errors import CellFailure, WashBenchError
from wash_bench.evaluate.barrier import Point
from wash_bench.evaluate.corrupted import CorruptionPoint, corruption_points, corruption_summary
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.measure import measure_method, measure_population
from wash_bench.evaluate.population_context import PopulationJudge
from wash_bench.evaluate.similarity import weight_cosine
from wash_bench.evaluate.simplex import SimplexPoint, simplex_points
from wash_bench.files import write_atomically
from wash_bench.runner.context import RunContext
from wash_bench.runner.machine import FAILURES, is_system_error
from wash_bench.runner.student import train_student
from wash_bench.runner.task import TrainingTask
from wash_bench.runner.trainer import Trainer
from wash_bench.train import checkpoint
from wash_bench.train.optim import optimizer_slots

SIGMAS = 6  # of an expectation, which a drawn number of values is away from by chance
Measured = Point | SimplexPoint | CorruptionPoint
Pulse = Callable[[int, int], None]  # is told what is done, and of how much


def evaluate(
    task: TrainingTask,
    trainer: Trainer,
    population: Population,
    context: RunContext,
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Measure population, if need be, and cells' own models: summaries and failures by id."""
    began = time.monotonic()
    folder, settings = trainer.folder, task.config.evaluation
    progress = replace(trainer.progress, status="evaluating", seconds_left=None)

    def pulse(done: int, total: int) -> None:
        context.observer(replace(progress, step=done, steps=total))

    evaluator, judge = judged(trainer, population, settings, pulse)
    evaluation_id = task.cells[0].evaluation_id
    shared = folder.evaluation(evaluation_id)
    if shared is None:
        context.observer(progress)
        shared = _measure_shared(task, trainer, evaluator, judge, pulse)
        _write_points(folder.barrier(evaluation_id), shared.pop("points"), Point)
        _write_outcomes(folder.outcomes(evaluation_id), shared.pop("outcomes"))
        simplex = shared.pop("simplex")
        if settings.simplex_points:
            _write_points(folder.simplex(evaluation_id), simplex, SimplexPoint)
        if corrupted := shared.pop("corrupted"):
            _write_points(folder.corruption(evaluation_id), corrupted, CorruptionPoint)
        average = population.named_tensors(judge.average().states[0])
        checkpoint.save_network(folder.path / "average.safetensors", average)
        shared |= _costs(task, trainer, population)
        shared["eval_seconds"] = time.monotonic() - began
        folder.write_evaluation(evaluation_id, shared)
    memory = trainer.method.state_dict()
    measured, failures = {}, {}
    for place, cell in enumerate(task.cells):
        keep = partial(_keep, population, folder.network(cell.cell_id))
        try:
            method = task.new_method(place) if place else trainer.method
            if place and memory:
                method.load_state_dict(memory)
            own, outcomes = measure_method(evaluator, judge, method, settings, keep, shared)
            _write_outcomes(folder.cell_outcomes(cell.cell_id), outcomes)
            measured[cell.cell_id] = shared | own
        except FAILURES as error:
            # One method's merge; the others that read the training go on.
            failures[cell.cell_id] = reason_of(error, context.debug)
    return measured, failures


def _keep(population: Population, path: Path, name: str, state: ModelState) -> None:
    if name != "average":  # which stands in a file of its own
        checkpoint.save_network(path, population.named_tensors(state))


def judged(
    trainer: Trainer,
    population: Population,
    settings: EvaluationConfig,
    pulse: Pulse = lambda done, total: None,
) -> tuple[Evaluator, PopulationJudge]:
    """What runs the states of a trained population, and what a merge rule may ask about it."""
    evaluator = trainer.evaluator(population)
    initial = trainer.initial if trainer.setting.config.common_start else None
    train = partial(train_student, trainer.setting, trainer.seed, pulse)
    return evaluator, PopulationJudge(evaluator, initial, settings.bn_images, train)


def reason_of(error: BaseException, debug: bool) -> str:
    """Return what a method's or a network's code ran into, and where, on one line.

    An error of the machine is raised again.
    """
    if is_system_error(error):
        raise error
    if isinstance(error, CellFailure):
        return str(error)
    if debug:
        traceback.print_exception(error)
    if isinstance(error, WashBenchError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"


def member_steps(method: Method, n: int, schedule: Schedule) -> int:
    """Optimizer steps of all members together: some methods train fewer members at first."""
    return schedule.steps_per_epoch * sum(method.active(n, clock) for clock in _epochs(schedule))


def own_augmentation(
    method: Method, recipes: Sequence[Recipe], schedule: Schedule, branches: Sequence[str] = ()
) -> float:
    """Share of the members' steps under another recipe than the run's with the run's branch."""
    plain = Independent()
    own = [
        recipe_of(method, member, base, branches, clock)
        != recipe_of(plain, member, base, branches, clock)
        for clock in _epochs(schedule)
        for member, base in enumerate(recipes[: method.active(len(recipes), clock)])
    ]
    return sum(own) / len(own)


def _epochs(schedule: Schedule) -> list[StepInfo]:
    """The first step of each epoch, in which all its others do alike."""
    return [schedule.clock(s) for s in range(0, schedule.steps, schedule.steps_per_epoch)]


def _measure_shared(
    task: TrainingTask,
    trainer: Trainer,
    evaluator: Evaluator,
    judge: PopulationJudge,
    pulse: Pulse,
) -> dict[str, Any]:
    settings = task.config.evaluation
    summary, points, outcomes = measure_population(evaluator, judge, settings, pulse)
    if trainer.setting.config.members:  # nothing says what they started from
        summary["weight_cosine"] = weight_cosine(evaluator.population)
    simplex = []
    if settings.simplex_points and len(judge.members) >= 3:
        simplex = simplex_points(evaluator, judge.members, settings, pulse)
    corrupted = []
    if settings.corruptions:
        (average,) = judge.average().states
        merged = {"average": average}
        if evaluator.has_batchnorm:  # re-estimated on clean training images
            merged["average_bn"] = evaluator.reestimated(average, settings.bn_images)
        corrupted = corruption_points(evaluator, judge.members, merged, settings, pulse)
        summary |= corruption_summary(corrupted)
    beside = {"points": points, "outcomes": outcomes}
    return summary | beside | {"simplex": simplex, "corrupted": corrupted}


def _live(trainer: Trainer, population: Population) -> dict[str, Any]:
    """The number of parameters without a gradient, if any, and the distance without them."""
    if not trainer.setting.dead.count:
        return {}
    found: dict[str, Any] = {"dead_parameters": trainer.setting.dead.count}
    live = ~trainer.setting.dead.mask.to(population.weights.device)
    if population.n > 1:
        mean = population.weights.mean(dim=0)[live]
        distances = [(row[live] - mean).norm().item() for row in population.weights]
        norm = mean.norm().item()
        found["consensus_relative_live"] = sum(distances) / len(distances) / norm if norm else nan
    return found


def _costs(task: TrainingTask, trainer: Trainer, population: Population) -> dict[str, Any]:
    """The ledger and the clock, per member."""
    schedule, n = trainer.schedule, trainer.n
    known: dict[str, Any] = {
        "parameters": trainer.population.layout.size,
        "train_images": trainer.setting.data.train_size,
    }
    if changes := changed_settings(task):
        known["changed_settings"] = changes
    known |= _live(trainer, population)
    if trainer.setting.config.members:  # what their trainings cost is not known here
        return known | {"steps": 0, "exchanges": {}}
    steps = schedule.steps
    ledger = trainer.exchange.ledger
    _warn_of_charges(trainer, ledger)
    branches = trainer.setting.config.branches
    if share := own_augmentation(trainer.method, trainer.recipes, schedule, branches):
        known["own_augmentation_share"] = share
    if trainer.setting.dead.count:
        live, counted = ledger.live_bytes(
            trainer.setting.dead.count / trainer.population.layout.size
        )
        known["sent_bytes_live_total"] = live
        known["sent_bytes_live_by"] = "coordinates" if counted else "share"
    return known | {
        "steps": steps,
        "sent_values_per_step": ledger.sent_values / steps,
        "sent_values_total": ledger.sent_values,
        "sent_bytes_total": ledger.sent_bytes,
        "wire_bytes_per_step": ledger.wire_bytes / steps,
        "wire_bytes_total": ledger.wire_bytes,
        "exchange_rounds": ledger.rounds,
        "exchanges": ledger.as_dict(),
        "member_steps_share": member_steps(trainer.method, n, schedule) / (steps * n),
        "train_seconds": trainer.notes["train_seconds"],
        "ranks": trainer.notes["ranks"],
    }


def changed_settings(task: TrainingTask) -> dict[str, Any]:
    """Return the settings of a training that its method changed, by name."""
    run, own = (config.model_dump(mode="json") for config in (task.config.training, task.training))
    return {name: value for name, value in own.items() if value != run[name]}


def _warn_of_charges(trainer: Trainer, ledger: CommLedger) -> None:
    """Tell of a method of somebody else's whose ``charges`` are not what it sent."""
    method, setting = trainer.method, trainer.setting
    if type(method).__module__.startswith("wash_bench."):
        return  # the suite's tests hold them
    site = CommShape(trainer.population.layout, trainer.n, len(optimizer_slots(setting.config)))
    told = predict_comm(method, site, trainer.schedule)
    if told is None:
        return
    room = SIGMAS * told.sent_values_std + 1e-6 * ledger.sent_values
    if abs(told.sent_values - ledger.sent_values) > room:
        trainer.notify(
            f"{method.name}: its charges() say {told.sent_values:,.0f} values a member, it sent"
            f" {ledger.sent_values:,.0f}, which the records have; plan and comm go wrong, and"
            " wash-bench check tells more"
        )


def _write_outcomes(path: Path, outcomes: Mapping[str, Any]) -> None:
    def write(at: Path) -> None:
        with at.open("wb") as file:  # given a path, NumPy would add a suffix to its name
            np.savez_compressed(file, **outcomes)

    write_atomically(path, write)


def _write_points(path: Path, points: Sequence[Measured], kind: type[Measured]) -> None:
    write_atomically(path, partial(_write_rows, points, kind))


def _write_rows(points: Sequence[Measured], kind: type[Measured], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=[field.name for field in fields(kind)])
        writer.writeheader()  # stands alone where a training has a single network
        writer.writerows(point.as_dict() for point in points)
