"""AutoAugment's CIFAR-10 policy (Cubuk et al. 2019) on a whole batch.

The policy, the operations and their fill (0) are torchvision's. Images that drew the same operation
and magnitude go through it together, which is what makes a batch affordable.
"""

import math
from collections import defaultdict
from functools import cache

import torch
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy
from torchvision.transforms.v2 import functional as F

LEVELS = 10
_SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"} | {
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
}


@cache
def cifar10_policy() -> tuple:
    """25 pairs of (operation, probability, level or None)."""
    return tuple(AutoAugment(AutoAugmentPolicy.CIFAR10).policies)


def auto_augment(images: Tensor, generator: torch.Generator, policy: tuple | None = None) -> Tensor:
    """Apply one random pair of the policy to each image.

    Args:
        images: (B, C, H, W) uint8, C 1 or 3.
        generator: CPU generator of this batch.
        policy: pairs of operations; None is the CIFAR-10 policy.

    Returns:
        (B, C, H, W) uint8, a new tensor.
    """
    policy = policy or cifar10_policy()
    batch, _, _, width = images.shape
    pairs = torch.randint(0, len(policy), (batch,), generator=generator).tolist()
    luck = torch.rand(2, batch, generator=generator).tolist()
    signs = torch.randint(0, 2, (2, batch), generator=generator).tolist()
    images = images.clone()
    for turn in range(2):
        groups: dict[tuple[str, float], list[int]] = defaultdict(list)
        for i, pair in enumerate(pairs):
            name, probability, level = policy[pair][turn]
            if luck[turn][i] < probability:
                sign = -1.0 if name in _SIGNED and signs[turn][i] else 1.0
                groups[name, sign * magnitude(name, level, width)].append(i)
        for (name, strength), members in groups.items():
            chosen = torch.tensor(members, device=images.device)
            images[chosen] = apply(name, images[chosen], strength)
    return images


@cache
def magnitude(name: str, level: int | None, side: int) -> float:
    """What level 0 to 9 of an operation means on images of ``side`` pixels."""
    # In torchvision's single precision: Brightness and its kind cut off fractions of grey values,
    # so that the last bit of a factor shows.
    if level is None:
        return 0.0
    match name:
        case "ShearX" | "ShearY":
            end = 0.3
        case "TranslateX" | "TranslateY":
            end = 150 / 331 * side
        case "Rotate":
            end = 30.0
        case "Brightness" | "Color" | "Contrast" | "Sharpness":
            end = 0.9
        case "Posterize":
            return 8.0 - round(4 * level / (LEVELS - 1))
        case "Solarize":
            return 255 * float(torch.linspace(1, 0, LEVELS)[level])
        case _:
            raise ValueError(f"operation {name!r} has no levels")
    return float(torch.linspace(0, end, LEVELS)[level])


def apply(name: str, images: Tensor, strength: float) -> Tensor:
    """One operation at one signed magnitude on (B, C, H, W) uint8 images."""
    match name:
        case "ShearX":
            return _affine(images, shear=[math.degrees(math.atan(strength)), 0.0], center=[0, 0])
        case "ShearY":
            return _affine(images, shear=[0.0, math.degrees(math.atan(strength))], center=[0, 0])
        case "TranslateX":
            return _affine(images, translate=[int(strength), 0])
        case "TranslateY":
            return _affine(images, translate=[0, int(strength)])
        case "Rotate":
            return F.rotate(images, strength)
        case "Brightness":
            return F.adjust_brightness(images, 1 + strength)
        case "Color":
            # Grey images have no colour to change; torchvision's saturation wants three channels.
            return F.adjust_saturation(images, 1 + strength) if images.shape[1] == 3 else images
        case "Contrast":
            return F.adjust_contrast(images, 1 + strength)
        case "Sharpness":
            return F.adjust_sharpness(images, 1 + strength)
        case "Posterize":
            return F.posterize(images, int(strength))
        case "Solarize":
            return F.solarize(images, strength)
        case "AutoContrast":
            return F.autocontrast(images)
        case "Equalize":
            return F.equalize(images)
        case "Invert":
            return F.invert(images)
    raise ValueError(f"unknown operation {name!r}")


def _affine(
    images: Tensor,
    *,
    translate: list[float] | None = None,
    shear: list[float] | None = None,
    center: list[float] | None = None,
) -> Tensor:
    move, slant = translate or [0, 0], shear or [0.0, 0.0]
    return F.affine(images, angle=0.0, translate=move, scale=1.0, shear=slant, center=center)
