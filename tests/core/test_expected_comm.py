"""The bill by arithmetic against the ledger that the exchange keeps, and against closed forms."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

from tests.support import reference_rules
from tests.support.populations import small_population
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.layout import Layout, layout_of
from wash_bench.core.ledger import CommLedger
from wash_bench.core.method import CommShape, Method, predict_comm
from wash_bench.core.sampling import permute_charges
from wash_bench.core.step_info import Schedule
from wash_bench.methods.dart import Dart, DartOptions
from wash_bench.methods.ema import Ema
from wash_bench.methods.greedy_soup import GreedySoup
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.methods.papa import Papa, PapaOptions
from wash_bench.methods.wash import Wash, WashOptions
from wash_bench.methods.wash_opt import WashOpt


def schedule(epochs: int, steps_per_epoch: int) -> Schedule:
    return Schedule("cosine", 0.1, 1e-4, epochs * steps_per_epoch, steps_per_epoch)


def run(
    method: Method, plan: Schedule, n: int, slots: tuple[str, ...]
) -> tuple[CommLedger, CommShape]:
    population = small_population(n, slots)
    exchange = LocalExchange(n, seed=3)
    method.start(population, exchange)
    for clock in plan.clocks():
        method.after_step(population, exchange, clock)
    return exchange.ledger, CommShape(population.layout, n, len(slots))


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("slots", [("momentum",), ("exp_avg", "exp_avg_sq"), ()])
@pytest.mark.parametrize(
    "method",
    [
        NaiveEnsemble(),
        GreedySoup(),
        Papa(),
        Papa(PapaOptions(every=7, count="epoch", buffers=False)),
        Dart(DartOptions(every=2)),
        Dart(DartOptions(warmup=0, every=3)),
    ],
)
def test_deterministic_rules_cost_exactly_what_arithmetic_says(method, slots, n):
    plan = schedule(epochs=9, steps_per_epoch=17)
    ledger, site = run(method, plan, n, slots)
    assert predict_comm(method, site, plan) == ledger
    if not isinstance(method, NaiveEnsemble | GreedySoup):
        assert ledger.sent_values > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Wash, WashOpt])
@pytest.mark.parametrize(
    "options",
    [
        {"p": 0.02},
        {"p": 0.3, "permutation": "derangement", "layer_rule": "constant"},
        {"p": 0.1, "self_correction": True, "layer_rule": "increasing", "start": 0.25},
        {"p": 0.2, "layer_rule": "first_k", "k": 2, "every": 3, "buffers": True, "stop": 0.8},
    ],
)
@pytest.mark.parametrize("n", [2, 5])
def test_drawn_rules_cost_what_arithmetic_expects(kind, options, n):
    plan = schedule(epochs=10, steps_per_epoch=60)
    method = kind(WashOptions(**options))
    ledger, site = run(method, plan, n, ("momentum",))
    expected = predict_comm(method, site, plan)
    assert expected.sent_values_std > 0
    assert abs(ledger.sent_values - expected.sent_values) < 5 * expected.sent_values_std
    assert {key: tally.events for key, tally in ledger.tallies.items()} == {
        key: tally.events for key, tally in expected.tallies.items()
    }
    if options.get("buffers"):
        measured = ledger.tallies["permute", "buffers"].wire_bytes
        assert measured == pytest.approx(expected.tallies["permute", "buffers"].wire_bytes, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Wash, WashOpt])
@pytest.mark.parametrize("p", [0.05, 1.0])
def test_the_variance_of_the_total_is_the_measured_one(kind, p):
    """Over 3,000 single shuffles; the sample variance has a relative error of about 2.6 %."""
    n = 3
    method = kind(WashOptions(p=p, layer_rule="constant"))
    population = small_population(n)
    plan = schedule(1, 3000)
    totals = []
    for clock in plan.clocks():
        exchange = LocalExchange(n, seed=5)
        method.after_step(population, exchange, clock)
        totals.append(exchange.ledger.sent_values * n)
    site = CommShape(population.layout, n)
    one = CommLedger(n)
    for charge in method.charges(site, plan.clock(0)):
        one.add(charge)
    sample = torch.tensor(totals, dtype=torch.float64)
    assert sample.mean() == pytest.approx(one.sent_values * n, rel=0.01)
    assert sample.var() == pytest.approx((one.sent_values_std * n) ** 2, rel=0.15)


def test_a_method_without_charges_is_not_billed():
    class Uncharged(Papa):
        charges = Method.charges

    site = CommShape(small_population(2).layout, 2)
    assert predict_comm(Uncharged(), site, schedule(1, 3)) is None
    assert predict_comm(Ema(None, Uncharged()), site, schedule(1, 3)) is None


@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_moments_of_one_permutation(n):
    mean, variance = reference_rules.fixed_point_moments(n)
    p, size = 0.3, 7
    expected = size * p * mean
    spread = size * (p * (variance + mean**2) - (p * mean) ** 2)
    (charge,) = permute_charges(n, [(0, size, p)], ["weights"], uniform=True)
    assert (charge.values, charge.variance) == pytest.approx((expected, spread))


def test_wash_opt_bills_every_optimizer_slot():
    layout = layout_of(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2)))
    plan = schedule(2, 10)
    plain = predict_comm(Wash(), CommShape(layout, 4), plan).sent_values
    assert predict_comm(WashOpt(), CommShape(layout, 4, 1), plan).sent_values == pytest.approx(
        2 * plain
    )
    assert predict_comm(WashOpt(), CommShape(layout, 4, 2), plan).sent_values == pytest.approx(
        3 * plain
    )


def resnet18(classes: int) -> Layout:
    model = timm.create_model("resnet18", num_classes=classes, zero_init_last=False)
    model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    model.maxpool = nn.Identity()
    return layout_of(model)


def vgg16(classes: int) -> Layout:
    with torch.device("meta"):
        model = timm.create_model("vgg16_bn", num_classes=classes)
        model.pre_logits = nn.Identity()
        model.head.fc = nn.Linear(512, classes)
    return layout_of(model)


@pytest.mark.parametrize(
    ("build", "d", "layers", "shares"),
    [
        (resnet18, 11_220_132, {"tensor": 62, "leaf_module": 41}, (0.2283, 0.2154)),
        (vgg16, 14_774_436, {"tensor": 54, "leaf_module": 27}, (0.3089, 0.2956)),
    ],
)
def test_closed_forms_of_the_papers_networks(build, d, layers, shares):
    """Sizes, layer counts and size-weighted means of 1 - l/(L-1), computed elsewhere."""
    layout, n, steps = build(100), 5, 100
    assert layout.size == d
    plan = schedule(1, steps)
    for (index, count), share in zip(layers.items(), shares, strict=True):
        assert layout.layers(index) == count
        method = Wash(WashOptions(layer_index=index))
        per_step = predict_comm(method, CommShape(layout, n), plan).sent_values / steps
        assert per_step == pytest.approx((1 - 1 / n) * 0.001 * share * d, rel=5e-4)
        derangement = Wash(WashOptions(layer_index=index, permutation="derangement"))
        assert predict_comm(
            derangement, CommShape(layout, n), plan
        ).sent_values / steps == pytest.approx(0.001 * share * d, rel=5e-4)
    assert predict_comm(Papa(), CommShape(layout, n), plan).sent_values / steps == d / 10


def test_resnet18_of_cifar10_has_the_papers_size_and_statistics():
    layout = resnet18(10)
    assert (layout.size, layout.buffer_size, layout.counter_size) == (11_173_962, 9_600, 20)


@pytest.mark.slow
def test_a_papers_length_of_training_is_billed_at_once():
    """300 epochs of 780 steps: PAPA sends d every tenth step, DART d every fifth epoch."""
    layout = layout_of(nn.Linear(10, 10))
    plan = schedule(300, 780)
    assert predict_comm(Papa(), CommShape(layout, 3), plan).sent_values == 110 * math.ceil(
        234_000 / 10
    )
    dart = predict_comm(Dart(), CommShape(layout, 3), plan)
    assert dart.tallies["mean", "weights"].events == 29  # 150 epochs, the last end excepted
    assert dart.tallies["broadcast", "weights"].values == 2 * 110
