"""Images in tar files, parquet, torchvision and own data sets: the bits of a class folder."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import wash_bench as wb
from tests.support.images import class_folders
from wash_bench.config import TrainingConfig
from wash_bench.data.load import load_data
from wash_bench.errors import UsageError, WashBenchError

CLASSES = ("Zebra", "ant")
OWN = """
from pathlib import Path
import numpy as np
import torch
from PIL import Image

ROOT = Path({root!r})

class Images:
    classes = ("Zebra", "ant")

    def __init__(self, split):
        self.files = [f for name in self.classes for f in sorted((ROOT / split / name).iterdir())]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        file = self.files[index]
        return self.form(Image.open(file)), self.classes.index(file.parent.name)

    def form(self, image):
        return image

class Tensors(Images):
    def form(self, image):
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

class Floats(Tensors):
    def form(self, image):
        return super().form(image) / 255

class Wide(Images):
    classes = ("Zebra", "ant")

    def __getitem__(self, index):
        return super().__getitem__(index)[0], 7

def streams(split):
    return iter(())

def fails(split):
    raise KeyError(split)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("images") / "pets"
    return class_folders(root, 24, 40, 36, names=CLASSES, test_count=9)


def files_of(folder: Path, split: str) -> list[Path]:
    return sorted(path for path in (folder / split).rglob("*.png"))


def to_tar(folder: Path, out: Path) -> str:
    out.mkdir()
    for split in ("train", "val"):
        with tarfile.open(out / f"{split}.tar", "w") as tar:
            for path in reversed(files_of(folder, split)):  # the order within does not count
                tar.add(path, path.relative_to(folder / split))
    return f"tar:{out}"


def to_webdataset(folder: Path, out: Path) -> str:
    out.mkdir()
    for split in ("train", "val"):
        paths = files_of(folder, split)
        for shard in range(3):
            with tarfile.open(out / f"{split}-{shard:04d}.tar", "w") as tar:
                for number, path in list(enumerate(paths))[shard::3]:
                    tar.add(path, f"{number:05d}.png")
                    text = path.parent.name.encode()
                    info = tarfile.TarInfo(f"{number:05d}.cls")
                    info.size = len(text)
                    tar.addfile(info, io.BytesIO(text))
    return f"wds:{out}"


def to_parquet(folder: Path, out: Path) -> str:
    datasets = pytest.importorskip("datasets", reason="pip install 'wash-bench[hf]'")
    features = datasets.Features(
        {"img": datasets.Image(), "kind": datasets.ClassLabel(names=list(CLASSES))}
    )
    for split, name in (("train", "train"), ("val", "validation")):
        paths = files_of(folder, split)
        rows = {
            "img": [{"bytes": p.read_bytes(), "path": None} for p in paths],
            "kind": [CLASSES.index(p.parent.name) for p in paths],
        }
        table = datasets.Dataset.from_dict(rows, features=features)
        (out / "data").mkdir(parents=True, exist_ok=True)
        table.to_parquet(str(out / "data" / f"{name}-00000-of-00001.parquet"))
    return f"hfds/{out}"


def to_file(name: str) -> Callable[[Path, Path], str]:
    def write(folder: Path, out: Path) -> str:
        out.mkdir()
        (out / "own.py").write_text(OWN.format(root=str(folder)))
        return f"{out}/own.py:{name}"

    return write


FORMS: dict[str, Callable[[Path, Path], str]] = {
    "tar": to_tar,
    "webdataset": to_webdataset,
    "parquet": to_parquet,
    "own data set of images": to_file("Images"),
    "own data set of tensors": to_file("Tensors"),
    "torchvision": lambda folder, out: "torch/image_folder",
}


def source_of(dataset: str, data_dir: str | None = None):
    config = TrainingConfig(
        dataset=dataset, data_dir=data_dir, image_size=16, val_share=0.2, population=2, batch_size=8
    )
    return load_data(config, torch.device("cpu"))


def batches_of(source) -> list[torch.Tensor]:
    found = []
    for epoch in range(3):
        for batch in source.epoch_batches(0, 1, epoch, 8, source.recipe):
            found += [batch.images, batch.targets]
    for split in ("val", "test"):
        for batch in source.eval_batches(split):
            found += batch
    return found


@pytest.mark.parametrize("form", FORMS)
def test_batches_are_those_of_the_class_folder(form: str, folder: Path, tmp_path: Path) -> None:
    dataset = FORMS[form](folder, tmp_path / "form")
    data_dir = str(folder) if dataset.startswith("torch/") else None
    expected, found = source_of(f"folder:{folder}"), source_of(dataset, data_dir)
    assert found.class_names == expected.class_names == CLASSES
    assert all(map(torch.equal, batches_of(found), batches_of(expected)))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tar", "parquet", "own data set of images"])
