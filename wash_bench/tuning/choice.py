"""Which setting of each method validates best, and how sure that is.

The choice is by the validation accuracy of the network that the method delivers, mean over the
seeds; of equal settings the one that sends less. Test data plays no part.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wash_bench.report.numbers.comparisons import collapsed, letters
from wash_bench.report.numbers.stats import Estimate, estimate

CHOSEN_BY = "method_val_acc"
EQUAL = 1e-9  # points of accuracy


@dataclass(frozen=True)
class Tried:
    """One setting of a method.

    Attributes:
        options: all that were given, a wrapper's under NAME.OPTION.
        by_seed: validation accuracy in per cent of the network that the method delivers.
        means: other metrics by key, means over the seeds.
    """

    options: Mapping[str, Any]
    by_seed: Mapping[int, float]
    means: Mapping[str, float]

    @property
    def score(self) -> Estimate:
        """Mean validation accuracy over the seeds."""
        return estimate(self.by_seed.values())


@dataclass(frozen=True)
class Tuned:
    """A method's settings in the order of the grid.

    Attributes:
        method: its name.
        tried: the settings.
        failed: seed and reason of trainings that failed.
    """

    method: str
    tried: tuple[Tried, ...]
    failed: tuple[str, ...] = ()

    @property
    def best(self) -> Tried | None:
        """The setting with the highest mean; of equals the one that sends least."""
        complete = max((len(tried.by_seed) for tried in self.tried), default=0)
        # A setting that some seeds did not survive is no choice.
        sound = [t for t in self.tried if t.by_seed and len(t.by_seed) == complete]
        if not sound:
            return None
        top = max(tried.score.mean for tried in sound)
        level = [tried for tried in sound if tried.score.mean >= top - EQUAL]
        return min(level, key=lambda tried: tried.means["sent_values_per_step"])

    def letters(self) -> list[str]:
        """Compact letters of each setting, by Tukey; empty with fewer than three seeds."""
        values = {str(place): tried.by_seed for place, tried in enumerate(self.tried)}
        means = {place: estimate(own.values()).mean for place, own in values.items()}
        members = {
            str(place): tried.means.get("member_val_acc_mean", math.nan)
            for place, tried in enumerate(self.tried)
        }
        marks = letters(values, "higher", collapsed(means, members, {}))
        return [marks.get(place, "") for place in values]

    def level(self) -> list[Tried] | None:
        """Settings that are not significantly different from the best; None if not compared."""
        marks = self.letters()
        best = next((mark for t, mark in zip(self.tried, marks, strict=True) if t is self.best), "")
        if not best:
            return None
        others = zip(self.tried, marks, strict=True)
        return [t for t, mark in others if t is not self.best and set(best) & set(mark)]

    def edges(self) -> dict[str, str]:
        """Swept numbers whose best value is the ``least`` or the ``greatest`` that was tried."""
        best, found = self.best, {}
        for name in best.options if best else ():
            values = self.values(name)
            if best and len(values) > 1 and best.options[name] in (values[0], values[-1]):
                found[name] = "least" if best.options[name] == values[0] else "greatest"
        return found

    def values(self, name: str) -> list[float]:
        """The numbers tried for an option beside the best of all others, ascending."""
        best = self.best
        if best is None:
            return []
        rest = {key: value for key, value in best.options.items() if key != name}
        found = {
            tried.options.get(name)
            for tried in self.tried
            if {key: v for key, v in tried.options.items() if key != name} == rest
        }
        numbers = [v for v in found if isinstance(v, int | float) and not isinstance(v, bool)]
        return sorted(numbers) if len(numbers) == len(found) else []
