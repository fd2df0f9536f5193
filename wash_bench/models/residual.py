"""The small residual networks of the papers' small images, which timm does not have.

``resnet8``, ``resnet20``, ``resnet32``, ``resnet56``: the CIFAR networks of He et al. 2016
(arXiv 1512.03385, section 4.2): a 3x3 convolution, three stages of n = (depth - 2) / 6 basic blocks
with 16, 32 and 64 channels, and parameter-free shortcuts (option A: every second pixel, missing
channels zero). ``resnet20`` with 3 channels and 10 classes has 269,722 parameters (their table 6:
0.27 M). ``resnet10-narrow`` is not of a paper: four stages of one block with 16, 32, 64 and 128
channels and 1x1 projections as shortcuts (option B), whose weights all take part at 16 px.

Importing this module registers them with timm, so that ``timm.create_model`` builds them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional as F

from wash_bench.models.names import OWN_NETWORKS

__all__ = ["ResidualNet"]  # timm's registry appends to it

# Shapes. B: images, C: channels, H = W: side in pixels, K: classes.


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool) -> None:
        super().__init__()
        self.stride, self.missing = stride, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if project and (stride > 1 or self.missing):
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))
            self.stride, self.missing = 1, 0  # the projection does both

    def shortcut(self, x: Tensor) -> Tensor:
        """Bring (B, C, H, W) to the block's output shape."""
        x = self.downsample(x)
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.missing)) if self.missing else x

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResidualNet(nn.Module):
    """A residual network for small images.

    Args:
        blocks: basic blocks per stage.
        channels: channels per stage; the stem has those of the first.
        project: whether shortcuts that change shape are 1x1 convolutions (option B) or
            parameter-free (option A).
        num_classes: K.
        in_chans: channels of the images.
        width: factor on all channel counts, rounded.
    """

    def __init__(
        self,
        blocks: int,
        channels: tuple[int, ...],
        project: bool,
        num_classes: int = 1000,
        in_chans: int = 3,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        widths = [max(1, round(count * width)) for count in channels]
        self.num_classes, self.num_features = num_classes, widths[-1]
        self.conv1 = nn.Conv2d(in_chans, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        stages, inputs = [], widths[0]
        for stage, outputs in enumerate(widths):
            strides = [2 if stage else 1] + [1] * (blocks - 1)
            chain = []
            for stride in strides:
                chain.append(BasicBlock(inputs, outputs, stride, project))
                inputs = outputs
            stages.append(nn.Sequential(*chain))
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # He et al. 2015, arXiv 1502.01852
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def get_classifier(self) -> nn.Module:
        """Return the classifier, as timm's networks do."""
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to feature maps."""
        return self.stages(F.relu(self.bn1(self.conv1(x))))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.forward_features(x), 1), 1))


def _entry(name: str, build: Callable[..., ResidualNet]) -> Callable[..., ResidualNet]:
    """Return the function of a network as timm registers it."""

    def create(pretrained: bool = False, **kwargs: Any) -> ResidualNet:
        if pretrained:
            raise RuntimeError(f"{name} has no pretrained weights")
        for of_timm in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
            kwargs.pop(of_timm, None)
        return build(**kwargs)

    create.__name__ = create.__qualname__ = name
    return create


for _name, (_blocks, _channels, _project) in OWN_NETWORKS.items():
    register_model(_entry(_name, partial(ResidualNet, _blocks, _channels, _project)))
