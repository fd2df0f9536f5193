"""Networks that were trained elsewhere as a population whose training is over.

Their weights are written as the state of a finished training; the runner evaluates it under every
merge rule as it does its own, and records and reports are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wash_bench.core.ledger import CommLedger
from wash_bench.core.population import Population
from wash_bench.core.wrapper import Independent
from wash_bench.distributed.world import LocalWorld
from wash_bench.errors import UsageError
from wash_bench.models.init_checkpoint import InitCheckpoint
from wash_bench.networks.inspect import NetworkInfo, in_order_of
from wash_bench.networks.score import network_of
from wash_bench.plugins.registry import method_names
from wash_bench.record.environment import capture
from wash_bench.record.events import EventLog
from wash_bench.record.locks import check_unused, hold, sweep
from wash_bench.record.schema import write_summed
from wash_bench.record.store import Store, TrainingFolder, write_manifest
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import manifest_of, tasks_of
from wash_bench.runner.perform import train_and_evaluate
from wash_bench.runner.queue import Outcome, failures, open_tasks
from wash_bench.runner.task import TrainingTask
from wash_bench.runner.trainer import notes_of_state
from wash_bench.runner.training_setup import TrainingSetup, check_rules
from wash_bench.study.cells import Cell
from wash_bench.train import checkpoint


@dataclass(frozen=True)
class Merged:
    """What a merge left.

    Attributes:
        task: the task with all its cells.
        outcome: what became of them.
        setting: data and architecture.
        folder: where the networks are.
        summary: what was measured on all networks together; empty where that failed.
    """

    task: TrainingTask
    outcome: Outcome
    setting: TrainingSetup
    folder: TrainingFolder
    summary: Mapping[str, Any]


def check_methods(cells: Sequence[Cell]) -> None:
    """A UsageError for a method that needs a training of its own, or has several variants."""
    if len({cell.method for cell in cells}) < len({cell.label for cell in cells}):
        raise UsageError("--set: merge takes one value of an option; give each its own --out")
    for cell in cells:
        if cell.spec.make().training_key() != Independent().training_key():
            raise UsageError(
                f"--methods {cell.method}: it trains, and these networks are trained; merge takes "
                f"{', '.join(method_names('merge'))} and naive-ensemble"
            )


def merge(
    cells: Sequence[Cell],
    found: Sequence[NetworkInfo],
    context: RunContext,
    anchor: NetworkInfo | None = None,
) -> Merged:
    """Measure networks, their ensemble and their merges, and record it in the run folder.

    What is recorded there already is not measured again.

    Args:
        cells: merge rules at one seed; their ``training.members`` are the files of ``found``.
        found: the networks.
        context: how it is carried out.
        anchor: the network that all were fine-tuned from, if it is known.

    Returns:
        The cells; a UsageError names a file and a tensor that do not fit.
    """
    context.set_up_torch()
    store, outcome = Store(context.out), Outcome()
    sweep(store.root)
    (task,) = tasks_of(cells)  # rules that only merge share one training
    write_manifest(store.root, manifest_of([[task]]))
    training = task.config.training
    setting = TrainingSetup.of(training, context.download)
    setting.check(task.config.evaluation)
    check_rules([task], setting)
    every = [*found, anchor] if anchor else found
    setting.data = in_order_of(every, setting.data, training.dataset)
    folder, retry = store.training(task.training_id), failures([[task]], store)
    with hold(store.root, task.training_id) as held:
        if not held:
            check_unused(store.root)
        if checkpoint.pointer(folder.path) is None:
            _write_state(task, setting, found, folder)
        for part in open_tasks([task], store, retry, outcome, context.observer):
            outcome.add(train_and_evaluate(part, setting, store, context))
    summary = folder.evaluation(task.cells[0].evaluation_id) or {}
    return Merged(task, outcome, setting, folder, summary)


def _write_state(
    task: TrainingTask, setting: TrainingSetup, found: Sequence[NetworkInfo], folder: TrainingFolder
) -> None:
    """Write the networks as the state of a finished training, with what describes it."""
    about: list[dict[str, str]] = []

    def build(member: int) -> Any:
        item = found[member]
        file = InitCheckpoint.read(item.weights, str(item.path))
        network, note = network_of(setting, file)
        nested = file.beside.get("nested", "")
        averaged = f"its {nested}" if nested in ("state_dict_ema", "model_ema") else ""
        about.append(
            {
                "file": str(item.weights),
                "sha256": file.digest,
                "note": "; ".join(filter(None, (averaged, note))),
            }
        )
        return network

    channels_last = setting.config.channels_last
    population = Population(build, len(found), channels_last=channels_last)
    method = task.methods[0]
    folder.path.mkdir(parents=True, exist_ok=True)
    write_summed(
        folder.path / "training.json",
        {
            "config": task.cells[0].record(task.config, method.settings()),
            "rule": method.training_key(),
            "class_names": list(setting.data.class_names),
            "recipes": [recipe.as_dict() for recipe in setting.recipes(task.seed)],
            "start": setting.about_start(),
            "parameters": population.layout.size,
            "members": about,
        },
    )
    environment = capture(str(setting.device))
    if start := setting.about_start():
        environment["start"] = start
    write_summed(folder.environment, environment)
    events = EventLog(folder.events, 0, lambda line: None)
    length = events.flush()
    events.close()
    notes = notes_of_state(length, CommLedger(len(found)))
    checkpoint.save(
        folder.path, population, method, LocalWorld(), epoch=0, finished=True, notes=notes
    )
    folder.set_status("finished")


def paths_of(found: Sequence[NetworkInfo]) -> tuple[str, ...]:
    """The files of networks; a UsageError if there are fewer than two, or one is named twice."""
    files = [str(item.weights) for item in found]
    if len(files) < 2:
        raise UsageError("merge takes at least two networks")
    for item in found:
        if files.count(str(item.weights)) > 1:
            raise UsageError(f"{item.path} is named twice; leave one out")
    return tuple(files)


def member_names(found: Sequence[NetworkInfo]) -> list[str]:
    """Short names for tables: the least of the paths' ends that tells them apart."""
    paths = [Path(item.path).parts for item in found]
    depth = next(
        (d for d in range(1, max(map(len, paths))) if len({p[-d:] for p in paths}) == len(paths)),
        max(map(len, paths)),
    )
    return ["/".join(parts[-depth:]) for parts in paths]
