"""Delayed exchanges: one step late, the same bytes, resumable, the same over two processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.ranks import in_ranks
from tests.support.runs import pull_the_plug, run_in_world
from wash_bench.config import RunConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.population import Population
from wash_bench.core.step_info import Schedule
from wash_bench.errors import WashBenchError
from wash_bench.methods.papa import Papa
from wash_bench.plugins.registry import find_method, make_method
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.study.resolve import resolve


def _population() -> Population:
    def build(member: int) -> torch.nn.Module:
        torch.manual_seed(member)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))

    return Population(build, 3, optimizer_slots=["momentum_buffer"])


def test_the_pull_of_a_step_arrives_after_the_next_one() -> None:
    population, method = _population(), make_method(find_method("papa+overlap"), {"every": 2})
    exchange = LocalExchange(3, 0)
    schedule = Schedule("constant", 0.1, 0.0, steps=5, steps_per_epoch=5)
    weights = population.weights.double().clone()
    pull = 1 - Papa().alpha(schedule.clock(0))
    late = None
    for step in range(5):
        move = torch.full_like(population.weights, 0.1 * (step + 1))
        move[step % 3] = -0.3  # members move apart
        population.weights += move
        weights += move
        method.after_step(population, exchange, schedule.clock(step))
        if late is not None:
            weights, late = weights + late, None
        if step % 2 == 0:
            late = pull * (weights.mean(0) - weights)
        if step == 4:  # the end of the epoch: nothing may be under way
            weights = weights + late
        torch.testing.assert_close(population.weights.double(), weights, rtol=1e-6, atol=1e-6)
    assert exchange.ledger.tallies["mean", "weights"].events == 3


def test_options_of_the_method_hold_for_its_overlapped_form_too() -> None:
    options = {"methods": "wash,wash+overlap", "set": ["wash.p=0.2", "wash+overlap.every=3"]}
    resolved = resolve("digits", None, options)
    plain, late = (make_method(e, resolved.config.set[e.name]) for e in resolved.entries)
    assert (plain.options.p, plain.options.every) == (0.2, 1)
    assert (late.inner.options.p, late.inner.options.every) == (0.2, 3)
    assert late.name == "wash+overlap"
    assert late.training_key() != plain.training_key()


@pytest.fixture(scope="module")
def short(tiny_module: RunConfig) -> RunConfig:
    training = tiny_module.training.model_copy(update={"train_limit": 96})
    options = {"wash-opt+overlap": {"p": 0.2}}
    return tiny_module.model_copy(update={"training": training, "set": options})


def _members(out: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted(out.glob("trainings/*/state-*/member-*.safetensors")):
        found |= {f"{path.stem}/{name}": tensor for name, tensor in load_file(path).items()}
    return found


@pytest.mark.slow
def test_resumed_and_spread_over_processes_to_the_same_bits(
    short: RunConfig, tmp_path: Path
) -> None:
    run_in_world(short, tmp_path / "whole", ["wash-opt+overlap"], False)
    with pytest.raises(WashBenchError):  # how the machine refusing is told
        run_in_world(short, tmp_path / "killed", ["wash-opt+overlap"], False, pull_the_plug)
    assert list(tmp_path.glob("killed/trainings/*/state-1"))
    in_ranks(2, run_in_world, short, tmp_path / "killed", ["wash-opt+overlap"], True)
    whole, killed = _members(tmp_path / "whole"), _members(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, killed[name]), name
    (record,) = (tmp_path / "whole/cells").glob("*.json")
    summary = json.loads(record.read_text())["summary"]
    assert summary["sent_values_total"] > 0


def test_what_must_stay_positive_takes_late_values_and_never_a_difference() -> None:
    """A second moment that shrinks within the step would fall below zero by a difference."""

    def build(member: int) -> torch.nn.Module:
        torch.manual_seed(member)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))

    population = Population(build, 3, optimizer_slots=["exp_avg", "exp_avg_sq"])
    options = {"p": 1.0, "layer_rule": "constant", "buffers": True}
    method = make_method(find_method("wash-opt+overlap"), options)
    schedule = Schedule("constant", 0.1, 0.0, steps=8, steps_per_epoch=8)
    exchange = LocalExchange(3, 0)
    generator = torch.Generator().manual_seed(0)
    before = torch.empty(0)
    for step in range(8):
        squares = population.optimizer_state["exp_avg_sq"]
        squares.copy_(10.0 ** (-4 * torch.rand(squares.shape, generator=generator)))
        population.buffers.copy_(10.0 ** (-4 * torch.rand(population.buffers.shape)))
        taken = squares.clone()
        method.after_step(population, exchange, schedule.clock(step))
        assert (squares > 0).all() and (population.buffers > 0).all(), step
        if step:  # every value is one that some member had, now or a step ago
            known = torch.cat([before, taken])
            assert ((squares[:, None] == known[None]).any(1)).all()
        before = squares.clone()


@pytest.mark.slow
def test_adamw_under_overlapped_wash_opt_stays_finite(tiny: RunConfig, tmp_path: Path) -> None:
    update = {"optimizer": "adamw", "lr": 1e-3, "population": 2}
    training = tiny.training.model_copy(update=update)
    config = tiny.model_copy(
        update={"training": training, "set": {"wash-opt+overlap": {"p": 0.3, "buffers": True}}}
    )
    entries = [find_method("wash-opt+overlap")]
    assert not run_experiment(config, entries, RunContext(out=tmp_path, threads=1)).failed
