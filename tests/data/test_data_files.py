"""The files of the small sets: Fashion-MNIST's idx, CIFAR's batches, and damaged ones."""

from __future__ import annotations

import gzip
import pickle

import numpy as np
import pytest
import torch
from torchvision import datasets

from wash_bench.config import TrainingConfig
from wash_bench.data import readers
from wash_bench.data.catalog import spec_of
from wash_bench.data.load import load_data
from wash_bench.errors import WashBenchError

CPU = torch.device("cpu")


def load(name: str, **options):
    return load_data(TrainingConfig(dataset=name, **options), CPU)


def split_images(source, split: str) -> torch.Tensor:
    return torch.cat([images for images, _ in source.eval_batches(split)])


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()


def write_fashion(folder, zipped: bool) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    made = {}
    for split, n in (("train", 40), ("t10k", 20)):
        made[split] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        for stem, array in (("images-idx3", made[split]), ("labels-idx1", labels)):
            data = idx(array)
            name = f"{split}-{stem}-ubyte" + (".gz" if zipped else "")
            (folder / name).write_bytes(gzip.compress(data) if zipped else data)
    return made


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No Debian package and an empty cache."""
    monkeypatch.setattr(readers, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("layout", [("", True), ("FashionMNIST/raw", False), ("raw", True)])
def test_fashion_files_in_each_layout(nowhere, layout):
    below, zipped = layout
    made = write_fashion(nowhere / "data" / below, zipped)
    source = load("fashion-mnist", data_dir=str(nowhere / "data"), val_share=0.25)
    assert (source.train_size, source.val_size, source.test_size) == (30, 10, 20)
    test = split_images(source, "test")[:, 0].numpy() * source.std[0] + source.mean[0]
    np.testing.assert_allclose(test * 255, made["t10k"], atol=1e-3)


def test_fashion_falls_back_to_debian_and_then_names_both_fixes(nowhere):
    with pytest.raises(WashBenchError, match=r"apt-get install dataset-fashion-mnist.*--download"):
        load("fashion-mnist")
    write_fashion(nowhere / "debian", True)
    assert load("fashion-mnist", val_share=0.25).test_size == 20
    with pytest.raises(WashBenchError, match=f"not in {nowhere}"):  # not read from elsewhere
        load("fashion-mnist", data_dir=str(nowhere))


@pytest.mark.fault(
    "Images and data sets", "damaged files of Fashion-MNIST", "one line that names the file"
)
def test_damaged_idx_files_are_named(tmp_path):
    good = idx(np.zeros((2, 3), np.uint8))
    cases = {"short": good[:-1], "type": b"\x00\x00\x0d" + good[3:], "empty": b"", "head": good[:6]}
    for name, data in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(WashBenchError, match=f"{name} is damaged"):
            readers.read_idx(path)
    (tmp_path / "broken.gz").write_bytes(gzip.compress(good)[:-9])
    with pytest.raises(WashBenchError, match=r"cannot read .*broken\.gz"):
        readers.read_idx(tmp_path / "broken.gz")


def write_cifar(root, name: str, monkeypatch) -> np.ndarray:
    """Batches in CIFAR's own format, and torchvision's class with its checksums cleared."""
    rng = np.random.default_rng(1)
    base = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    key = "labels" if name == "cifar10" else "fine_labels"
    classes = 10 if name == "cifar10" else 100
    folder = root / base.base_folder
    folder.mkdir()
    planes = None
    for file, _ in [*base.train_list, *base.test_list]:
        planes = rng.integers(0, 256, (classes, 3 * 32 * 32), dtype=np.uint8)
        with (folder / file).open("wb") as out:
            pickle.dump({"data": planes, key: list(range(classes))}, out)
    with (folder / base.meta["filename"]).open("wb") as out:
        pickle.dump({base.meta["key"]: [str(k) for k in range(classes)]}, out)

    cleared = {
        "train_list": [[file, None] for file, _ in base.train_list],
        "test_list": [[file, None] for file, _ in base.test_list],
        "meta": base.meta | {"md5": None},
    }
    monkeypatch.setattr(datasets, base.__name__, type(base.__name__, (base,), cleared))
    return planes  # of the last file written, the test batch


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_in_its_own_format(tmp_path, monkeypatch, name):
    planes = write_cifar(tmp_path, name, monkeypatch)
    source = load(name, data_dir=str(tmp_path), val_share=0.2)
    classes = spec_of(name).classes
    total = 50 if name == "cifar10" else 100
    assert (source.train_size, source.val_size) == (total * 8 // 10, total // 5)
    images, labels = next(source.eval_batches("test"))
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (source.mean, source.std))
    expected = (planes.reshape(-1, 3, 32, 32) / 255 - mean) / std
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-5)
    assert labels.tolist() == list(range(classes))


@pytest.mark.fault(
    "Images and data sets", "a data set that is not there", "one line with both ways to get it"
)
def test_missing_cifar_names_the_fix(tmp_path):
    with pytest.raises(WashBenchError, match=r"CIFAR-10 is not in .*--data-dir, or add --download"):
        load("cifar10", data_dir=str(tmp_path))


def test_unreadable_mini_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "data" / "files").mkdir(parents=True)
    (tmp_path / "data" / "files" / "fashion_mini.npz").write_bytes(b"not a zip file")
    monkeypatch.setattr(readers, "files", lambda _: tmp_path)
    with pytest.raises(WashBenchError, match="install wash-bench again"):
        readers.read_fashion_mini(None, False)
