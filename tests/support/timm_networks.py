"""Networks as timm's training script leaves them, and their merge by the command."""

from __future__ import annotations

import csv
from argparse import Namespace
from pathlib import Path

import numpy as np
import timm
import torch
import yaml
from PIL import Image
from torch import nn

from tests.support.command import command

CLASSES, SIDE, N = ("dots", "lines", "noise"), 32, 5
SHORT = ("--threads", "1", "--device", "cpu", "--val-share", "0.4", "--barrier-points", "3")


def pictures(folder: Path) -> None:
    """Class folders of images that a small network tells apart, not always."""
    draw = np.random.default_rng(0)
    patterns = draw.integers(0, 255, (len(CLASSES), 8, 8, 3)).repeat(4, 1).repeat(4, 2)
    for part, count in (("train", 40), ("val", 20)):
        for label, pattern in zip(CLASSES, patterns, strict=True):
            (folder / part / label).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(pattern + draw.normal(0, 110, pattern.shape), 0, 255)
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(folder / part / label / f"{i}.png")


def load(folder: Path, part: str, transform) -> tuple[torch.Tensor, torch.Tensor]:
    images = timm.data.create_dataset("", folder, split=part, transform=transform)
    return torch.stack([image for image, _ in images]), torch.tensor([y for _, y in images])


def trained(images: torch.Tensor, labels: torch.Tensor, seed: int, steps: int) -> nn.Module:
    torch.manual_seed(seed)
    model = timm.create_model("test_resnet", num_classes=len(CLASSES)).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    for _ in range(steps):
        batch = torch.randperm(len(images))[:24]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    return model


def left_by_timm(folder: Path, model: nn.Module) -> None:
    """What timm's train.py leaves of a training, as far as it is read."""
    args = {"model": "test_resnet", "num_classes": len(CLASSES), "img_size": SIDE,
            "mean": [0.4, 0.5, 0.6], "std": [0.3, 0.3, 0.2], "crop_pct": 1.0,
            "interpolation": "bilinear", "epochs": 3, "lr": 0.05}  # fmt: skip
    folder.mkdir()
    (folder / "args.yaml").write_text(yaml.safe_dump(args))
    kept = {"epoch": 3, "arch": "test_resnet", "state_dict": model.state_dict(),
            "version": 2, "args": Namespace(**args)}  # fmt: skip
    torch.save(kept, folder / "model_best.pth.tar")


def transform_of(args: Path):
    known = yaml.safe_load(args.read_text())
    return timm.data.create_transform(
        (3, SIDE, SIDE), mean=known["mean"], std=known["std"], crop_pct=1.0,
        interpolation="bilinear",
    )  # fmt: skip


def make(folder: Path) -> None:
    pictures(folder / "data")
    blank = timm.create_model("test_resnet", num_classes=len(CLASSES))
    left_by_timm(folder / "blank", blank)
    images, labels = load(folder / "data", "train", transform_of(folder / "blank" / "args.yaml"))
    for seed in range(N):  # the first sees little, so that the best is not the first
        left_by_timm(folder / f"run{seed}", trained(images, labels, seed, 6 if not seed else 50))


def merge(capsys, networks: Path, out: Path, *more: str, names: list[str] | None = None):
    names = names or [f"run{i}" for i in range(N)]
    paths = [str(networks / name) for name in names]
    data = ("--dataset", f"folder:{networks / 'data'}", "--out", str(out))
    return command(capsys, "merge", *paths, *data, *SHORT, *more)


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "networks.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def accuracy_by_timm(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return 100 * (model.eval()(images).argmax(1) == labels).double().mean().item()
