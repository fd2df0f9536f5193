"""How one member sees its training images, and the draw of heterogeneous regularization."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, replace
from typing import Any

from wash_bench.seeds import numpy_stream


@dataclass(frozen=True, slots=True)
class Recipe:
    """Augmentation and regularization of one member.

    Attributes:
        crop_padding: zero padding in pixels before a random crop to the old size (0: no crop).
        flip: horizontal flip with probability 1/2.
        auto_augment: AutoAugment's CIFAR-10 policy, before normalization.
        cutout: side in pixels of one square set to the mean, centre anywhere (0: off).
        random_erasing: probability of erasing one box, after normalization.
        mixup: alpha of Beta(alpha, alpha), one lambda a batch (0: off).
        cutmix: alpha of CutMix's Beta, one box a batch (0: off).
        label_smoothing: s; the off-value is s/K and the on-value 1 - s + s/K.
    """

    crop_padding: int = 0
    flip: bool = False
    auto_augment: bool = False
    cutout: int = 0
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0

    def but(self, **changes: Any) -> Recipe:
        """The same recipe with some fields changed."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


# PAPA, scripts/paper_gradual_experiments.sh: the values whose Cartesian product is drawn from.
CIFAR_GRID = {
    "mixup": (0.0, 0.5, 1.0),
    "label_smoothing": (0.0, 0.05, 0.10),
    "cutmix": (0.0, 0.5, 1.0),
    "random_erasing": (0.0, 0.15, 0.35),
}
IMAGENET_GRID = CIFAR_GRID | {"mixup": (0.0, 0.1, 0.2)}


def draw_recipes(
    base: Recipe, n: int, seed: int, augment: str, grid: dict[str, tuple[float, ...]] = CIFAR_GRID
) -> list[Recipe]:
    """The recipes of ``n`` members, fixed for the whole training.

    Args:
        base: the data set's own recipe (crop and flip only).
        n: number of members.
        seed: the run's seed.
        augment: ``homogeneous`` gives everybody ``base``; ``heterogeneous`` shuffles the 81
            combinations of ``grid`` once with the seed and gives combination i mod 81 to member i
            (PAPA, main.py:444-456).
        grid: the values of each field that is drawn.

    Returns:
        The recipe of each member.
    """
    if augment == "homogeneous":
        return [base] * n
    combinations = list(itertools.product(*grid.values()))
    order = numpy_stream(seed, "recipes").permutation(len(combinations))
    return [
        base.but(**dict(zip(grid, combinations[order[i % len(order)]], strict=True)))
        for i in range(n)
    ]
