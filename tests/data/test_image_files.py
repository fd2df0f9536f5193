"""Image files as people have them: deep, thin, behind links, broken; and what each becomes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support.images import class_folders
from wash_bench.config import fingerprint
from wash_bench.data.folder import ImageFiles
from wash_bench.data.pictures import rgb
from wash_bench.data.place import content_of, files_below
from wash_bench.data.scan import scan
from wash_bench.errors import WashBenchError


@pytest.mark.fault("Images and data sets", "pictures of 1, 8 or 16 bits", "the same brightness")
@given(st.integers(0, 255), st.integers(0, 255))
def test_pictures_of_any_depth_say_the_same(low: int, high: int) -> None:
    grey = np.tile(np.linspace(low, high, 16).round().astype(np.uint8), (4, 1))
    plain = np.asarray(Image.fromarray(grey).convert("RGB"))
    sixteen = grey.astype(np.uint16) * 257
    real = (grey / 255).astype(np.float32)
    for values in (sixteen, sixteen.astype(np.int32), real):
        np.testing.assert_array_equal(np.asarray(rgb(Image.fromarray(values))), plain)


@pytest.mark.fault("Images and data sets", "pictures of floating-point numbers", "refused by name")
def test_numbers_without_a_known_range_are_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 300.0, np.float32)).save(tmp_path / "depth.tif")
    (told,) = [ImageFiles([str(tmp_path / "depth.tif")], 8)[0, None]]
    assert isinstance(told, str) and "depth.tif" in told and "mode F" in told


@pytest.mark.fault(
    "Images and data sets",
    "a picture a thousand times as wide as high",
    "cut before it is enlarged: memory stays",
)
def test_a_strip_is_cut_before_it_is_enlarged(tmp_path: Path) -> None:
    """Its shorter side alone would bring the longer one to 160,000 pixels."""
    strip = np.zeros((2, 10_000, 3), np.uint8)
    strip[:, 4_999:5_001] = 255
    Image.fromarray(strip).save(tmp_path / "strip.png")
    image = ImageFiles([str(tmp_path / "strip.png")], 28)[0, None]
    assert image.shape == (28, 28, 3)
    assert image[:, 14].mean() > 200 > image[:, 0].mean()


def test_proportions_that_are_usual_are_resized_as_ever(tmp_path: Path) -> None:
    from torchvision.transforms import functional as F

    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (20, 150, 3), dtype=np.uint8))
    picture.save(tmp_path / "wide.png")
    expected = F.center_crop(F.resize(picture, [round(28 * 256 / 224)]), [28, 28])
    found = ImageFiles([str(tmp_path / "wide.png")], 28)[0, None]
    np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "pets", 4, 20, 20, names=("cat", "dog"), test_count=2)


@pytest.mark.fault(
    "Images and data sets",
    "links to folders of images",
    "followed; what lies behind them counts in the identity",
)
def test_links_to_folders_are_followed_and_what_lies_behind_them_counts(pets: Path) -> None:
    linked = pets.parent / "linked"
    for part in ("train", "val"):
        (linked / part).mkdir(parents=True)
        (linked / part / "cat").symlink_to(pets / part / "cat")
        (linked / part / "dog").mkdir()
        (linked / part / "dog" / "day1").symlink_to(pets / part / "dog")
    found = scan(linked)
    assert (len(found.train[0]), len(found.test[0])) == (8, 4)
    before = content_of(linked)
    (pets / "train" / "cat" / "0.png").unlink()
    assert content_of(linked) != before


@pytest.mark.fault("Images and data sets", "a link to a folder above", "each folder is read once")
def test_a_link_back_up_ends(pets: Path) -> None:
    (pets / "train" / "cat" / "again").symlink_to(pets / "train")
    names = [path.name for path in files_below(pets / "train")]
    assert sorted(names) == sorted([f"{i}.png" for i in range(4)] * 2)


def test_the_fingerprint_of_a_plain_folder_is_that_of_earlier_versions(pets: Path) -> None:
    files = [p for part in ("train", "val") for p in (pets / part).rglob("*") if p.is_file()]
    listed = sorted((p.relative_to(pets).as_posix(), p.stat().st_size) for p in files)
    assert content_of(pets) == fingerprint(listed)


@pytest.mark.fault("Images and data sets", "a test image that breaks off", "named before training")
def test_a_test_image_that_broke_off_is_named_before_training(pets: Path) -> None:
    path = pets / "val" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(WashBenchError, match=r"dog/1\.png"):
        scan(pets)
    shutil.copy(pets / "val" / "dog" / "0.png", path)
    scan(pets)
