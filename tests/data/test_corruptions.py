"""Corrupted test images: each rule restated naively, the published files, a run and its report."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage

from tests.support.command import command
from tests.support.runs import entries_of, records_of
from tests.support.shared_folder import made_once
from wash_bench.config import EvaluationConfig, RunConfig
from wash_bench.config.run import CORRUPTIONS, GROUPS, SEVERITIES, spelled_out
from wash_bench.data.corruptions import kinds
from wash_bench.data.corruptions.corrupt import SMALLEST, corrupt
from wash_bench.data.corruptions.published import Published
from wash_bench.data.corruptions.severities import CIFAR, IMAGENET, TINY, strengths
from wash_bench.data.readers import read_digits
from wash_bench.errors import UsageError
from wash_bench.evaluate.corrupted import BATCH, CorruptedImages
from wash_bench.metrics import OF_CORRUPTIONS
from wash_bench.report.read import frames
from wash_bench.report.tables.main_table import main_tables
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.runner.training_setup import TrainingSetup


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pictures(count: int = 3, side: int = 24, channels: int = 3) -> np.ndarray:
    """Smooth in part, so that blurs and JPEG have something to keep."""
    draw = stream(side).random((count, side, side, channels))
    return ndimage.gaussian_filter(draw, (0, 1.5, 1.5, 0)) * 0.9


def test_there_are_fifteen_with_five_strengths_for_each_size() -> None:
    assert len(CORRUPTIONS) == 15 == len(set(CORRUPTIONS))
    for table in (CIFAR, TINY, IMAGENET):
        assert tuple(table) == CORRUPTIONS
        assert all(len(values) == 5 for values in table.values())
    assert [strengths(side) for side in (28, 32, 64, 224)] == [CIFAR, CIFAR, TINY, IMAGENET]
    assert spelled_out(["blur", "fog", "glass_blur"]) == (*GROUPS["blur"], "fog")
    assert spelled_out(["all"]) == CORRUPTIONS


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("side", "channels"), [(SMALLEST, 1), (28, 1), (33, 3), (64, 3), (130, 3)])
def test_every_corruption_gives_pictures_that_its_arguments_alone_decide(
    name: str, side: int, channels: int
) -> None:
    pixels = (pictures(2, side, channels) * 255).astype(np.uint8)
    for severity in (1, 5):
        found = corrupt(pixels, name, severity, 3)
        assert found.shape == pixels.shape and found.dtype == np.uint8
        assert np.array_equal(found, corrupt(pixels.copy(), name, severity, 3))
        if name not in ("elastic_transform", "glass_blur", "zoom_blur", "pixelate", "motion_blur"):
            assert not np.array_equal(found, pixels)
    drawn = name not in ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate",
                         "jpeg_compression")  # fmt: skip
    assert np.array_equal(corrupt(pixels, name, 5, 4), found) != drawn


def test_noise_has_the_strength_that_the_tables_say() -> None:
    grey = np.full((4, 64, 64, 3), 0.5)
    assert np.std(kinds.gaussian_noise(grey, 0.08, stream()) - grey) == pytest.approx(
        0.08, rel=0.02
    )
    shot = kinds.shot_noise(grey, 50, stream())
    assert np.var(shot) == pytest.approx(0.5 / 50, rel=0.05)  # Poisson: the mean over the photons
    assert np.allclose(shot * 50, np.round(shot * 50))
    salted = kinds.impulse_noise(grey, 0.2, stream())
    assert np.mean(salted == 0) == pytest.approx(0.1, abs=0.01)
    assert np.mean(salted == 1) == pytest.approx(0.1, abs=0.01)
    assert np.mean(salted == 0.5) == pytest.approx(0.8, abs=0.01)


def _mirrored(at: int, side: int) -> int:
    return -at if at < 0 else 2 * (side - 1) - at if at >= side else at


@pytest.mark.parametrize("strength", [(0.4, 0.5), (1.5, 0.1), (3, 0.1), (9, 0.5)])
def test_defocus_is_the_mean_over_a_soft_disk(strength: tuple[float, float]) -> None:
    radius, softness = strength
    x, reach = pictures(1, 24), 8 if radius <= 8 else int(radius)  # the published kernel's sides
    side = 2 * reach + 1
    disk = [[float((a - reach) ** 2 + (b - reach) ** 2 <= radius**2) for b in range(side)]
            for a in range(side)]  # fmt: skip
    width = 1 if radius <= 8 else 2
    taps = {(a, b): math.exp(-(a * a + b * b) / (2 * softness**2))
            for a in range(-width, width + 1) for b in range(-width, width + 1)}  # fmt: skip
    total = sum(taps.values()) * sum(map(sum, disk))
    soft = np.zeros((side, side))
    for a in range(side):
        for b in range(side):
            for (down, right), weight in taps.items():
                value = disk[_mirrored(a + down, side)][_mirrored(b + right, side)]
                soft[a, b] += weight * value / total
    expected = np.zeros_like(x[0])
    for h in range(24):
        for w in range(24):
            for a in range(side):
                for b in range(side):
                    if soft[a, b]:
                        at = _mirrored(h + a - reach, 24), _mirrored(w + b - reach, 24)
                        expected[h, w] += soft[a, b] * x[0][at]
    np.testing.assert_allclose(kinds.defocus_blur(x, strength, stream())[0], expected, atol=1e-5)


def test_glass_copies_neighbours_pixel_by_pixel() -> None:
    x, (sigma, reach, rounds) = pictures(2, 12), (0.4, 2, 2)
    found = kinds.glass_blur(x, (sigma, reach, rounds), stream(7))
    places = range(12 - reach, reach, -1)
    size = (rounds, len(places), len(places), 2, 2)
    steps = stream(7).integers(-reach, reach, size=size, dtype=np.int8).astype(int)
    for image in range(2):
        blurred = ndimage.gaussian_filter(x[image], (sigma, sigma, 0), mode="nearest")
        pixels = [[[math.floor(v * 255) for v in pixel] for pixel in row] for row in blurred]
        for turn in range(rounds):
            for i, h in enumerate(places):
                for j, w in enumerate(places):
                    down, right = steps[turn, i, j, :, image]
                    pixels[h][w] = list(pixels[h + down][w + right])
        expected = ndimage.gaussian_filter(
            np.array(pixels) / 255, (sigma, sigma, 0), mode="nearest"
        )
        np.testing.assert_allclose(found[image], expected, atol=1e-12)


def test_motion_is_a_trail_of_falling_weight_to_one_side() -> None:
    x = np.zeros((1, 41, 41, 1))
    x[0, 20, 20] = 1
    trail = kinds._trail(x, 6, 2.0, np.array([0.0]))[0, :, :, 0]
    weights = [math.exp(-(i**2) / 8) for i in range(13)]
    expected = np.array(weights) / sum(weights)
    np.testing.assert_allclose(trail[20, 20:7:-1], expected, atol=1e-12)  # taps look right
    assert trail.sum() == pytest.approx(1) and np.count_nonzero(trail) == 13
    steep = kinds._trail(x, 6, 2.0, np.array([90.0]))[0, :, :, 0]
    np.testing.assert_allclose(steep.T, trail, atol=1e-12)
    flat = np.full((2, 16, 16, 3), 0.3)  # the border goes on beyond the picture
    np.testing.assert_allclose(kinds.motion_blur(flat, (9, 2.5), stream()), flat)


def test_zoom_is_the_mean_of_enlargements() -> None:
    x, (end, step) = pictures(2, 24), (1.26, 0.01)
    expected, count = x.copy(), 1
    for factor in np.arange(1, end, step):
        kept = math.ceil(24 / factor)
        first = (24 - kept) // 2
        for image in range(2):
            middle = x[image, first : first + kept, first : first + kept]
            large = ndimage.zoom(middle, (factor, factor, 1), order=1)
            trim = (large.shape[0] - 24) // 2
            expected[image] += large[trim : trim + 24, trim : trim + 24]
        count += 1
    found = kinds.zoom_blur(x, (end, step), stream())
    np.testing.assert_allclose(found, expected / count, atol=1e-5)


def test_brightness_is_hsv_s_value_and_contrast_the_distance_to_the_mean() -> None:
    x = pictures(2)
    x[0, 0, 0] = 0  # black has no hue
    hsv = rgb_to_hsv(x)
    hsv[..., 2] = np.clip(hsv[..., 2] + 0.3, 0, 1)
    np.testing.assert_allclose(kinds.brightness(x, 0.3, stream()), hsv_to_rgb(hsv), atol=1e-12)
    found = kinds.contrast(x, 0.4, stream())
    np.testing.assert_allclose(found.mean(axis=(1, 2)), x.mean(axis=(1, 2)))
    np.testing.assert_allclose(found.std(axis=(1, 2)), 0.4 * x.std(axis=(1, 2)))


def test_pillow_s_corruptions_are_pillow_s() -> None:
    pixels = (pictures(2, 32) * 255).astype(np.uint8)
    for image, found in zip(pixels, corrupt(pixels, "jpeg_compression", 5, 0), strict=True):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=40)
        assert np.array_equal(found, np.asarray(Image.open(file)))
    for image, found in zip(pixels, corrupt(pixels, "pixelate", 5, 0), strict=True):
        small = Image.fromarray(image).resize((20, 20), Image.Resampling.BOX)  # 0.65 of 32
        assert np.array_equal(found, np.asarray(small.resize((32, 32), Image.Resampling.BOX)))


def test_elastic_moves_nothing_at_no_strength_and_smoothly_otherwise() -> None:
    x = pictures(2)
    np.testing.assert_allclose(kinds.elastic_transform(x, (0, 0, 0), stream()), x, atol=1e-12)
    flat = np.full((2, 24, 24, 3), 0.7)
    moved = kinds.elastic_transform(flat, (0.1, 0.03, 0.03), stream())
    np.testing.assert_allclose(moved, flat, atol=1e-12)  # the border is mirrored, not black


def test_fog_keeps_the_brightest_value_and_fields_span_the_unit_interval() -> None:
    field = kinds._plasma(stream(), 3, 28, 2.0)
    assert field.shape == (3, 28, 28) and field.min() >= 0 and field.max() <= 1
    whole = kinds._plasma(stream(), 3, 32, 2.0)
    np.testing.assert_allclose(whole.min(axis=(1, 2)), 0)
    np.testing.assert_allclose(whole.max(axis=(1, 2)), 1)
    # Neighbours are more alike the faster the wobble decays.
    rough, smooth = (np.abs(np.diff(kinds._plasma(stream(), 3, 64, d))).mean() for d in (1.2, 3.0))
    assert smooth < rough / 2
    x = pictures(2)
    assert (kinds.fog(x, (1.5, 1.75), stream()).max(axis=(1, 2, 3)) <= x.max(axis=(1, 2, 3))).all()


def test_snow_is_the_same_turned_round_on_a_dark_picture() -> None:
    dark = np.zeros((1, 32, 32, 1))
    found = kinds.snow(dark, CIFAR["snow"][4], stream())
    np.testing.assert_allclose(found, found[:, ::-1, ::-1])
    assert found.min() == pytest.approx(0.2 * 0.5) and found.max() > 0.3


# The data ---------------------------------------------------------------------------------------


def test_the_pixels_of_normalized_images_come_back(tiny: RunConfig) -> None:
    training = tiny.training.model_copy(update={"image_size": 8})
    data = TrainingSetup.of(training).data
    images = CorruptedImages(data, EvaluationConfig(corruptions=("fog",)))
    arrays = read_digits(None, False)
    expected = arrays.images[arrays.train :]
    at = 0
    for number, clean, labels in images.batches():
        assert number == at // BATCH
        pixels = expected[at : at + len(clean)]
        found = images.corrupted(number, clean, "fog", 2)
        mean, std = data.mean[0], data.std[0]
        back = (found * std + mean).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(back, corrupt(pixels, "fog", 2, number))
        assert labels.tolist() == arrays.labels[arrays.train + at :][: len(labels)].tolist()
        at += len(clean)
    assert at == 397


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A folder of CIFAR-10-C's form, with 6 test images."""
    labels = np.array([3, 1, 4, 1, 5, 9])
    images = stream().integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "fog.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    return tmp_path, images, labels


