"""What data sets there are: the facts about each, and its reader (imports no torch, no numpy)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from wash_bench.data.readers import (
    Arrays,
    read_cifar,
    read_digits,
    read_fashion_mini,
    read_fashion_mnist,
)
from wash_bench.data.recipe import CIFAR_GRID, IMAGENET_GRID, Recipe
from wash_bench.errors import UsageError, nearest
from wash_bench.python_file import is_in_file

FOLDER_PREFIX = "folder:"
TAR_PREFIXES = ("tar:", "wds:")
HUB, TORCHVISION = "hfds/", "torch/"
Reader = Callable[[Path | None, bool], Arrays]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One data set, as it is before any resizing.

    Attributes:
        name: how the user names it; ``folder:PATH`` for class folders.
        classes: number of classes K; None where the folder decides.
        channels: 1 (grey) or 3 (RGB).
        size: side of the square image in pixels.
        train_images: training images, the validation split included; None: the folder decides.
        test_images: test images; None: the folder decides.
        description: one line for listings.
        licence: terms of the data.
        source: where the images come from.
        recipe: base (homogeneous) augmentation at the native size.
        grid: values that heterogeneous recipes are drawn from.
        mean: per channel, of pixels in [0, 1].
        std: per channel, of pixels in [0, 1].
        reader: reads all images, given --data-dir and whether they may be downloaded; None: they
            lie in class folders and are read as they are used.
        class_names: of the classes, in the order of the labels; empty where they are not known.
        bundled: whether a package has the images, so that no folder is looked in.
    """

    name: str
    classes: int | None
    channels: int
    size: int
    train_images: int | None
    test_images: int | None
    description: str
    licence: str
    source: str
    recipe: Recipe
    grid: dict[str, tuple[float, ...]]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reader: Reader | None = None
    class_names: tuple[str, ...] = ()
    bundled: bool = False

    def root(self, data_dir: str | None) -> str | None:
        """The folder with train/ and val/, if the images lie in class folders and it was named."""
        if self.reader or is_external(self.name):
            return None
        own = self.name.startswith(FOLDER_PREFIX)
        return self.name.removeprefix(FOLDER_PREFIX) if own else data_dir


# Handwritten digits are not mirror-symmetric, so they are shifted only.
_DIGITS = DatasetSpec(
    name="digits",
    classes=10,
    channels=1,
    size=8,
    train_images=1400,
    test_images=397,
    description="handwritten digits, 8x8 grey; comes with wash-bench, nothing to download",
    licence="CC BY 4.0 (UCI repository)",
    source="UCI, Optical Recognition of Handwritten Digits, the test set, as in scikit-learn",
    recipe=Recipe(crop_padding=1),
    grid=CIFAR_GRID,
    mean=(0.3053,),
    std=(0.3759,),
    reader=read_digits,
    class_names=tuple("0123456789"),
    bundled=True,
)

# Practically every garment already reaches the border pixels of its 28x28 image: a shift by CIFAR's
# 4 pixels would cut off a seventh of it, 2 pixels cost at most one fourteenth.
_FASHION = DatasetSpec(
    name="fashion-mnist",
    classes=10,
    channels=1,
    size=28,
    train_images=60_000,
    test_images=10_000,
    description="articles of clothing, 28x28 grey (Xiao et al. 2017)",
    licence="MIT, (c) 2017 Zalando SE",
    source="Debian package dataset-fashion-mnist, files in --data-dir, or torchvision (--download)",
    recipe=Recipe(crop_padding=2, flip=True),
    grid=CIFAR_GRID,
    mean=(0.2860,),
    std=(0.3530,),
    reader=read_fashion_mnist,
    class_names=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
)

_FASHION_MINI = replace(
    _FASHION,
    name="fashion-mini",
    train_images=5000,
    test_images=1000,
    description="class-balanced part of Fashion-MNIST, 28x28 grey; comes with wash-bench",
    source="the first 500 training and 100 test images of each class, in the package",
    reader=read_fashion_mini,
    bundled=True,
)

