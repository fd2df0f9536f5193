"""What cells will cost, without training: steps, parameters, bytes, memory, time."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import torch

from wash_bench.config import RunConfig
from wash_bench.core.layout import Layout
from wash_bench.core.ledger import CommLedger
from wash_bench.core.method import CommShape, Method, predict_comm
from wash_bench.core.precision import autocast
from wash_bench.core.step_info import Schedule
from wash_bench.cores import cores
from wash_bench.data.folder import FolderSource
from wash_bench.data.memory import SyntheticSource, can_synthesize
from wash_bench.data.source import Batch
from wash_bench.errors import WashBenchError
from wash_bench.evaluate.simplex import simplex_networks
from wash_bench.runner.evaluation import member_steps
from wash_bench.runner.experiment import side_by_side
from wash_bench.runner.training_setup import (
    TrainingSetup,
    about_exchanges,
    check_rules,
    check_task,
)
from wash_bench.study.barrier_budget import barrier_networks
from wash_bench.study.cells import Cell
from wash_bench.study.device import resolve_device
from wash_bench.train.engines import EAGER_STEPS, make_engine
from wash_bench.train.optim import optimizer_slots

if TYPE_CHECKING:
    import pandas as pd

TIMED_STEPS = 5
FEW_IMAGES = 16  # of a timed step at a scale that is beyond a CPU
ENOUGH_SECONDS = 10.0  # of timed steps, where a step takes long (as float16 on a CPU)


@dataclass(frozen=True)
class CellPlan:
    """What one cell will cost; a cell that shares a training costs no time.

    Attributes:
        variant: what the run calls the method and its options.
        method, seed: which cell it is.
        steps: optimizer steps of a member.
        parameters: of a member.
        sent_values, sent_bytes, wire_bytes: per member over the training; None where the method
            does not predict it.
        memory_bytes: of the population.
        seconds: of the training and its evaluation.
        shared_with: the method whose training it reads, if an earlier cell has trained it.
    """

    variant: str
    method: str
    seed: int
    steps: int
    parameters: int
    sent_values: float | None
    sent_bytes: float | None
    wire_bytes: float | None
    memory_bytes: float
    seconds: float
    shared_with: str | None


@dataclass(frozen=True)
class Times:
    """Seconds a training step of one member takes, and a forward pass an image."""

    step: float
    image: float


@dataclass
class Plan:
    """What a list of cells will cost, in its order, with notes on how that was computed."""

    cells: list[CellPlan] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of all trainings, one after another."""
        return sum(cell.seconds for cell in self.cells)

    def frame(self) -> pd.DataFrame:
        """Return a row a cell; bytes and values are per member, times in seconds."""
        import pandas as pd

        rows = [asdict(cell) for cell in self.cells]
        return pd.DataFrame(rows).rename(columns={"variant": "name"})


def plan_cells(
    cells: Sequence[Cell], *, download: bool = False, times: Times | None = None
) -> Plan:
    """Count and time cells; nothing is trained or recorded. Raises the same errors as a run.

    Args:
        cells: the cells.
        download: whether missing data may be fetched.
        times: what a step takes; None to measure it, once for each kind of step.

    Returns:
        The costs, in the order of the cells.
    """
    timed: dict[str, Times] = {}
    costs: dict[tuple[str, str], _Cost] = {}
    bills: dict[tuple[int, str], CommLedger | None] = {}
    planned: dict[str, CellPlan] = {}
    trained: dict[str, str] = {}
    notes: dict[str, None] = {}
    for group in side_by_side(cells):
        setting, stand_in = _setting(group[0].config, download)
        check_rules(group, setting)
        slow = stand_in and setting.device.type == "cpu"
        for task in group:
            key = task.training.key(), task.config.evaluation.key()
            if key not in costs:
                setting.check(task.config.evaluation)
                layout, own = check_task(task, setting), setting.but(task.training)
                step = _of_step(own)
                if step not in timed:
                    timed[step] = times or _times(own, slow)
                costs[key] = _cost(task.config, own, layout, timed[step])
                about = _notes(task.config, setting, timed.get(_of_step(setting)), stand_in)
                notes |= dict.fromkeys(filter(None, [*about, own.about_dead()]))
            cost = costs[key]
            for cell, method in zip(task.cells, task.methods, strict=True):
                of = id(cell.spec), key[0]
                if of not in bills:
                    bill = bills[of] = predict_comm(method, cost.site, cost.schedule)
                    if text := about_exchanges(cell.label, bill, cost.site.layout.size):
                        notes[text] = None
                shared_with = trained.get(task.training_id)
                planned[cell.cell_id] = _planned(cell, method, bills[of], cost, shared_with)
                trained.setdefault(task.training_id, cell.method)
    return Plan([planned[cell.cell_id] for cell in cells], list(notes))


