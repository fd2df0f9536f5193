"""Temperature scaling on validation data (Guo et al. 2017, arXiv 1706.04599, section 4.2).

Negative log-likelihoods compare networks fairly only after calibration (Ashukha et al. 2020,
arXiv 2002.06470, section 4): one temperature per model, fitted on data that is not test data. An
ensemble has one temperature, on the log of its mean probability.

With few validation images the network may classify all of them correctly, and the temperature of
the least NLL is then 0. So the targets are Platt's (Platt 1999, "Probabilistic outputs for support
vector machines", section 2.2), with several classes: the label has (M + 1) / (M + 2), the other
classes share 1 / (M + 2). With thousands of images this changes nothing.
"""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from wash_bench.evaluate.scores import nll

LEAST, GREATEST = 0.05, 20.0

# Shapes. M: images, C: classes. Everything is float64 on the CPU.


def at_temperature(log_probs: Tensor, temperature: float) -> Tensor:
    """Return the (M, C) log-probabilities of softmax(log_probs / temperature)."""
    return torch.log_softmax(log_probs / temperature, dim=1)


def fit_temperature(log_probs: Tensor, labels: Tensor) -> float:
    """Return the temperature of the least cross-entropy to Platt's targets.

    Args:
        log_probs: of the validation images, (M, C).
        labels: their classes, (M,).
    """
    images, classes = log_probs.shape
    rest = 1 / (images + 2)

    def loss(log_temperature: float) -> float:
        scaled = at_temperature(log_probs, math.exp(log_temperature))
        right = nll(scaled, labels)
        others = (-scaled.sum(dim=1).mean().item() - right) / (classes - 1)
        return (1 - rest) * right + rest * others

    # The loss is convex in the inverse temperature, hence has one minimum.
    bounds = (math.log(LEAST), math.log(GREATEST))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)


def calibrated_nll(test: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor]) -> float:
    """Return the test NLL in nats at the temperature fitted on validation data.

    Args:
        test: log-probabilities (M, C) and labels (M,).
        validation: those of other images.

    Returns:
        The NLL; NaN where an output is NaN.
    """
    if test[0].isnan().any() or validation[0].isnan().any():
        return math.nan
    return nll(at_temperature(test[0], fit_temperature(*validation)), test[1])
