"""What the training loop and the evaluation ask of a data set.

Shapes: B images a batch, C channels, H = W = image side in pixels, K classes.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from torch import Tensor

from wash_bench.data.catalog import DatasetSpec
from wash_bench.data.paths import nfc
from wash_bench.data.recipe import Recipe
from wash_bench.data.splits import EVALUATION, SPLIT_SEED, SubsetRule, spread
from wash_bench.errors import UsageError
from wash_bench.seeds import torch_stream

Split = Literal["train", "val", "test", "rest"]
"""``rest``: what is neither trained, validated nor tested on, further test images."""


class Batch(NamedTuple):
    """One step's training data of one member.

    Attributes:
        images: (B, C, H, W) float32, channels-last, normalized, on the device.
        targets: (B,) int64 classes, or (B, K) float32 where the recipe mixes or smooths.
    """

    images: Tensor
    targets: Tensor


@dataclass(kw_only=True)
class DataSource(ABC):
    """One data set with its splits, on one device.

    Attributes:
        classes: K.
        channels: C.
        size: image side in pixels, after resizing.
        recipe: base (homogeneous) recipe, its padding scaled to ``size``.
        grid: values of heterogeneous recipes.
        mean: per channel, of pixels in [0, 1].
        std: per channel, of pixels in [0, 1].
        labels: (n + t,) class of each image, the n training and validation images first.
        pool: n.
        subset: which of the n are trained and validated on.
        shorter_side: pixels to which a test picture's shorter side is resized before the central
            crop of ``size``; 0 where there is no crop.
        interpolation: how pictures are resized.
        class_names: of the K classes, in the order of the labels; empty if they have none.
        notes: lines for the user, taken by who tells them.
    """

    classes: int
    channels: int
    size: int
    recipe: Recipe
    grid: dict[str, tuple[float, ...]]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: np.ndarray
    pool: int
    subset: SubsetRule
    shorter_side: int = 0
    interpolation: str = "bilinear"
    class_names: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    @staticmethod
    def facts_of(spec: DatasetSpec, size: int) -> dict[str, Any]:
        """Return the fields that a catalogue's entry gives, at an image side in pixels."""
        names = ("channels", "recipe", "grid", "mean", "std")
        return {name: getattr(spec, name) for name in names} | {"size": size}

    def __post_init__(self) -> None:
        self._draw(SPLIT_SEED)

    def _draw(self, seed: int) -> None:
        self.indices: dict[str, np.ndarray] = self.subset.draw(self.labels[: self.pool], seed)
        self.indices["test"] = np.arange(self.pool, len(self.labels))

    def for_seed(self, seed: int) -> Self:
        """Return the source with a run's own training and validation images."""
        if not self.subset.by_run:
            return self
        own = copy.copy(self)  # the images are shared
        own._draw(seed)
        return own

    def in_order(self, names: Sequence[str]) -> Self:
        """Return the same images, their labels in another order of the classes."""
        place = {nfc(name): label for label, name in enumerate(names)}
        own = copy.copy(self)
        own.class_names = tuple(names)
        own.labels = np.array([place[nfc(name)] for name in self.class_names])[self.labels]
        own.hold_labels()
        return own

    def hold_labels(self) -> None:  # noqa: B027 (a stand-in holds none)
        """Take ``labels`` to where batches are made."""

    @property
    def split_labels(self) -> dict[str, np.ndarray]:
        """The class of each image of each split, in the fixed order of the split."""
        return {split: self.labels[chosen] for split, chosen in self.indices.items()}

    @property
    def described(self) -> str:
        """How a test picture becomes the network's input, in words."""
        crop = f", the centre of {self.shorter_side}" if self.shorter_side > self.size else ""
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        return f"{self.size} px{crop}, {self.interpolation}; mean {mean}; deviation {std}"

    @property
    def train_size(self) -> int:
        """Training images, without those held out for validation."""
        return len(self.indices["train"])

    @property
    def val_size(self) -> int:
        """Validation images."""
        return len(self.indices["val"])

    @property
    def test_size(self) -> int:
        """Test images."""
        return len(self.indices["test"])

    def steps_per_epoch(self, batch_size: int) -> int:
        """Steps of one epoch; the last batch may be smaller, as in PAPA (``drop_last=False``)."""
        return len(batch_bounds(self.train_size, batch_size))

    @abstractmethod
    def epoch_batches(
        self,
        seed: int,
        member: int,
        epoch: int,
        batch_size: int,
        recipe: Recipe,
        order_member: int | None = None,
        first: int = 0,
    ) -> Iterator[Batch]:
        """Training batches of one member and epoch, from its step ``first`` on.

        What a batch holds depends on (seed, member, epoch, step), the recipe and ``order_member``
        alone: the member whose order of the images is followed, ``member`` itself by default. The
        augmentation is drawn for ``member`` in any case.
        """

    @abstractmethod
    def eval_batches(
        self, split: Split, limit: int = 0, batch_size: int = 500
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Un-augmented (B, C, H, W) images and (B,) int64 labels, always in the same order.

        ``limit`` > 0 takes a fixed subset of so many images with the split's class shares.
        """

    @abstractmethod
    def reestimation_batches(
        self, seed: int, recipes: Sequence[Recipe], images: int, batch_size: int
    ) -> Iterator[Tensor]:
        """Augmented training images, (B, C, H, W), for re-estimating BatchNorm statistics.

        Batch j is augmented, mixing included, by ``recipes[j % len(recipes)]``. ``images`` = 0, or
        more than there are, gives the training set once.
        """

    def order(self, seed: int, member: int, epoch: int) -> Tensor:
        """(train_size,) positions in the training split in the order of one member's epoch."""
        import torch

        return torch.randperm(self.train_size, generator=torch_stream(seed, "order", member, epoch))

    def eval_positions(self, split: Split, limit: int) -> np.ndarray:
        """Positions in the split of the images that ``eval_batches`` gives."""
        labels = self.labels[self.indices[split]]
        return spread(labels, limit, EVALUATION) if limit else np.arange(len(labels))

    def eval_labels(self, split: Split, limit: int = 0) -> Tensor:
        """(M,) int64 labels, on the CPU, of the images that ``eval_batches`` gives."""
        import torch

        chosen = self.indices[split][self.eval_positions(split, limit)]
        return torch.from_numpy(self.labels[chosen])

    def reestimation_plan(self, seed: int, images: int, batch_size: int) -> list[Tensor]:
        """Positions in the training split, one (B,) tensor a batch of re-estimation."""
        import torch

        order = torch.randperm(self.train_size, generator=torch_stream(seed, "reestimate"))
        order = order[: images or None]
        size = min(batch_size, len(order))
        return [order[start:end] for start, end in batch_bounds(len(order), size)]


def batch_bounds(n: int, batch_size: int) -> list[tuple[int, int]]:
    """First and past-the-end positions of the batches of ``n`` training images."""
    if batch_size > n:
        raise UsageError(
            f"batch of {batch_size} images is larger than the training data ({n} images); "
            "lower --batch-size or raise --train-limit"
        )
    bounds = [(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
    if batch_size > 1 and n % batch_size == 1:
        bounds.pop()
    return bounds
