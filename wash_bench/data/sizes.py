"""How many training images and steps a configuration has, told without loading the images."""

import math

from wash_bench.config import TrainingConfig
from wash_bench.data.catalog import spec_of
from wash_bench.data.splits import SubsetRule


def steps_per_epoch(config: TrainingConfig) -> int:
    """Optimizer steps an epoch, as ``DataSource.steps_per_epoch`` has them."""
    # Where only the images themselves tell their number, they are loaded.
    total = spec_of(config.dataset).train_images
    if total is None or config.chosen_classes:
        import torch

        from wash_bench.data.load import load_data

        return load_data(config, torch.device("cpu")).steps_per_epoch(config.batch_size)
    images, _ = split_sizes(config, total)
    # A last batch of a single image is left out.
    return math.ceil(images / config.batch_size) - (images % config.batch_size == 1 < images)


def split_sizes(config: TrainingConfig, total: int) -> tuple[int, int]:
    """Return the training and validation images of ``total``, as ``SubsetRule`` draws them."""
    held_out = SubsetRule.of(config).validation_images(total)
    rest = total - held_out
    return min(rest, config.train_limit or rest), held_out


def steps(config: TrainingConfig) -> int:
    """Optimizer steps of the whole training."""
    return config.epochs * steps_per_epoch(config)
