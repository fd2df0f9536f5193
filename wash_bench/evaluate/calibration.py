"""Temperature scaling on validation data (Guo et al. 2017, arXiv 1706.04599, section 4.2).

Negative log-likelihoods compare networks fairly only after calibration (Ashukha et al. 2020,
arXiv 2002.06470, section 4): one temperature per model, fitted on data that is not test data. An
ensemble has one temperature, on the log of its mean probability.
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
    """Return the temperature with the least NLL on images (M, C) with labels (M,)."""
    # The NLL is convex in the inverse temperature, hence has one minimum.
    found = minimize_scalar(
        lambda x: nll(at_temperature(log_probs, math.exp(x)), labels),
        bounds=(math.log(LEAST), math.log(GREATEST)),
        method="bounded",
    )
    return math.exp(found.x)


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
