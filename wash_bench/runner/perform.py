"""Carries out one training task: its training, its evaluation, and its cells' records."""

from datetime import UTC, datetime
from typing import Any

from wash_bench import stop
from wash_bench.core.method import CommShape
from wash_bench.errors import CellFailure, WashBenchError, note
from wash_bench.loggers.feed import send_training
from wash_bench.record.environment import capture, continued
from wash_bench.record.schema import write_summed
from wash_bench.record.store import Store, TrainingFolder
from wash_bench.runner.context import RunContext
from wash_bench.runner.evaluation import evaluate, reason_of
from wash_bench.runner.isolation import isolated_torch_state
from wash_bench.runner.machine import FAILURES, machine_failures
from wash_bench.runner.task import Results, TrainingTask
from wash_bench.runner.time_limit import time_limit
from wash_bench.runner.trainer import Trainer
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train import checkpoint


def train_and_evaluate(
    task: TrainingTask, setting: TrainingSetup, store: Store, context: RunContext
) -> Results:
    """Train if need be, evaluate, and write the cells' records.

    The caller holds the lock of the training. Every process of the world calls it; rank 0 evaluates
    and writes.

    Returns:
        What became of each cell.

    Raises:
        WashBenchError: the machine failed (disk full, out of memory); nothing is recorded as
            failed, and the same command tries again.
    """
    folder, world = store.training(task.training_id), context.world
    measured: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    with machine_failures(store.root), isolated_torch_state(task.config.training.deterministic):
        if world.rank == 0:
            checkpoint.remove_older(folder.path)
        try:
            with time_limit(context.time_limit):
                trainer = train_or_resume(task, setting, folder, context)
                if (population := trainer.whole()) is not None:
                    measured, failures = evaluate(task, trainer, population, context)
        except FAILURES as error:  # whatever a method raises
            reason = reason_of(error, context.debug)
            if world.ranks > 1 and not isinstance(error, CellFailure):
                raise WashBenchError(reason) from error  # the other ranks do not know of it
            failures = {cell.cell_id: reason for cell in task.cells}
        if world.rank == 0:
            if len(failures) == len(task.cells):
                folder.set_status("failed", "; ".join(sorted(set(failures.values()))))
            records = _records(task, measured, failures)
            finished = [record for record in records if record["status"] == "finished"]
            if context.log and finished:
                send_training(folder, finished, context.log, note)
            for record in records:
                store.write_cell(record)
    status = "failed" if len(failures) == len(task.cells) else "finished"
    context.observer(task.progress(status, message="; ".join(sorted(set(failures.values())))))
    return world.broadcast_object(
        [(cell.cell_id, failures.get(cell.cell_id)) for cell in task.cells]
    )


def train_or_resume(
    task: TrainingTask, setting: TrainingSetup, folder: TrainingFolder, context: RunContext
) -> Trainer:
    """Train the population from its last state, unless that is done.

    It begins anew where no state is whole.

    Returns:
        The trainer with the trained population.
    """
    world = context.world
    task.cells[0].inputs.check_unchanged()
    while True:
        trainer = Trainer(task, setting, folder, context)
        state = world.broadcast_object(checkpoint.pointer(folder.path))
        if state is not None and state["finished"]:
            trainer.load_finished(state)
            if world.rank == 0:  # a run may have been killed before it said so
                folder.set_status("finished")
            return trainer
        if state is None and (folder.path / "state.json").exists():
            trainer.notify(f"{folder.path / 'state.json'} cannot be read; trained anew")
        if world.rank == 0:
            _describe(task, trainer, folder, resumed=state is not None)
        world.barrier()
        try:
            with stop.deferred():
                trainer.run(state)
        except checkpoint.Damaged as damage:
            trainer.notify(f"{damage}; trained anew from its start")
            if world.rank == 0:
                checkpoint.remove_states(folder.path)
            world.barrier()
            continue
        if world.rank == 0:
            folder.set_status("finished")
        return trainer


def _describe(
    task: TrainingTask, trainer: Trainer, folder: TrainingFolder, *, resumed: bool
) -> None:
    """Write what a training is and where it runs, as it starts or goes on."""
    setting = trainer.setting
    folder.path.mkdir(parents=True, exist_ok=True)
    write_summed(folder.path / "training.json", _about(task, trainer))
    environment = capture(str(setting.device)) | _fine_tuning(setting, task.seed)
    if resumed:
        before = folder.environment_so_far()
        if not before:
            trainer.notify(f"{folder.environment} cannot be read; it tells of this machine alone")
        environment = continued(before, environment)
    write_summed(folder.environment, environment)
    folder.set_status("running")


def _records(
    task: TrainingTask, measured: dict[str, dict[str, Any]], failures: dict[str, str]
) -> list[dict[str, Any]]:
    """Return the record of each cell."""
    records = []
    for cell, method in zip(task.cells, task.methods, strict=True):
        reason = failures.get(cell.cell_id)
        records.append(
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
    return records


def _fine_tuning(setting: TrainingSetup, seed: int) -> dict[str, str]:
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
    site = CommShape(population.layout, trainer.n, len(population.optimizer_state))
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
