"""What the tests share: small networks, small settings, one thread."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import torch

from tests.support import timm_networks
from tests.support.method_files import METHOD
from tests.support.paper_files import OWN, TINY
from tests.support.records import FACTS, write_cell
from tests.support.shared_folder import made_once
from wash_bench.config import EvaluationConfig, RunConfig, TrainingConfig

torch.set_num_threads(1)
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # of processes that tests start
# The same examples at every run, and no timing: these machines are shared.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("suite")


@pytest.fixture
def tiny() -> RunConfig:
    """An experiment of seconds: two epochs of digits on the smallest residual network."""
    return _tiny()


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks that timm's training script left, with their images (support/timm_networks.py)."""
    return made_once(tmp_path_factory, "timm-networks", timm_networks.make)


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


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Path:
    """The records of six methods at three seeds, and of one cell that failed."""

    def make(out: Path) -> None:
        for method in FACTS:
            for seed in range(3):
                write_cell(out, method, seed)
        reason = "member 1: loss is nan at step 7 | lower --lr"
        write_cell(out, "wash", 3, status="failed", reason=reason)

    return made_once(tmp_path_factory, "recorded", make)


@pytest.fixture(scope="session")
def reported(recorded, tmp_path_factory) -> Path:
    """Their report."""
    from wash_bench.report.write import write_report

    return made_once(tmp_path_factory, "reported", lambda out: write_report([recorded], out))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Random images for networks whose units are matched."""
    return torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(METHOD)
    return path


@pytest.fixture(scope="module")
def tiny_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "tiny.toml"
    path.write_text(TINY)
    path.with_name("own.csv").write_text(OWN)
    return path
