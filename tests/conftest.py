"""What the tests share: small networks, small settings, one thread."""

from __future__ import annotations

import hypothesis
import pytest
import torch

from wash_bench.config import EvaluationConfig, RunConfig, TrainingConfig

torch.set_num_threads(1)
# The same examples at every run, and no timing: these machines are shared.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("suite")


@pytest.fixture
def tiny() -> RunConfig:
    """An experiment of seconds: two epochs of digits on the smallest residual network."""
    return _tiny()


@pytest.fixture(scope="module")
def tiny_module() -> RunConfig:
    """The same, for fixtures that live as long as a module."""
    return _tiny()


def _tiny() -> RunConfig:
    return RunConfig(
        preset="tiny",
        seeds=(0,),
        training=TrainingConfig(
            dataset="digits",
            train_limit=300,
            image_size=16,
            val_share=0.1,
            model="test_resnet",
            stem="keep",
            epochs=2,
            batch_size=32,
            lr=0.05,
            device="cpu",
            init="shared",
        ),
        evaluation=EvaluationConfig(
            barrier_points=3, barrier_images=50, bn_images=64, barrier_bn_images=64
        ),
    )
