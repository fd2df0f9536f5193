"""Corrupted test images: how much of its accuracy each network keeps under ImageNet-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wash_bench.config import EvaluationConfig
from wash_bench.core.population import ModelState
from wash_bench.data.corruptions.corrupt import SMALLEST, corrupt
from wash_bench.data.corruptions.published import SHAPE, Published
from wash_bench.data.source import DataSource
from wash_bench.errors import UsageError
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.scores import accuracy, mean_of_probabilities, nll

BATCH = 250  # images that share a random stream; another number would give other images

# Shapes. B: images of a batch, C: channels, H = W: side in pixels.


@dataclass(frozen=True)
class CorruptionPoint:
    """Networks under one corruption at one severity.

    Attributes:
        corruption: its name.
        severity: 1 to 5.
        network: ``member`` (mean over the members), ``ensemble``, ``average``, ``average_bn``.
        images: how many test images.
        loss: mean cross-entropy in nats.
        accuracy: in per cent.
    """

    corruption: str
    severity: int
    network: str
    images: int
    loss: float
    accuracy: float

    as_dict = asdict


class CorruptedImages:
    """The test images of a data set under the corruptions that are asked for.

    A UsageError if the images are too small or of another number of channels, or of published
    files, if these are not of the data set.

    Args:
        data: the data set.
        config: which corruptions, how many images, and where published files lie.
    """

    def __init__(self, data: DataSource, config: EvaluationConfig) -> None:
        if data.size < SMALLEST or data.channels not in (1, 3):
            raise UsageError(
                f"--corruptions needs images of {SMALLEST} px or more with 1 or 3 channels, not"
                f" {data.size} px with {data.channels}"
            )
        self._data = data
        self.limit = config.corruption_images
        self._positions = data.eval_positions("test", self.limit)
        self._published = None
        if config.corruption_dir:
            if (data.size, data.size, data.channels) != SHAPE:
                raise UsageError(
                    "--corruption-dir holds pictures of 32 px in colour; leave --image-size and"
                    " --dataset at CIFAR's, or leave the folder out"
                )
            folder = Path(config.corruption_dir).expanduser()
            labels = data.split_labels["test"]
            self._published = Published(folder, config.corruption_names, labels)

    def batches(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The number of each batch, its images as they are, and its labels."""
        batches = self._data.eval_batches("test", self.limit, BATCH)
        for number, (images, labels) in enumerate(batches):
            yield number, images, labels

    def corrupted(self, number: int, images: Tensor, name: str, severity: int) -> Tensor:
        """Images (B, C, H, W) of a batch under a corruption, normalized, on their device."""
        if self._published:
            at = self._positions[number * BATCH : number * BATCH + len(images)]
            return self._normalized(self._published.images(name, severity, at), images)
        mean, std = self._scale(images)
        pixels = (images * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)
        pixels = pixels.permute(0, 2, 3, 1).cpu().numpy()
        return self._normalized(corrupt(pixels, name, severity, number), images)

    def _normalized(self, pixels: np.ndarray, like: Tensor) -> Tensor:
        mean, std = self._scale(like)
        images = torch.from_numpy(pixels).to(like.device).permute(0, 3, 1, 2)
        return (
            images.float().div(255).sub(mean).div(std).contiguous(memory_format=torch.channels_last)
        )

    def _scale(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (
            torch.tensor(values, device=like.device)[:, None, None]
            for values in (self._data.mean, self._data.std)
        )
        return mean, std


def corruption_points(
    evaluator: Evaluator,
    members: Sequence[ModelState],
    merged: Mapping[str, ModelState],
    config: EvaluationConfig,
    pulse: Callable[[int, int], None] = lambda done, total: None,
) -> list[CorruptionPoint]:
    """Measure members, their ensemble and merged networks under each corruption and severity.

    Args:
        evaluator: runs the states.
        members: of the population.
        merged: further networks by name.
        config: what is asked for.
        pulse: is told how many batches are done, of how many.

    Returns:
        The points; a UsageError as ``CorruptedImages``.
    """
    source = CorruptedImages(evaluator.data, config)
    kinds = [(name, s) for name in config.corruption_names for s in config.corruption_severities]
    sums: dict[tuple[str, int, str], Tensor] = {}
    images = len(evaluator.data.eval_positions("test", source.limit))
    done, total = 0, len(kinds) * -(-images // BATCH)
    for number, clean, labels in source.batches():
        for name, severity in kinds:
            batch = [(source.corrupted(number, clean, name, severity), labels)]
            for network, scores in _scores(evaluator, members, merged, batch).items():
                key = (name, severity, network)
                sums[key] = sums.get(key, torch.zeros(2, dtype=torch.float64))
                sums[key] += len(labels) * scores
            done += 1
            pulse(done, total)
    return [
        CorruptionPoint(*key, images, *(found / images).tolist()) for key, found in sums.items()
    ]


def _scores(
    evaluator: Evaluator,
    members: Sequence[ModelState],
    merged: Mapping[str, ModelState],
    batch: list[tuple[Tensor, Tensor]],
) -> dict[str, Tensor]:
    """Loss and accuracy of each network on one batch."""
    labels = batch[0][1].cpu()

    def scores(log_probs: Tensor) -> Tensor:
        return torch.tensor(
            [nll(log_probs, labels), accuracy(log_probs, labels)], dtype=torch.float64
        )

    each = [evaluator.outputs(member, batch)[0] for member in members]
    found = {
        "member": torch.stack([scores(log_probs) for log_probs in each]).mean(dim=0),
        "ensemble": scores(mean_of_probabilities(each)),
    }
    return found | {
        name: scores(evaluator.outputs(state, batch)[0]) for name, state in merged.items()
    }


def corruption_summary(points: Sequence[CorruptionPoint]) -> dict[str, float]:
    """Means over all corruptions and severities, under the names of ``metrics.py``."""
    found = {}
    for network in dict.fromkeys(point.network for point in points):
        own = [point for point in points if point.network == network]
        found[f"corrupted_{network}_acc"] = sum(p.accuracy for p in own) / len(own)
        found[f"corrupted_{network}_nll"] = sum(p.loss for p in own) / len(own)
    return found
