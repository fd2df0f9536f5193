"""Random images with a data set's shape and counts, so that a plan can be made without its data."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from wash_bench.config import TrainingConfig
from wash_bench.data.catalog import spec_of
from wash_bench.data.counts import subset_of
from wash_bench.data.memory import scale_recipe
from wash_bench.data.mix import mix
from wash_bench.data.recipe import Recipe
from wash_bench.data.source import Batch, DataSource, Split
from wash_bench.seeds import torch_stream


class StandIn(DataSource):
    """A data set of which only the catalogue's numbers are known: noise, made batch by batch."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        spec = spec_of(config.dataset)
        assert spec.train_images and spec.test_images and spec.classes
        size = config.image_size or spec.size
        super().__init__(
            classes=len(config.chosen_classes) or spec.classes,
            channels=spec.channels,
            size=size,
            recipe=scale_recipe(spec.recipe, spec.size, size),
            grid=spec.grid,
            mean=spec.mean,
            std=spec.std,
            labels=np.zeros(spec.train_images + spec.test_images, int),
            pool=spec.train_images,
            subset=subset_of(config),
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
    ) -> Iterator[Batch]:
        for step in range(self.steps_per_epoch(batch_size)):
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


def can_stand_in(config: TrainingConfig) -> bool:
    """Whether the catalogue knows enough: no folder of the user's, and all classes."""
    spec = spec_of(config.dataset)
    return bool(spec.train_images and not config.chosen_classes and config.data_dir is None)
