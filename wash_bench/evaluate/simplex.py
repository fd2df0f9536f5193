"""Simplex maps: loss and accuracy over the triangle that three members span.

A point of the triangle is the network theta(w) = w_a theta_a + w_b theta_b + w_c theta_c with
w_a + w_b + w_c = 1, on an even grid of barycentric coordinates. With a margin the grid goes on
beyond the members, where one or two of the weights are negative. Averaged BatchNorm variances may
be negative there too, and such a network has no finite loss: that is recorded as it is.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from wash_bench.config import EvaluationConfig
from wash_bench.core.population import ModelState
from wash_bench.evaluate.barrier import measure_variants
from wash_bench.evaluate.evaluator import Evaluator

Weights = tuple[float, float, float]
CORNERS = 3
CENTRE: Weights = (1 / 3, 1 / 3, 1 / 3)


@dataclass(frozen=True)
class SimplexPoint:
    """One network of the plane through three members, measured.

    Attributes:
        a, b, c: the members.
        weight_a, weight_b, weight_c: their shares, which sum to 1.
        bn: BatchNorm statistics ``averaged`` (combined as the weights) or ``reestimated``.
        split, images: where it was measured.
        loss: mean cross-entropy in nats.
        accuracy: in per cent.
    """

    a: int
    b: int
    c: int
    weight_a: float
    weight_b: float
    weight_c: float
    bn: str
    split: str
    images: int
    loss: float
    accuracy: float

    as_dict = asdict


def barycentric(points: int, margin: float = 0.0) -> list[Weights]:
    """The weights of the grid, row by row, and those of the three members' average.

    Args:
        points: points along an edge between two members, both ends included; at least 2.
        margin: how far the grid goes on beyond the members, as a share of the edge, in whole
            steps of the grid.

    Returns:
        The weights of each network.
    """
    steps = points - 1
    beyond = round(margin * steps)
    low, high = -beyond, steps + 2 * beyond
    grid = [
        (first, second, steps - first - second)
        for first in range(high, low - 1, -1)
        for second in range(steps - first - low, low - 1, -1)
    ]
    if steps % CORNERS:
        return [*((i / steps, j / steps, k / steps) for i, j, k in grid), CENTRE]
    return [(i / steps, j / steps, k / steps) for i, j, k in grid]


def simplex_networks(points: int, margin: float = 0.0) -> int:
    """How many networks the map measures."""
    return len(barycentric(points, margin)) if points else 0


def simplex_points(
    evaluator: Evaluator,
    members: list[ModelState],
    config: EvaluationConfig,
    pulse: Callable[[int, int], None] = lambda done, total: None,
) -> list[SimplexPoint]:
    """Measure the triangle between the first three members, on the barrier's images."""
    corners = members[:CORNERS]
    grid = barycentric(config.simplex_points, config.simplex_margin)
    images = len(evaluator.labels(config.barrier_split, config.barrier_images))
    points = []
    for done, weights in enumerate(grid, start=1):
        values = measure_variants(evaluator, ModelState.combine(corners, weights), config)
        points += [
            SimplexPoint(0, 1, 2, *weights, bn, config.barrier_split, images, loss, accuracy)
            for bn, (loss, accuracy) in values.items()
        ]
        pulse(done, len(grid))
    return points
