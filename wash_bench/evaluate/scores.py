"""Accuracy, NLL, ECE, Brier score and disagreement, from log-probabilities."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Shapes. M: images, C: classes. Everything is float64 on the CPU.


def log_probabilities(logits: Tensor) -> Tensor:
    """(M, C) logits to float64 log-probabilities."""
    return torch.log_softmax(logits.double(), dim=1)


def mean_of_probabilities(log_probs: Sequence[Tensor]) -> Tensor:
    """Log of the members' mean probability: the ensemble of the literature on deep ensembles."""
    stacked = torch.stack(list(log_probs))
    return torch.logsumexp(stacked, dim=0) - math.log(len(stacked))


def mean_of_logits(log_probs: Sequence[Tensor]) -> Tensor:
    """Log-probabilities of the mean logits: PAPA's ensemble (utils/utils.py:169-200)."""
    # Logits and log-probabilities differ by a constant a row, which the softmax removes.
    return torch.log_softmax(torch.stack(list(log_probs)).mean(dim=0), dim=1)


def accuracy(log_probs: Tensor, labels: Tensor) -> float:
    """Per cent of images whose most probable class is the label; NaN where an output is NaN."""
    if log_probs.isnan().any():  # its argmax is class 0, which would count as a guess
        return math.nan
    return 100.0 * (log_probs.argmax(dim=1) == labels).double().mean().item()


def nll(log_probs: Tensor, labels: Tensor) -> float:
    """Mean negative log-likelihood in nats."""
    return -log_probs.gather(1, labels[:, None]).mean().item()


def brier(log_probs: Tensor, labels: Tensor) -> float:
    """Mean over images of the squared distance to the one-hot label, summed over classes (0..2)."""
    target = torch.nn.functional.one_hot(labels, log_probs.shape[1])
    return (log_probs.exp() - target).square().sum(dim=1).mean().item()


def ece(log_probs: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error in per cent, over bins (lower, upper] (Guo et al. 2017, eq. 3)."""
    confidence, predicted = log_probs.exp().max(dim=1)
    correct = (predicted == labels).double()
    index = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, index, correct - confidence)
    return 100.0 * gap.abs().sum().item() / len(labels)


def all_scores(log_probs: Tensor, labels: Tensor, bins: int = 15) -> dict[str, float]:
    """``acc`` and ``ece`` in per cent, ``nll`` in nats, ``brier``; NaN where outputs are none."""
    if log_probs.isnan().any():
        return dict.fromkeys(("acc", "nll", "ece", "brier"), math.nan)
    return {
        "acc": accuracy(log_probs, labels),
        "nll": nll(log_probs, labels),
        "ece": ece(log_probs, labels, bins),
        "brier": brier(log_probs, labels),
    }


def disagreement(log_probs: Sequence[Tensor]) -> float:
    """Per cent of images on which two members predict different classes, mean over pairs."""
    votes = [member.argmax(dim=1) for member in log_probs]
    rates = [
        (votes[a] != votes[b]).double().mean().item()
        for a in range(len(votes))
        for b in range(a + 1, len(votes))
    ]
    return 100.0 * sum(rates) / len(rates) if rates else 0.0
