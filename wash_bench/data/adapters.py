"""Images of data sets that lie in no class folders, as the loader takes them."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wash_bench.data.catalog import HUB, TAR_PREFIXES
from wash_bench.data.external import WHAT, Member, local_hub, tar_members, tar_root
from wash_bench.data.image import opened, rgb
from wash_bench.data.paths import TEST_PARTS
from wash_bench.data.scan import Folders, broken_image
from wash_bench.errors import UsageError, WashBenchError, one_line
from wash_bench.python_file import function_in_file, is_in_file


def read_external(dataset: str, data_dir: str | None, *, download: bool) -> Folders:
    """Find the images of a data set.

    Args:
        dataset: its name.
        data_dir: where torchvision or the hub's library keep their files; None for their defaults.
        download: whether they may be fetched.

    Returns:
        The images; ``open`` gives one.

    Raises:
        WashBenchError: they are not there, or are no images with labels.
    """
    try:
        if dataset.startswith(TAR_PREFIXES):
            found = _of_tar(tar_root(dataset))
        elif dataset.startswith(HUB):
            found = _of_hub(dataset, data_dir, download)
        else:
            found = _of_datasets(dataset, data_dir, download)
    except WashBenchError:
        raise
    except Exception as error:  # whatever a library or the user's own code runs into
        raise WashBenchError(f"data set {dataset}: {one_line(error)}") from error
    for tokens, labels in (found.train, found.test):
        if not len(labels):
            raise WashBenchError(f"data set {dataset} has a part without images")
        if wrong := {int(labels.min()), int(labels.max())} - set(range(len(found.classes))):
            raise WashBenchError(
                f"data set {dataset} has label {wrong.pop()}, but its {len(found.classes)} classes "
                f"are 0 to {len(found.classes) - 1}"
            )
        try:
            found.open(tokens[0])
        except Exception as error:
            raise WashBenchError(broken_image(f"{tokens[0]} of {dataset}", error)) from error
    if len(found.classes) < 2:
        raise WashBenchError(f"data set {dataset} has a single class; two are needed")
    return found


class TarImages:
    """Reads images at their places in tar files; can be sent to processes."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}  # descriptors

    def __call__(self, member: Member) -> Image.Image:
        if member.file not in self._files:
            self._files[member.file] = os.open(member.file, os.O_RDONLY)
        # pread has no place of its own, which threads and forks would share.
        data = os.pread(self._files[member.file], member.size, member.offset)
        if len(data) < member.size:
            raise OSError("the tar file ends within it")
        return rgb(opened(io.BytesIO(data)))

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": {}}


def _of_tar(root: Path) -> Folders:
    parts = [tar_members(root, names) for names in (("train",), TEST_PARTS)]
    named = [{member.label for member in part} for part in parts]
    if other := sorted(named[0] ^ named[1]):
        raise WashBenchError(f"{root}: class {other[0]!r} is in one of train and val alone")
    numbers = all(name.isdecimal() for name in named[0])
    classes = tuple(sorted(named[0], key=int if numbers else None))
    label_of = {name: label for label, name in enumerate(classes)}
    train, test = (
        (part, np.array([label_of[member.label] for member in part], dtype=np.int64))
        for part in (sorted(p, key=lambda m: label_of[m.label]) for p in parts)
    )
    return Folders(classes, train, test, TarImages())


