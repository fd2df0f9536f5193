"""Methods around methods: names, options, memory, and merge rules around a training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.populations import small_population
from tests.support.ranks import in_ranks
from tests.support.runs import pull_the_plug, run_in_world
from tests.support.wrapper_trainings import PLAN, walk
from wash_bench.config import RunConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.wrapper import Independent, MergeRule
from wash_bench.errors import CellFailure, UsageError, WashBenchError
from wash_bench.methods.dart import Dart
from wash_bench.plugins.registry import find_method, make_method
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.study.resolve import resolve


def test_schedule_free_refuses_adam() -> None:
    population = small_population(2, slots=("exp_avg", "exp_avg_sq"))
    method = make_method(find_method("schedule-free"), {})
    population.remember(method.member_slots())
    with pytest.raises(CellFailure, match="--optimizer sgd"):
        method.start(population, LocalExchange(2, 0))


@pytest.mark.parametrize("name", ["ema", "swa", "lawa"])
def test_averages_leave_the_training_alone(name: str) -> None:
    steps, trained, measured, _ = walk(name, {})
    for before, after in zip(steps, trained, strict=True):
        np.testing.assert_array_equal(before, after)
    assert not torch.equal(measured.buffers, small_population(2).buffers)


def test_a_member_that_is_copied_begins_its_average_there() -> None:
    """DART trains member 0 alone at first, then everybody starts from it."""
    population = small_population(2)
    method = make_method(find_method("dart+ema"), {"warmup": 0.5, "every": 9})
    population.remember(method.member_slots())
    exchange = LocalExchange(2, 0)
    method.start(population, exchange)
    for clock in PLAN.clocks():
        population.weights[0] += 1.0
        method.after_step(population, exchange, clock)
        if clock.step == 8:
            copied = population.weights[0].clone()
            assert torch.equal(population.member_state["ema"][1], copied)
            break
    assert Dart is type(method.inner)


def test_a_wrapper_sets_its_own_memory_only() -> None:
    population = small_population(2, ("momentum_buffer",))
    method = make_method(find_method("wash+ema+schedule-free"))
    population.remember(method.member_slots())
    method.start(population, LocalExchange(2, 0))
    memory = population.member_state
    assert torch.equal(memory["ema_buffers"], population.buffers)
    for name in ("ema", "x", "z"):
        assert torch.equal(memory[name], population.weights)


def test_options_reach_the_part_they_belong_to() -> None:
    options = {
        "methods": "papa,papa+lookahead,papa+ema,ema",
        "set": ["papa.every=4", "lookahead.every=3", "ema.decay=0.5", "papa+ema.warmup=false"],
    }
    resolved = resolve("digits", None, options)
    papa, back, mean, alone = (
        make_method(entry, resolved.config.set.get(entry.name, {})) for entry in resolved.entries
    )
    assert papa.options.every == back.inner.options.every == mean.inner.options.every == 4
    assert back.options.every == 3
    assert (mean.options.decay, mean.options.warmup) == (0.5, False)
    assert (alone.options.decay, alone.options.warmup) == (0.5, True)
    assert isinstance(alone.inner, Independent)
    assert back.settings() == papa.settings() | {"lookahead": {"every": 3, "alpha": 0.5}}
    keys = [json.dumps(m.training_key(), sort_keys=True) for m in (papa, back, mean, alone)]
    assert len(set(keys)) == 4


@pytest.mark.parametrize("name", ["ema.decay", "papa+ema.decay", "papa+ema.ema.decay"])
def test_a_wrappers_option_has_three_names(name: str) -> None:
    resolved = resolve("digits", None, {"methods": "papa+ema", "set": [f"{name}=0.5,0.25"]})
    found = [spec.options["ema"]["decay"] for spec in resolved.specs]
    assert found == [0.5, 0.25]


def test_an_option_of_a_wrapper_that_there_is_not_is_named() -> None:
    with pytest.raises(UsageError, match="'ema' has no option 'decoy': did you mean 'decay'"):
        resolve("digits", None, {"methods": "papa+ema", "set": ["papa+ema.ema.decoy=0.5"]})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wash+papa", "papa is a training rule and cannot go around"),
        ("wash+emma", "unknown method 'emma'"),
        ("wahs+ema", "unknown method 'wahs'"),
    ],
)
def test_what_cannot_go_around_is_refused(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_method(find_method(name), {})


def test_an_unknown_option_of_a_wrapper_is_named() -> None:
    with pytest.raises(UsageError, match="method 'ema' has no option 'decoy'"):
        resolve("digits", None, {"methods": "wash+ema", "set": ["ema.decoy=0.5"]})


@pytest.fixture(scope="module")
def short(tiny_module: RunConfig) -> RunConfig:
    training = tiny_module.training.model_copy(update={"train_limit": 96})
    return tiny_module.model_copy(update={"training": training})


NAMES = ("wash+ema+lookahead", "naive-ensemble", "ema")


def _states(out: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted(out.glob("trainings/*/state-*/*.safetensors")):
        folder = path.relative_to(out)
        found |= {f"{folder}/{name}": tensor for name, tensor in load_file(path).items()}
    return found


@pytest.mark.slow
def test_memory_is_resumed_and_spread_over_processes_to_the_same_bits(
    short: RunConfig, tmp_path: Path
) -> None:
    run_in_world(short, tmp_path / "whole", NAMES, False)
    with pytest.raises(WashBenchError):
        run_in_world(short, tmp_path / "killed", NAMES, False, pull_the_plug)
    in_ranks(2, run_in_world, short, tmp_path / "killed", NAMES, True)
    whole, killed = _states(tmp_path / "whole"), _states(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert any("method-2" in name and "slow" in name for name in whole)
    for name, tensor in whole.items():
        assert torch.equal(tensor, killed[name]), name
    summaries = {}
    for out in ("whole", "killed"):
        for path in (tmp_path / out).glob("cells/*.json"):
            record = json.loads(path.read_text())
            summaries[out, record["method"]] = record["summary"]
    for name in NAMES:
        assert summaries["whole", name]["average_nll"] == summaries["killed", name]["average_nll"]
    assert (
        summaries["whole", "ema"]["average_nll"]
        != summaries["whole", "naive-ensemble"]["average_nll"]
    )


class Second(MergeRule):
    """The second member, for a test."""

    name = "second"
    rule = "the second member"
    paper = "none"
    sends = "nothing"

    def merge(self, population, judge):
        from wash_bench.core.merge_context import Predictor

        images = sum(len(labels) for _, labels in judge.training_batches(20))
        assert images == 20
        start = judge.initial()
        assert start is None or start.weights.shape == judge.members[1].weights.shape
        network = judge.network(judge.members[1])
        assert torch.equal(
            torch.cat([p.flatten() for p in network.parameters()]).sort().values,
            judge.members[1].weights.sort().values,
        )
        return Predictor([judge.members[1]], (1,))


def test_merge_rules_read_the_training_of_the_method_inside(
    short: RunConfig, tmp_path: Path
) -> None:
    from wash_bench.plugins.registry import load_method_file

    own = tmp_path / "second.py"
    source = Path(__file__).read_text().split("class Second")[1].split("\n\n\ndef ")[0]
    own.write_text(
        "import torch\nfrom wash_bench.core.wrapper import MergeRule\n\n\nclass Second" + source
    )
    entries = [find_method("naive-ensemble"), load_method_file(f"{own}:Second")]
    config = short.model_copy(update={"methods": ("naive-ensemble", "second")})
    outcome = run_experiment(config, entries, RunContext(out=tmp_path / "out", threads=1))
    assert not outcome.failed
    assert len(list((tmp_path / "out/trainings").iterdir())) == 1
    records = {}
    for path in (tmp_path / "out/cells").glob("*.json"):
        record = json.loads(path.read_text())
        records[record["method"]] = record["summary"]
    found = records["second"]
    assert (found["method_predictor"], found["method_networks"]) == ("second", 1)
    assert found["predictor_average_acc"] == found["average_acc"]
    assert 0 <= found["method_bn_acc"] <= 100 and found["merge_seconds"] >= 0
    assert found["member_steps_share"] == 1
    assert records["naive-ensemble"]["method_networks"] == 3