def test_workers_give_the_same_batches(form, folder, tmp_path, monkeypatch) -> None:
    from wash_bench.data import folder as loader

    dataset = FORMS[form](folder, tmp_path / "form")
    alone = batches_of(source_of(dataset))
    monkeypatch.setattr(loader, "WORKERS_FROM", 1)
    assert all(map(torch.equal, batches_of(source_of(dataset)), alone))


SHORT = {
    "image_size": 16, "val_share": 0.2, "batch_size": 8, "population": 2, "device": "cpu",
    "threads": 1, "seeds": 0, "barrier_points": 3, "barrier_images": 8, "bn_images": 16,
    "barrier_bn_images": 16, "epochs": 1, "methods": "wash", "model": "test_resnet",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tar", "parquet", "own data set of images"])
def test_a_copy_elsewhere_resumes_without_training(form, folder, tmp_path) -> None:
    dataset = FORMS[form](folder, tmp_path / "form")
    ran = wb.run(dataset=dataset, out=tmp_path / "runs", **SHORT)
    assert len(ran.outcome.finished) == 1
    shutil.move(tmp_path / "form", tmp_path / "moved")
    again = wb.run(dataset=dataset.replace("/form", "/moved"), out=tmp_path / "runs", **SHORT)
    assert again.outcome.finished == [] and again.outcome.cached == ran.outcome.finished
    record = json.loads(next((tmp_path / "runs" / "cells").glob("*.json")).read_text())
    assert tmp_path.name not in record["cell_id"]


def _broken_tar(folder: Path, out: Path) -> str:
    name = to_tar(folder, out)
    data = (out / "train.tar").read_bytes()
    (out / "train.tar").write_bytes(data[: len(data) // 2 + 100])
    return name


def _flat_tar(folder: Path, out: Path) -> str:
    out.mkdir()
    for split in ("train", "val"):
        with tarfile.open(out / f"{split}.tar", "w") as tar:
            for path in files_of(folder, split):
                tar.add(path, path.name)
    return f"tar:{out}"


def _no_image(folder: Path, out: Path) -> str:
    datasets = pytest.importorskip("datasets", reason="pip install 'wash-bench[hf]'")
    out.mkdir()
    for split in ("train", "validation"):
        table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
        table.to_parquet(str(out / f"{split}-00000-of-00001.parquet"))
    return f"hfds/{out}"


def _of_the_hub(folder: Path, out: Path) -> str:
    pytest.importorskip("datasets", reason="pip install 'wash-bench[hf]'")
    return "hfds/nobody/has-this-one"


WRONG: dict[str, tuple[Callable[[Path, Path], str], str]] = {
    "a broken member": (_broken_tar, "write it anew"),
    "no classes": (_flat_tar, "has no folder of its class above it"),
    "no tar": (lambda folder, out: f"tar:{out}", "train.tar"),
    "no image column": (_no_image, "has no image column: it has text, label"),
    "no folder": (lambda folder, out: f"hfds/{out}", "there is no folder"),
    "not in the cache": (_of_the_hub, "--download fetches it"),
    "float tensors": (to_file("Floats"), "give uint8 from 0 to 255"),
    "labels beyond the classes": (to_file("Wide"), "has label 7, but its 2 classes are 0 to 1"),
    "a stream": (to_file("streams"), "is no map-style data set"),
    "an exception": (to_file("fails"), "KeyError 'train'"),
    "no function": (to_file("nothing"), "has no function 'nothing'"),
    "no file": (lambda folder, out: f"{out}/own.py:Images", "does not exist"),
    "no torchvision name": (lambda folder, out: "torch/nothing", "torch/nothing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_data_set_is_refused_in_one_line_before_training(case, folder, tmp_path) -> None:
    make, text = WRONG[case]
    dataset = make(folder, tmp_path / "form")
    with pytest.raises((UsageError, WashBenchError)) as error:
        wb.run(dataset=dataset, out=tmp_path / "runs", **SHORT)
    assert text in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "runs").glob("cells/*"))


def test_grey_and_palette_images_become_colour(tmp_path: Path) -> None:
    uneven = class_folders(tmp_path / "uneven", 6, 30, 30, names=CLASSES, uneven=True)
    expected = source_of(f"folder:{uneven}")
    found = source_of(to_tar(uneven, tmp_path / "tars"))
    assert all(map(torch.equal, batches_of(found), batches_of(expected)))
    assert np.unique(found.labels).tolist() == [0, 1]
