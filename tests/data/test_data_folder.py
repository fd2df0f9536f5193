"""Folder data sets: their batches, their workers and their errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.images import class_folders
from wash_bench.config import TrainingConfig
from wash_bench.data import folder
from wash_bench.data.catalog import spec_of
from wash_bench.data.folder import FolderSource
from wash_bench.data.load import load_data
from wash_bench.data.recipe import Recipe
from wash_bench.data.scan import scan
from wash_bench.errors import UsageError, WashBenchError

CPU = torch.device("cpu")
MIXING = Recipe(flip=True, random_erasing=0.35, cutmix=1.0, label_smoothing=0.1)


@pytest.fixture
def birds(tmp_path):
    """Two classes, 12 + 4 images each, of uneven size; one is grey, one has a palette."""
    return class_folders(tmp_path, 12, 50, 40, names=("owl", "wren"), test_count=4, uneven=True)


def load(root, **options):
    config = TrainingConfig(dataset=f"folder:{root}", image_size=32, val_share=0.25, **options)
    return load_data(config, CPU)


@pytest.mark.parametrize(
    ("given", "like"),
    [
        ({}, {"crop_pct": 32 / 37.5, "interpolation": "bilinear"}),
        ({"crop_pct": 0.9, "interpolation": "bicubic"}, {}),
        ({"crop_pct": 1.0, "mean": "0.5,0.5,0.5", "std": "0.2,0.3,0.4"}, {}),
    ],
)
def test_test_images_are_those_of_timms_own_transform(birds, given, like):
    from timm.data import create_transform

    source = load(birds, **given)
    settings = {"interpolation": "bilinear", "mean": source.mean, "std": source.std} | given | like
    settings |= {"mean": source.mean, "std": source.std}
    transform = create_transform((3, 32, 32), **settings)
    (images, _), *_ = source.eval_batches("test")
    files = [birds / "val" / bird / f"{i}.png" for bird in ("owl", "wren") for i in range(4)]
    for image, path in zip(images, files, strict=True):
        with Image.open(path) as file:
            torch.testing.assert_close(image, transform(file.convert("RGB")), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"mean": "0.5"}, "3 channels"),
        ({"mean": "0.5,x,0.5"}, "one a channel"),
        ({"std": "0.5,0.5,0"}, "above 0"),
    ],
)
def test_a_mean_or_deviation_that_does_not_fit_is_refused(birds, given, part):
    with pytest.raises((UsageError, ValueError), match=part):
        load(birds, **given)


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_sizes_and_evaluation(birds):
    source = load(birds)
    assert (source.classes, source.channels, source.size) == (2, 3, 32)
    assert (source.train_size, source.val_size, source.test_size) == (18, 6, 8)
    assert np.bincount(source.split_labels["val"]).tolist() == [3, 3]
    images, labels = next(source.eval_batches("test"))
    assert labels.tolist() == [0] * 4 + [1] * 4
    assert images.is_contiguous(memory_format=torch.channels_last)
    # The first image by hand: shorter side to 32 * 256/224, then the central 32 pixels.
    with Image.open(birds / "val" / "owl" / "0.png") as file:
        resized = file.convert("RGB").resize((round(50 * 37 / 40 - 0.5), 37), Image.BILINEAR)
    left, top = round((resized.width - 32) / 2), round((37 - 32) / 2)
    crop = np.asarray(resized.crop((left, top, left + 32, top + 32))) / 255
    expected = (crop - np.array(source.mean)) / np.array(source.std)
    np.testing.assert_allclose(images[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_batches_resume_to_the_same_bits_and_are_augmented_per_epoch(birds):
    source = load(birds)
    whole = list(source.epoch_batches(0, 1, 2, 4, MIXING))
    assert len(whole) == source.steps_per_epoch(4) == 5
    again = load(birds).epoch_batches(0, 1, 2, 4, MIXING)
    assert all(same(a, b) for a, b in zip(again, whole, strict=True))
    assert whole[0].images.shape == (4, 3, 32, 32) and whole[0].targets.shape == (4, 2)
    for other in ((0, 0, 2), (0, 1, 3), (1, 1, 2)):
        assert not torch.equal(
            next(source.epoch_batches(*other, 4, MIXING)).images, whole[0].images
        )
    crops = [
        image.numpy().tobytes()
        for member, epoch in ((0, 0), (0, 1), (1, 0))
        for batch in source.epoch_batches(0, member, epoch, 4, Recipe())
        for image in batch.images
    ]
    assert len(crops) == len(set(crops)) == 3 * 18  # no crop of an image comes twice
    labels = torch.cat([b.targets for b in source.epoch_batches(0, 0, 0, 4, Recipe())])
    assert torch.bincount(labels).tolist() == [9, 9]


def test_workers_change_nothing_and_serve_members_in_turn(birds):
    options = {"val_share": 0.25, "image_size": 32}
    plain = load(birds)
    worked = FolderSource(spec_of(f"folder:{birds}"), scan(birds), CPU, workers=1, **options)
    for epoch in range(2):
        turns = zip(*(worked.epoch_batches(0, m, epoch, 9, MIXING) for m in (0, 1)), strict=True)
        alone = zip(*(plain.epoch_batches(0, m, epoch, 9, MIXING) for m in (0, 1)), strict=True)
        for step, expected in zip(turns, alone, strict=True):
            assert same(step[0], expected[0]) and same(step[1], expected[1])
    # An epoch left early, then another one on the same workers.
    next(worked.epoch_batches(0, 0, 5, 9, MIXING))
    again = list(worked.epoch_batches(0, 0, 6, 9, MIXING))
    expected = list(plain.epoch_batches(0, 0, 6, 9, MIXING))
    assert all(same(a, b) for a, b in zip(again, expected, strict=True))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(
    ("machine", "members", "expected"), [(16, 3, 5), (2, 5, 1), (256, 3, 16), (1, 3, 1)]
)
def test_members_share_the_cores(birds, monkeypatch, machine, members, expected):
    monkeypatch.setattr(folder, "cores", lambda: machine)
    monkeypatch.setattr(folder, "WORKERS_FROM", 1)
    config = TrainingConfig(
        dataset=f"folder:{birds}", val_share=0.25, image_size=32, population=members
    )
    source = load_data(config, CPU)
    assert source._new_loader(for_member=True)[0].num_workers == expected
    assert source._new_loader(for_member=False)[0].num_workers == max(expected, min(4, machine))


def test_two_passes_of_one_member_at_once_do_not_mix(birds):
    source = load(birds)
    first, second = (source.epoch_batches(0, 0, e, 6, MIXING) for e in (0, 1))
    pairs = list(zip(first, second, strict=True))
    for epoch in (0, 1):
        alone = source.epoch_batches(0, 0, epoch, 6, MIXING)
        assert all(same(pair[epoch], b) for pair, b in zip(pairs, alone, strict=True))


def test_reestimation_and_the_global_stream(birds):
    source = load(birds)
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    batches = list(source.reestimation_batches(0, [MIXING, Recipe()], 0, 5))
    list(source.epoch_batches(0, 0, 0, 5, MIXING))
    assert torch.equal(torch.rand(2), expected)
    assert sum(map(len, batches)) == 18
    again = source.reestimation_batches(0, [MIXING, Recipe()], 0, 5)
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))


def one_line(root) -> str:
    with pytest.raises(WashBenchError) as raised:
        load(root)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.fault(
    "Images and data sets", "a folder of images missing or empty", "one line that names it"
)
def test_missing_and_empty_folders(birds, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    assert f"no folder {empty / 'none'}" in one_line(empty / "none")
    assert f"no folder {empty / 'train'}" in one_line(empty)
    (empty / "train").mkdir()
    assert f"no folder {empty / 'val'}" in one_line(empty)
    (empty / "val").mkdir()
    assert "has no class folders" in one_line(empty)
    (birds / "train" / "gull").mkdir()
    assert f"{birds / 'train' / 'gull'} has no images" in one_line(birds)


@pytest.mark.fault(
    "Images and data sets",
    "classes that differ between train and test",
    "one line with the difference",
)
def test_classes_must_agree_and_be_two(birds):
    (birds / "val" / "wren").rename(birds / "val" / "kite")
    assert "'kite' is only in val/" in one_line(birds)
    (birds / "val" / "kite").rename(birds / "wren")
    (birds / "train" / "wren").rename(birds / "wren" / "more")
    assert "single class, 'owl'" in one_line(birds)


@pytest.mark.fault(
    "Images and data sets", "an image that cannot be opened", "named before training"
)
def test_broken_images_are_named_before_training(birds):
    (birds / "val" / "owl" / "3.png").write_text("no image")
    assert f"cannot read image {birds / 'val' / 'owl' / '3.png'}" in one_line(birds)


@pytest.mark.fault("Images and data sets", "an image that breaks off", "named when it is read")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image_is_named_when_it_is_read(birds, workers):
    path = birds / "train" / "owl" / "5.png"
    path.write_bytes(path.read_bytes()[:1500])
    source = FolderSource(
        spec_of(f"folder:{birds}"), scan(birds), CPU, val_share=0.05, image_size=32, workers=workers
    )
    with pytest.raises(WashBenchError, match=r"cannot read image .*owl/5\.png") as raised:
        list(source.epoch_batches(0, 0, 0, 4, Recipe()))
    assert "\n" not in str(raised.value)


def test_imagenet_wants_its_folder_and_a_thousand_classes(birds):
    with pytest.raises(UsageError, match="--data-dir"):
        load_data(TrainingConfig(dataset="imagenet"), CPU)
    with pytest.raises(WashBenchError, match=r"2 class folders, imagenet has 1000.*folder:"):
        load_data(TrainingConfig(dataset="imagenet", data_dir=str(birds)), CPU)


def test_random_crops_are_seeded_on_the_cpu_alone(birds, monkeypatch):
    files = load(birds)._files
    first = files[0, 7]
    assert not np.array_equal(first, files[0, 8])
    state = torch.get_rng_state()
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("visits every back end"))
    assert np.array_equal(files[0, 7], first)
    assert np.array_equal(torch.get_rng_state(), state)


def test_workers_are_started_once_a_member_and_once_for_all_else(birds, monkeypatch):
    from torch.utils.data import dataloader

    started = []
    first = dataloader._MultiProcessingDataLoaderIter.__init__

    def counted(self, loader):
        started.append(loader.num_workers)
        first(self, loader)

    monkeypatch.setattr(dataloader._MultiProcessingDataLoaderIter, "__init__", counted)
    options = {"val_share": 0.25, "image_size": 32, "workers": 1}
    source = FolderSource(spec_of(f"folder:{birds}"), scan(birds), CPU, **options)
    plain = load(birds)
    for epoch in range(3):
        for member in range(2):
            list(source.epoch_batches(0, member, epoch, 9, MIXING))
        for split in ("val", "test"):
            found, expected = (next(s.eval_batches(split)) for s in (source, plain))
            assert same(found, expected)
            assert torch.equal(source.eval_labels(split), expected[1])
        list(source.reestimation_batches(epoch, [Recipe()], 6, 3))
    assert started == [1] * 3
