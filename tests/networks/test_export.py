"""Networks of cells for timm: what it loads scores what the record says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.support.command import command
from tests.support.runs import entries_of, records_of
from tests.support.shared_folder import made_once
from wash_bench.config import RunConfig, TrainingConfig
from wash_bench.data.readers import read_digits
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment

METHODS = ("greedy-soup", "naive-ensemble", "median")


@pytest.fixture(scope="module")
def run(tiny_module: RunConfig, tmp_path_factory) -> Path:
    def make(out: Path) -> None:
        run_experiment(tiny_module, entries_of(*METHODS), RunContext(out=out, threads=1))

    return made_once(tmp_path_factory, "exportable", make)


def cell_of(run: Path, method: str) -> dict:
    return records_of(run)[method, 0]


def exported(capsys, run: Path, out: Path, method: str, *more: str) -> dict:
    cell_id = cell_of(run, method)["cell_id"]
    code, _, err = command(
        capsys, "export", cell_id, "--runs", str(run), "--out", str(out), "--threads", "1", *more
    )
    assert code == 0, err
    return json.loads((out / "config.json").read_text())


def timm_transform(model) -> object:
    return timm.data.create_transform(**timm.data.resolve_model_data_config(model))


def digits_accuracy(model) -> float:
    """By timm's own transform on Pillow's images, one at a time."""
    arrays, transform = read_digits(None, False), timm_transform(model)
    right = 0
    with torch.no_grad():
        for image, label in zip(
            arrays.images[arrays.train :], arrays.labels[arrays.train :], strict=True
        ):
            picture = transform(Image.fromarray(image[..., 0]))
            right += int(model(picture[None]).argmax()) == label
    return 100 * right / (len(arrays.images) - arrays.train)


@pytest.mark.parametrize(
    ("which", "kind"),
    [("averaged", "average"), ("averaged-bn", "average_bn"), ("greedy-soup", "greedy")],
)
def test_timm_loads_the_network_and_scores_what_the_record_says(run, tmp_path, capsys, which, kind):
    exported(capsys, run, tmp_path, "median", "--network", which)
    by_folder = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    by_name = timm.create_model(
        "test_resnet", num_classes=10, in_chans=1, checkpoint_path=tmp_path / "model.safetensors"
    ).eval()
    recorded = cell_of(run, "median")["summary"][f"{kind}_acc"]
    # One image of 397 may turn: 8 pixels are resized by Pillow there, on tensors here.
    assert digits_accuracy(by_folder) == pytest.approx(recorded, abs=100 / 397 + 0.01)
    for one, two in zip(by_folder.parameters(), by_name.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_networks_of_one_cell_are_different_ones(run, tmp_path, capsys):
    kinds = ("delivered", "averaged", "averaged-bn", "member:0", "member:2")
    weights = {}
    for which in kinds:
        exported(capsys, run, tmp_path / which[-3:], "median", "--network", which)
        tensors = load_file(tmp_path / which[-3:] / "model.safetensors")
        weights[which] = torch.cat([t.flatten().double() for t in tensors.values()])
    values = [tuple(vector.tolist()) for vector in weights.values()]
    assert len(set(values)) == len(kinds)
    (state,) = (run / "trainings").glob("*/state-*")
    member = load_file(state / "member-2.safetensors")
    tensors = load_file(tmp_path / "r:2" / "model.safetensors")
    assert all(torch.equal(tensors[name], member[name]) for name in member)


@pytest.mark.parametrize("which", ["delivered", "averaged", "averaged-bn", "greedy-soup"])
def test_eval_gives_the_bits_of_the_record(run, tmp_path, capsys, which):
    record = cell_of(run, "median")
    kind = {"delivered": "method", "averaged": "average", "averaged-bn": "average_bn"}
    kind |= {"greedy-soup": "greedy"}
    expected = {s: record["summary"][f"{kind[which]}_{s}"] for s in ("acc", "nll", "ece", "brier")}
    named = ("eval", record["cell_id"], "--runs", str(run), "--network", which, "--threads", "1")
    code, out, err = command(capsys, *named, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {score: found[score] for score in expected} == expected
    assert (found["images"], found["dataset"], found["split"]) == (397, "digits", "test")
    assert command(capsys, *named)[1].count("yes") == 4

    exported(capsys, run, tmp_path, "median", "--network", which)
    found = json.loads(command(capsys, "eval", str(tmp_path), "--threads", "1", "--json")[1])
    assert {score: found[score] for score in expected} == expected


def test_eval_on_validation_data_is_what_chose_the_soup(run, capsys):
    record = cell_of(run, "greedy-soup")
    code, out, err = command(
        capsys, "eval", record["cell_id"], "--runs", str(run), "--split", "val", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["acc"] == record["summary"]["method_val_acc"]


def test_the_network_that_a_method_delivers_is_kept_and_needs_no_merging_again(run, capsys):
    record = cell_of(run, "median")
    kept = run / "trainings" / record["training_id"] / f"network-{record['cell_id']}.safetensors"
    code, out, _ = command(capsys, "eval", str(kept), "--json", "--threads", "1")
    assert code == 0
    assert json.loads(out)["nll"] == record["summary"]["method_nll"]


def test_the_card_has_the_numbers_and_the_commands(run, tmp_path, capsys):
    exported(capsys, run, tmp_path, "median", "--network", "averaged")
    record, text = cell_of(run, "median"), (tmp_path / "README.md").read_text()
    assert f"| accuracy (%) | {record['summary']['average_acc']:.2f} |" in text
    assert f"| loss (nats) | {record['summary']['average_nll']:.4f} |" in text
    assert f"wash-bench export {record['cell_id']} --network averaged" in text


@pytest.mark.parametrize(("which", "recorded"), [("member:1", False), ("averaged", True)])
def test_only_what_is_recorded_is_compared_with_the_record(run, capsys, which, recorded):
    cell = cell_of(run, "median")["cell_id"]
    base = ("eval", cell, "--runs", str(run), "--threads", "1", "--network", which)
    code, out, err = command(capsys, *base)
    assert (code, "the same bits" in out) == (0, recorded), err
    code, out, err = command(capsys, *base, "--ece-bins", "3")  # another measurement
    assert (code, "the same bits" in out) == (0, False), err


@pytest.mark.parametrize(
    ("method", "which", "part"),
    [
        ("naive-ensemble", "delivered", "delivers 3 networks"),
        ("median", "member:3", "members 0 to 2"),
        ("median", "avrage", "'averaged'"),
    ],
)
def test_what_is_no_network_of_a_cell_is_told_in_a_line(run, tmp_path, capsys, method, which, part):
    cell_id = cell_of(run, method)["cell_id"]
    code, out, err = command(
        capsys, "export", cell_id, "--runs", str(run), "--network", which, "--out", str(tmp_path)
    )
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert part in err


def test_cells_that_are_not_there_or_left_no_weights_are_told_of(run, tmp_path, capsys):
    code, _, err = command(capsys, "export", "wahs", "--runs", str(run), "--out", str(tmp_path))
    assert (code, err.count("\n")) == (2, 1)
    assert "no cell 'wahs'" in err
    copied = tmp_path / "records"
    shutil.copytree(run, copied, ignore=shutil.ignore_patterns("state*"))
    code, _, err = command(
        capsys, "export", "median", "--runs", str(copied), "--out", str(tmp_path / "out")
    )
    assert (code, err.count("\n")) == (1, 1)
    assert "a record alone holds no weights" in err
    code, _, err = command(capsys, "eval", str(tmp_path / "absent.pth"), "--dataset", "digits")
    assert (code, err.count("\n")) == (2, 1)
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    code, _, err = command(
        capsys, "eval", str(tmp_path / "bad.pth"), "--dataset", "digits", "--model", "test_resnet"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "bad.pth" in err


@pytest.mark.parametrize(("model", "size"), [("resnet10t", 32), ("resnet18", 16), ("vgg11", 32)])
def test_a_small_stem_is_told_of_and_the_cards_lines_build_it(tmp_path, capsys, model, size):
    config = RunConfig(
        training=TrainingConfig(
            dataset="digits", train_limit=64, image_size=size, model=model, stem="cifar",
            population=2, epochs=1, batch_size=32, device="cpu", val_share=0.1,
        )
    )  # fmt: skip
    from wash_bench.networks.timm_folder import Export, write_folder
    from wash_bench.runner.training_setup import TrainingSetup

    torch.manual_seed(0)
    setting = TrainingSetup.of(config.training)
    network = setting.network(0, 0).eval()
    tensors = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    write_folder(Export(setting, tensors, "a network", {"acc": 10.0}, ()), tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    scope: dict = {}
    exec(code.replace("model.safetensors", str(tmp_path / "model.safetensors")), scope)
    images = torch.rand(2, 1, size, size)
    with torch.no_grad():
        assert torch.equal(scope["model"](images), network(images))
    # Never another network without a word; timm 1.0.26 to 1.0.28 miss the tensor by its name.
    with pytest.raises((RuntimeError, KeyError)):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


@pytest.mark.parametrize("size", [24, 32, 64, 96, 160, 224])
def test_the_crop_that_is_written_makes_timms_transform_the_one_that_was_measured(size):
    from wash_bench.networks.timm_folder import crop_pct

    shorter = round(size * 256 / 224)
    assert int(size / crop_pct(size, shorter)) == shorter
    assert crop_pct(size, int(size / 0.95), 0.95) == 0.95
    assert crop_pct(size, size) == 1.0


def test_pictures_of_a_folder_score_the_same_in_timm(tmp_path, capsys):
    draw = np.random.default_rng(0)
    for part, count in (("train", 20), ("val", 15)):
        for label, low in (("dark", 0), ("light", 120)):
            folder = tmp_path / "images" / part / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(low, low + 136, (40 + i, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    config = RunConfig(
        training=TrainingConfig(
            dataset=f"folder:{tmp_path / 'images'}", image_size=32, model="test_vit", population=2,
            epochs=1, batch_size=8, lr=0.01, device="cpu", val_share=0.2, crop_pct=0.9,
            interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.4, 0.5, 0.6),
        )
    )  # fmt: skip
    out = tmp_path / "runs"
    run_experiment(config, entries_of("greedy-soup"), RunContext(out=out, threads=1))
    written = exported(capsys, out, tmp_path / "net", "greedy-soup", "--network", "member:0")
    assert written["label_names"] == ["dark", "light"]
    pictures = written["pretrained_cfg"]
    assert (pictures["crop_pct"], pictures["interpolation"]) == (0.9, "bicubic")
    model = timm.create_model(f"local-dir:{tmp_path / 'net'}", pretrained=True).eval()
    transform, losses = timm_transform(model), []
    with torch.no_grad():
        for label, name in enumerate(("dark", "light")):
            for path in sorted((tmp_path / "images" / "val" / name).glob("*.png")):
                logits = model(transform(Image.open(path).convert("RGB"))[None])
                losses.append(-torch.log_softmax(logits.double(), dim=1)[0, label].item())
    scores = written["wash_bench"]["scores"]
    assert np.mean(losses) == pytest.approx(scores["nll"], abs=1e-5)
