"""What the tests of networks share: building one, fitting it, counting its parameters."""

from __future__ import annotations

from torch import nn

from wash_bench.models.build import build_model
from wash_bench.models.check import check_fit


def build(name: str, *, classes: int = 10, channels: int = 3, size: int = 32, **rest) -> nn.Module:
    return build_model(
        name, classes=classes, channels=channels, size=size, **({"seed_value": 1} | rest)
    )


def fit(name: str, *, classes: int = 10, channels: int = 3, size: int, batch_size: int = 8, **rest):
    return check_fit(
        lambda: build(name, classes=classes, channels=channels, size=size, **rest),
        name=name,
        classes=classes,
        channels=channels,
        size=size,
        batch_size=batch_size,
    )


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
