"""PAPA, DART and the greedy soup against their restatements, and what holds for every method."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support import reference_rules
from tests.support.populations import PLAN, changed, copies, small_population, tensors
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.step_info import Schedule
from wash_bench.data.recipe import Recipe
from wash_bench.evaluate.greedy import greedy_choice
from wash_bench.methods.dart import Dart, DartOptions
from wash_bench.methods.greedy_soup import GreedySoup
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.methods.papa import Papa, PapaOptions
from wash_bench.methods.wash import Wash, WashOptions
from wash_bench.methods.wash_opt import WashOpt


@pytest.mark.parametrize("scaling", ["linear", "none"])
@pytest.mark.parametrize("alpha", [0.0, 0.9, 0.99])
def test_papa_equals_the_formula_while_the_rate_decays(scaling, alpha):
    population = small_population(4)
    weights, buffers = population.weights.tolist(), population.buffers.tolist()
    before = copies(population)
    method = Papa(PapaOptions(alpha=alpha, every=3, lr_scaling=scaling))
    exchange, events = LocalExchange(4, 0), 0
    for clock in PLAN.clocks():
        method.after_step(population, exchange, clock)
        if clock.step % 3 == 0:
            events += 1
            lr = PLAN.at(clock.step + 1) if scaling == "linear" else PLAN.lr
            weights = reference_rules.papa_pull(weights, alpha, lr, PLAN.lr)
            buffers = reference_rules.papa_pull(buffers, alpha, lr, PLAN.lr)
        np.testing.assert_allclose(population.weights, weights, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(population.buffers, buffers, rtol=1e-5, atol=1e-6)
    assert exchange.ledger.tallies["mean", "weights"].events == events == 14
    assert changed(population, before) == {"weights", "buffers"}  # momentum stays


def test_papa_pulls_by_a_thousandth_at_a_tenth_of_the_rate():
    plan = Schedule("multistep", 0.1, 0.0, 100, 10, milestones=(0.5,))
    assert Papa().alpha(plan.clock(10)) == pytest.approx(0.99)
    assert Papa().alpha(plan.clock(49)) == pytest.approx(0.999)  # the rate of the step to come
    assert Papa().alpha(plan.clock(60)) == pytest.approx(0.999)


@pytest.mark.parametrize(("count", "per_epoch"), [("epoch", [77, 77]), ("global", [77, 77, 76])])
def test_papa_events_of_cifar_epochs(count, per_epoch):
    epochs = len(per_epoch)
    plan = Schedule("cosine", 0.1, 1e-4, 766 * epochs, 766)
    method = Papa(PapaOptions(count=count))
    steps = [clock.step for clock in plan.clocks() if method.due(clock)]
    assert steps == reference_rules.papa_steps(epochs, 766, 10, count)
    assert [sum(step // 766 == epoch for step in steps) for epoch in range(epochs)] == per_epoch


def test_papa_may_leave_buffers_alone():
    population = small_population(3)
    before = copies(population)
    Papa(PapaOptions(buffers=False)).after_step(population, LocalExchange(3, 0), PLAN.clock(0))
    assert changed(population, before) == {"weights"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("epochs", "warmup", "warmup_epochs", "every"),
    [(4, 0.5, 2, 1), (9, 0.5, 4, 2), (100, 0.29, 29, 7), (5, 0.1, 0, 2), (6, 0.0, 0, 3)],
)
def test_dart_copies_averages_and_rests_on_time(epochs, warmup, warmup_epochs, every):
    plan = Schedule("cosine", 0.1, 1e-4, 3 * epochs, 3)
    method = Dart(DartOptions(warmup=warmup, every=every))
    expected = reference_rules.dart_events(epochs, 3, warmup_epochs, every)
    base = Recipe(crop_padding=4, flip=True)
    for clock in plan.clocks():
        population = small_population(4)
        before = copies(population)
        method.after_step(population, LocalExchange(4, 0), clock)
        warming = clock.step < 3 * warmup_epochs
        assert method.active(4, clock) == (1 if warming else 4)
        assert (method.recipe(0, base, clock) == base) == warming
        event = expected.get(clock.step)
        if event is None:
            assert not changed(population, before)
        elif event == "copy":  # the whole training state of member 0
            for name, rows in tensors(population).items():
                assert torch.equal(rows, before[name][:1].expand_as(rows)), name
        else:
            assert changed(population, before) == {"weights", "buffers"}  # momentum stays
            for name in ("weights", "buffers"):
                mean = reference_rules.mean(before[name].tolist())
                np.testing.assert_allclose(tensors(population)[name], [mean] * 4, atol=1e-6)
    assert expected.get(plan.steps - 1) is None


def test_dart_copies_reach_the_networks_themselves():
    population = small_population(3)
    plan = Schedule("cosine", 0.1, 1e-4, 12, 3)
    Dart().after_step(population, LocalExchange(3, 0), plan.clock(5))
    first, last = (population.modules[member].state_dict() for member in (0, 2))
    assert all(torch.equal(first[name], last[name]) for name in first)


def test_dart_branches_cycle_over_the_members():
    late, base = PLAN.clock(PLAN.steps - 1), Recipe(crop_padding=4, flip=True)
    method = Dart()
    assert [method.recipe(member, base, late) for member in range(4)] == [
        base.but(auto_augment=True),
        base.but(cutout=8),
        base.but(cutmix=1.0),
        base.but(auto_augment=True),
    ]
    named = Dart(DartOptions(branches="plain,mixup,cutout", cutout=5, mixup=0.2))
    assert [named.recipe(member, base, late) for member in range(3)] == [
        base,
        base.but(mixup=0.2),
        base.but(cutout=5),
    ]


def test_greedy_soup_on_a_hand_made_table():
    """3 is best; 0 comes before its equal 2; 0 is refused at a tie, 2 and 1 are accepted."""
    table = {(3, 0): 82.0, (3, 2): 83.0, (3, 2, 1): 83.5}
    asked = []

    def evaluate(members: list[int]) -> float:
        asked.append(tuple(members))
        return table[tuple(members)]

    assert greedy_choice([80.0, 79.0, 80.0, 82.0], evaluate) == [3, 2, 1]
    assert asked == [(3, 0), (3, 2), (3, 2, 1)]


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 7), levels=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_greedy_soup_equals_the_running_average(n, levels, seed):
    """On vectors, with few accuracy levels so that ties abound."""
    rng = np.random.default_rng(seed)
    members = rng.standard_normal((n, 3))
    target = rng.standard_normal(3)

    def accuracy(vector: np.ndarray) -> float:
        return round(levels * float(np.exp(-np.sum((vector - target) ** 2))), 0)

    accuracies = [accuracy(member) for member in members]
    chosen, soup = reference_rules.greedy(members, accuracies, accuracy)
    got = greedy_choice(accuracies, lambda listed: accuracy(members[listed].mean(axis=0)))
    assert got == chosen
    np.testing.assert_allclose(members[got].mean(axis=0), soup, atol=1e-12)


def test_greedy_soup_of_ever_better_mixtures_is_the_uniform_soup():
    assert greedy_choice([1.0, 3.0, 2.0], lambda listed: 10.0 * len(listed)) == [1, 2, 0]


def test_greedy_soup_without_members_is_refused():
    with pytest.raises(ValueError, match="at least one member"):
        greedy_choice([], lambda listed: 0.0)


def test_greedy_soup_leaves_out_what_has_no_accuracy():
    nan = float("nan")
    assert greedy_choice([nan, 80.0, nan, 81.0], lambda listed: 82.0) == [3, 1]
    assert greedy_choice([80.0, 81.0, 79.0], lambda listed: nan if 0 in listed else 90.0) == [1, 2]
    with pytest.raises(ValueError, match="outputs are numbers"):
        greedy_choice([nan, nan], lambda listed: 0.0)


def test_methods_that_train_alike_share_their_training():
    assert NaiveEnsemble().training_key() == GreedySoup().training_key()
    others = [kind().training_key() for kind in (Wash, WashOpt, Papa, Dart, NaiveEnsemble)]
    assert all(a != b for i, a in enumerate(others) for b in others[:i])
    keys = [Wash(WashOptions(p=p)).training_key() for p in (0.1, 0.2)]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("options", "values", "word"),
    [
        (WashOptions, {"p": 1.5}, "less than or equal to 1"),
        (WashOptions, {"q": 0.5}, "Extra inputs"),
        (WashOptions, {"start": 0.5, "stop": 0.5}, "must lie before stop"),
        (WashOptions, {"self_correction": True, "permutation": "derangement"}, "turn self_corr"),
        (WashOptions, {"include": "weights"}, "'weight', 'bias' or 'norm'"),
        (PapaOptions, {"every": 0}, "greater than or equal to 1"),
        (DartOptions, {"branches": []}, "at least 1 item"),
        (DartOptions, {"warmup": 1.0}, "less than 1"),
    ],
)
def test_wrong_options_are_refused(options, values, word):
    with pytest.raises(ValidationError, match=word):
        options(**values)


def test_method_modules_do_not_import_torch():
    code = (
        "import importlib, pkgutil, sys, wash_bench.methods as methods\n"
        "names = [module.name for module in pkgutil.iter_modules(methods.__path__)]\n"
        "for name in names: importlib.import_module(f'wash_bench.methods.{name}')\n"
        "sys.exit('torch' in sys.modules or len(names) < 53)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
