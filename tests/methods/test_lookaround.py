"""Lookaround against a restatement in plain loops, and the images its members see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.method_checks import close, mean
from tests.support.method_trainings import training
from tests.support.populations import PLAN, changed, small_population, tensors
from wash_bench.config import RunConfig, TrainingConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import Method
from wash_bench.data.catalog import spec_of
from wash_bench.data.folder import FolderSource
from wash_bench.data.recipe import Recipe
from wash_bench.data.scan import scan
from wash_bench.methods.easgd import Easgd
from wash_bench.methods.gossip import Gossip
from wash_bench.methods.lookaround import Lookaround, LookaroundOptions
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.methods.papa import Papa
from wash_bench.methods.swap import Swap
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train.loop import Loop


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
    setting = TrainingSetup.of(config)
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
    data, recipe = TrainingSetup.of(tiny.training).data, Recipe(mixup=1.0)
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
