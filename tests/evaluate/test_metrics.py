"""Metrics against their definitions, written out image by image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wash_bench.evaluate.scores import (
    accuracy,
    all_scores,
    brier,
    disagreement,
    ece,
    log_probabilities,
    mean_of_logits,
    mean_of_probabilities,
    nll,
)


def _random(seed: int, images: int = 40, classes: int = 5, members: int = 3):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(members, images, classes, generator=generator)
    labels = torch.randint(classes, (images,), generator=generator)
    return logits, labels


def test_outputs_that_are_not_numbers_have_no_accuracy() -> None:
    """The argmax of NaN is class 0: one image of class 0 would be right."""
    log_probs = log_probabilities(torch.tensor([[math.nan, 0.0], [0.0, 2.0]]))
    labels = torch.tensor([0, 1])
    assert math.isnan(accuracy(log_probs, labels)) and math.isnan(nll(log_probs, labels))
    assert math.isnan(accuracy(log_probabilities(torch.tensor([[math.inf, 0.0]])), labels[:1]))
    certain = log_probabilities(torch.tensor([[-1e30, 0.0], [0.0, 1e30]]))  # infinite losses alone
    assert accuracy(certain, labels) == 50.0


@given(st.integers(0, 10_000))
def test_metrics_equal_their_definitions(seed: int) -> None:
    logits, labels = _random(seed)
    log_probs = log_probabilities(logits[0])
    probs = np.exp(logits[0].double().numpy())
    probs /= probs.sum(axis=1, keepdims=True)
    rows = range(len(labels))
    right = [int(probs[i].argmax() == labels[i]) for i in rows]
    assert accuracy(log_probs, labels) == pytest.approx(100 * sum(right) / len(right))
    assert nll(log_probs, labels) == pytest.approx(
        -sum(math.log(probs[i, labels[i]]) for i in rows) / len(labels)
    )
    squares = [
        sum((probs[i, c] - (labels[i] == c).item()) ** 2 for c in range(probs.shape[1]))
        for i in rows
    ]
    assert brier(log_probs, labels) == pytest.approx(sum(squares) / len(squares))

    bins = 15
    total = 0.0
    for b in range(bins):
        inside = [i for i in rows if b / bins < probs[i].max() <= (b + 1) / bins]
        if inside:
            confidence = sum(probs[i].max() for i in inside) / len(inside)
            share_right = sum(right[i] for i in inside) / len(inside)
            total += len(inside) / len(labels) * abs(share_right - confidence)
    assert ece(log_probs, labels, bins) == pytest.approx(100 * total)


@given(st.integers(0, 10_000))
def test_ensembles_average_probabilities_or_logits(seed: int) -> None:
    logits, _ = _random(seed)
    log_probs = [log_probabilities(member) for member in logits]
    by_hand = torch.stack([torch.softmax(member.double(), 1) for member in logits]).mean(0)
    torch.testing.assert_close(mean_of_probabilities(log_probs).exp(), by_hand)
    by_logits = torch.softmax(logits.double().mean(0), 1)
    torch.testing.assert_close(mean_of_logits(log_probs).exp(), by_logits)


def test_a_perfect_and_certain_prediction() -> None:
    labels = torch.tensor([0, 1, 2])
    log_probs = log_probabilities(1000 * torch.eye(3))
    values = all_scores(log_probs, labels)
    assert values == {"acc": 100.0, "nll": 0.0, "ece": 0.0, "brier": 0.0}


def test_disagreement_is_the_mean_over_pairs() -> None:
    def votes(*classes: int) -> torch.Tensor:
        return log_probabilities(10.0 * torch.eye(3)[list(classes)])

    members = [votes(0, 1, 2, 0), votes(0, 1, 2, 1), votes(0, 2, 2, 2)]
    # pairs differ on 1, 2 and 2 of 4 images
    assert disagreement(members) == pytest.approx(100 * (1 + 2 + 2) / 12)


def test_the_ensembles_probabilities_sum_to_one_in_double_precision() -> None:
    logits, _ = _random(3)
    ensemble = mean_of_probabilities([log_probabilities(member) for member in logits])
    torch.testing.assert_close(
        ensemble.exp().sum(1), torch.ones(40, dtype=torch.float64), rtol=0, atol=1e-14
    )
