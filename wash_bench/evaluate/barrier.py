"""Loss barriers: loss and accuracy along straight segments between networks.

The barrier of a segment is the largest excess over the straight line between its ends,
max over alpha of L(theta_alpha) - ((1 - alpha) L(theta_a) + alpha L(theta_b)), the form of
Entezari et al. 2022, which is right when the ends differ; it is 0 or more since it is 0 at the
ends. For accuracy the sign is turned. The N-way form is L(average) - mean of L(member).
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from wash_bench.config import EvaluationConfig
from wash_bench.core.population import ModelState
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.scores import accuracy, nll

AVERAGE = "average"


@dataclass(frozen=True)
class Point:
    """One network on a segment, measured.

    Attributes:
        kind: ``pair`` (member to member) or ``average`` (member to average).
        a, b: the ends: member indices, or "average".
        alpha: share of b, from 0 to 1.
        bn: BatchNorm statistics ``averaged`` (interpolated) or ``reestimated``.
        split, images: where it was measured.
        loss: mean cross-entropy in nats.
        accuracy: in per cent.
    """

    kind: str
    a: str
    b: str
    alpha: float
    bn: str
    split: str
    images: int
    loss: float
    accuracy: float

    as_dict = asdict


def barrier_points(
    evaluator: Evaluator,
    members: list[ModelState],
    config: EvaluationConfig,
    pulse: Callable[[int, int], None] = lambda done, total: None,
) -> list[Point]:
    """Measure the segments between two members, and from each member to the average, in order."""
    states: dict[str, ModelState] = {str(n): state for n, state in enumerate(members)}
    states[AVERAGE] = ModelState.mean(members)
    names = [name for name in states if name != AVERAGE]
    segments = [("pair", a, b) for a, b in itertools.combinations(names, 2)]
    segments += [("average", a, AVERAGE) for a in names]
    alphas = np.linspace(0.0, 1.0, config.barrier_points)
    total = len(states) + len(segments) * (len(alphas) - 2)
    split = config.barrier_split
    images = len(evaluator.labels(split, config.barrier_images))

    measured = 0

    def measure(state: ModelState) -> dict[str, tuple[float, float]]:
        nonlocal measured
        result = measure_variants(evaluator, state, config)
        measured += 1
        pulse(measured, total)
        return result

    ends = {name: measure(state) for name, state in states.items()}
    points = []
    for kind, a, b in segments:
        for alpha in alphas:
            if alpha in (0.0, 1.0):
                values = ends[b if alpha else a]
            else:
                values = measure(
                    ModelState.combine([states[a], states[b]], [1 - float(alpha), float(alpha)])
                )
            points += [
                Point(kind, a, b, float(alpha), bn, split, images, loss, acc)
                for bn, (loss, acc) in values.items()
            ]
    return points


def measure_variants(
    evaluator: Evaluator, state: ModelState, config: EvaluationConfig
) -> dict[str, tuple[float, float]]:
    """Loss (nats) and accuracy (%) under own and, with BatchNorm, re-estimated statistics."""
    split, limit = config.barrier_split, config.barrier_images
    variants = {"averaged": state}
    if evaluator.has_batchnorm:
        variants["reestimated"] = evaluator.reestimated(state, config.barrier_bn_images)
    result = {}
    for bn, variant in variants.items():
        log_probs = evaluator.compute(variant, split, limit)
        labels = evaluator.labels(split, limit)
        result[bn] = (nll(log_probs, labels), accuracy(log_probs, labels))
    return result


def barrier_summary(points: list[Point]) -> dict[str, float]:
    """Maximum and mean over pairs of the barriers, and the N-way barrier, by BatchNorm variant.

    Args:
        points: those of one population.

    Returns:
        ``barrier_loss_max``, ``barrier_loss_mean``, ``barrier_acc_max``, ``barrier_acc_mean``,
        ``barrier_nway_loss``, and the same with ``barrier_bn_`` for re-estimated statistics.
    """
    summary: dict[str, float] = {}
    for bn, prefix in (("averaged", "barrier"), ("reestimated", "barrier_bn")):
        curves: dict[tuple[str, str, str], list[Point]] = {}
        for point in points:
            if point.bn == bn:
                curves.setdefault((point.kind, point.a, point.b), []).append(point)
        if not curves:
            continue
        pairs = [curve for (kind, *_), curve in curves.items() if kind == "pair"]
        losses = [_excess([(p.alpha, p.loss) for p in curve]) for curve in pairs]
        drops = [_excess([(p.alpha, -p.accuracy) for p in curve]) for curve in pairs]
        to_average = [curve for (kind, *_), curve in curves.items() if kind == "average"]
        summary[f"{prefix}_loss_max"] = max(losses)
        summary[f"{prefix}_loss_mean"] = sum(losses) / len(losses)
        summary[f"{prefix}_acc_max"] = max(drops)
        summary[f"{prefix}_acc_mean"] = sum(drops) / len(drops)
        mean_loss = sum(curve[0].loss for curve in to_average) / len(to_average)
        summary[f"{prefix}_nway_loss"] = to_average[0][-1].loss - mean_loss
    return summary


def pair_barriers(
    rows: Sequence[Mapping[str, str]], bn: str = "averaged"
) -> dict[tuple[str, str], float]:
    """The loss barrier in nats between every two members, from the rows of a barrier file."""
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        if row["kind"] == "pair" and row["bn"] == bn:
            point = (float(row["alpha"]), float(row["loss"]))
            curves.setdefault((row["a"], row["b"]), []).append(point)
    return {pair: _excess(curve) for pair, curve in curves.items()}


def _excess(curve: list[tuple[float, float]]) -> float:
    """The largest height of a curve of (alpha, value) over the line between its ends."""
    first, last = curve[0][1], curve[-1][1]
    return max(value - ((1 - alpha) * first + alpha * last) for alpha, value in curve)
