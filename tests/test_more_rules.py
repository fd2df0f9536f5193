"""Lookaround, SWAP, HWA, EASGD, gossip and sparse soups against restatements in plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load, save

from tests.populations import PLAN, changed, copies, small_network, small_population, tensors
from tests.ranks import in_ranks
from tests.rules_work import VARIANTS, spread_trainings, training
from wash_bench.config import RunConfig, TrainingConfig
from wash_bench.core.bill import bill
from wash_bench.core.clock import Schedule
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.judge import Predictor
from wash_bench.core.method import Method, Site
from wash_bench.core.population import ModelState, Population
from wash_bench.data.catalog import spec_of
from wash_bench.data.folder import FolderSource
from wash_bench.data.recipe import Recipe
from wash_bench.data.scan import scan
from wash_bench.errors import UsageError
from wash_bench.methods.easgd import Easgd, EasgdOptions
from wash_bench.methods.gossip import Gossip, GossipOptions
from wash_bench.methods.hwa import Hwa, HwaOptions
from wash_bench.methods.lookaround import Lookaround, LookaroundOptions
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.methods.papa import Papa
from wash_bench.methods.sparse_soup import SparseSoup, SparseSoupOptions
from wash_bench.methods.swap import Swap, SwapOptions
from wash_bench.runner.setting import Setting
from wash_bench.train.loop import Loop
from wash_bench.train.optim import RowOptimizer

close = {"rtol": 1e-4, "atol": 2e-6}


class FakeJudge:
    """The average of a whole population, and a re-estimation that leaves a mark."""

    def __init__(self, population: Population) -> None:
        self.population = population

    def average(self) -> Predictor:
        states = self.population.states()
        return Predictor([ModelState.mean(states)], tuple(range(len(states))))

    def reestimated(self, state: ModelState, images: int = 0) -> ModelState:
        return ModelState(state.weights, torch.full_like(state.buffers, 7.0), state.counters)


def mean(rows) -> list[float]:
    return [sum(column) / len(column) for column in zip(*rows.tolist(), strict=True)]


# What holds for all of them ------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("slots", [("momentum",), ("momentum", "second"), ()])
@pytest.mark.parametrize("make", VARIANTS)
def test_they_cost_exactly_what_arithmetic_says(make, slots, n):
    method, population = make(), small_population(n, slots)
    exchange = LocalExchange(n, 3)
    method.start(population, exchange)
    for clock in PLAN.clocks():
        method.after_step(population, exchange, clock)
    assert bill(method, Site(population.layout, n, len(slots)), PLAN) == exchange.ledger
    assert exchange.ledger.sent_values > 0


@pytest.mark.parametrize("make", VARIANTS)
def test_equal_members_stay_what_they_are(make):
    population = small_population(3)
    for rows in tensors(population).values():
        rows.copy_(rows[:1].clone().expand_as(rows))
    before = copies(population)
    method, exchange = make(), LocalExchange(3, 0)
    if isinstance(method, SparseSoup):
        pytest.skip("it prunes what all members share")
    method.start(population, exchange)
    for clock in PLAN.clocks():
        method.after_step(population, exchange, clock)
    for name, rows in tensors(population).items():
        torch.testing.assert_close(rows, before[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", VARIANTS)
def test_a_single_member_trains_plainly(make):
    population, exchange = small_population(1), LocalExchange(1, 0)
    before, method = copies(population), make()
    method.start(population, exchange)
    for clock in PLAN.clocks():
        method.after_step(population, exchange, clock)
    assert not changed(population, before)
    assert exchange.ledger.wire_bytes == 0


@pytest.mark.parametrize("make", VARIANTS)
@pytest.mark.parametrize("stop", [10, 20, 30])
def test_a_resumed_training_ends_the_same(make, stop):
    whole, exchange = small_population(3), LocalExchange(3, 1)
    method = make()
    for clock, _ in training(method, whole, exchange):
        if clock.step == stop - 1:
            memory, rows = save(method.state_dict()), copies(whole)
    resumed, other = small_population(3, seed=9), make()
    for name, tensor in tensors(resumed).items():
        tensor.copy_(rows[name])
    other.load_state_dict(load(memory))
    for _ in training(other, resumed, LocalExchange(3, 1), first=stop):
        pass
    assert not changed(resumed, copies(whole))
    ends = method.state_dict(), other.state_dict()
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.slow
def test_two_processes_do_what_one_does():
    alone = spread_trainings()
    first, second = in_ranks(2, spread_trainings)
    for one, *two in zip(alone, first, second, strict=True):
        for name, rows in one[0].items():
            torch.testing.assert_close(torch.cat([t[0][name] for t in two]), rows, **close)
        for memory in (t[1] for t in two):
            assert memory.keys() == one[1].keys()
            assert all(torch.equal(memory[name], two[0][1][name]) for name in memory)
            for name, tensor in memory.items():
                torch.testing.assert_close(tensor, one[1][name], **close)
        assert one[2] == two[0][2] == two[1][2]


@pytest.mark.parametrize(
    ("options", "values", "word"),
    [
        (LookaroundOptions, {"branches": "plain,flip"}, "'plain'"),
        (LookaroundOptions, {"every": 0}, "greater than or equal to 1"),
        (SwapOptions, {"phase1": 1.0}, "less than 1"),
        (GossipOptions, {"topology": "star"}, "'ring' or 'pairs'"),
        (EasgdOptions, {"beta": 1.5}, "less than or equal to 1"),
        (SparseSoupOptions, {"sparsity": 1.0}, "less than 1"),
        (HwaOptions, {"window": 0}, "greater than or equal to 1"),
    ],
)
def test_wrong_options_are_refused(options, values, word):
    with pytest.raises(ValidationError, match=word):
        options(**values)


# Lookaround ----------------------------------------------------------------------------------


def test_lookaround_averages_every_k_steps_from_a_common_start():
    population, start = small_population(3), small_population(3)
    method = Lookaround(LookaroundOptions(every=4))
    averages = []
    method.start(population, LocalExchange(3, 0))
    assert torch.equal(population.weights, start.weights[:1].expand(3, -1))
    for clock, before in training(method, population, LocalExchange(3, 0)):
        touched = changed(population, before)
        if not touched:
            continue
        averages.append(clock.step)
        assert touched == {"weights", "buffers"}  # every head keeps its momentum
        for name in touched:
            np.testing.assert_allclose(tensors(population)[name], [mean(before[name])] * 3, **close)
    assert averages == list(range(3, 39, 4))  # not after the last step


def test_lookaround_branches_cycle_over_the_members():
    base, clock = Recipe(crop_padding=4, flip=True), PLAN.clock(0)
    got = [Lookaround().recipe(member, base, clock) for member in range(4)]
    assert got == [base, base.but(auto_augment=True), base.but(cutout=8), base]
    named = Lookaround(LookaroundOptions(branches="mixup,cutmix", mixup=0.3, cutmix=0.4))
    got = [named.recipe(member, base, clock) for member in range(2)]
    assert got == [base.but(mixup=0.3), base.but(cutmix=0.4)]


def loop_of(config: TrainingConfig, method: Method) -> Loop:
    setting = Setting.of(config)
    population = setting.population(0)
    exchange = LocalExchange(population.n, 0)
    recipes = setting.recipes(0)
    return Loop(config, method, population, exchange, setting.data, recipes, 0, setting.schedule)


def test_lookaround_members_see_the_same_images_in_different_forms(tiny: RunConfig):
    method = Lookaround(LookaroundOptions(branches="plain"))
    loop = loop_of(tiny.training, method)
    clock = loop.schedule.clock(loop.schedule.steps_per_epoch)  # of the second epoch
    streams = [list(loop._batches(member, clock)) for member in range(3)]
    own = list(loop.data.epoch_batches(0, 0, 1, 32, loop.recipes[0]))
    assert all(torch.equal(a.images, b.images) for a, b in zip(streams[0], own, strict=True))
    for first, *others in zip(*streams, strict=True):
        for other in others:
            assert torch.equal(first.targets, other.targets)
            assert not torch.equal(first.images, other.images)
    # Without augmentation they are the same images, to the bit.
    bare = [loop.data.epoch_batches(0, m, 1, 32, Recipe(), order_member=0) for m in (0, 2)]
    assert all(torch.equal(a.images, b.images) for a, b in zip(*bare, strict=True))


@pytest.mark.parametrize("method", [NaiveEnsemble(), Papa(), Swap(), Easgd(), Gossip()])
def test_other_methods_data_are_the_members_own(tiny: RunConfig, method: Method):
    loop = loop_of(tiny.training, method)
    for member in range(3):
        stream = list(loop._batches(member, loop.schedule.clock(0)))
        own = list(loop.data.epoch_batches(0, member, 0, 32, loop.recipes[member]))
        for a, b in zip(stream, own, strict=True):
            assert torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)
    assert not torch.equal(own[0].targets, next(loop._batches(0, loop.schedule.clock(0))).targets)


def test_augmentation_draws_stay_the_members_own(tiny: RunConfig):
    """The same positions under member 1's order: draws differ by the member alone."""
    data, recipe = Setting.of(tiny.training).data, Recipe(mixup=1.0)
    mine, followed = (
        next(data.epoch_batches(0, 1, 0, 32, recipe, order_member=leader)) for leader in (1, 0)
    )
    # Mixup's one lambda a batch is drawn for member 1 in both: the largest share of a target.
    shares = [batch.targets[batch.targets > 0].unique() for batch in (mine, followed)]
    torch.testing.assert_close(*(share[share < 1].max() for share in shares))


