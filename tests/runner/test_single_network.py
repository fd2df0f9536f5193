"""One network as a control: it is member 0 under other settings, and nothing else is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.support.runs import assert_same_bits, entries_of, records_of, stop_after_an_epoch
from wash_bench.config import RunConfig
from wash_bench.distributed.world import LocalWorld
from wash_bench.errors import UsageError
from wash_bench.methods.single import Single, SingleOptions
from wash_bench.models import build
from wash_bench.networks.cell_network import load_network
from wash_bench.report.read.frames import load
from wash_bench.report.tables.notes import own_settings
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment, tasks_of
from wash_bench.runner.plan import Times, plan_cells
from wash_bench.runner.recorded import cell_at
from wash_bench.runner.training_setup import setting_for
from wash_bench.study.cells import cells_of

FACTORS = {"one": {}, "epochs": {"epochs": 3}, "batch": {"epochs": 3, "batch_size": 3}}


def with_training(config: RunConfig, **changes: object) -> RunConfig:
    return config.model_copy(update={"training": config.training.model_copy(update=changes)})


def with_options(config: RunConfig, **options: object) -> RunConfig:
    return config.model_copy(update={"set": {"single": options}})


def run(config: RunConfig, out: Path, *names: str, **context: object) -> Path:
    outcome = run_experiment(config, entries_of(*names), RunContext(out=out, threads=1, **context))
    assert not outcome.failed
    return out


def member_0(out: Path, rule: str) -> dict[str, torch.Tensor]:
    (path,) = (out / "trainings").glob(f"{rule}-*/state-*/member-0.safetensors")
    return load_file(path)


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(scope="module")
def beside(tiny_module: RunConfig, tmp_path_factory) -> Path:
    """A run of the population and of one network of its compute."""
    out = tmp_path_factory.mktemp("single")
    return run(with_options(tiny_module, budget="epochs"), out, "naive-ensemble", "single")


@pytest.mark.slow
@pytest.mark.parametrize("budget", FACTORS)
def test_the_network_is_member_0_of_a_population_under_its_settings(
    budget: str, tiny: RunConfig, tmp_path: Path
) -> None:
    run(with_options(tiny, budget=budget, weight_decay=0.01), tmp_path / "a", "single")
    changes = {name: f * getattr(tiny.training, name) for name, f in FACTORS[budget].items()}
    longer = with_training(tiny, population=2, weight_decay=0.01, **changes)
    run(longer, tmp_path / "b", "naive-ensemble")
    found = member_0(tmp_path / "a", "single"), member_0(tmp_path / "b", "independent")
    assert same_bits(*found)


@pytest.mark.slow
def test_averages_along_its_trajectory_are_those_of_member_0(
    tiny: RunConfig, tmp_path: Path
) -> None:
    names = ("ema", "swa", "swad", "lawa")
    run(tiny, tmp_path / "a", *(f"single+{name}" for name in names))
    run(tiny, tmp_path / "b", *(f"naive-ensemble+{name}" for name in names))
    for name in names:
        (one,) = (tmp_path / "a/trainings").glob(f"single_{name}-*/state-*/method-0.safetensors")
        (other,) = (tmp_path / "b/trainings").glob(
            f"naive-ensemble_{name}-*/state-*/method-0.safetensors"
        )
        assert same_bits(load_file(one), load_file(other)), name


def test_its_row_stands_beside_the_others_and_says_what_it_is(beside: Path) -> None:
    records = {method: record for (method, _), record in records_of(beside).items()}
    single, others = records["single"], records["naive-ensemble"]
    assert single["experiment_id"] == others["experiment_id"]
    assert single["training_id"] != others["training_id"]
    summary = single["summary"]
    assert summary["changed_settings"] == {"population": 1, "epochs": 6}
    assert summary["steps"] == 3 * others["summary"]["steps"]
    assert (summary["member_steps_share"], summary["sent_bytes_total"]) == (1, 0)
    same = {summary[f"{name}_acc"] for name in ("ensemble", "average", "greedy", "method")}
    assert same == {summary["member_acc_mean"]}
    left_out = others["summary"].keys() - summary.keys()
    assert {name.partition("_")[0] for name in left_out} == {
        *("barrier", "consensus", "disagreement"),
        "predictor",  # its ensemble
    }
    found = load([beside])
    assert not found.warnings
    assert set(found.barrier["training_id"]) == {others["training_id"]}
    assert own_settings(found.summary) == ["single trains one network with epochs 6."]


def test_its_network_is_exported_and_has_no_others_beside_it(beside: Path) -> None:
    (path,) = (beside / "cells").glob("single-*.json")
    cell, context = cell_at(path), RunContext(out=beside, threads=1)
    network = load_network(cell, "member:0", context)
    assert network.setting.config.population == 1
    assert same_bits(dict(network.tensors), member_0(beside, "single"))
    with pytest.raises(UsageError, match="members 0 to 0"):
        load_network(cell, "member:1", context)


@pytest.mark.slow
def test_it_goes_on_to_the_same_bits_and_in_processes_too(tiny: RunConfig, tmp_path: Path) -> None:
    config = with_options(tiny, budget="epochs")
    run(config, tmp_path / "a", "single")
    stop_after_an_epoch(config, entries_of("single"), tmp_path / "b", epochs=3)
    run(config, tmp_path / "b", "single")
    assert_same_bits(tmp_path / "a", tmp_path / "b")
    names = ("naive-ensemble", "single")
    run(config, tmp_path / "c", *names, jobs=2)
    assert same_bits(member_0(tmp_path / "a", "single"), member_0(tmp_path / "c", "single"))


@pytest.mark.parametrize(("budget", "steps", "shares"), [("one", 1, 1), ("epochs", 3, 3)])
def test_a_plan_counts_its_steps(budget: str, steps: int, shares: int, tiny: RunConfig) -> None:
    config = with_options(tiny, budget=budget)
    plan = plan_cells(
        cells_of(config, entries_of("naive-ensemble", "single")), times=Times(1.0, 0.0)
    )
    others, single = plan.cells
    assert single.steps == steps * others.steps
    assert 3 * single.seconds == shares * others.seconds
    assert single.memory_bytes < others.memory_bytes
    assert single.sent_bytes == 0


def narrow(name: str, classes: int, channels: int, size: int, args: dict) -> nn.Module:
    """A network that takes a width."""
    width = round(8 * args.get("width", 1.0))
    return nn.Sequential(
        nn.Conv2d(channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, classes),
    )  # fmt: skip


@pytest.mark.slow
def test_a_wider_network_is_trained_planned_and_exported(
    tiny: RunConfig, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(build, "_create", narrow)
    config = with_options(with_training(tiny, population=4), budget="width")
    run(config, tmp_path, "naive-ensemble", "single")
    weights = [member_0(tmp_path, rule)["0.weight"] for rule in ("single", "independent")]
    assert [len(rows) for rows in weights] == [16, 8]
    parameters = {m: r["summary"]["parameters"] for (m, _), r in records_of(tmp_path).items()}
    plan = plan_cells(cells_of(config, entries_of("naive-ensemble", "single")))
    assert parameters == {cell.method: cell.parameters for cell in plan.cells}
    (path,) = (tmp_path / "cells").glob("single-*.json")
    network = load_network(cell_at(path), "averaged", RunContext(out=tmp_path, threads=1))
    assert len(network.tensors["0.weight"]) == 16


def test_what_cannot_work_is_refused_in_one_line(tiny: RunConfig, tmp_path: Path) -> None:
    context = RunContext(out=tmp_path, threads=1)
    wide = tasks_of(
        cells_of(with_options(tiny, budget="width"), entries_of("naive-ensemble", "single"))
    )
    with pytest.raises(UsageError, match="method 'single': model 'test_resnet' takes no argument"):
        setting_for(wide, context)
    world = LocalWorld()
    world.ranks = 2
    with pytest.raises(UsageError, match="trains 1 network, which 2 processes cannot share"):
        setting_for(tasks_of(cells_of(tiny, entries_of("single"))), context.but(world=world))
    low = Single(SingleOptions(lr=1e-5))
    with pytest.raises(UsageError, match="with lr=1e-05: --lr-min"):
        low.training_config(tiny.training)


def test_options_that_change_the_settings_change_the_training(tiny: RunConfig) -> None:
    ids = set()
    for options in ({}, {"budget": "epochs"}, {"lr": 0.01}, {"weight_decay": 0.0}):
        (task,) = tasks_of(cells_of(with_options(tiny, **options), entries_of("single")))
        ids.add((task.training_id, task.cells[0].cell_id))
        (wash,) = tasks_of(cells_of(tiny, entries_of("wash")))
        assert task.cells[0].experiment_id == wash.cells[0].experiment_id
    assert len({training for training, _ in ids}) == len({cell for _, cell in ids}) == 4
