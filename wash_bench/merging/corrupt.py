"""One corrupted member among sound ones, to show what a robust merge rule is good for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

    from wash_bench.core.population import ModelState

Corruption = Literal["noise", "sign", "zero"]
NOISE = 10.0  # standard deviation of the noise, over the root mean square of the weights


def corrupt(
    states: Sequence[ModelState], member: int, kind: Corruption, rng: np.random.Generator
) -> list[ModelState]:
    """The states with one member's weights spoiled; nothing that is given is changed.

    ``noise`` adds Gaussian noise of ten times the root mean square of the member's weights,
    ``sign`` turns every weight's sign, ``zero`` makes all of them 0. Buffers stay: a running
    variance below zero makes no network, and any mean over it none either.

    Args:
        states: the members.
        member: index of the one to spoil.
        kind: how.
        rng: where the noise comes from.

    Returns:
        The members' states, one of them another one.

    Raises:
        ValueError: an unknown kind.
    """
    import torch

    broken = states[member].clone()
    weights = broken.weights
    match kind:
        case "noise":
            scale = NOISE * weights.square().mean().sqrt()
            noise = torch.from_numpy(rng.standard_normal(weights.numel(), dtype="float32"))
            weights += scale * noise.to(weights)
        case "sign":
            weights.neg_()
        case "zero":
            weights.zero_()
        case _:
            raise ValueError(f"unknown corruption {kind!r}")
    return [broken if index == member else state for index, state in enumerate(states)]
