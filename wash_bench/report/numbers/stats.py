"""Means over seeds and what can be said about differences: Student-t intervals, paired by seed.

Methods at one seed share initial weights, data order and augmentation, so their difference at
that seed varies less than either value; comparisons therefore pair the seeds. Intervals are at
95 % for one comparison; they are not adjusted for looking at several.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

LEVEL = 0.95
NORMAL = 1.96  # standard errors of that level


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: the arithmetic mean; NaN without a value.
        std: sample standard deviation (n - 1); None below two values.
        half_width: half the 95 % Student-t interval of the mean; None below two values or
            where a value is infinite.
        n: number of values.
        half_range: half the difference of two values; None of any other number of them.
    """

    mean: float
    std: float | None
    half_width: float | None
    n: int
    half_range: float | None = None

    @property
    def contains_zero(self) -> bool | None:
        """Whether the interval covers 0; None without an interval."""
        return None if self.half_width is None else abs(self.mean) <= self.half_width

    @property
    def shown(self) -> float | None:
        """What stands beside the mean: half the t interval, of two values half their range.

        Student's t with one degree of freedom would be 12.7 standard errors. None of one value.
        """
        return self.half_width if self.half_range is None else self.half_range

    def bar(self, ends: tuple[float, float] = (-math.inf, math.inf)) -> tuple[float, float]:
        """How far ``shown`` reaches, cut off where the values' scale ends.

        Args:
            ends: the least and the greatest value that can be, in the values' unit.

        Returns:
            The lengths below and above the mean; zeros without an interval.
        """
        half = self.shown or 0.0
        return min(half, max(self.mean - ends[0], 0.0)), min(half, max(ends[1] - self.mean, 0.0))


def estimate(values: Iterable[float]) -> Estimate:
    """Mean, sample standard deviation and t interval; missing values (None, NaN) are left out."""
    numbers = [float(v) for v in values if v is not None and not math.isnan(v)]
    n = len(numbers)
    if n == 0:
        return Estimate(math.nan, None, None, 0)
    mean = sum(numbers) / n
    if n == 1 or not math.isfinite(mean):
        return Estimate(mean, None, None, n)
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    squares = ((v - mean) * (v - mean) for v in numbers)  # of huge ones infinite, where ** raises
    std = math.sqrt(sum(squares) / (n - 1))
    half_width = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * std / math.sqrt(n)
    half_range = abs(numbers[0] - numbers[1]) / 2 if n == 2 else None
    return Estimate(mean, std, half_width, n, half_range)


def paired(a: Mapping[int, float], b: Mapping[int, float], images: int | None = None) -> Estimate:
    """The difference a - b over the seeds that both have, with its own t interval.

    Args:
        a: values by seed.
        b: values by seed.
        images: of accuracies in per cent, the test images, which are the same at every seed. The
            interval is at least as wide as these allow: two networks whose accuracies differ by d
            disagree on d M of M images or more, so that the difference has a standard error of
            sqrt(d / M) or more (McNemar 1947), d as a share.

    Returns:
        The mean difference, and its interval where two seeds or more are common.
    """
    found = estimate(a[seed] - b[seed] for seed in sorted(set(a) & set(b)))
    if not images or found.half_width is None:
        return found
    least = NORMAL * 100 * math.sqrt(abs(found.mean) / 100 / images)
    return replace(found, half_width=max(found.half_width, least))