def _planned(
    cell: Cell, method: Method, ledger: CommLedger | None, cost: _Cost, shared_with: str | None
) -> CellPlan:
    seconds = 0.0
    if shared_with is None:
        steps = member_steps(method, cost.site.n, cost.schedule)
        seconds = steps * cost.times.step + cost.evaluation_seconds
    return CellPlan(
        cell.label,
        cell.method,
        cell.seed,
        cost.schedule.steps,
        cost.site.layout.size,
        ledger and ledger.sent_values,
        ledger and ledger.sent_bytes,
        ledger and ledger.wire_bytes,
        cost.memory,
        seconds,
        shared_with,
    )


def _notes(
    config: RunConfig, setting: TrainingSetup, times: Times | None, stand_in: bool
) -> list[str]:
    notes = [
        f"{setting.schedule.steps_per_epoch} steps an epoch x {config.training.epochs} epochs, "
        f"{setting.data.train_size} training images, batches of {config.training.batch_size}",
        "memory is the population's (weights, optimizer state, "
        f"{'a gradient row a member' if setting.own_gradients else 'one gradient row'}), "
        "activations and data not counted",
    ]
    if times:
        evaluation_seconds = _evaluation_images(config, setting) * times.image
        timed = (
            f"time from up to {TIMED_STEPS} timed steps of one member ({times.step * 1e3:.1f} ms "
            f"on {setting.device}, {torch.get_num_threads()} threads{_busy(setting.device.type)}) "
            f"times members and steps, plus {evaluation_seconds:.0f} s a training of evaluation; "
            "exchanges are not timed"
        )
        notes.insert(1, timed)
    if about := setting.about_batchnorm():
        notes.append(about)
    if stand_in:
        few = f"; float32, {FEW_IMAGES} images at most, scaled to the batch"
        notes.append(
            f"the images of {config.training.dataset} are not here: noise of their shape was timed,"
            " without reading and augmenting" + few * (setting.device.type == "cpu")
        )
    return notes


@dataclass(frozen=True)
class _Cost:
    """What a training costs under its own settings."""

    site: CommShape
    schedule: Schedule
    times: Times
    memory: float
    evaluation_seconds: float


def _cost(config: RunConfig, setting: TrainingSetup, layout: Layout, times: Times) -> _Cost:
    n, slots = setting.config.population, optimizer_slots(setting.config)
    # N rows of weights and of each optimizer slot, and the gradient rows, float32.
    gradients = n if setting.own_gradients else 1
    memory = 4 * (layout.size * (n * (1 + len(slots)) + gradients) + n * layout.buffer_size)
    evaluation_seconds = _evaluation_images(config, setting) * times.image
    site = CommShape(layout, n, len(slots))
    return _Cost(site, setting.schedule, times, memory, evaluation_seconds)


def _of_step(setting: TrainingSetup) -> str:
    """The settings on which the time of a step depends."""
    others = {"population", "epochs", "lr", "weight_decay", "augment", "init"}
    return setting.config.key(exclude=others)


def _times(setting: TrainingSetup, slow: bool) -> Times:
    return _time_few_images(setting) if slow else _time_steps(setting)


