"""Small networks, images and a judge for Fisher-weighted averaging and RegMean."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tests.support.judges import SmallJudge, judged
from tests.support.populations import small_network
from wash_bench.core.population import Population


def networks(n: int, build=small_network, seed: int = 0) -> list[nn.Module]:
    """Trained-looking members: every parameter and statistic differs, variances are positive."""
    torch.manual_seed(seed)
    result = []
    for _ in range(n):
        network = build().eval()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.data.uniform_(0.5, 1.5)
                layer.bias.data.normal_()
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 1.5)
        result.append(network)
    return result


def pictures(n: int = 9, side: int = 8, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, side, side, generator=generator)
    return images, torch.randint(3, (n,), generator=generator)


def small(n: int) -> tuple[Population, SmallJudge]:
    return judged(networks(n), *pictures())


def naive_fisher(network, images, labels, kind) -> dict[str, np.ndarray]:
    """One image and one class at a time, by plain autograd."""
    names = [name for name, _ in network.named_parameters()]
    total = {name: 0.0 for name in names}
    for image, label in zip(images, labels, strict=True):
        log_probs = network(image[None])[0].log_softmax(0)
        for y in range(len(log_probs)) if kind == "model" else [int(label)]:
            weight = log_probs[y].exp().item() if kind == "model" else 1.0
            gradients = torch.autograd.grad(
                log_probs[y], list(network.parameters()), retain_graph=True
            )
            for name, gradient in zip(names, gradients, strict=True):
                total[name] = total[name] + weight * gradient.double().numpy() ** 2
    return {name: value / len(images) for name, value in total.items()}


class TwoLayers(nn.Module):
    """A fixed-size first layer makes each member's second layer see inputs of its own."""

    def __init__(self, second: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.second(x.mean((2, 3)) if isinstance(self.second, nn.Linear) else x)