def test_published_files_are_read_by_severity(published) -> None:
    folder, images, labels = published
    files = Published(folder, ["fog"], labels)
    assert np.array_equal(files.images("fog", 1, np.array([0, 5])), images[[0, 5]])
    assert np.array_equal(files.images("fog", 4, np.array([2])), images[[20]])


@pytest.mark.fault(
    "Images and data sets",
    "`--corruption-dir` with files that are missing, of other data, or no arrays",
    "one line that names the file, before anything is trained",
)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "fog.npy").unlink(), "fog.npy is not there"),
        (lambda folder: np.save(folder / "fog.npy", np.zeros((30, 32, 32))), "holds float64"),
        (lambda folder: (folder / "fog.npy").write_bytes(b"\x93NUMPY"), "no array of numpy"),
        (lambda folder: np.save(folder / "fog.npy", np.array([{}]), allow_pickle=True),
         "no array of numpy"),
        (lambda folder: np.save(folder / "labels.npy", np.zeros(30)), "not the labels"),
        (lambda folder: np.save(folder / "labels.npy", np.zeros(7)), "not the labels"),
    ],
)  # fmt: skip
def test_other_files_are_refused(published, change, words: str) -> None:
    folder, _, labels = published
    change(folder)
    with pytest.raises(UsageError, match=words):
        Published(folder, ["fog"], labels)


