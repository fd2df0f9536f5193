"""Slow restatements of the methods' rules, from the papers, in float64 and plain loops.

They share no code with the package: numbers and lists in, numbers and lists out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Matrix = list[list[float]]  # one row a member


def wash_shuffle(rows: Matrix, coordinates: Sequence[int], sources: Sequence[Sequence[int]]):
    """WASH: member n takes, at each chosen coordinate, the value of member pi(n)."""
    result = [list(row) for row in rows]
    for coordinate, permutation in zip(coordinates, sources, strict=True):
        for n in range(len(rows)):
            result[n][coordinate] = rows[permutation[n]][coordinate]
    return result


def wash_probability(rule: str, layer: int, layers: int, p: float, k: int = 1) -> float:
    """p_l by hand for each layer rule."""
    if rule == "constant":
        return p
    if rule == "first_k":
        return p if layer < k else 0.0
    if rule == "last_k":
        return p if layer in range(layers - k, layers) else 0.0
    if layers == 1:
        return p
    if rule == "linear_to_zero":
        return p * (layers - 1 - layer) / (layers - 1)
    return p * layer / (layers - 1)


def mean(rows: Matrix) -> list[float]:
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def papa_pull(rows: Matrix, alpha: float, lr: float, base_lr: float) -> Matrix:
    """PAPA at one event: 1 - a_t = (lr/base_lr) (1 - alpha)."""
    a = 1 - lr / base_lr * (1 - alpha)
    centre = mean(rows)
    return [[a * x + (1 - a) * c for x, c in zip(row, centre, strict=True)] for row in rows]


def papa_steps(epochs: int, steps_per_epoch: int, every: int, count: str) -> list[int]:
    """The steps after which PAPA pulls."""
    events, step = [], 0
    for _ in range(epochs):
        for i in range(steps_per_epoch):
            if (i if count == "epoch" else step) % every == 0:
                events.append(step)
            step += 1
    return events


def dart_events(epochs: int, steps_per_epoch: int, warmup_epochs: int, every: int) -> dict:
    """``{step: "copy" | "average"}`` of DART's common start and aggregations."""
    events = {}
    since = 0
    for epoch in range(epochs):
        last_step = (epoch + 1) * steps_per_epoch - 1
        if epoch < warmup_epochs:
            if epoch == warmup_epochs - 1:
                events[last_step] = "copy"
            continue
        since += 1
        if since == every:
            since = 0
            if epoch != epochs - 1:
                events[last_step] = "average"
    return events


def greedy(
    members: np.ndarray, accuracies: Sequence[float], evaluate: Callable[[np.ndarray], float]
) -> tuple[list[int], np.ndarray]:
    """The greedy soup on actual vectors (N, D): chosen members in order, and their soup."""
    left = list(range(len(members)))
    order = []
    while left:  # selection sort: the best that is left, the first of equals
        best = left[0]
        for member in left:
            if accuracies[member] > accuracies[best]:
                best = member
        order.append(best)
        left.remove(best)
    chosen = [order[0]]
    soup, k, best_accuracy = members[order[0]].astype(float), 1, accuracies[order[0]]
    for member in order[1:]:
        candidate = soup * (k / (k + 1)) + members[member] / (k + 1)
        accuracy = evaluate(candidate)
        if accuracy > best_accuracy:
            soup, k, best_accuracy = candidate, k + 1, accuracy
            chosen.append(member)
    return chosen, soup


def fixed_point_moments(n: int) -> tuple[float, float]:
    """Mean and variance of the number of moved values of a uniform permutation, by enumeration."""

    def permutations(items: tuple[int, ...]):
        if not items:
            yield ()
        for i, item in enumerate(items):
            for rest in permutations(items[:i] + items[i + 1 :]):
                yield (item, *rest)

    moved = [sum(a != b for a, b in enumerate(p)) for p in permutations(tuple(range(n)))]
    centre = sum(moved) / len(moved)
    return centre, sum((m - centre) ** 2 for m in moved) / len(moved)
