"""Means over seeds with their Student-t intervals, alone and of differences paired by seed.

Methods at one seed share initial weights, data order and augmentation, so their difference at
that seed varies less than either value. These intervals are for one comparison; many rows are
compared by ``comparisons``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95
ENOUGH = 3
"""Seeds that an interval or a test needs; of fewer, the values themselves are shown."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: the arithmetic mean; NaN without a value.
        std: sample standard deviation (n - 1); None below two values.
        half_width: half the 95 % Student-t interval of the mean; None below ``ENOUGH`` values or
            where a value is infinite.
        n: number of values.
        values: the values.
    """

    mean: float
    std: float | None
    half_width: float | None
    n: int
    values: tuple[float, ...] = ()

    @property
    def contains_zero(self) -> bool | None:
        """Whether the interval covers 0; None without an interval."""
        return None if self.half_width is None else abs(self.mean) <= self.half_width

    def bar(self, ends: tuple[float, float] = (-math.inf, math.inf)) -> tuple[float, float]:
        """Return the lengths of a figure's bar below and above the mean.

        The bar is the interval, of two values their range, cut off where the values' scale ends.

        Args:
            ends: the least and the greatest value that can be, in the values' unit.
        """
        half = self.half_width or 0.0
        if self.n == 2 and math.isfinite(self.mean):
            half = (max(self.values) - min(self.values)) / 2
        return min(half, max(self.mean - ends[0], 0.0)), min(half, max(ends[1] - self.mean, 0.0))


def estimate(values: Iterable[float | None]) -> Estimate:
    """Mean, sample standard deviation and t interval; missing values (None, NaN) are left out."""
    numbers = tuple(float(v) for v in values if v is not None and not math.isnan(v))
    n = len(numbers)
    if n == 0:
        return Estimate(math.nan, None, None, 0)
    mean = sum(numbers) / n
    if n == 1 or not math.isfinite(mean):
        return Estimate(mean, None, None, n, numbers)
    squares = ((v - mean) * (v - mean) for v in numbers)  # of huge ones infinite, where ** raises
    std = math.sqrt(sum(squares) / (n - 1))
    if n < ENOUGH:
        return Estimate(mean, std, None, n, numbers)
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    half_width = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * std / math.sqrt(n)
    return Estimate(mean, std, half_width, n, numbers)


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Estimate:
    """Estimate the difference a - b of values by seed, over the seeds that both have."""
    return estimate(a[seed] - b[seed] for seed in sorted(set(a) & set(b)))


def by_seed(rows: pd.DataFrame, key: str) -> dict[int, float]:
    """Return a column's values by seed; without what is missing."""
    if key not in rows:
        return {}
    pairs = zip(rows["seed"], rows[key], strict=True)
    return {int(seed): float(value) for seed, value in pairs if value == value}