@pytest.mark.fault(
    "Options and presets", "`--corruptions`, its severities or folder that cannot work", "one line"
)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--corruptions", "nose"], "did you mean 'noise'"),
        (["--corruptions", "fog", "--corruption-severities", "1,6"], "different numbers of 1 to 5"),
        (["--corruptions", "fog", "--corruption-severities", "2,2"], "2 is given twice"),
        (["--corruptions", "fog", "--corruption-dir", "."], "32 px in colour"),
        (["--corruptions", "fog", "--image-size", "7"], "8 px or more"),
    ],
)
def test_what_cannot_work_is_refused_before_training(
    tmp_path: Path, capsys, options: list[str], words: str
) -> None:
    out = tmp_path / "out"
    code, _, err = command(
        capsys, "run", "digits", *options, "--jobs", "1", "--methods", "wash", "--out", str(out)
    )
    assert code == 2 and words in err
    assert not list(out.glob("trainings/*"))


# A run ------------------------------------------------------------------------------------------

ASKED = {"corruptions": ("gaussian_noise", "contrast"), "corruption_severities": (1, 5),
         "corruption_images": 60}  # fmt: skip
RULES = ("wash", "papa", "greedy-soup", "naive-ensemble")


@pytest.fixture(scope="module")
def run(tiny_module: RunConfig, tmp_path_factory) -> Path:
    evaluation = tiny_module.evaluation.model_copy(update=ASKED)
    config = tiny_module.model_copy(update={"evaluation": evaluation})

    def make(out: Path) -> None:
        run_experiment(config, entries_of(*RULES), RunContext(out=out, threads=1))

    return made_once(tmp_path_factory, "corrupted", make)


