"""Image files as people have them: deep, thin, behind links, broken; and what each becomes."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.images import class_folders
from wash_bench.config import fingerprint
from wash_bench.data.folder import ImageFiles
from wash_bench.data.image import RANGES, rgb
from wash_bench.data.paths import ENDINGS, TEST_PARTS, content_of, earlier_content_of, parts_of
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
    train, _ = parts_of(pets)
    assert {len(paths) for paths in train.images.values()} == {4, 8}


def test_images_end_as_torchvision_takes_them() -> None:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    assert set(ENDINGS) == set(IMG_EXTENSIONS)


def test_images_are_listed_in_torchvisions_order(pets: Path) -> None:
    from torchvision.datasets import ImageFolder

    for more in ("a", "b/c", "B", "1", "10", "2"):
        folder = pets / "train" / "cat" / more
        folder.mkdir(parents=True)
        shutil.copy(pets / "train" / "dog" / "0.png", folder)
    theirs = ImageFolder(str(pets / "train"))
    paths, labels = scan(pets).train
    assert (list(paths), labels.tolist()) == tuple(map(list, zip(*theirs.samples, strict=True)))


def test_the_fingerprint_of_a_plain_folder_is_that_of_earlier_versions(pets: Path) -> None:
    files = [p for part in ("train", "val") for p in (pets / part).rglob("*") if p.is_file()]
    listed = sorted((p.relative_to(pets).as_posix(), p.stat().st_size) for p in files)
    assert earlier_content_of(pets) == fingerprint(listed)


@pytest.mark.fault(
    "Images and data sets", "the same images at another path", "the same data: nothing is retrained"
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_images_alone_decide_the_fingerprint(pets: Path, data: st.DataObject) -> None:
    before = content_of(pets)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / data.draw(st.sampled_from(["pets", "x y", "d\udce9"]))
        shutil.copytree(pets, copy)
        (copy / "val").rename(copy / data.draw(st.sampled_from(TEST_PARTS)))
        places = ["", "train", "train/cat", "train/dog/.ipynb_checkpoints", "train/.hidden"]
        names = [".DS_Store", "Thumbs.db", "README.txt", "._0.png", "notes", "a.jpg.part"]
        for place in data.draw(st.lists(st.sampled_from(places))):
            (copy / place).mkdir(exist_ok=True)
            (copy / place / data.draw(st.sampled_from(names))).write_text("no image")
        assert content_of(copy) == before
        assert [len(images) for images, _ in (scan(copy).train, scan(copy).test)] == [8, 4]
        image = copy / "train" / data.draw(st.sampled_from(["cat/0.png", "dog/3.png"]))
        match data.draw(st.sampled_from(["grown", "renamed", "moved", "gone", "further"])):
            case "grown":
                image.write_bytes(image.read_bytes() + b"x")
            case "renamed":
                image.rename(image.with_name("other.png"))
            case "moved":
                image.rename(copy / "train" / "dog" / "9.png")
            case "gone":
                image.unlink()
            case "further":
                shutil.copy(image, image.with_suffix(".jpg"))
        assert content_of(copy) != before


@pytest.mark.fault("Images and data sets", "class folders in two Unicode forms", "the same class")
def test_a_class_has_one_name_in_both_unicode_forms(pets: Path) -> None:
    for part, form in (("train", "NFD"), ("val", "NFC")):
        (pets / part / "cat").rename(pets / part / normalize(form, "zo\u00e9"))
    found = scan(pets)
    assert found.classes == ("dog", normalize("NFD", "zo\u00e9"))
    assert found.test[1].tolist() == [0, 0, 1, 1]
    assert all("dog" in path for path in found.test[0][:2])
    (pets / "train" / normalize("NFC", "zo\u00e9")).mkdir()
    with pytest.raises(WashBenchError, match="Unicode form only"):
        scan(pets)


@pytest.mark.fault("Images and data sets", "images of other endings", "a line that counts them")
def test_files_that_are_left_out_are_counted_by_their_endings(pets: Path) -> None:
    assert scan(pets).notes == ()
    for name in ("a.jfif", "b.JFIF", "c.gif", "d", "e.txt", ".f.gif"):
        (pets / "train" / "cat" / name).touch()
    (pets / "test").mkdir()
    left_out, parts = scan(pets).notes
    assert "4 files left out" in left_out
    assert "(2 .jfif, 1 .gif, 1 without an ending)" in left_out
    assert "those of val/; test/ not read" in parts


@pytest.mark.fault(
    "Images and data sets", "grey pictures of 10, 12 or 14 bits", "one range for all"
)
@pytest.mark.parametrize("kind", [np.uint16, np.int32])
@pytest.mark.parametrize("top", RANGES)
def test_the_greatest_value_of_all_pictures_is_their_white(
    pets: Path, kind: type, top: int
) -> None:
    for part, name, share in (("train", "cat", 1.0), ("train", "dog", 0.1), ("val", "cat", 0.5)):
        for path in (pets / part / name).glob("*.png"):
            ramp = np.linspace(0, share * top, 48).round().astype(kind)
            Image.fromarray(np.tile(ramp, (40, 1))).save(path.with_suffix(".tif"))
            path.unlink()
    found = scan(pets)
    for (paths, labels), label, share in (
        (found.train, 0, 1.0), (found.train, 1, 0.1), (found.test, 0, 0.5)
    ):  # fmt: skip
        image = np.asarray(found.open(paths[labels.tolist().index(label)]))
        assert abs(int(image.max()) - round(255 * share)) <= 1 and image.min() == 0
    beyond = top + 1 if top < RANGES[-1] or kind is np.int32 else None
    if beyond:
        Image.fromarray(np.full((8, 8), beyond, kind)).save(pets / "deep.tif")
        with pytest.raises(ValueError, match="where white is"):
            found.open(str(pets / "deep.tif"))


@pytest.mark.fault(
    "Images and data sets", "a .png that holds PostScript", "no picture; nothing runs"
)
def test_no_other_program_reads_a_picture(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", None)
    path = pets / "train" / "cat" / "0.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 24\nshowpage\n")
    with pytest.raises(WashBenchError, match=r"cat/0\.png.*cannot identify"):
        scan(pets)


@pytest.mark.fault("Images and data sets", "a test image that breaks off", "named before training")
def test_a_test_image_that_broke_off_is_named_before_training(pets: Path) -> None:
    path = pets / "val" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(WashBenchError, match=r"dog/1\.png"):
        scan(pets)
    shutil.copy(pets / "val" / "dog" / "0.png", path)
    scan(pets)
