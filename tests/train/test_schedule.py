"""Schedules, the warm-up before them, and the table of optimizers, against torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from tests.support.records import write_cell
from wash_bench.cli.main import run_command
from wash_bench.config import TrainingConfig
from wash_bench.config.optimizers import OPTIMIZERS, OptimizerSpec
from wash_bench.config.schedules import SCHEDULES
from wash_bench.core.population import Population
from wash_bench.core.step_info import Schedule
from wash_bench.methods.papa import Papa
from wash_bench.report import write
from wash_bench.report.read import frames
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train.optim import RowOptimizer, optimizer_slots

STEPS, PER_EPOCH = 60, 10


def schedule(kind: str, warmup: float) -> Schedule:
    config = TrainingConfig(schedule=kind, warmup=warmup, epochs=6, lr=0.2, lr_min=0.01)
    return Schedule.of(config, PER_EPOCH)


def naive(kind: str, epochs: float, step: int) -> float:
    """The learning rate as docs/settings.md tells it."""
    warm = round(epochs * PER_EPOCH)
    if step < warm:
        return 0.2 * (step + 1) / (warm + 1)
    done, left = step - warm, STEPS - warm
    if kind == "cosine":
        return 0.01 + 0.19 * (1 + math.cos(math.pi * done / left)) / 2
    if kind == "constant":
        return 0.2
    return 0.2 / 10 ** ((done >= round(left / 2)) + (done >= round(left * 3 / 4)))


@pytest.mark.parametrize("warmup", [0, 0.04, 0.3, 1, 2.5, 5.99])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_rates_are_those_that_the_docs_tell(kind, warmup):
    plan = schedule(kind, warmup)
    rates = [clock.lr for clock in plan.clocks()]
    if warmup > 5.9:  # a schedule of one step, which cannot be divided
        assert kind == "multistep" or rates[-1] == 0.2
        return
    assert rates == pytest.approx([naive(kind, warmup, step) for step in range(STEPS)])
    assert max(rates) == 0.2 == plan.clock(0).base_lr
    assert rates.index(0.2) == round(warmup * PER_EPOCH)


@pytest.mark.parametrize("warm", [1, 7, 30])
def test_a_warm_up_is_torchs_linear_rate_before_its_schedule(warm):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    rising = lr_scheduler.LinearLR(optimizer, 1 / (warm + 1), total_iters=warm)
    falling = lr_scheduler.CosineAnnealingLR(optimizer, STEPS - warm, eta_min=0.01)
    both = lr_scheduler.SequentialLR(optimizer, [rising, falling], [warm])
    for clock in schedule("cosine", warm / PER_EPOCH).clocks():
        assert clock.lr == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        both.step()


def test_without_a_warm_up_nothing_changes_by_a_bit():
    plain = Schedule("cosine", 0.2, 0.01, STEPS, PER_EPOCH)
    assert schedule("cosine", 0) == plain
    for step in range(STEPS):
        cosine = 0.01 + (0.2 - 0.01) * (1 + math.cos(math.pi * step / STEPS)) / 2
        assert plain.at(step) == cosine


def test_a_training_has_the_warm_up_of_its_settings(tiny):
    plan = TrainingSetup.of(tiny.training.model_copy(update={"warmup": 0.5})).schedule
    assert plan.warmup == round(plan.steps_per_epoch / 2) > 0
    assert TrainingSetup.of(tiny.training).schedule.warmup == 0


def test_papas_pull_goes_by_the_peak_rate():
    papa = Papa(Papa.Options(alpha=0.9))
    clocks = list(schedule("cosine", 1).clocks())
    pulls = [1 - papa.alpha(clock) for clock in clocks]
    assert pulls == pytest.approx([0.1 * clock.next_lr / 0.2 for clock in clocks])
    assert max(pulls) == pytest.approx(0.1)
    assert pulls[0] == pytest.approx(0.1 * 2 / 11)  # the rate of step 1 of a warm-up of 10


@pytest.mark.parametrize("given", ["6", "7.5", "-1", "nan", "some"])
def test_a_warm_up_that_leaves_nothing_is_refused(capsys, tmp_path, given):
    arguments = ["run", "--epochs=6", f"--warmup={given}", f"--out={tmp_path / 'r'}"]
    assert run_command(arguments) == 2
    error = capsys.readouterr().err
    assert "--warmup" in error and error.count("\n") == 1
    if given in ("6", "7.5"):
        assert f"--warmup {given} is not below --epochs 6" in error


def test_a_report_tells_the_warm_up_where_there_is_one(tmp_path):
    write_cell(tmp_path / "with", "wash", 0, warmup=1.5)
    write_cell(tmp_path / "without", "wash", 0)
    text = write.markdown(frames.load([tmp_path / "with"]))
    assert "(cosine, 1.5 epochs of warm-up)." in " ".join(text.split())
    assert "warm-up" not in write.markdown(frames.load([tmp_path / "without"]))


# Optimizers ------------------------------------------------------------------------------------


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))


def holds(config: TrainingConfig) -> None:
    """A member that takes three steps as a row does as torch alone on its tensors."""
    population = Population(lambda _: network(), 1, optimizer_slots=optimizer_slots(config))
    alone = network()
    alone.load_state_dict(population.named_tensors(population.state(0)))
    rule = OPTIMIZERS[config.optimizer]
    settings = {key: getattr(config, key) for key in ("lr", "weight_decay", *rule.settings)}
    plain = getattr(torch.optim, rule.target.partition(":")[2])(alone.parameters(), **settings)
    rows = RowOptimizer(population, config)
    inputs = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        for module in (population.modules[0], alone):
            module(inputs).square().mean().backward()
        rows.step(0, config.lr)
        plain.step()
        population.gradient_row(0).zero_()
        plain.zero_grad()
    ours = population.named_tensors(population.state(0))
    for key, tensor in alone.named_parameters():
        torch.testing.assert_close(ours[key], tensor, rtol=1e-4, atol=1e-5, msg=key)
    state = next(iter(plain.state.values()), {})
    assert {key for key, value in state.items() if value.dim()} == set(optimizer_slots(config))
    assert ("step" in state) == rule.counts


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_row_of_the_table_says_what_torchs_optimizer_takes_and_keeps(name, momentum):
    holds(TrainingConfig(optimizer=name, momentum=momentum, lr=1e-3))


def test_a_further_optimizer_is_one_row(monkeypatch):
    row = OptimizerSpec("torch.optim:RMSprop", slots={"square_avg": ""}, counts=True)
    monkeypatch.setitem(OPTIMIZERS, "rmsprop", row)
    holds(TrainingConfig(lr=1e-3).model_copy(update={"optimizer": "rmsprop"}))
