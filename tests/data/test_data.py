"""Catalogue, splits and batches of the small sets."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wash_bench.config import TrainingConfig
from wash_bench.data import catalog, memory
from wash_bench.data.catalog import DatasetSpec, all_specs, spec_of
from wash_bench.data.load import load_data
from wash_bench.data.memory import resize_images
from wash_bench.data.readers import Arrays
from wash_bench.data.recipe import Recipe
from wash_bench.data.splits import EVALUATION, SubsetRule, spread
from wash_bench.errors import UsageError
from wash_bench.seeds import numpy_stream

CPU = torch.device("cpu")
ALL_KNOBS = Recipe(
    crop_padding=1, flip=True, cutout=2, random_erasing=0.35, mixup=0.5, cutmix=0.5,
    label_smoothing=0.1, auto_augment=True,
)  # fmt: skip


def load(name: str, **options):
    return load_data(TrainingConfig(dataset=name, **options), CPU)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(["digits", "fashion-mini"]), st.integers(5, 40), st.integers(1, 70))
def test_images_resized_when_used_are_those_resized_before(name: str, size: int, batch: int):
    recipe, found = ALL_KNOBS, []
    for most in (2**30, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(memory, "MOST_RESIZED", most)
            source = load(name, image_size=size, train_limit=128)
        assert (source._images.shape[1] == size) == (most > 0 or size == spec_of(name).size)
        batches = [(b.images, b.targets) for b in source.epoch_batches(0, 0, 1, batch, recipe)]
        again = list(source.reestimation_batches(0, [recipe], 20, 7))
        found.append((batches, again, split_images(source, "val")))
    (batches, again, val), (other, others, other_val) = found
    assert len(batches) == len(other) and torch.equal(val, other_val) and same(again, others)
    assert all(same(one, two) for one, two in zip(batches, other, strict=True))


def fingerprints(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def split_images(source, split: str) -> torch.Tensor:
    return torch.cat([images for images, _ in source.eval_batches(split)])


# Catalogue


def test_catalogue_imports_neither_torch_nor_numpy():
    code = "import sys, wash_bench.data.catalog; print({'torch', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


def test_names_and_their_errors():
    assert {spec.name for spec in all_specs()} == {
        "digits", "fashion-mnist", "fashion-mini", "cifar10", "cifar100", "imagenet", "folder:PATH",
        "tar:PATH", "hfds/NAME", "hfds//PATH", "torch/NAME", "FILE.py:FUNCTION",
    }  # fmt: skip
    assert isinstance(spec_of("cifar10"), DatasetSpec)
    assert spec_of("folder:/data/birds").name == "folder:/data/birds"
    with pytest.raises(UsageError, match="did you mean 'cifar10'"):
        spec_of("cifar-10")
    with pytest.raises(UsageError, match="folder:PATH"):
        spec_of("folder:")
    assert not spec_of("digits").recipe.flip


def test_one_entry_adds_a_data_set(monkeypatch):
    def read_stripes(folder, download):
        images = np.tile(np.arange(40, dtype=np.uint8)[:, None, None], (1, 6, 6))
        return Arrays((images[:30], np.arange(30) % 2), (images[30:], np.arange(10) % 2))

    facts = {"name": "stripes", "classes": 2, "size": 6, "train_images": 30, "test_images": 10}
    added = replace(spec_of("digits"), reader=read_stripes, **facts)
    monkeypatch.setattr(catalog, "_SPECS", (*all_specs(), added))
    source = load("stripes", val_share=0.2)
    assert (source.train_size, source.val_size, source.test_size) == (24, 6, 10)
    assert (source.classes, source.size, source.channels) == (2, 6, 1)
    with pytest.raises(UsageError, match="did you mean 'stripes'"):
        spec_of("stripe")


# Splits


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=6),
    share=st.floats(0.02, 0.5),
    limit=st.integers(0, 40),
    val_limit=st.integers(0, 20),
    subset_seed=st.sampled_from(["fixed", "7", "seed"]),
    seed=st.integers(0, 5),
)
def test_validation_is_disjoint_and_stratified(counts, share, limit, val_limit, subset_seed, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    rule = SubsetRule(share, limit, val_limit, subset_seed)
    drawn = rule.draw(labels, seed)
    train, val = drawn["train"], drawn["val"]
    n = len(labels)
    assert sorted(np.concatenate(list(drawn.values()))) == list(range(n))
    assert len(val) == min(max(1, val_limit or round(n * share)), n - 1)
    rest = n - len(val)
    assert len(train) == (min(limit, rest) if limit else rest)
    # The validation images do not depend on the limit, nor on the seed unless that draws them.
    whole = SubsetRule(share, 0, val_limit, subset_seed)
    np.testing.assert_array_equal(val, whole.draw(labels, seed)["val"])
    if subset_seed != "seed":
        np.testing.assert_array_equal(train, rule.draw(labels, seed + 1)["train"])
    for k, count in enumerate(counts):
        assert abs((labels[val] == k).sum() - len(val) * count / n) < 1.01


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(1, 30), min_size=2, max_size=6), wanted=st.integers(1, 100))
def test_balanced_subsets_fill_the_classes_evenly(counts, wanted):
    labels = np.repeat(np.arange(len(counts)), counts)
    chosen = spread(labels, wanted, EVALUATION, balanced=True)
    assert len(set(chosen)) == len(chosen) == min(wanted, len(labels))
    got = np.bincount(labels[chosen], minlength=len(counts))
    for k, count in enumerate(counts):
        assert got[k] == count or got[k] >= got.max() - 1


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    count=st.integers(0, 60),
    balanced=st.booleans(),
    seed=st.integers(0, 9),
)
def test_a_subset_takes_its_share_of_each_class_in_shuffled_order(labels, count, balanced, seed):
    """Class by class, as the definition says; the function does it at once."""
    given = np.array(labels) * 3
    order = numpy_stream(seed, "split", EVALUATION).permutation(len(given))
    key = np.empty(len(given))
    for label in set(given):
        members = order[given[order] == label]
        rank = np.arange(len(members)) + 0.5
        key[members] = rank if balanced else rank / len(members)
    expected = order[np.argsort(key[order], kind="stable")[:count]]
    chosen = spread(given, count, EVALUATION, balanced=balanced, seed=seed)
    np.testing.assert_array_equal(chosen, np.sort(expected))


def test_digits_splits_are_disjoint_images_of_the_stated_sizes(digits):
    assert (digits.train_size, digits.val_size, digits.test_size) == (1372, 28, 397)
    train, val, test = (fingerprints(split_images(digits, s)) for s in ("train", "val", "test"))
    assert not train & val and not train & test and not val & test
    assert len(train) + len(val) + len(test) > 1790  # nearly all of the 1,797 are distinct
    counts = np.bincount(digits.split_labels["test"], minlength=10)
    assert counts.sum() == 397 and counts.min() >= 38 and counts.max() <= 41
    assert digits.test_size == spec_of("digits").test_images


def test_splits_do_not_depend_on_the_limit_and_the_limit_is_balanced(digits):
    limited = load("digits", train_limit=100)
    assert np.bincount(limited.split_labels["train"]).tolist() == [10] * 10
    assert torch.equal(split_images(limited, "val"), split_images(digits, "val"))
    assert torch.equal(split_images(limited, "test"), split_images(digits, "test"))
    assert fingerprints(split_images(limited, "train")) < fingerprints(
        split_images(digits, "train")
    )


def test_fashion_mini_is_balanced_and_has_the_declared_statistics():
    mini = load("fashion-mini")
    assert (mini.train_size + mini.val_size, mini.test_size) == (5000, 1000)
    assert np.bincount(mini.split_labels["test"]).tolist() == [100] * 10
    assert np.bincount(mini.split_labels["val"]).tolist() == [10] * 10
    images = split_images(mini, "train")  # of the whole Fashion-MNIST: 0 and 1
    assert images.shape[1:] == (1, 28, 28)
    assert abs(float(images.mean())) < 0.02 and abs(float(images.std()) - 1) < 0.02


# Batches


def test_an_epoch_is_a_permutation_of_the_training_set(digits):
    batches = list(digits.epoch_batches(0, 0, 0, 100, Recipe()))
    assert [len(b.images) for b in batches] == [100] * 13 + [72]
    assert len(batches) == digits.steps_per_epoch(100)
    seen = torch.cat([b.images for b in batches])
    whole = split_images(digits, "train")

    def ordered(images: torch.Tensor) -> list[bytes]:
        return sorted(image.numpy().tobytes() for image in images)

    assert ordered(seen) == ordered(whole) and not torch.equal(seen, whole)
    labels = torch.cat([b.targets for b in batches])
    assert labels.dtype == torch.int64
    np.testing.assert_array_equal(
        np.bincount(labels.numpy()), np.bincount(digits.split_labels["train"])
    )


@pytest.mark.parametrize("recipe", [Recipe(crop_padding=1), ALL_KNOBS], ids=["base", "all"])
def test_batches_depend_on_member_and_step_alone(digits, recipe):
    whole = list(digits.epoch_batches(3, 1, 2, 128, recipe))
    again = digits.epoch_batches(3, 1, 2, 128, recipe)
    assert all(same(a, b) for a, b in zip(again, whole, strict=True))
    # Members taking turns, and another process state, change nothing.
    torch.manual_seed(99)
    turns = zip(*(digits.epoch_batches(3, m, 2, 128, recipe) for m in range(3)), strict=True)
    assert all(same(step[1], b) for step, b in zip(turns, whole, strict=True))
    for other in ((4, 1, 2), (3, 0, 2), (3, 1, 3)):
        assert not torch.equal(
            next(digits.epoch_batches(*other, 128, recipe)).images, whole[0].images
        )


def test_batches_leave_the_global_stream_alone(digits):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    list(digits.epoch_batches(0, 0, 0, 500, ALL_KNOBS))
    assert torch.equal(torch.rand(3), expected)


def test_form_of_batches(digits):
    batch = next(digits.epoch_batches(0, 0, 0, 32, ALL_KNOBS))
    assert batch.images.shape == (32, 1, 8, 8) and batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.targets.shape == (32, 10) and batch.targets.dtype == torch.float32
    torch.testing.assert_close(batch.targets.sum(1), torch.ones(32))


def test_a_single_last_image_is_dropped_and_too_large_batches_refused():
    source = load("digits", train_limit=101)
    assert source.steps_per_epoch(50) == 2
    assert [len(b.images) for b in source.epoch_batches(0, 0, 0, 50, Recipe())] == [50, 50]
    assert source.steps_per_epoch(51) == 2
    assert source.steps_per_epoch(1) == 101
    assert source.steps_per_epoch(101) == 1
    with pytest.raises(UsageError, match=r"102 images is larger .* \(101 images\)"):
        source.steps_per_epoch(102)


def test_evaluation_is_fixed_and_limited_by_class(digits):
    once = list(digits.eval_batches("test", limit=100, batch_size=30))
    assert [len(labels) for _, labels in once] == [30, 30, 30, 10]
    again = list(digits.eval_batches("test", limit=100, batch_size=30))
    assert all(same(a, b) for a, b in zip(once, again, strict=True))
    counts = torch.bincount(torch.cat([labels for _, labels in once]), minlength=10)
    assert counts.min() >= 9 and counts.max() <= 11
    assert sum(len(labels) for _, labels in digits.eval_batches("test", limit=10_000)) == 397


def test_reestimation_cycles_the_recipes_over_the_training_set(digits):
    batches = list(digits.reestimation_batches(0, [Recipe()], 0, 128))
    assert sum(map(len, batches)) == digits.train_size
    assert fingerprints(torch.cat(batches)) == fingerprints(split_images(digits, "train"))
    assert sum(map(len, digits.reestimation_batches(0, [Recipe()], 300, 128))) == 300
    mixed = list(digits.reestimation_batches(0, [Recipe(), Recipe(mixup=1.0)], 0, 128))
    for j, (plain, other) in enumerate(zip(batches, mixed, strict=True)):
        assert torch.equal(plain, other) == (j % 2 == 0)
    assert not torch.equal(next(digits.reestimation_batches(1, [Recipe()], 0, 128)), batches[0])


def test_resizing_scales_the_padding_and_the_images():
    source = load("digits", image_size=16)
    assert source.size == 16 and source.recipe.crop_padding == 2
    assert next(source.eval_batches("val"))[0].shape == (28, 1, 16, 16)
    constant = torch.full((3, 8, 8, 1), 77, dtype=torch.uint8)
    assert torch.equal(resize_images(constant, 20), torch.full((3, 20, 20, 1), 77).byte())
    checker = (torch.arange(8).view(8, 1) + torch.arange(8)) % 2 * 200
    halved = resize_images(checker.byte().view(1, 8, 8, 1), 4)
    assert (
        halved[0, 1:3, 1:3].int() - 100
    ).abs().max() <= 1  # antialiased, no aliasing to 0 or 200
