"""Whether a record comes out again: a training's first epochs and a cell's evaluation, repeated.

A training is begun anew in a folder that is thrown away, and what it logs is held to the log of
the record. An evaluation is made anew from the members that the training left. Numbers agree if
their bits do: a training that resumes, or a method that is changed without a change of rule, must
give the same again on the same machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from wash_bench.record.environment import capture
from wash_bench.record.store import Store, TrainingFolder
from wash_bench.runner.recorded import CellRecord, task_of
from wash_bench.study.cells import cells_of

if TYPE_CHECKING:
    from wash_bench.runner.context import RunContext
    from wash_bench.runner.task import TrainingTask
    from wash_bench.runner.training_setup import TrainingSetup

# Of the summary, what another run cannot give again; of the environment, what no bit depends on.
_TIMES = "_seconds"
_IRRELEVANT = ("date", "memory_gib", "jobs", "commit", "start", "hyperparameters")


@dataclass(frozen=True)
class Difference:
    """One thing that is not as recorded."""

    what: str
    recorded: Any
    here: Any


@dataclass(frozen=True)
class Repeated:
    """What became of one repetition.

    Attributes:
        compared: how many numbers were held to the record.
        differences: those that differ, in the order of the record.
        missing: why nothing could be repeated; empty where it was.
    """

    compared: int = 0
    differences: tuple[Difference, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Verified:
    """What a cell's repetition gave.

    Attributes:
        cell_id, method, seed: whose record it is.
        training: the first epochs.
        evaluation: the cell's numbers.
        environment: what differs between the record's machine and this one, or its code and data.
    """

    cell_id: str
    method: str
    seed: int
    training: Repeated
    evaluation: Repeated
    environment: tuple[Difference, ...]

    @property
    def agrees(self) -> bool:
        """Whether something was compared, and nothing differs."""
        parts = (self.training, self.evaluation)
        return any(part.compared for part in parts) and not any(p.differences for p in parts)


def verify(
    cells: Sequence[CellRecord], context: RunContext, methods: tuple[str, ...] = (), epochs: int = 1
) -> Iterator[Verified]:
    """Repeat recorded cells one after another; trainings that cells share are repeated once.

    Args:
        cells: finished ones; their run folders are only read.
        context: device and the like; its ``threads`` None or 0 for those of each record.
        methods: files of methods that are not installed, as ``path.py:Class``.
        epochs: how many epochs of a training to repeat.

    Yields:
        A result for each cell.
    """
    from wash_bench.runner.isolation import isolated_torch_state
    from wash_bench.runner.machine import machine_failures
    from wash_bench.runner.training_setup import TrainingSetup

    context.set_up_torch()
    trained: dict[tuple[Path, str], Repeated] = {}
    for cell in cells:
        task, training = task_of(cell, methods), cell.config.training
        folder = Store(cell.root).training(task.training_id)
        _take_threads(folder, context)
        setting = TrainingSetup.of(training, context.download)
        key = cell.root, task.training_id
        with (
            TemporaryDirectory(prefix="wash-bench-") as scratch,
            machine_failures(Path(scratch)),
            isolated_torch_state(training.deterministic),
        ):
            own = TrainingFolder(Path(scratch))
            if key not in trained:
                trained[key] = _first_epochs(task, setting, folder, own, epochs, context)
            evaluated = _evaluation(cell, task, setting, folder, own, context)
        environment = _environment(cell, task, folder, str(setting.device))
        data = cell.data
        yield Verified(
            data["cell_id"], data["method"], data["seed"], trained[key], evaluated, environment
        )


def _take_threads(folder: TrainingFolder, context: RunContext) -> None:
    """Use as many threads as the record did: sums depend on them."""
    import torch

    recorded = str(folder.environment_so_far().get("threads", "")).partition(",")[0]
    if not context.threads and recorded.isdecimal() and int(recorded):
        torch.set_num_threads(int(recorded))


def _first_epochs(
    task: TrainingTask,
    setting: TrainingSetup,
    folder: TrainingFolder,
    scratch: TrainingFolder,
    epochs: int,
    context: RunContext,
) -> Repeated:
    from wash_bench.runner.trainer import Trainer

    if setting.config.members:
        return Repeated(missing="its networks were trained elsewhere")
    recorded = _logged(folder.events, epochs)
    if not recorded:
        return Repeated(missing=f"{folder.events} is not there")
    epochs = min(epochs, task.training.epochs)
    Trainer(task, setting, scratch, context).run(None, until=epochs)
    return _compared(recorded, _logged(scratch.events, epochs))


def _logged(events: Path, epochs: int) -> dict[str, Any]:
    """The values of the log up to an epoch, by metric, member and epoch in words."""
    found = {}
    lines = events.read_text(encoding="utf-8").splitlines() if events.is_file() else []
    for line in lines:
        try:
            row = json.loads(line)
            if "metric" in row and row["epoch"] <= epochs:
                of = "" if row["member"] is None else f" of member {row['member']}"
                found[f"{row['metric']}{of} after epoch {row['epoch']:g}"] = row["value"]
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a log that broke off
    return found


def _evaluation(
    cell: CellRecord,
    task: TrainingTask,
    setting: TrainingSetup,
    folder: TrainingFolder,
    scratch: TrainingFolder,
    context: RunContext,
) -> Repeated:
    from wash_bench.runner.evaluation import evaluate
    from wash_bench.runner.trainer import Trainer
    from wash_bench.train import checkpoint

    state = checkpoint.pointer(folder.path)
    if state is None or not state["finished"]:
        return Repeated(missing=f"its members are not in {folder.path}")
    trainer = Trainer(task, setting, scratch, context)
    try:
        checkpoint.load(folder.path, state, trainer.population, trainer.method)
        trainer.take_notes(state["notes"])
    except checkpoint.Damaged as damage:
        return Repeated(missing=str(damage))
    population = trainer.whole()
    assert population is not None  # this process holds it
    measured, failures = evaluate(task, trainer, population, context)
    recorded = cell.data["summary"]
    if reason := failures.get(task.cells[0].cell_id):
        return Repeated(1, (Difference("status", "finished", f"failed: {reason}"),))
    return _compared(recorded, json.loads(json.dumps(measured[task.cells[0].cell_id])))


def _compared(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> Repeated:
    """The values under the keys that both have."""
    keys = [key for key in recorded if key in here and not key.endswith(_TIMES)]
    differences = (Difference(key, recorded[key], here[key]) for key in keys)
    return Repeated(len(keys), tuple(d for d in differences if not _same(d.recorded, d.here)))


def _same(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)  # NaN is NaN


def _environment(
    cell: CellRecord, task: TrainingTask, folder: TrainingFolder, device: str
) -> tuple[Difference, ...]:
    """What differs of machine, versions, threads, processes, and of the cell's identity."""
    recorded, here = dict(folder.environment_so_far()), dict(capture(device))
    if "ranks" in cell.data["summary"]:
        recorded["processes"], here["processes"] = cell.data["summary"]["ranks"], 1
    (again,) = cells_of(
        task.config.model_copy(update={"seeds": (task.seed,)}), [task.cells[0].spec], cell.root
    )
    recorded["cell id (settings, data, method)"] = cell.data["cell_id"]
    here["cell id (settings, data, method)"] = again.cell_id
    return tuple(
        Difference(key, value, here.get(key, ""))
        for key, value in recorded.items()
        if key not in _IRRELEVANT and str(value) != str(here.get(key, ""))
    )
