"""What a loss barrier may cost by default: a tenth of the training that it is measured on."""

from __future__ import annotations

import math
from collections.abc import Container

from wash_bench.config import EvaluationConfig, RunConfig
from wash_bench.data.catalog import spec_of
from wash_bench.data.sizes import split_sizes

KEYS = ("barrier_points", "barrier_images", "barrier_bn_images")
LADDER = (
    (21, 1000, 1280),
    (11, 1000, 1280),
    (11, 500, 640),
    (5, 500, 640),
    (5, 250, 320),
    (3, 250, 320),
    (3, 100, 128),
)
"""Values of ``KEYS`` from full to least; the first whose cost is within the budget is taken."""
SHARE = 0.1
STEP = 3  # forward passes that a training step costs, its backward pass being two


def barrier_networks(n: int, points: int) -> int:
    """Return how many networks are measured along the segments of ``n`` members."""
    return 0 if n == 1 else n + 1 + (math.comb(n, 2) + n) * (points - 2)


def within_budget(config: RunConfig, chosen: Container[str]) -> tuple[EvaluationConfig, str]:
    """Reduce the barrier's settings that are not chosen until it costs a tenth of the training.

    Args:
        config: a run whose settings are not a preset's.
        chosen: the keys that a file or an option gave.

    Returns:
        The evaluation, and a sentence that says what was reduced, "" if nothing was. Where the
        data alone tell their number, nothing is.
    """
    training, full = config.training, config.evaluation
    total = spec_of(training.dataset).train_images
    if total is None:
        return full, ""
    images, _ = split_sizes(training, total)
    budget = SHARE * training.population * training.epochs * images * STEP
    reduced = full
    for values in LADDER:
        own = {key: value for key, value in zip(KEYS, values, strict=True) if key not in chosen}
        reduced = full.model_copy(update=own)
        at_point = 2 * (reduced.barrier_images or images) + reduced.barrier_bn_images
        if barrier_networks(training.population, reduced.barrier_points) * at_point <= budget:
            break
    if reduced == full:
        return full, ""
    flags = " ".join(
        f"--{key.replace('_', '-')} {getattr(full, key)}" for key in KEYS if key not in chosen
    )
    return reduced, (
        f"Loss barriers at {reduced.barrier_points} points a segment, {reduced.barrier_images}"
        f" images and {reduced.barrier_bn_images} for BatchNorm, within a tenth of the training"
        f" (in full: {flags})."
    )