@pytest.mark.slow
def test_a_run_measures_each_network_under_each(run: Path) -> None:
    record = records_of(run)["wash", 0]
    (path,) = run.glob("trainings/wash-*/corruption-*.csv")
    table = pd.read_csv(path)
    networks = ["member", "ensemble", "average", "average_bn"]
    assert len(table) == 2 * 2 * 4 and list(table["network"].unique()) == networks
    assert (table["images"] == 60).all()
    for network in networks:
        own = table[table["network"] == network]
        summary = record["summary"]
        assert summary[f"corrupted_{network}_acc"] == pytest.approx(own["accuracy"].mean())
        assert summary[f"corrupted_{network}_nll"] == pytest.approx(own["loss"].mean())
    assert record["config"]["evaluation"]["corruptions"] == list(ASKED["corruptions"])
    assert {m.key for m in OF_CORRUPTIONS} == {k for k in record["summary"] if "corrupted" in k}


@pytest.mark.slow
def test_eval_gives_the_same_numbers_for_the_average(run: Path, capsys) -> None:
    cell = records_of(run)["wash", 0]["cell_id"]
    code, out, err = command(
        capsys, "eval", cell, "--runs", str(run), "--network", "averaged", "--json",
        "--threads", "1",
        "--corruptions", "contrast,gaussian_noise", "--corruption-severities", "1,5",
        "--corruption-images", "60",
    )  # fmt: skip
    assert code == 0, err
    (path,) = run.glob("trainings/wash-*/corruption-*.csv")
    table = pd.read_csv(path)
    table = table[table["network"] == "average"]
    found = pd.DataFrame(json.loads(out)["corruptions"])
    for column in ("corruption", "severity", "images"):
        assert found[column].tolist() == table[column].tolist()
    assert found["accuracy"].tolist() == table["accuracy"].tolist()
    np.testing.assert_allclose(found["loss"], table["loss"], rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.slow
def test_the_methods_own_model_is_measured_too(run: Path, capsys, rule: str) -> None:
    record = records_of(run)[rule, 0]
    own = {score: record["summary"][f"corrupted_method_{score}"] for score in ("acc", "nll")}
    if rule == "naive-ensemble":
        assert own["acc"] == record["summary"]["corrupted_ensemble_acc"]
        return
    code, out, err = command(
        capsys, "eval", record["cell_id"], "--runs", str(run), "--network", "delivered", "--json",
        "--threads", "1", "--corruptions", "contrast,gaussian_noise",
        "--corruption-severities", "1,5", "--corruption-images", "60",
    )  # fmt: skip
    assert code == 0, err
    found = pd.DataFrame(json.loads(out)["corruptions"])
    assert own["acc"] == pytest.approx(found["accuracy"].mean())
    assert own["nll"] == pytest.approx(found["loss"].mean())


@pytest.mark.slow
def test_the_report_has_table_columns_and_figure(run: Path, tmp_path: Path, capsys) -> None:
    records = frames.load([run])
    assert len(records.corruption) == 3 * 16  # two methods read one training
    (table,) = main_tables(records)
    for heading in ("averaged", "ensemble", "delivered"):
        heading += ", corrupted images"
        assert heading in table.columns
    code, _, err = command(
        capsys, "report", str(run), "--out", str(tmp_path), "--figures", "corruption"
    )
    assert code == 0, err
    names = {path.name for path in tmp_path.iterdir()}
    assert {"corruption.csv", "corruption.png", "corruption.svg"} <= names


def test_without_them_identities_and_tables_are_as_before() -> None:
    assert not any(key.startswith("corrupt") for key in EvaluationConfig().identity())
    told = EvaluationConfig(corruptions=("noise",), corruption_dir="/somewhere").identity()
    assert told["corruptions"] == list(GROUPS["noise"])
    assert told["corruption_dir"] == "published"
    assert told["corruption_severities"] == list(SEVERITIES)