def test_folder_data_follow_another_members_order_too(tmp_path: Path):
    """Files of one colour each, so that a random crop shows which file it is of."""
    for split, count in (("train", 8), ("val", 2)):
        for label, kind in enumerate(("cat", "dog")):
            (tmp_path / split / kind).mkdir(parents=True)
            for i in range(count):
                colour = (30 * i, 100 * label, 7)
                Image.new("RGB", (40, 40), colour).save(tmp_path / split / kind / f"{i}.png")
    spec = spec_of(f"folder:{tmp_path}")
    data = FolderSource(
        spec, scan(tmp_path), torch.device("cpu"), val_share=0.25, image_size=32, workers=0
    )

    def files(member: int, leader: int | None = None) -> torch.Tensor:
        batches = data.epoch_batches(0, member, 0, 4, Recipe(), order_member=leader)
        return torch.cat([batch.images.mean((2, 3)) for batch in batches])

    torch.testing.assert_close(files(1, 0), files(0))
    assert torch.equal(files(1), files(1, 1)) and not torch.allclose(files(1), files(0))


# SWAP ----------------------------------------------------------------------------------------


def test_swap_is_large_batch_sgd_and_then_apart():
    """Against one network that takes steps with the mean of the members' gradients."""
    n, plan, wd, m = 3, Schedule("cosine", 0.1, 1e-3, 20, 5), 0.01, 0.9
    population = Population(lambda _: small_network(), n, optimizer_slots=("momentum_buffer",))
    config = TrainingConfig(optimizer="sgd", lr=0.1, momentum=m, weight_decay=wd)
    optimizer, exchange = RowOptimizer(population, config), LocalExchange(n, 0)
    rng = np.random.default_rng(0)
    d = population.layout.size
    curvature, target = rng.uniform(0.2, 2, (n, d)), rng.standard_normal((n, d))
    method = Swap(SwapOptions(phase1=0.6))
    method.start(population, exchange)
    theta = population.weights.double().numpy().copy()
    v = np.zeros_like(theta)
    assert (theta == theta[0]).all()
    for clock in plan.clocks():
        for row in range(n):
            weights = population.weights[row].double().numpy()
            gradient = curvature[row] * (weights - target[row])
            population.gradient.copy_(torch.from_numpy(gradient))
            optimizer.step(row, clock.lr)
        method.after_step(population, exchange, clock)
        g = curvature * (theta - target)
        if clock.step < 12:
            g[:] = g.mean(axis=0)
        v = m * v + g + wd * theta
        theta = theta - clock.lr * v
        np.testing.assert_allclose(population.weights, theta, rtol=1e-4, atol=1e-5)
    assert not torch.equal(population.weights[0], population.weights[1])