def _setting(config: RunConfig, download: bool) -> tuple[TrainingSetup, bool]:
    """The setting, and whether random images stand in for data that are not on this machine."""
    training = config.training
    try:
        return TrainingSetup.of(training, download), False
    except WashBenchError:
        if download or not can_synthesize(training):
            raise
    device = resolve_device(training.device)
    return TrainingSetup(training, device, SyntheticSource(training, device)), True


def _time_few_images(setting: TrainingSetup) -> Times:
    """The same from smaller batches in float32, for what would take a CPU minutes a step."""
    config = setting.config
    few = min(FEW_IMAGES, config.batch_size)
    less = config.model_copy(update={"batch_size": few, "amp": "off", "accumulate": 1})
    times = _time_steps(TrainingSetup(less, setting.device, setting.data))
    return Times(times.step * config.batch_size / few, times.image)


def _time_steps(setting: TrainingSetup) -> Times:
    """Seconds a training step of one member, and seconds an image of a forward pass."""
    config = setting.config
    population = setting.population(0, [0])
    engine = make_engine(population, config, 0)
    loss = torch.zeros(1, device=setting.device)
    engine.begin_epoch(config.linear_probe)  # of fine-tuning, whose steps are the dear ones
    module = population.modules[0]
    warm_up = EAGER_STEPS[setting.engine]
    batches, times = _endless(setting), []
    # On a CPU this thread's own time, whatever else runs beside it: it does all that is serial and
    # its share of what is parallel. Images of files are decoded by processes that it waits for.
    on_cpu = setting.device.type == "cpu"
    now = time.thread_time if on_cpu else time.perf_counter
    of_batch = time.perf_counter if isinstance(setting.data, FolderSource) else now
    while True:
        began = of_batch()
        batch = next(batches)
        waited = of_batch() - began
        began = now()
        engine.steps([iter([batch])], setting.schedule.clock(0), loss)
        loss.item()
        times.append(waited + now() - began)
        enough = sum(times) > ENOUGH_SECONDS and len(times) > warm_up
        if enough or len(times) == warm_up + TIMED_STEPS:
            break
    module.eval()
    with torch.no_grad(), autocast(setting.device, config.amp):
        module(batch.images)
        began = now()
        module(batch.images).sum().item()
        image_seconds = (now() - began) / len(batch.images)
    timed = sorted(times[warm_up:])
    return Times(timed[len(timed) // 2], image_seconds)


@functools.cache
def _busy(device: str) -> str:
    """Say that the machine is busy, where the time is that of an idle one."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if device != "cpu" or load <= cores():
        return ""
    return f"; this machine is busy, with a load of {load:.1f}, and will take longer"


def _endless(setting: TrainingSetup) -> Iterator[Batch]:
    """Batches of epoch after epoch: a small data set has fewer steps an epoch than are timed."""
    recipe = setting.recipes(0)[0]
    for epoch in itertools.count():
        yield from setting.data.epoch_batches(0, 0, epoch, setting.config.batch_size, recipe)


def _evaluation_images(config: RunConfig, setting: TrainingSetup) -> int:
    """Forward passes of single images that the final evaluation takes."""
    evaluation, data, n = config.evaluation, setting.data, setting.config.population
    networks = n + 2  # members, average, greedy soup
    again = evaluation.bn_images or data.train_size
    whole = {"train": data.train_size, "val": data.val_size, "test": data.test_size}
    split = whole[evaluation.barrier_split]
    at_point = min(evaluation.barrier_images or split, split)
    points = barrier_networks(n, evaluation.barrier_points)
    if n > 1:
        points += simplex_networks(evaluation.simplex_points, evaluation.simplex_margin)
    kinds = len(evaluation.corruption_names) * len(evaluation.corruption_severities)
    corrupted = kinds * min(evaluation.corruption_images or data.test_size, data.test_size)
    return networks * (corrupted + 2 * data.test_size + data.val_size + again) + points * (
        2 * at_point + min(evaluation.barrier_bn_images, data.train_size)
    )
