"""Data sets that fit in memory: one uint8 tensor on the device, augmented there."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from wash_bench.config import TrainingConfig
from wash_bench.data.augment import Draws, augment, mix, normalize
from wash_bench.data.catalog import DatasetSpec, spec_of
from wash_bench.data.device import to_device
from wash_bench.data.readers import Arrays
from wash_bench.data.recipe import Recipe
from wash_bench.data.source import Batch, DataSource, Split, batch_bounds
from wash_bench.data.splits import SubsetRule
from wash_bench.seeds import torch_stream

_RESIZE_CHUNK = 1000  # images; bounds the float copy that a resize makes
MOST_RESIZED = 2**30
"""Bytes of resized images that are kept; of more, each batch is resized when it is used."""
# Values of augmented images that a GPU makes at once: each of its kernels is launched for several
# batches. On a CPU a batch that was just made is still in the cache when it is used.
VALUES_AT_ONCE = {"cuda": 2**24}


class MemorySource(DataSource):
    """A ``DataSource`` whose images lie on the device; ``subset`` is a ``SubsetRule``'s fields."""

    def __init__(
        self,
        spec: DatasetSpec,
        arrays: Arrays,
        device: torch.device,
        *,
        image_size: int = 0,
        **subset: Any,
    ) -> None:
        assert spec.classes
        size = image_size or spec.size
        super().__init__(
            classes=spec.classes,
            **self.facts_of(scaled(spec, size), size),
            labels=arrays.labels,
            pool=arrays.train,
            subset=SubsetRule(**subset),
        )
        self.device = device
        self.values_at_once = VALUES_AT_ONCE.get(device.type, 0)
        images = torch.from_numpy(arrays.images)
        if len(images) * size**2 * self.channels <= MOST_RESIZED:
            images = resize_images(images, size)
        self._images = images.to(device)
        self.hold_labels()
        self._mean, self._std = (torch.tensor(v, device=device) for v in (spec.mean, spec.std))

    def hold_labels(self) -> None:
        self._labels = torch.from_numpy(self.labels).to(self.device)

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
        leader = member if order_member is None else order_member
        bounds = batch_bounds(self.train_size, batch_size)
        order = self._train_images(self.order(seed, leader, epoch))
        at_once = self._batches_at_once(recipe, batch_size)
        for begin in range(first, len(bounds), at_once):
            part = bounds[begin : begin + at_once]
            steps = range(epoch * len(bounds) + begin, epoch * len(bounds) + begin + len(part))
            streams = [torch_stream(seed, "augment", member, step) for step in steps]
            chosen = order[part[0][0] : part[-1][1]]
            yield from self._batches(chosen, recipe, streams, [end - start for start, end in part])

    def _batches_at_once(self, recipe: Recipe, batch_size: int) -> int:
        if recipe.auto_augment:  # it draws from one stream
            return 1
        return max(1, self.values_at_once // (batch_size * self.channels * self.size**2))

    def eval_batches(
        self, split: Split, limit: int = 0, batch_size: int = 500
    ) -> Iterator[tuple[Tensor, Tensor]]:
        positions = self.indices[split][self.eval_positions(split, limit)]
        chosen = torch.from_numpy(positions).to(self.device)
        for part in chosen.split(batch_size):
            yield normalize(self._images_at(part), self._mean, self._std), self._labels[part]

    def reestimation_batches(
        self, seed: int, recipes: Sequence[Recipe], images: int, batch_size: int
    ) -> Iterator[Tensor]:
        for j, positions in enumerate(self.reestimation_plan(seed, images, batch_size)):
            generator = torch_stream(seed, "reestimate", j)
            recipe, chosen = recipes[j % len(recipes)], self._train_images(positions)
            (batch,) = self._batches(chosen, recipe, [generator], [len(chosen)])
            yield batch.images

    def _train_images(self, positions: Tensor) -> Tensor:
        return to_device(torch.from_numpy(self.indices["train"])[positions], self.device)

    def _images_at(self, positions: Tensor) -> Tensor:
        """Return images (B, H, W, C) uint8 of the training's size."""
        return resize_images(self._images[positions], self.size)

    def _batches(
        self,
        chosen: Tensor,
        recipe: Recipe,
        streams: Sequence[torch.Generator],
        sizes: Sequence[int],
    ) -> Iterator[Batch]:
        """Batches of so many images each, one after another among the images ``chosen``."""
        draws = Draws(streams, sizes)
        images = augment(self._images_at(chosen), recipe, self._mean, self._std, draws)
        parts = zip(images.split(sizes), self._labels[chosen].split(sizes), streams, strict=True)
        for own, labels, stream in parts:
            yield Batch(*mix(own, labels, recipe, self.classes, stream))


def scaled(spec: DatasetSpec, size: int) -> DatasetSpec:
    """Return a data set's entry with the recipe's padding in proportion to an image side."""
    padding = spec.recipe.crop_padding
    if not padding or size == spec.size:
        return spec
    padding = max(1, round(padding * size / spec.size))
    return replace(spec, recipe=spec.recipe.but(crop_padding=padding))


def resize_images(images: Tensor, size: int) -> Tensor:
    """(n, H, W, C) uint8 to side ``size`` in pixels, bilinear with antialiasing."""
    if images.shape[1:3] == (size, size):
        return images
    parts = [
        resize(part.permute(0, 3, 1, 2), [size, size], antialias=True).permute(0, 2, 3, 1)
        for part in images.split(_RESIZE_CHUNK)
    ]
    return torch.cat(parts).contiguous()


class SyntheticSource(DataSource):
    """A data set of which only the catalogue's numbers are known: noise, made batch by batch."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        spec = spec_of(config.dataset)
        assert spec.train_images and spec.test_images and spec.classes
        size = config.image_size or spec.size
        super().__init__(
            classes=len(config.chosen_classes) or spec.classes,
            **self.facts_of(scaled(spec, size), size),
            labels=np.zeros(spec.train_images + spec.test_images, int),
            pool=spec.train_images,
            subset=SubsetRule.of(config),
        )
        self.device = device

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
        for step in range(first, self.steps_per_epoch(batch_size)):
            generator = torch_stream(seed, "augment", member, epoch, step)
            images = self._noise(batch_size, generator)
            labels = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
            yield Batch(*mix(images, labels, recipe, self.classes, generator))

    def eval_batches(
        self, split: Split, limit: int = 0, batch_size: int = 500
    ) -> Iterator[tuple[Tensor, Tensor]]:
        raise NotImplementedError("a stand-in has no images to evaluate on")

    def reestimation_batches(
        self, seed: int, recipes: Sequence[Recipe], images: int, batch_size: int
    ) -> Iterator[Tensor]:
        raise NotImplementedError("a stand-in has no images to re-estimate on")

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        shape = (count, self.channels, self.size, self.size)
        images = torch.randn(shape, generator=generator).to(self.device)
        return images.contiguous(memory_format=torch.channels_last)


def can_synthesize(config: TrainingConfig) -> bool:
    """Whether the catalogue knows enough: no folder of the user's, and all classes."""
    spec = spec_of(config.dataset)
    return bool(spec.train_images and not config.chosen_classes and config.data_dir is None)