def test_swap_delivers_the_average_with_new_statistics():
    population = small_population(3)
    delivered = Swap().predictors(population, FakeJudge(population))
    assert list(delivered) == ["swap", "average"]
    state = delivered["swap"].states[0]
    np.testing.assert_allclose(state.weights, mean(population.weights), **close)
    assert (state.buffers == 7).all()


# HWA -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "window"), [(0, 2), (7, 3), (7, 1), (4, 50)])
def test_hwa_averages_online_and_the_last_averages_offline(every, window):
    population, exchange = small_population(3), LocalExchange(3, 0)
    method, means = Hwa(HwaOptions(every=every, window=window)), []
    for clock, before in training(method, population, exchange):
        if (clock.step + 1) % (every or 10) == 0 and clock.step != 39:
            means.append(mean(before["weights"]))
            assert changed(population, before) == {"weights", "buffers"}
            np.testing.assert_allclose(population.weights, [means[-1]] * 3, **close)
            np.testing.assert_allclose(population.buffers, [mean(before["buffers"])] * 3, **close)
        else:
            assert not changed(population, before)
    means.append(mean(population.weights))
    latest = np.array(means[-window:])
    delivered = method.predictors(population, FakeJudge(population))
    assert list(delivered) == ["hwa", "average"]
    state = delivered["hwa"].states[0]
    np.testing.assert_allclose(state.weights, latest.sum(0) / len(latest), **close)
    assert (state.buffers == 7).all()


