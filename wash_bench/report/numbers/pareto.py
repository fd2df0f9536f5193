"""What each method's models cost, how good they are, and which of them none other beats."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wash_bench.known_methods import INDEPENDENT
from wash_bench.report.numbers.stats import Estimate, by_seed, estimate

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ParetoPoint:
    """One model that a method delivers: what it costs and how good it is.

    Attributes:
        variant, method: whose it is.
        model: ``one network`` (what the method merges to; its average where that is several
            networks), ``re-estimated`` (the same with BatchNorm statistics re-estimated),
            ``ensemble`` or ``members`` (the mean of single members).
        cost: megabytes sent per member, or forward passes an image.
        accuracy: per cent on the test set, over seeds.
    """

    variant: str
    method: str
    model: str
    cost: float
    accuracy: Estimate


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The Pareto front of (cost, value): places of the points that no other one beats.

    A point is beaten by one that costs no more and is worth no less, if it is better in one of
    the two. Points with a value that is not a number are beaten.

    Returns:
        The places, by ascending cost.
    """
    order = sorted(
        (place for place, point in enumerate(points) if not any(map(math.isnan, point))),
        key=lambda place: (points[place][0], -points[place][1]),
    )
    best: list[int] = []
    for place in order:
        if not best or points[place][1] > points[best[-1]][1] or points[place] == points[best[-1]]:
            best.append(place)
    return best


def sent(cells: pd.DataFrame) -> list[ParetoPoint]:
    """Each variant's single network, and the same re-estimated, by megabytes sent per member."""
    offers = []
    for variant, rows in cells.groupby("variant", sort=False):
        cost = float(rows["sent_bytes_total"].mean()) / 1e6
        for model, values in (
            ("one network", _single(rows, "method_acc", "average_acc")),
            ("re-estimated", _single(rows, "method_bn_acc", "average_bn_acc")),
        ):
            accuracy = estimate(values)
            if accuracy.n and math.isfinite(cost):
                offers.append(
                    ParetoPoint(str(variant), rows["method"].iloc[0], model, cost, accuracy)
                )
    return offers


def inference(cells: pd.DataFrame) -> list[ParetoPoint]:
    """Each variant's models by the forward passes that one image takes."""
    offers = []
    for variant, rows in cells.groupby("variant", sort=False):
        n = float(changed_settings(rows).get("population", rows["population"].iloc[0]))
        models = [("one network", 1.0, _single(rows, "method_acc", "average_acc"))]
        if n > 1:
            models.insert(0, ("members", 1.0, rows["member_acc_mean"]))
            models.append(("ensemble", n, rows["ensemble_acc"]))
        networks = rows["method_networks"].iloc[0]
        if 1 < networks < n:
            models.append(("ensemble", float(networks), rows["method_acc"]))
        for model, cost, values in models:
            accuracy = estimate(values)
            if accuracy.n:
                offers.append(
                    ParetoPoint(str(variant), rows["method"].iloc[0], model, cost, accuracy)
                )
    return offers


def changed_settings(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the settings that a method changed for its training, by name."""
    if "changed_settings" not in rows:
        return {}
    changes = rows["changed_settings"].dropna()
    return json.loads(changes.iloc[0]) if len(changes) else {}


def _single(rows: pd.DataFrame, own: str, average: str) -> pd.Series:
    """What the method merges to, where that is one network; else the members' average."""
    return rows[own].where(rows["method_networks"] == 1, rows[average]).fillna(rows[average])


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