_CIFAR10 = DatasetSpec(
    name="cifar10",
    classes=10,
    channels=3,
    size=32,
    train_images=50_000,
    test_images=10_000,
    description="objects and animals, 32x32 RGB (Krizhevsky 2009)",
    licence="not stated by its authors",
    source="torchvision.datasets.CIFAR10, files in --data-dir or --download",
    recipe=Recipe(crop_padding=4, flip=True),
    grid=CIFAR_GRID,
    # PAPA, data/cifar10.py: the standard deviations that it normalizes with.
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    reader=partial(read_cifar, "CIFAR10"),
    class_names=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
)

_CIFAR100 = replace(
    _CIFAR10,
    name="cifar100",
    classes=100,
    description="100 kinds of objects, 32x32 RGB (Krizhevsky 2009)",
    source="torchvision.datasets.CIFAR100, files in --data-dir or --download",
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    reader=partial(read_cifar, "CIFAR100"),
    class_names=(),
)

# Training images get a random resized crop by the loader, hence no padding in the recipe.
_FOLDER = DatasetSpec(
    name=FOLDER_PREFIX + "PATH",
    classes=None,
    channels=3,
    size=224,
    train_images=None,
    test_images=None,
    description="your own images: PATH/train/CLASS/* and PATH/val/CLASS/* (the test data)",
    licence="yours",
    source="torchvision.datasets.ImageFolder",
    recipe=Recipe(flip=True),
    grid=IMAGENET_GRID,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
)

_IMAGENET = replace(
    _FOLDER,
    name="imagenet",
    classes=1000,
    train_images=1_281_167,
    test_images=50_000,
    description="ImageNet-1k (ILSVRC 2012), 224x224 RGB; its val/ is the test data",
    licence="research use, by ImageNet's terms of access",
    source="class folders train/ and val/ in --data-dir (no download)",
)

_SPECS = (_DIGITS, _FASHION_MINI, _FASHION, _CIFAR10, _CIFAR100, _IMAGENET, _FOLDER)
_EXTERNAL = tuple(
    replace(_FOLDER, name=name, description=description, source=source)
    for name, description, source in (
        (
            "tar:PATH",
            "tar files: train.tar and val.tar, or shards; CLASS/NAME, or WebDataset's KEY.cls",
            "your files",
        ),
        ("hfds/NAME", "a data set of the Hugging Face hub", "its cache, or --download"),
        ("hfds//PATH", "one on the disk: parquet, arrow, an image folder", "your files"),
        ("torch/NAME", "a data set of torchvision, as timm calls it", "--data-dir, or --download"),
        (
            "FILE.py:FUNCTION",
            "FUNCTION(split) gives a torch.utils.data.Dataset of (image, label)",
            "your code",
        ),
    )
)


def is_external(dataset: str) -> bool:
    """Whether the images lie in no class folders and belong to no data set that is listed here."""
    return dataset.startswith((*TAR_PREFIXES, HUB, TORCHVISION)) or is_in_file(dataset)


def all_specs() -> tuple[DatasetSpec, ...]:
    """Every data set, the templates last."""
    return _SPECS + _EXTERNAL


def spec_of(name: str) -> DatasetSpec:
    """The data set of a name, a folder or a file; a UsageError gives the nearest names."""
    if name.startswith(FOLDER_PREFIX):
        if not name.removeprefix(FOLDER_PREFIX).strip():
            raise UsageError("data set 'folder:' lacks its path; write folder:PATH")
        return replace(_FOLDER, name=name)
    if is_external(name):
        return replace(_FOLDER, name=name)
    known = {spec.name: spec for spec in _SPECS if spec is not _FOLDER}
    if name not in known:
        raise UsageError(f"unknown data set {name!r}; {nearest(name, [*known, _FOLDER.name])}")
    return known[name]


def check_classes(chosen: Sequence[int], total: int | None, dataset: str) -> None:
    """Refuse, as a UsageError, a class that a data set of ``total`` classes does not have."""
    if chosen and total and max(chosen) >= total:
        raise UsageError(
            f"--classes: {dataset} has no class {max(chosen)}; its {total} are 0 to {total - 1}"
        )
