"""Dead parameters: found exactly, whatever hides or fakes a gradient, and left out of the costs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.support.runs import entries_of, records_of, stop_after_an_epoch
from wash_bench.config import EvaluationConfig, RunConfig, TrainingConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.population import Population
from wash_bench.models.build import build_model
from wash_bench.models.dead import dead_parameters
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.runner.training_setup import TrainingSetup


def built(name: str, channels: int, size: int, stem: str = "keep", **model_args):
    return build_model(
        name,
        classes=10,
        channels=channels,
        size=size,
        stem=stem,
        model_args=model_args,
        seed_value=3,
    )


@pytest.mark.parametrize(
    ("name", "size", "dead"),
    [
        ("test_resnet", 16, 232_704),
        ("test_resnet", 28, 165_888),
        *(("resnet10-narrow", size, 0) for size in (16, 20, 28)),
        *((name, size, 0) for name in ("resnet8", "resnet20") for size in (8, 16, 32)),
        ("test_vit", 32, 0),
    ],
)
@pytest.mark.parametrize("zero_init_last", [True, False])
def test_counts_of_known_networks(name, size, dead, zero_init_last):
    network = built(name, 1, size)
    if not zero_init_last:  # nothing starts at zero
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    before = torch.get_rng_state()
    found = dead_parameters(network, 1, size)
    assert (found.count, found.unused) == (dead, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert bool(found.describe(size)) == bool(dead)


@pytest.mark.parametrize("channels_last", [True, False])
def test_dead_coordinates_change_no_score_and_live_ones_do(channels_last):
    network = built("test_resnet", 1, 16, zero_init_last=False)
    dead = dead_parameters(built("test_resnet", 1, 16), 1, 16, channels_last).mask
    population = Population(lambda _: network, 1, channels_last=channels_last)
    images = torch.randn(4, 1, 16, 16)
    module = population.modules[0].eval()
    with torch.no_grad():
        before = module(images)
        population.weights[0, dead] = 1000 * torch.randn(int(dead.sum()))
        assert torch.equal(module(images), before)
        population.weights[0, ~dead] *= 1.1
        assert not torch.equal(module(images), before)


class Small(nn.Module):
    """A network with every kind of silence; ``dead`` and ``unused`` say how much of it counts."""

    def __init__(self, side: int, frozen: bool, extra: bool, shut: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.drop = nn.Dropout(0.9)
        self.hidden = nn.Linear(3 * side * side, 5)
        self.head = nn.Linear(5, 10)
        nn.init.zeros_(self.head.weight)  # hides the gradient of all below at the start
        if shut:
            nn.init.constant_(self.hidden.bias, -1e4)  # dead ReLUs, by their weights
        if frozen:
            self.hidden.bias.requires_grad_(False)
        self.extra = nn.Linear(7, 2) if extra else None
        self.dead = 24 if side == 1 else 0  # all taps of a kernel but its centre
        self.unused = 5 * frozen + 16 * extra

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.conv(x).relu())
        return self.head(torch.relu(self.hidden(x.flatten(1))))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.booleans(), st.booleans(), st.booleans())
def test_what_never_takes_part_counts_and_what_is_silent_for_now_does_not(
    side, frozen, extra, shut
):
    network = Small(side, frozen, extra, shut)
    found = dead_parameters(network, 1, side)
    assert found.unused == network.unused
    assert found.count == network.dead + network.unused


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(2, 40), st.data())
def test_a_shuffle_counts_the_bytes_of_its_dead_coordinates(n, d, data):
    dead = torch.tensor(data.draw(st.lists(st.booleans(), min_size=d, max_size=d)))
    exchange = LocalExchange(n, seed=0)
    exchange.ledger.dead = dead
    expected = 0
    for _ in range(3):
        chosen = sorted(data.draw(st.sets(st.integers(0, d - 1), min_size=1)))
        sources = torch.tensor([data.draw(st.permutations(range(n))) for _ in chosen])
        for k, coordinate in enumerate(chosen):
            moved = sum(source != member for member, source in enumerate(sources[k].tolist()))
            expected += 0 if dead[coordinate] else 4 * moved
        exchange.permute_([(torch.zeros(n, d), "weights")], torch.tensor(chosen), sources)
    live, counted = exchange.ledger.live_bytes(0.5)
    assert counted
    assert live == pytest.approx(expected / n)

    exchange.mean(torch.zeros(n, d))  # a whole vector, of which the share is dead
    share = float(dead.float().mean())
    live, counted = exchange.ledger.live_bytes(share)
    assert not counted
    assert live == pytest.approx(expected / n + 4 * d * (1 - share))


def config(model: str, methods: tuple[str, ...]) -> RunConfig:
    training = TrainingConfig(
        dataset="digits",
        image_size=16,
        model=model,
        epochs=2,
        train_limit=96,
        batch_size=32,
        device="cpu",
    )
    evaluation = EvaluationConfig(barrier_points=3, barrier_images=20, barrier_bn_images=32)
    options = {"wash": {"p": 0.1}, "papa": {"every": 2}}
    return RunConfig(
        methods=methods,
        training=training,
        evaluation=evaluation,
        set={name: options[name] for name in methods},
    )


def test_records_have_costs_without_dead_parameters_also_when_resumed(tmp_path, capsys):
    methods = ("wash", "papa")
    made = config("test_resnet", methods)
    stop_after_an_epoch(made, entries_of(*methods), tmp_path / "resumed")
    for folder in ("resumed", "whole"):
        run_experiment(made, entries_of(*methods), RunContext(out=tmp_path / folder, threads=1))
    assert capsys.readouterr().out.count("232,704 of 373,370 parameters") == 3  # once a run
    whole, resumed = (
        {key: record["summary"] for key, record in records_of(tmp_path / folder).items()}
        for folder in ("whole", "resumed")
    )
    share = 232_704 / 373_370
    for key, summary in whole.items():
        assert summary["dead_parameters"] == 232_704
        for name in ("sent_bytes_live_total", "sent_bytes_live_by", "consensus_relative_live"):
            assert resumed[key][name] == summary[name]
    papa, wash = whole["papa", 0], whole["wash", 0]
    assert papa["sent_bytes_live_by"] == "share"
    assert papa["sent_bytes_live_total"] == pytest.approx(papa["sent_bytes_total"] * (1 - share))
    # WASH shuffles deep layers, where the dead are, less: more of what it sends is alive.
    assert wash["sent_bytes_live_by"] == "coordinates"
    assert wash["sent_bytes_total"] > wash["sent_bytes_live_total"]
    assert wash["sent_bytes_live_total"] > 1.05 * wash["sent_bytes_total"] * (1 - share)


def test_a_network_without_dead_parameters_has_nothing_to_say(tmp_path, capsys):
    made = config("resnet8", ("wash",))
    assert TrainingSetup.of(made.training).about_dead() == ""
    run_experiment(made, entries_of("wash"), RunContext(out=tmp_path, threads=1))
    assert "receive no gradient" not in capsys.readouterr().out
    (record,) = records_of(tmp_path).values()
    assert not [name for name in record["summary"] if "live" in name or "dead" in name]
