"""Functions and classes of a program in place of names."""

from __future__ import annotations

import json
import linecache

import numpy as np
import pytest
from PIL import Image
from torch import nn

import wash_bench as wb
from wash_bench.core.method import Method
from wash_bench.errors import UsageError
from wash_bench.python_file import define

SHORT = {
    "train_limit": 96, "image_size": 16, "val_share": 0.1, "batch_size": 32, "population": 2,
    "device": "cpu", "threads": 1, "seeds": 0, "barrier_points": 3, "barrier_images": 20,
    "bn_images": 32, "barrier_bn_images": 32, "epochs": 1,
}  # fmt: skip


def build(num_classes: int, in_chans: int, image_size: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
    )


class Noise:
    classes = ("even", "odd")

    def __init__(self, split: str) -> None:
        self.targets = [index % 2 for index in range(100 if split == "train" else 30)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int):
        values = np.random.default_rng(index).integers(0, 256, (16, 16, 3))
        return Image.fromarray(values.astype("uint8")), self.targets[index]


class Half(Method):
    name, paper = "half", "a test"
    rule = "theta_n <- (theta_n + mean) / 2, every step"
    sends = "all weights, every step"

    def after_step(self, population, exchange, clock) -> None:
        population.weights.lerp_(exchange.mean(population.weights), 0.5)


@pytest.mark.slow
def test_a_run_takes_a_builder_a_data_set_and_a_method(tmp_path) -> None:
    given = SHORT | {"dataset": Noise, "model": build, "methods": ["wash", Half]}
    ran = wb.run(**given, out=tmp_path)
    assert len(ran.outcome.finished) == 2
    assert len(wb.run(**given, out=tmp_path).outcome.cached) == 2
    records = [json.loads(path.read_text()) for path in (tmp_path / "cells").glob("*.json")]
    assert {record["method"] for record in records} == {"wash", "half"}
    assert len(wb.table(tmp_path)) == 2
    with pytest.raises(UsageError, match="jobs=2: other processes do not have"):
        wb.run(**given, out=tmp_path, jobs=2)


def test_its_source_identifies_an_object() -> None:
    first = define(build)
    assert first == define(build)

    def build_too(num_classes, in_chans, image_size):
        return build(num_classes, in_chans, image_size)

    assert define(build_too) != first
    with pytest.raises(UsageError, match="define a function by def"):
        define(lambda num_classes, in_chans, image_size: None)
    with pytest.raises(UsageError, match="len has no source"):
        define(len)
    with pytest.raises(UsageError, match="stands for an object of another program"):
        wb.plan("digits", model="__build_00000000__.py:build", **SHORT)


def test_a_class_of_a_notebook_is_identified_by_its_part_of_the_cell() -> None:
    cells = []
    for number, other in enumerate(("x = 1", "x = 2")):
        text = f"{other}\nclass Rule:\n    def after_step(self):\n        return 1\n"
        name = f"<cell {number}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        scope = {"__name__": "__main__"}
        exec(compile(text, name, "exec"), scope)
        cells.append(define(scope["Rule"]))
    assert cells[0] == cells[1]
