"""Networks whose units may be permuted."""

from __future__ import annotations

import copy

import torch
from torch import nn

from wash_bench.merging.permutation import permuted
from wash_bench.merging.unit_graph import permutation_groups
from wash_bench.models.build import build_model


def timm_network(name: str, stem: str = "cifar", **model_args) -> nn.Module:
    return build_model(
        name, classes=4, channels=3, size=32, stem=stem, model_args=model_args, seed_value=0
    )


def vgg(head: bool = False, seed: int = 0) -> nn.Module:
    """timm's VGG in small, with one linear layer behind the convolutions or its hidden head."""
    from timm.models.vgg import VGG

    torch.manual_seed(seed)
    config = [8, "M", 12, "M", 12, 16, "M", "M"]
    network = VGG(config, num_classes=4, norm_layer=nn.BatchNorm2d, mlp_ratio=0.002)
    if not head:
        network.pre_logits, network.head.fc = nn.Identity(), nn.Linear(16, 4)
    return network


def lived_in(network: nn.Module, images: torch.Tensor) -> nn.Module:
    """BatchNorm with parameters that differ and with the images' own statistics."""
    torch.manual_seed(3)
    layers = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for layer in layers:
        layer.weight.data.uniform_(0.5, 1.5)
        layer.bias.data.normal_(0, 0.3)
        layer.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(images)
    for layer in layers:
        layer.momentum = 0.1
    return network.eval()


def shuffled_copy(network: nn.Module, seed: int = 5) -> nn.Module:
    """The same function with its units in another order."""
    generator = torch.Generator().manual_seed(seed)
    _, groups = permutation_groups(network)
    orders = [torch.randperm(group.size, generator=generator) for group in groups]
    state = dict(network.state_dict())
    other = copy.deepcopy(network)
    other.load_state_dict(state | permuted(state, groups, orders))
    return other
