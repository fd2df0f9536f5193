"""Members that start from a checkpoint see pictures as its network was trained to see them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file

from tests.support.images import class_folders
from wash_bench.api.runs import resolved
from wash_bench.config import RunConfig

OWN = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bicubic",
       "crop_pct": 0.95, "input_size": [3, 48, 48]}  # fmt: skip


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "data", 20, 60, 50)


def _checkpoint(folder: Path, config: bool = True) -> Path:
    folder.mkdir()
    model = timm.create_model("test_resnet", num_classes=2)
    save_file(model.state_dict(), folder / "model.safetensors")
    if config:
        about = {"architecture": "test_resnet", "num_classes": 2, "pretrained_cfg": OWN}
        (folder / "config.json").write_text(json.dumps(about))
    return folder / "model.safetensors"


def _config(pictures: Path, **options: object) -> tuple[RunConfig, str]:
    given = {"dataset": f"folder:{pictures}", "model": "test_resnet", "device": "cpu",
             "batch_size": 8, "methods": "wash", **options}  # fmt: skip
    found = resolved(None, None, given)
    return found.config, found.origin


def test_what_lies_beside_the_weights_says_how(pictures: Path, tmp_path: Path) -> None:
    path = _checkpoint(tmp_path / "own")
    config, origin = _config(pictures, init=f"checkpoint:{path}")
    training = config.training
    assert (training.mean, training.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (training.interpolation, training.crop_pct) == ("bicubic", 0.95)
    assert training.image_size == 48
    assert f"Pictures as {path.parent / 'config.json'} says" in origin and "--mean" in origin


def test_what_the_user_chose_stays(pictures: Path, tmp_path: Path) -> None:
    path = _checkpoint(tmp_path / "own")
    config, origin = _config(pictures, init=f"checkpoint:{path}", image_size=64, mean="0.5,0.5,0.5")
    assert config.training.image_size == 64 and config.training.mean == (0.5, 0.5, 0.5)
    assert config.training.std == (0.4, 0.5, 0.6)
    assert "--image-size" not in origin.partition("Pictures")[2]


def test_bare_weights_are_taken_as_timm_s_own(pictures: Path, tmp_path: Path) -> None:
    path = _checkpoint(tmp_path / "bare", config=False)
    config, origin = _config(pictures, init=f"checkpoint:{path}")
    own = timm.data.resolve_data_config({}, model=timm.create_model("test_resnet"))
    assert config.training.mean == own["mean"] and config.training.std == own["std"]
    assert config.training.crop_pct == own["crop_pct"]
    assert config.training.image_size == own["input_size"][1]
    assert "Pictures as timm's test_resnet says" in origin


def test_without_a_checkpoint_and_for_arrays_nothing_changes(
    pictures: Path, tmp_path: Path
) -> None:
    config, origin = _config(pictures)
    assert config.training.mean is None and "Pictures" not in origin
    path = _checkpoint(tmp_path / "own")
    digits = resolved("digits", None, {"init": f"checkpoint:{path}", "methods": "wash"})
    assert digits.config.training.mean is None and "Pictures" not in digits.origin


# Timm's own weights ------------------------------------------------------------------------------

REPOSITORY, COMMIT = "models--timm--test_resnet.r160_in1k", "0" * 40


def _cached(home: Path, weights: Path) -> Path:
    """A cache of the Hugging Face hub that holds the weights of test_resnet, as it lays it out."""
    folder = home / "hub" / REPOSITORY
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    return Path(shutil.copy2(weights, folder / "snapshots" / COMMIT / "model.safetensors"))


def _command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    own = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "TORCH_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "wash_bench", *arguments],
        env=os.environ | own, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_timm_s_weights_are_taken_from_the_cache(pictures: Path, tmp_path: Path) -> None:
    kept = _cached(tmp_path / "home", _checkpoint(tmp_path / "bare", config=False))
    out = tmp_path / "out"
    done = _command(
        tmp_path / "home", "run", f"--dataset=folder:{pictures}", "--model=test_resnet",
        "--init=pretrained", "--methods=naive-ensemble", "--epochs=1", "--batch-size=8",
        "--image-size=64", "--population=2", "--device=cpu", "--val-share=0.2", "--threads=1",
        "--barrier-points=3", "--barrier-images=4", "--bn-images=8", "--barrier-bn-images=8",
        "--jobs=1", f"--out={out}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"Starts from timm's weights test_resnet.r160_in1k ({kept})." in done.stdout
    assert "Pictures as timm's test_resnet says" in done.stdout
    record = json.loads(next((out / "cells").iterdir()).read_text())
    assert record["config"]["training"]["init"] == f"checkpoint:{kept}"
    table = (out / "report" / "table.md").read_text(encoding="utf-8")
    assert "initial weights of checkpoint timm/test\\_resnet.r160\\_in1k" in table or (
        "initial weights of checkpoint timm/test_resnet.r160_in1k" in table
    )


@pytest.mark.fault(
    "Checkpoints and code",
    "`--init pretrained` where the weights are in no cache, or there are none",
    "one line that names them, and `--download`",
)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("test_resnet", "timm's weights test_resnet.r160_in1k: they are in no cache"),
        ("resnet10t_nope", "unknown model"),
    ],
)
def test_weights_that_are_not_there_are_told(tmp_path: Path, model: str, words: str) -> None:
    done = _command(tmp_path, "plan", "digits", f"--model={model}", "--init=pretrained")
    assert done.returncode == 2 and words in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1