def _of_hub(dataset: str, data_dir: str | None, download: bool) -> Folders:
    name = dataset.removeprefix(HUB)
    try:
        import datasets
    except ImportError:
        raise UsageError(f"{dataset} needs datasets: pip install 'wash-bench[hf]'") from None
    with _offline(not download):
        try:
            known = datasets.get_dataset_split_names(name)
            builder = datasets.load_dataset_builder(name, cache_dir=data_dir)
            features = (
                builder.info.features
                or datasets.load_dataset(name, split=known[0], cache_dir=data_dir).features
            )
        except Exception as error:  # of many libraries
            hint = "" if download or local_hub(dataset) else "; --download fetches it"
            raise UsageError(f"data set {dataset}: {one_line(error)}{hint}") from None
        image = next((k for k, kind in features.items() if isinstance(kind, datasets.Image)), None)
        label = next(
            (k for k, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None
        ) or next((k for k in ("label", "labels", "target") if k in features), None)
        if image is None or label is None:
            lacks = "image" if image is None else "label"
            raise UsageError(
                f"data set {dataset} has no {lacks} column: it has {', '.join(features)}"
            )
        test = next((part for part in TEST_PARTS if part in known), None)
        if "train" not in known or test is None:
            raise UsageError(
                f"data set {dataset} has the splits {', '.join(known)}; train and one of "
                f"{', '.join(TEST_PARTS)} are needed"
            )
        from timm.data.readers.reader_factory import create_reader

        readers = [
            create_reader(dataset, data_dir, part, input_key=image, target_key=label)
            for part in ("train", test)
        ]
    labels = [np.array(_column(reader, label), dtype=np.int64) for reader in readers]
    names = getattr(features[label], "names", None)
    classes = names or [str(number) for number in range(int(max(map(max, labels))) + 1)]
    train, tests = ([(i, k) for k in range(len(own))] for i, own in enumerate(labels))
    notes = () if test == TEST_PARTS[0] else (f"{dataset}: the test images are those of {test}",)
    return Folders(
        tuple(classes), (train, labels[0]), (tests, labels[1]), HubImages(readers), notes
    )


def _column(reader: Any, name: str) -> Sequence[int]:
    return reader.dataset[name]


class HubImages:
    """Reads images through timm's readers, of the training and of the test data."""

    def __init__(self, readers: Sequence[Any]) -> None:
        self._readers = readers

    def __call__(self, token: tuple[int, int]) -> Image.Image:
        part, index = token
        file, _ = self._readers[part][index]
        with file:
            return rgb(opened(file))


@contextlib.contextmanager
def _offline(offline: bool) -> Iterator[None]:
    """Keep the hub's libraries to their caches; they read the environment at their import."""
    places: list[Any] = [
        importlib.import_module(name) for name in ("datasets.config", "huggingface_hub.constants")
    ]
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = offline or place.HF_HUB_OFFLINE
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


# Map-style data sets --------------------------------------------------------------------------


def _of_datasets(dataset: str, data_dir: str | None, download: bool) -> Folders:
    if is_in_file(dataset):
        make = function_in_file(dataset, WHAT)
        parts = [make(split) for split in ("train", TEST_PARTS[0])]
    else:
        from timm.data.dataset_factory import create_dataset

        parts = [
            create_dataset(dataset, data_dir or "data", split, download=download)
            for split in ("train", "validation")
        ]
    for part in parts:
        if not hasattr(part, "__getitem__") or not hasattr(part, "__len__"):
            raise UsageError(
                f"data set {dataset}: a {type(part).__name__} is no map-style data set: it needs "
                "__len__ and __getitem__"
            )
    labels = [np.array(_labels(part), dtype=np.int64) for part in parts]
    named = getattr(parts[0], "classes", None)
    names = named if isinstance(named, list | tuple) else range(int(labels[0].max()) + 1)
    train, test = ([(i, k) for k in range(len(own))] for i, own in enumerate(labels))
    return Folders(
        tuple(map(str, names)), (train, labels[0]), (test, labels[1]), DatasetImages(parts)
    )


def _labels(part: Any) -> Iterable[int]:
    """The label of each item, from an attribute where there is one, else from the items."""
    for name in ("targets", "labels", "_labels"):
        values = getattr(part, name, None)
        if values is not None and len(values) == len(part):
            return [int(value) for value in values]
    return [int(part[index][1]) for index in range(len(part))]


class DatasetImages:
    """Reads images of map-style data sets, of the training and of the test data."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = parts

    def __call__(self, token: tuple[int, int]) -> Image.Image:
        part, index = token
        image = self._parts[part][index][0]
        return rgb(image if isinstance(image, Image.Image) else _picture(image))


def _picture(values: Any) -> Image.Image:
    """A tensor or array of uint8 as an image: (H, W), (1 or 3, H, W), or (H, W, 1 or 3)."""
    array = np.asarray(values)
    if array.dtype != np.uint8:
        raise ValueError(f"it is of type {array.dtype}: give uint8 from 0 to 255, or a PIL image")
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"its shape is {array.shape}: give (H, W) or (3, H, W)")
    return Image.fromarray(array)
