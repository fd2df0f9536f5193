"""The corruptions of ImageNet-C by name (Hendrycks and Dietterich 2019, arXiv 1903.12261)."""

from __future__ import annotations

from collections.abc import Iterable

SEVERITIES = (1, 2, 3, 4, 5)
GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
CORRUPTIONS = tuple(name for names in GROUPS.values() for name in names)
WORDS = (*CORRUPTIONS, *GROUPS, "all")


def spelled_out(words: Iterable[str]) -> tuple[str, ...]:
    """The corruptions that names and groups stand for, in the paper's order."""
    asked = {name for word in words for name in GROUPS.get(word, (word,))}
    return tuple(name for name in CORRUPTIONS if name in asked or "all" in asked)
