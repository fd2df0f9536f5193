"""Robust merge rules against naive restatements in plain Python."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.support.random_members import LAYER, columns, members, merged, values
from wash_bench.core.method import Method
from wash_bench.methods.geometric_median import GeometricMedian
from wash_bench.methods.median import Median
from wash_bench.methods.robust_mean import RobustMean, RobustMeanOptions
from wash_bench.methods.trimmed_mean import TrimmedMean, TrimmedMeanOptions
from wash_bench.methods.uniform_soup import UniformSoup


def naive_trimmed(column: tuple[float, ...], k: int) -> float:
    left = list(column)
    for _ in range(k):
        left.remove(min(left))
        left.remove(max(left))
    return math.fsum(left) / len(left)


def naive_tukey(column: tuple[float, ...], c: float, iterations: int) -> float:
    mu = statistics.median(column)
    s = 1.4826 * statistics.median([abs(x - mu) for x in column])
    for _ in range(iterations):
        w = []
        for x in column:
            if s == 0:
                w.append(1.0 if x == mu else 0.0)
            else:
                u = (x - mu) / (c * s)
                w.append((1 - u * u) ** 2 if abs(u) < 1 else 0.0)
        mu = sum(a * x for a, x in zip(w, column, strict=True)) / sum(w)
    return mu


def naive_geometric_median(rows: np.ndarray) -> np.ndarray:
    """Gradient descent's patience: Weiszfeld on the vectors themselves, many steps."""
    m = rows.mean(axis=0)
    for _ in range(3000):
        w = 1 / np.maximum(np.sqrt(((rows - m) ** 2).sum(axis=1)), 1e-5)
        m = (w[:, None] * rows).sum(axis=0) / w.sum()
    return m


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8])
def test_coordinate_wise_rules_equal_their_restatements(n):
    population = members(n)
    cases: list[tuple[Method, Callable]] = [
        (UniformSoup(), statistics.fmean),
        (Median(), statistics.median),
        (
            TrimmedMean(TrimmedMeanOptions(trim=0.3)),
            lambda c: naive_trimmed(c, {1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 8: 3}[n]),
        ),
        (RobustMean(RobustMeanOptions(c=1.5, iterations=3)), lambda c: naive_tukey(c, 1.5, 3)),
    ]
    for rule, naive in cases:
        expected = [naive(column) for column in columns(population)]
        np.testing.assert_allclose(values(merged(rule, population)), expected, 1e-4, 1e-6)


def test_coordinate_wise_rules_work_through_chunks(monkeypatch):
    population = members(5)
    whole = values(merged(Median, population))
    monkeypatch.setattr("wash_bench.merging.columns.CHUNK", 7)
    np.testing.assert_array_equal(values(merged(Median, population)), whole)


def test_the_robust_mean_takes_the_value_of_a_majority_that_agrees():
    population = members(5)
    population.weights[:3] = population.weights[0]
    np.testing.assert_allclose(merged(RobustMean, population).weights, population.weights[0])


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_geometric_median_of_models_and_of_layers(n):
    population = members(n)
    rows = population.weights.double().numpy()
    whole = merged(GeometricMedian, population)
    if n > 2:  # of two points, every one between them is a median
        np.testing.assert_allclose(whole.weights, naive_geometric_median(rows), atol=1e-4)
    layered = merged(GeometricMedian(LAYER), population)
    layout = population.layout
    for layer in range(layout.layers()):
        pieces = [piece for piece in layout.slices if piece.leaf_module == layer]
        index = np.concatenate([np.arange(p.offset, p.stop) for p in pieces])
        expected = naive_geometric_median(rows[:, index])
        np.testing.assert_allclose(layered.weights.numpy()[index], expected, atol=1e-3)
    assert n == 2 or not torch.allclose(whole.weights, layered.weights, atol=1e-3)


def test_statistics_get_the_coefficients_of_the_whole_models_median():
    population = members(4)
    population.weights[2] += 1e4
    whole = merged(GeometricMedian, population)
    shares = GeometricMedian().coefficients(list(population.weights))
    assert shares[2] < 1e-3 and sum(shares) == pytest.approx(1)
    np.testing.assert_allclose(whole.buffers, np.array(shares) @ population.buffers.numpy(), 1e-5)
