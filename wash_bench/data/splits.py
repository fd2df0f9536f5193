"""Parts of a data set: validation split, class-balanced subsets, subsets for evaluation.

The images that are trained and validated on are drawn by a constant seed, as in the papers, or by
the run's seed, so that several seeds show how much depends on the draw. Every method at one seed
has the same images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wash_bench.seeds import numpy_stream

if TYPE_CHECKING:
    from wash_bench.config import TrainingConfig

# PAPA splits off its validation data with this generator seed (data/data.py).
SPLIT_SEED = 666

# Counters of the stream ``split``, one for each use, so that the uses are independent.
VALIDATION, TRAIN_LIMIT, EVALUATION, DIGITS_TEST = range(4)


def spread(
    labels: np.ndarray, count: int, use: int, *, balanced: bool = False, seed: int = SPLIT_SEED
) -> np.ndarray:
    """Indices of ``count`` images spread over the classes, ascending.

    Args:
        labels: (n,) class of each image.
        count: images wanted; n or more gives all.
        use: one of the constants above.
        balanced: equal counts for all classes as far as they have images; otherwise counts in
            proportion to the classes' sizes, to within one image.
        seed: of the draw.

    Returns:
        The indices, int64.
    """
    labels = np.asarray(labels)
    n = len(labels)
    if count >= n:
        return np.arange(n)
    order = numpy_stream(seed, "split", use).permutation(n)
    key = np.empty(n)
    members = order[np.argsort(labels[order], kind="stable")]  # class by class
    counts = np.unique(labels, return_counts=True)[1]
    sizes = np.repeat(counts, counts)
    rank = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts) + 0.5
    key[members] = rank if balanced else rank / sizes
    # Stable on the shuffled order: equal keys of different classes are ranked at random.
    chosen = order[np.argsort(key[order], kind="stable")[:count]]
    return np.sort(chosen)


@dataclass(frozen=True)
class SubsetRule:
    """Which images are trained and validated on.

    Attributes:
        val_share: share of all images for validation, stratified (PAPA's is a plain random draw),
            at least one image and at most all but one.
        train_limit: class-balanced training images of those that are left, so that the validation
            split does not depend on it; 0 keeps all.
        val_limit: validation images in place of the share; 0 for the share.
        subset_seed: ``seed`` to draw by each run's seed, ``fixed`` or a number to draw once.
    """

    val_share: float
    train_limit: int = 0
    val_limit: int = 0
    subset_seed: str = "fixed"

    @classmethod
    def of(cls, config: TrainingConfig) -> SubsetRule:
        """Return which images a configuration trains and validates on."""
        return cls(config.val_share, config.train_limit, config.val_limit, config.subset_seed)

    @property
    def by_run(self) -> bool:
        """Whether each seed of a run has images of its own."""
        return self.subset_seed == "seed"

    def validation_images(self, total: int) -> int:
        """Return how many of ``total`` images are held out."""
        return min(max(1, self.val_limit or round(total * self.val_share)), total - 1)

    def draw(self, labels: np.ndarray, seed: int = SPLIT_SEED) -> dict[str, np.ndarray]:
        """Split the images that are not test data.

        Args:
            labels: (n,) class of each image.
            seed: the run's seed, where the images are drawn by it.

        Returns:
            Ascending indices of the images of ``train``, ``val`` and ``rest``, which are neither.
        """
        if not self.by_run:
            seed = SPLIT_SEED if self.subset_seed == "fixed" else int(self.subset_seed)
        n = len(labels)
        val = spread(labels, self.validation_images(n), VALIDATION, seed=seed)
        train = np.setdiff1d(np.arange(n), val, assume_unique=True)
        if self.train_limit:
            among = np.asarray(labels)[train]
            train = train[spread(among, self.train_limit, TRAIN_LIMIT, balanced=True, seed=seed)]
        used = np.concatenate([train, val])
        rest = np.setdiff1d(np.arange(n), used, assume_unique=True)
        return {"train": train, "val": val, "rest": rest}
