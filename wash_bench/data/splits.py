"""Fixed parts of a data set: validation split, class-balanced subsets, subsets for evaluation.

All are drawn with one constant seed, never with the run's, so that every run of every method
selects and reports on the same images.
"""

import numpy as np

from wash_bench.seeds import numpy_stream

# PAPA splits off its validation data with this generator seed (data/data.py).
SPLIT_SEED = 666

# Counters of the stream ``split``, one for each use, so that the uses are independent.
VALIDATION, TRAIN_LIMIT, EVALUATION, DIGITS_TEST = range(4)


def spread(labels: np.ndarray, count: int, use: int, *, balanced: bool = False) -> np.ndarray:
    """Indices of ``count`` images spread over the classes, ascending.

    Args:
        labels: (n,) class of each image.
        count: images wanted; n or more gives all.
        use: one of the constants above.
        balanced: equal counts for all classes as far as they have images; otherwise counts in
            proportion to the classes' sizes, to within one image.

    Returns:
        The indices, int64.
    """
    labels = np.asarray(labels)
    n = len(labels)
    if count >= n:
        return np.arange(n)
    order = numpy_stream(SPLIT_SEED, "split", use).permutation(n)
    key = np.empty(n)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank = np.arange(len(members)) + 0.5
        key[members] = rank if balanced else rank / len(members)
    # Stable on the shuffled order: equal keys of different classes are ranked at random.
    chosen = order[np.argsort(key[order], kind="stable")[:count]]
    return np.sort(chosen)


def train_and_validation(
    labels: np.ndarray, val_share: float, train_limit: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Split the images that are not test data.

    Args:
        labels: (n,) class of each image.
        val_share: share of all images for validation, stratified (PAPA's is a plain random draw),
            at least one image and at most all but one.
        train_limit: thins out what is left, class-balanced, so that the validation split does not
            depend on it; 0 keeps all.

    Returns:
        Indices of the training and of the validation images.
    """
    n = len(labels)
    validation = spread(labels, min(max(1, round(n * val_share)), n - 1), VALIDATION)
    rest = np.setdiff1d(np.arange(n), validation, assume_unique=True)
    if train_limit:
        rest = rest[spread(np.asarray(labels)[rest], train_limit, TRAIN_LIMIT, balanced=True)]
    return rest, validation
