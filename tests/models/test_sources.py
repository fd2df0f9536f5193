"""Networks of torchvision, of transformers and of a file: train, resume, export, measure, merge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import wash_bench as wb
from tests.support.command import command
from tests.support.images import class_folders
from wash_bench.config import TrainingConfig
from wash_bench.errors import UsageError, WashBenchError
from wash_bench.models.build import build_model
from wash_bench.study.cells import Inputs

NETWORK = """
from torch import nn

def build(num_classes, in_chans, image_size, width=8):
    return nn.Sequential(
        nn.Conv2d(in_chans, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
    )

def nothing(num_classes, in_chans, image_size):
    return "no module"

def too_many(num_classes, in_chans, image_size):
    return build(num_classes + 1, in_chans, image_size)

def raises(num_classes, in_chans, image_size):
    raise KeyError("width")
"""
SHORT = {
    "train_limit": 96, "image_size": 32, "val_share": 0.1, "batch_size": 32, "population": 2,
    "device": "cpu", "threads": 1, "seeds": 0, "barrier_points": 3, "barrier_images": 20,
    "bn_images": 32, "barrier_bn_images": 32, "epochs": 1, "methods": "wash,greedy-soup",
}  # fmt: skip
VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "patch_size": 8,
}  # fmt: skip
RESNET = {
    "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic",
}  # fmt: skip


def own_file(folder: Path) -> str:
    (folder / "mine.py").write_text(NETWORK)
    return f"{folder}/mine.py:build"


def of_transformers(kind: str, folder: Path) -> str:
    transformers = pytest.importorskip("transformers", reason="pip install 'wash-bench[hf]'")
    config = getattr(transformers, f"{kind}Config")(**(VIT if kind == "ViT" else RESNET))
    config.save_pretrained(folder / kind)
    return f"transformers:{folder / kind}"


MODELS = {
    "a file": own_file,
    "torchvision": lambda folder: "torchvision:resnet18",
    "transformers, ResNet": lambda folder: of_transformers("ResNet", folder),
    "transformers, ViT": lambda folder: of_transformers("ViT", folder),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_a_network_from_elsewhere_goes_all_the_way(kind: str, tmp_path: Path, capsys) -> None:
    model, out = MODELS[kind](tmp_path), tmp_path / "runs"
    ran = wb.run("digits", model=model, out=out, **SHORT)
    assert len(ran.outcome.finished) == 2
    again = wb.run("digits", model=model, out=out, **SHORT)
    assert len(again.outcome.cached) == 2
    cell = next(name for name in ran.outcome.finished if name.startswith("wash"))
    assert str(tmp_path).strip("/").split("/")[0] not in cell  # no path in an id
    folders = []
    for member in range(2):
        folders.append(str(tmp_path / f"member{member}"))
        code, _, err = command(
            capsys, "export", cell, "--runs", str(out), "--network", f"member:{member}",
            "--out", folders[-1],
        )  # fmt: skip
        assert code == 0, err
    code, told, err = command(capsys, "eval", folders[0], "--threads", "1")
    assert code == 0, err
    assert told.count("yes") == 4  # the scores that the export wrote down

    merged = wb.merge(
        folders, methods="uniform-soup", out=tmp_path / "merged", threads=1, barrier_points=3,
        barrier_images=20, bn_images=32,
    )  # fmt: skip
    assert len(merged.rows) >= 3
    network = build_model(model, classes=10, channels=1, size=32, seed_value=0)
    from safetensors.torch import load_file

    network.load_state_dict(load_file(f"{folders[0]}/model.safetensors"))


def test_weights_follow_the_seed_and_shapes_the_data(tmp_path: Path) -> None:
    for make in MODELS.values():
        model = make(tmp_path)
        for channels in (1, 3):
            first, same, other = (
                build_model(model, classes=5, channels=channels, size=32, seed_value=seed)
                for seed in (0, 0, 1)
            )
            ours, theirs = (list(net.state_dict().values()) for net in (first, same))
            assert all(map(torch.equal, ours, theirs))
            assert not all(map(torch.equal, ours, other.state_dict().values()))
            assert first(torch.rand(2, channels, 32, 32)).shape == (2, 5)


def test_a_file_is_known_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        own_file(tmp_path / name)

    def about(name: str) -> str:
        config = TrainingConfig(dataset="digits", model=f"{tmp_path / name}/mine.py:build")
        return Inputs(config).about["model"]

    assert about("one") == about("two")
    changed = tmp_path / "two" / "mine.py"
    changed.write_text(changed.read_text().replace("width=8", "width=16"))
    assert about("one") != about("two")


@pytest.mark.parametrize("key", ["model", "dataset"])
def test_a_file_that_changes_while_a_run_trains_stops_it(key: str, tmp_path: Path) -> None:
    inputs = Inputs(TrainingConfig(**({"dataset": "digits"} | {key: own_file(tmp_path)})))
    assert "mine.py:build@" in str(inputs.about)
    inputs.check_unchanged()
    Path(tmp_path, "mine.py").write_text(NETWORK + "\n")
    with pytest.raises(WashBenchError, match="has changed since the run began"):
        inputs.check_unchanged()


WRONG = {
    "{file}:bild": "has no function 'bild'; it has build, nothing, too_many, raises",
    "{file}:nothing": "returns a str, not a module",
    "{file}:too_many": "returns shape (2, 11) for 2 images and 10 classes",
    "{file}:raises": "cannot be built for 32x32 images: KeyError 'width'",
    "{folder}/absent.py:build": "does not exist",
    "{folder}/broken.py:build": "does not import: SyntaxError",
    "torchvision:": "lacks its name",
    "torchvision:resnet19": "did you mean 'resnet18'",
    "torchvision:fcn_resnet50": "",
    "transformers:{folder}": "with a config.json, and the hub's cache has no",
    "keras:resnet50": "write torchvision:NAME, transformers:PATH_OR_ID or FILE.py:FUNCTION",
}


@pytest.mark.parametrize("model", WRONG)
def test_what_is_no_network_is_refused_in_one_line_before_training(
    model: str, tmp_path: Path
) -> None:
    if model.startswith("transformers"):
        pytest.importorskip("transformers", reason="pip install 'wash-bench[hf]'")
    own_file(tmp_path)
    (tmp_path / "broken.py").write_text("def build(:\n")
    named = model.format(file=tmp_path / "mine.py", folder=tmp_path)
    with pytest.raises(UsageError) as error:
        wb.run("digits", model=named, out=tmp_path / "runs", **SHORT)
    assert WRONG[model] in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "runs").glob("cells/*"))


@pytest.mark.slow
def test_pretrained_weights_bring_their_preprocessing(tmp_path: Path, monkeypatch) -> None:
    """Weights lie where torch's hub keeps them; nothing is downloaded."""
    from torchvision.models import ShuffleNet_V2_X0_5_Weights, shufflenet_v2_x0_5

    images = class_folders(tmp_path / "images", 20, 40, 36)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    short = {key: value for key, value in SHORT.items() if key not in ("train_limit", "epochs")}
    given = short | {
        "dataset": f"folder:{images}", "model": "torchvision:shufflenet_v2_x0_5",
        "init": "pretrained", "epochs": 1, "batch_size": 8,
    }  # fmt: skip
    with pytest.raises(UsageError, match="--download fetches them"):
        wb.plan(**given)
    name = ShuffleNet_V2_X0_5_Weights.DEFAULT.url.rpartition("/")[2]
    file = tmp_path / "hub" / "hub" / "checkpoints" / name
    file.parent.mkdir(parents=True)
    torch.save(shufflenet_v2_x0_5().state_dict(), file)
    ran = wb.run(**given, out=tmp_path / "runs")
    training = json.loads(next((tmp_path / "runs" / "cells").glob("*.json")).read_text())
    settings = training["config"]["training"]
    assert settings["mean"] == [0.485, 0.456, 0.406] and settings["crop_pct"] == 224 / 256
    assert len(ran.outcome.finished) == 2
