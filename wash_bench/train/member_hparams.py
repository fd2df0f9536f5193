"""The members' own hyperparameters, drawn from a stated grid.

Model soups (Wortsman et al. 2022, arXiv 2203.05482) average fine-tunings of one checkpoint that
differ in their hyperparameters; DiWA (Rame et al. 2022, arXiv 2205.09739) draws mild differences.
"""

import itertools
from collections.abc import Mapping, Sequence

from wash_bench.seeds import numpy_stream


def member_hyperparameters(
    grid: Mapping[str, Sequence[float]], seed: int, member: int
) -> dict[str, float]:
    """What one member trains with instead of the configuration's values.

    The Cartesian product of ``grid`` is shuffled once with the run's seed; member i gets
    combination i, counted modulo their number, whatever the number of members.

    Args:
        grid: the values of each hyperparameter that varies; empty if none does.
        seed: the run's seed.
        member: index of the member.

    Returns:
        Values by name; empty if nothing varies.
    """
    if not grid:
        return {}
    combinations = list(itertools.product(*grid.values()))
    order = numpy_stream(seed, "hyperparameters").permutation(len(combinations))
    return dict(zip(grid, combinations[order[member % len(order)]], strict=True))