# EASGD ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "every", "n"), [(0.9, 3, 4), (0.3, 1, 2), (0.0, 2, 3)])
def test_easgd_equals_the_papers_two_sided_pull(beta, every, n):
    population, exchange = small_population(n), LocalExchange(n, 0)
    method = Easgd(EasgdOptions(beta=beta, every=every))
    alpha = beta / n
    centre = {name: tensors(population)[name][0].tolist() for name in ("weights", "buffers")}
    for clock, before in training(method, population, exchange):
        if (clock.step + 1) % every:
            assert not changed(population, before)
            continue
        for name, c in centre.items():
            rows = before[name].tolist()
            expected = [[x - alpha * (x - y) for x, y in zip(row, c, strict=True)] for row in rows]
            for i, y in enumerate(c):
                c[i] = y + alpha * sum(row[i] - y for row in rows)
            np.testing.assert_allclose(tensors(population)[name], expected, **close)
            np.testing.assert_allclose(method.state_dict()[name], c, **close)
        assert changed(population, before) <= {"weights", "buffers"}
    delivered = method.predictors(population, FakeJudge(population))
    assert list(delivered) == ["centre", "average"]
    np.testing.assert_allclose(delivered["centre"].states[0].weights, centre["weights"], **close)
    np.testing.assert_allclose(delivered["centre"].states[0].buffers, centre["buffers"], **close)


# Gossip --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5])
def test_gossip_on_a_ring(n):
    population = small_population(n)
    method = Gossip(GossipOptions(every=2))
    for clock, before in training(method, population, LocalExchange(n, 0)):
        if clock.step % 2 == 0 or clock.last:
            assert not changed(population, before)
            continue
        assert changed(population, before) == {"weights", "buffers"}
        for name in ("weights", "buffers"):
            rows = before[name].tolist()
            for member in range(n):
                around = {(member - 1) % n, member, (member + 1) % n}
                expected = mean(torch.tensor([rows[other] for other in sorted(around)]))
                np.testing.assert_allclose(tensors(population)[name][member], expected, **close)


@pytest.mark.parametrize("n", [2, 4, 5])
def test_gossip_in_random_pairs(n):
    population, seen = small_population(n), set()
    method = Gossip(GossipOptions(topology="pairs", every=1))
    for clock, before in training(method, population, LocalExchange(n, 0)):
        if clock.last:
            assert not changed(population, before)
            continue
        old, new = before["weights"], population.weights
        partners = []
        for member in range(n):
            errors = [(new[member] - (old[member] + row) / 2).abs().max() for row in old]
            partners.append(int(np.argmin(errors)))
            assert min(errors) < 1e-5
        pairs = frozenset((a, b) for a, b in enumerate(partners) if a < b)
        assert len(pairs) == n // 2 and all(partners[b] == a for a, b in enumerate(partners))
        seen.add(pairs)
        torch.testing.assert_close(new.mean(0), old.mean(0), **close)
    assert len(seen) == {2: 1, 4: 3, 5: 15}[n]  # every matching occurs


@pytest.mark.parametrize(("topology", "n"), [("ring", 5), ("pairs", 2)])
def test_the_variance_correction_restores_the_mean_of_the_variances(topology, n):
    population = small_population(n)
    population.weights[:, :40] = 0.25  # a part of the first convolution's, 40 of 108
    before = population.weights.double().numpy().copy()
    options = {"topology": topology, "every": 1}
    plain = small_population(n)
    plain.weights.copy_(population.weights)
    Gossip(GossipOptions(**options)).after_step(plain, LocalExchange(n, 0), PLAN.clock(0))
    method = Gossip(GossipOptions(**options, variance_correction=True))
    method.after_step(population, LocalExchange(n, 0), PLAN.clock(0))
    for piece in population.layout.slices:
        part = slice(piece.offset, piece.stop)
        for member in range(n):
            averaged = plain.weights[member, part].double().numpy()
            got = population.weights[member, part].numpy()
            if not piece.name.endswith("weight") or len(piece.shape) < 2:
                np.testing.assert_array_equal(got, plain.weights[member, part])
                continue
            inputs = [before[k, part] for k in {(member - 1) % n, member, (member + 1) % n}]
            target = np.mean([np.var(tensor) for tensor in inputs])
            centre = averaged.mean()
            expected = centre + (averaged - centre) * np.sqrt(target / averaged.var())
            np.testing.assert_allclose(got, expected, **close)
            assert averaged.var() < 0.8 * target  # the problem that it corrects
    assert torch.equal(population.buffers, plain.buffers)


