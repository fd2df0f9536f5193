"""Rules that average the whole population: when, what, and with which options."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.support import reference_rules
from tests.support.averaging_rules import MEANS, close, move
from tests.support.populations import PLAN, changed, copies, small_population, tensors
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import Method
from wash_bench.core.step_info import Schedule
from wash_bench.methods.diloco import Diloco, DilocoOptions
from wash_bench.methods.local_sgd import LocalSgd, LocalSgdOptions
from wash_bench.methods.papa_2 import Papa2, Papa2Options
from wash_bench.methods.papa_all import PapaAll, PapaAllOptions
from wash_bench.methods.post_local_sgd import PostLocalSgd, PostLocalSgdOptions
from wash_bench.methods.sparta import SpartaOptions
from wash_bench.methods.sparta_diloco import SpartaDilocoOptions

# When the whole population is averaged -----------------------------------------------------------


def papa_epochs(epochs: int, every: int) -> list[int]:
    return [epoch for epoch in range(0, epochs, every) if epoch != epochs - 1]


@pytest.mark.parametrize(("method", "moments"), MEANS)
def test_members_become_their_mean_at_the_right_moments(method: Method, moments: list[int]):
    population, exchange = small_population(3), LocalExchange(3, 0)
    for clock in PLAN.clocks():
        move(population, clock)
        before = copies(population)
        method.after_step(population, exchange, clock)
        if clock.step not in moments:
            assert not changed(population, before)
            continue
        assert changed(population, before) == {"weights", "buffers"}  # momentum stays
        for name in ("weights", "buffers"):
            close(tensors(population)[name], [reference_rules.mean(before[name].tolist())] * 3)


def test_papa_all_merges_after_every_fifth_epoch_but_the_last():
    """300 epochs: after epochs 0, 5, ..., 295; a training that ends on such an epoch rests."""
    for epochs in (300, 296):
        plan = Schedule("cosine", 0.1, 1e-4, 3 * epochs, 3)
        epochs_due = [clock.epoch for clock in plan.clocks() if PapaAll().due(clock)]
        assert epochs_due == papa_epochs(epochs, 5)
        assert all(clock.epoch_end for clock in plan.clocks() if PapaAll().due(clock))
    assert papa_epochs(300, 5)[-1] == 295 and papa_epochs(296, 5)[-1] == 290


def test_the_switch_of_post_local_sgd_is_not_lost_to_rounding():
    plan = Schedule("constant", 0.1, 0.1, 100, 10)
    assert PostLocalSgd(PostLocalSgdOptions(switch=0.29)).switch_steps(plan.clock(0)) == 29


@pytest.mark.parametrize("kind", [LocalSgd, PostLocalSgd, PapaAll, Papa2, Diloco])
def test_buffers_may_be_left_alone(kind: type[Method]):
    method = kind(kind.Options(every=1, buffers=False))
    population, exchange = small_population(4), LocalExchange(4, 0)
    method.start(population, exchange)
    population.buffers.copy_(small_population(4).buffers)
    before = copies(population)
    before["weights"] = small_population(4).weights
    for clock in PLAN.clocks():
        method.after_step(population, exchange, clock)
    assert changed(population, before) == {"weights"}
    assert ("fetch" if kind is Papa2 else "mean", "buffers") not in exchange.ledger.tallies


# Around the rules --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "values", "word"),
    [
        (LocalSgdOptions, {"every": 0}, "greater than or equal to 1"),
        (PostLocalSgdOptions, {"switch": 1.5}, "less than or equal to 1"),
        (PapaAllOptions, {"switch": 0.5}, "Extra inputs"),
        (Papa2Options, {"pairing": "ring"}, "'sampled' or 'matching'"),
        (DilocoOptions, {"outer_momentum": 1.0}, "less than 1"),
        (DilocoOptions, {"outer_lr": 0.0}, "greater than 0"),
        (SpartaOptions, {"p": 1.5}, "less than or equal to 1"),
        (SpartaDilocoOptions, {"selector": "sequential"}, "'random' or 'partitioned'"),
    ],
)
def test_wrong_options_are_refused(options, values, word):
    with pytest.raises(ValidationError, match=word):
        options(**values)
