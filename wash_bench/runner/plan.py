"""What an experiment will cost, without training: steps, parameters, bytes, memory, time."""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from wash_bench.config import RunConfig
from wash_bench.core.bill import bill
from wash_bench.core.clock import Schedule
from wash_bench.core.layout import Layout
from wash_bench.core.method import Site
from wash_bench.core.precision import autocast
from wash_bench.data.source import Batch
from wash_bench.data.stand_in import StandIn, can_stand_in
from wash_bench.errors import WashBenchError
from wash_bench.evaluate.simplex import simplex_networks
from wash_bench.plugins.registry import MethodEntry
from wash_bench.runner.evaluation import member_steps
from wash_bench.runner.experiment import tasks_of
from wash_bench.runner.pool import check_task
from wash_bench.runner.setting import Setting, resolve_device
from wash_bench.train.engines import EAGER_STEPS, make_engine
from wash_bench.train.optim import optimizer_slots

TIMED_STEPS = 5
FEW_IMAGES = 16  # of a timed step at a scale that is beyond a CPU
ENOUGH_SECONDS = 10.0  # of timed steps, where a step takes long (as float16 on a CPU)


@dataclass(frozen=True)
class CellPlan:
    """One cell. Everything sent is per member; a cell that shares a training costs none.

    What is sent is None where the method does not predict it.
    """

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
    """What an experiment will cost: by cell, with notes on how; and what was timed for it."""

    cells: list[CellPlan] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    times: Times | None = None

    @property
    def total_seconds(self) -> float:
        """Of all trainings, one after another."""
        return sum(cell.seconds for cell in self.cells)


def plan_experiment(
    config: RunConfig,
    entries: Sequence[MethodEntry],
    *,
    download: bool = False,
    times: Times | None = None,
    trained: dict[str, str] | None = None,
) -> Plan:
    """Count and time; nothing is trained or recorded, and what a run would refuse is refused."""
    trained = {} if trained is None else trained  # by training, the method that an earlier plan has
    setting, stand_in = _setting(config, download)
    setting.check(config.evaluation)
    slow = stand_in and setting.device.type == "cpu"
    times = times or _times(setting, slow)
    timed = {_of_step(setting): times}
    costs: dict[str, _Cost] = {}
    plan = Plan(times=times)
    for task in tasks_of(config, entries):
        key = task.training.model_dump_json()
        if key not in costs:
            layout, own = check_task(task, setting), setting.but(task.training)
            if _of_step(own) not in timed:
                timed[_of_step(own)] = _times(own, slow)
            costs[key] = _cost(config, own, layout, timed[_of_step(own)])
        cost, trained_by = costs[key], trained.get(task.training_id)
        for cell, method in zip(task.cells, task.methods(), strict=True):
            ledger = bill(method, cost.site, cost.schedule)
            seconds = 0.0
            if trained_by is None:
                steps = member_steps(method, cost.site.n, cost.schedule)
                seconds = steps * cost.times.step + cost.evaluation_seconds
            plan.cells.append(
                CellPlan(
                    cell.method,
                    cell.seed,
                    cost.schedule.steps,
                    cost.site.layout.size,
                    ledger and ledger.sent_values,
                    ledger and ledger.sent_bytes,
                    ledger and ledger.wire_bytes,
                    cost.memory,
                    seconds,
                    trained_by,
                )
            )
            trained_by = trained.setdefault(task.training_id, cell.method)
    schedule = setting.schedule
    evaluation_seconds = _evaluation_images(config, setting) * times.image
    plan.notes = [
        f"{schedule.steps_per_epoch} steps an epoch x {config.training.epochs} epochs, "
        f"{setting.data.train_size} training images, batches of {config.training.batch_size}",
        f"time from up to {TIMED_STEPS} timed steps of one member ({times.step * 1e3:.1f} ms on "
        f"{setting.device}, {torch.get_num_threads()} threads) times members and steps, plus "
        f"{evaluation_seconds:.0f} s a training of evaluation; exchanges are not timed",
        "memory is the population's (weights, optimizer state, "
        f"{'a gradient row a member' if setting.own_gradients else 'one gradient row'}), "
        "activations and data not counted",
    ]
    if about := setting.about_batchnorm():
        plan.notes.append(about)
    if stand_in:
        plan.notes.append(
            f"the images of {config.training.dataset} are not here: noise of their shape was timed,"
            " without reading and augmenting"
            + (f"; float32, {FEW_IMAGES} images at most, scaled to the batch" if slow else "")
        )
    return plan


