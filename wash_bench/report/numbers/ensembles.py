"""The deep-ensemble equivalent: how many independent networks predict as well as one model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.config.known_methods import INDEPENDENT
from wash_bench.report.numbers.stats import by_seed, estimate

if TYPE_CHECKING:
    import pandas as pd

_CLOSE = 1e-4  # relative: curves are recorded in few digits


def equivalent(nll: float, curve: Sequence[float]) -> float:
    """Return the size of the ensemble that has this NLL, by linear interpolation.

    Deep-ensemble equivalent of Ashukha et al. 2020, "Pitfalls of in-domain uncertainty
    estimation", arXiv 2002.06470, section 4.

    Args:
        nll: of a model.
        curve: NLL of the ensembles of 1, 2, ... independent networks.

    Returns:
        The least size at which the curve is down at ``nll``; 0 where one network is better
        already, infinity where no ensemble of the curve is as good.
    """
    if nll > curve[0] and not math.isclose(nll, curve[0], rel_tol=_CLOSE):
        return 0.0
    for size, value in enumerate(curve, start=1):
        if value <= nll or math.isclose(value, nll, rel_tol=_CLOSE):
            before = curve[size - 2] if size > 1 else value
            if before <= value or nll <= value:
                return float(size)
            return size - (nll - value) / (before - value)
    return math.inf


def equivalents(finished: pd.DataFrame) -> dict[str, str]:
    """Return every variant's deep-ensemble equivalent as text.

    The curve is the mean over the seeds of the independent members' ensembles; calibrated NLL
    where both have it.

    Args:
        finished: cells of one experiment.
    """
    curves = {key: _curve(finished, f"ensemble_size_{key}") for key in ("nll_ts", "nll")}
    found = {}
    for variant, rows in finished.groupby("variant", sort=False):
        for key, curve in curves.items():
            nll = estimate(by_seed(rows, f"method_{key}").values()).mean
            if curve and not math.isnan(nll):
                size = equivalent(nll, curve)
                ends = {0.0: "< 1", math.inf: f"> {len(curve)}"}
                found[str(variant)] = ends.get(size, f"{size:.1f}")
                break
    return found


def _curve(finished: pd.DataFrame, key: str) -> list[float]:
    """Mean over the seeds of the first independent variant that has the curve; empty without."""
    if key not in finished:
        return []
    own = finished[(finished["method"] == INDEPENDENT) & finished[key].notna()]
    own = own[own["variant"] == own["variant"].iloc[0]] if len(own) else own
    lists = [[float(word) for word in str(text).split()] for text in own[key]]
    return [estimate(values).mean for values in zip(*lists, strict=False)]