def test_tensors_without_variance_are_left_alone():
    population = small_population(3)
    population.weights.fill_(0.5)
    method = Gossip(GossipOptions(every=1, variance_correction=True))
    method.after_step(population, LocalExchange(3, 0), PLAN.clock(0))
    assert (population.weights == 0.5).all()


# Sparse soups --------------------------------------------------------------------------------

SIX = Schedule("cosine", 0.1, 1e-4, steps=30, steps_per_epoch=5)  # six epochs


def naive_mask(row: list[float], old: list[bool], prunable: list[int], zeros: int) -> list[bool]:
    """Sort by magnitude, what is pruned already first, and cut off."""
    ranked = sorted(prunable, key=lambda i: (old[i], abs(row[i])))
    mask = list(old)
    for i in ranked[:zeros]:
        mask[i] = False
    return mask


def test_sparse_soup_prunes_retrains_averages_and_repeats():
    """Dense for two of six epochs, then two cycles of two epochs, up to 0.8."""
    population, exchange, n = small_population(3), LocalExchange(3, 0), 3
    method = SparseSoup(SparseSoupOptions(dense=0.34, cycles=2, sparsity=0.8))
    prunable = [i for part in ((0, 108), (116, 332), (350, 368)) for i in range(*part)]
    names = method.facts(Site(population.layout, n))["pruned_tensors"]
    assert names == ["0.weight", "2.weight", "6.weight"]
    mask = [True] * population.layout.size
    masks = []
    for clock, before in training(method, population, exchange, SIX):
        assert method.active(n, clock) == (1 if clock.epoch < 2 else n)
        rows = before["weights"].tolist()
        if clock.step == 9:  # the end of the dense parent
            rows = [rows[0]] * n
            assert torch.equal(population.counters, before["counters"][:1].expand(n, -1))
            assert torch.equal(population.buffers, before["buffers"][:1].expand(n, -1))
        if clock.step == 19:
            rows = [mean(before["weights"])] * n
            np.testing.assert_allclose(population.buffers, [mean(before["buffers"])] * n, **close)
        if clock.step in (9, 19):
            share = 1 - 0.2 ** (0.5 if clock.step == 9 else 1.0)
            mask = naive_mask(rows[0], mask, prunable, round(share * len(prunable)))
            masks.append(mask)
            assert (population.optimizer_state["momentum"] == 0).all()
            assert (population.optimizer_steps == 0).all()
        expected = [[x if keep else 0.0 for x, keep in zip(r, mask, strict=True)] for r in rows]
        np.testing.assert_allclose(population.weights, expected, **close)
        assert (population.optimizer_state["momentum"][:, ~torch.tensor(mask)] == 0).all()
    first, second = map(np.array, masks)
    assert (second <= first).all()  # what is pruned stays pruned
    assert round((~second).sum() / len(prunable), 2) == 0.8
    assert not torch.equal(population.weights[0], population.weights[1])
    assert [key for key in exchange.ledger.as_dict() if "weights" in key] == [
        "broadcast/weights",
        "mean/weights",
    ]
    kept = exchange.ledger.tallies["mean", "weights"].values / n
    assert kept == first.sum()  # an average sends what is not pruned
    delivered = method.predictors(population, FakeJudge(population))
    assert list(delivered) == ["soup", "average"]
    for name in delivered:
        assert (delivered[name].states[0].weights[~torch.tensor(second)] == 0).all()


@pytest.mark.parametrize(("epochs", "cycles"), [(2, 3), (3, 1), (9, 4), (20, 3)])
def test_sparse_soup_reaches_its_sparsity_whatever_the_epochs(epochs, cycles):
    plan = Schedule("cosine", 0.1, 1e-4, steps=3 * epochs, steps_per_epoch=3)
    population = small_population(2)
    method = SparseSoup(SparseSoupOptions(cycles=cycles, sparsity=0.9))
    for _ in training(method, population, LocalExchange(2, 0), plan):
        pass
    assert (~method.state_dict()["mask"]).sum() == round(0.9 * 342)


def test_sparse_soup_needs_an_epoch_to_retrain():
    with pytest.raises(UsageError, match="--epochs 2 or more"):
        SparseSoup().active(3, Schedule("cosine", 0.1, 1e-4, 5, 5).clock(0))