@dataclass(frozen=True)
class _Cost:
    """What a training costs under its own settings."""

    site: Site
    schedule: Schedule
    times: Times
    memory: float
    evaluation_seconds: float


def _cost(config: RunConfig, setting: Setting, layout: Layout, times: Times) -> _Cost:
    n, slots = setting.config.population, optimizer_slots(setting.config)
    # N rows of weights and of each optimizer slot, and the gradient rows, float32.
    gradients = n if setting.own_gradients else 1
    memory = 4 * (layout.size * (n * (1 + len(slots)) + gradients) + n * layout.buffer_size)
    evaluation_seconds = _evaluation_images(config, setting) * times.image
    site = Site(layout, n, len(slots))
    return _Cost(site, setting.schedule, times, memory, evaluation_seconds)


def _of_step(setting: Setting) -> str:
    """The settings on which the time of a step depends."""
    others = {"population", "epochs", "lr", "weight_decay"}
    return setting.config.model_dump_json(exclude=others)


def _times(setting: Setting, slow: bool) -> Times:
    return _time_few_images(setting) if slow else _time_steps(setting)


def _setting(config: RunConfig, download: bool) -> tuple[Setting, bool]:
    """The setting, and whether random images stand in for data that are not on this machine."""
    training = config.training
    try:
        return Setting.of(training, download), False
    except WashBenchError:
        if download or not can_stand_in(training):
            raise
    device = resolve_device(training.device)
    return Setting(training, device, StandIn(training, device)), True


def _time_few_images(setting: Setting) -> Times:
    """The same from smaller batches in float32, for what would take a CPU minutes a step."""
    config = setting.config
    few = min(FEW_IMAGES, config.batch_size)
    less = config.model_copy(update={"batch_size": few, "amp": "off", "accumulate": 1})
    times = _time_steps(Setting(less, setting.device, setting.data))
    return Times(times.step * config.batch_size / few, times.image)


def _time_steps(setting: Setting) -> Times:
    """Seconds a training step of one member, and seconds an image of a forward pass."""
    config = setting.config
    population = setting.population(0, [0])
    engine = make_engine(population, config, 0)
    loss = torch.zeros(1, device=setting.device)
    engine.begin_epoch(config.linear_probe)  # of fine-tuning, whose steps are the dear ones
    module = population.modules[0]
    warm_up = EAGER_STEPS[setting.engine]
    batches, times = _endless(setting), []
    while True:
        began = time.perf_counter()
        batch = next(batches)
        engine.steps([iter([batch])], setting.schedule.clock(0), loss)
        loss.item()
        times.append(time.perf_counter() - began)
        enough = sum(times) > ENOUGH_SECONDS and len(times) > warm_up
        if enough or len(times) == warm_up + TIMED_STEPS:
            break
    module.eval()
    with torch.no_grad(), autocast(setting.device, config.amp):
        module(batch.images)
        began = time.perf_counter()
        module(batch.images).sum().item()
        image_seconds = (time.perf_counter() - began) / len(batch.images)
    timed = sorted(times[warm_up:])
    return Times(timed[len(timed) // 2], image_seconds)


def _endless(setting: Setting) -> Iterator[Batch]:
    """Batches of epoch after epoch: a small data set has fewer steps an epoch than are timed."""
    recipe = setting.recipes(0)[0]
    for epoch in itertools.count():
        yield from setting.data.epoch_batches(0, 0, epoch, setting.config.batch_size, recipe)


def _evaluation_images(config: RunConfig, setting: Setting) -> int:
    """Forward passes of single images that the final evaluation takes."""
    evaluation, data, n = config.evaluation, setting.data, setting.config.population
    networks = n + 2  # members, average, greedy soup
    again = evaluation.bn_images or data.train_size
    whole = {"train": data.train_size, "val": data.val_size, "test": data.test_size}
    split = whole[evaluation.barrier_split]
    at_point = min(evaluation.barrier_images or split, split)
    segments = math.comb(n, 2) + n
    points = n + 1 + segments * (evaluation.barrier_points - 2)
    points += simplex_networks(evaluation.simplex_points, evaluation.simplex_margin)
    if n == 1:  # no segments
        points = 0
    kinds = len(evaluation.corruption_names) * len(evaluation.corruption_severities)
    corrupted = kinds * min(evaluation.corruption_images or data.test_size, data.test_size)
    return networks * (corrupted + 2 * data.test_size + data.val_size + again) + points * (
        2 * at_point + min(evaluation.barrier_bn_images, data.train_size)
    )
