"""Carrying out one training task: its training, its evaluation, and its cells' records."""

from datetime import UTC, datetime
from typing import Any

from wash_bench.core.method import Site
from wash_bench.errors import CellFailure
from wash_bench.record.environment import capture, continued
from wash_bench.record.schema import write_summed
from wash_bench.record.store import Store, TrainingFolder
from wash_bench.runner.context import RunContext
from wash_bench.runner.evaluation import evaluate, reason_of
from wash_bench.runner.isolation import torch_as_it_was
from wash_bench.runner.machine import machine_failures, of_machine
from wash_bench.runner.setting import Setting
from wash_bench.runner.task import Results, TrainingTask
from wash_bench.runner.time_limit import time_limit
from wash_bench.runner.trainer import Trainer
from wash_bench.train import checkpoint


def perform(task: TrainingTask, setting: Setting, store: Store, context: RunContext) -> Results:
    """Train if need be, evaluate, and write the cells' records.

    Every process of the world calls it; rank 0 evaluates and writes. Where the machine fails (disk
    full, out of memory) a WashBenchError says so, nothing is recorded as failed, and the same
    command tries again.

    Returns:
        What became of each cell.
    """
    folder, world = store.training(task.training_id), context.world
    with machine_failures(store.root), torch_as_it_was(task.config.training.deterministic):
        if world.rank == 0:
            checkpoint.remove_older(folder.path)
        measured, failures = _measure(task, setting, folder, context)
        if world.rank == 0:
            _write_cells(task, store, folder, measured, failures)
    status = "failed" if len(failures) == len(task.cells) else "finished"
    context.observer(task.progress(status, message="; ".join(sorted(set(failures.values())))))
    return world.broadcast_object(
        [(cell.cell_id, failures.get(cell.cell_id)) for cell in task.cells]
    )


def _measure(
    task: TrainingTask, setting: Setting, folder: TrainingFolder, context: RunContext
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The summaries of the cells by id (at rank 0), and the reasons of those that failed."""
    try:
        with time_limit(context.time_limit):
            trainer, notes = _trained(task, setting, folder, context)
            population = trainer.whole()
            if population is None:
                return {}, {}
            return evaluate(task, trainer, population, notes, context)
    except CellFailure as failure:
        reason = str(failure)
    except Exception as error:  # whatever a method's or a network's own code runs into
        if of_machine(error) or context.world.ranks > 1:
            raise  # of several ranks, the others do not know of it
        reason = reason_of(error, context.debug)
    return {}, {cell.cell_id: reason for cell in task.cells}


def _write_cells(
    task: TrainingTask,
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
                "cell_id": cell.cell_id,
                "training_id": cell.training_id,
                "evaluation_id": cell.evaluation_id,
                "experiment_id": cell.experiment_id,
                "method": cell.method,
                "seed": cell.seed,
                "status": "failed" if reason else "finished",
                "reason": reason,
                "config": cell.record(task.config, method.settings()),
                "options": method.settings(),
                "summary": {} if reason else measured[cell.cell_id],
                "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )


def _trained(
    task: TrainingTask, setting: Setting, folder: TrainingFolder, context: RunContext
) -> tuple[Trainer, dict[str, Any]]:
    """The trained population and its notes; begun anew where no state of it is whole."""
    trainer = Trainer(task, setting, folder, context)
    try:
        return trainer, _train(task, trainer, folder, context)
    except checkpoint.Damaged as damage:
        trainer.note(f"{damage}; trained anew from its start")
    if context.world.rank == 0:
        checkpoint.remove_states(folder.path)
    context.world.barrier()
    return _trained(task, setting, folder, context)


def _train(
    task: TrainingTask, trainer: Trainer, folder: TrainingFolder, context: RunContext
) -> dict[str, Any]:
    """Train the population, unless that is done; the notes of its state."""
    world, setting = context.world, trainer.setting
    state = world.broadcast_object(checkpoint.pointer(folder.path))
    if state is None and (folder.path / "state.json").exists():
        trainer.note(f"{folder.path / 'state.json'} cannot be read; trained anew from its start")
    if state is not None and state["finished"]:
        return trainer.load_finished(state)
    if world.rank == 0:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_summed(folder.path / "training.json", _about(task, trainer))
        environment = capture(str(setting.device)) | _fine_tuning(setting, task.seed)
        if state is not None:
            before = folder.environment_so_far()
            if not before:
                trainer.note(f"{folder.environment} cannot be read; it tells of this machine alone")
            environment = continued(before, environment)
        write_summed(folder.environment, environment)
        folder.set_status("running")
    world.barrier()
    notes = trainer.run(state)
    if world.rank == 0:
        folder.set_status("finished")
    return notes


def _fine_tuning(setting: Setting, seed: int) -> dict[str, str]:
    """The checkpoint and the members' own hyperparameters, where a training has them."""
    told = {"start": setting.about_start()}
    if setting.config.vary:
        told["hyperparameters"] = "; ".join(
            " ".join(f"{name}={value:g}" for name, value in own.items())
            for own in setting.hyperparameters(seed)
        )
    return {key: text for key, text in told.items() if text}


def _about(task: TrainingTask, trainer: Trainer) -> dict[str, Any]:
    """The settings of a training and what its method tells about itself."""
    method, population = trainer.method, trainer.population
    site = Site(population.layout, trainer.n, len(population.optimizer_state))
    return {
        "config": task.cells[0].record(task.trained_config, method.settings()),
        "rule": method.training_key(),
        "class_names": list(trainer.setting.data.class_names),
        "facts": method.facts(site),
        "recipes": [recipe.as_dict() for recipe in trainer.recipes],
        "hyperparameters": trainer.setting.hyperparameters(task.seed),
        "start": trainer.setting.about_start(),
        "parameters": population.layout.size,
    }
