"""What can be merged, and what is refused in a line: files of several kinds, and names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import timm
import torch
import yaml

from tests.support.timm_networks import (
    SIDE,
    accuracy_by_timm,
    load,
    merge,
    rows_of,
    transform_of,
)


def refused(capsys, networks: Path, out: Path, *more: str, names: list[str]) -> str:
    code, _, err = merge(capsys, networks, out, *more, names=names)
    assert (code, err.count("\n")) == (2, 1), err
    return err


def test_what_does_not_fit_is_named_by_file_and_tensor(networks, tmp_path, capsys):
    other = tmp_path / "in"
    shutil.copytree(networks / "run1", other / "run1")
    (other / "data").symlink_to(networks / "data")
    path = networks / "run2" / "model_best.pth.tar"
    state = torch.load(path, weights_only=False)["state_dict"]
    for name, changed, parts in (
        ("shape", {"fc.bias": torch.zeros(4)}, ("fc.bias (4,) instead of (3,)",)),
        ("nan", {"conv1.0.weight": state["conv1.0.weight"] * float("nan")},
         ("conv1.0.weight", "not finite")),
        ("more", {"fc2.bias": torch.zeros(4)}, ("fc2.bias",)),
    ):  # fmt: skip
        torch.save(state | changed, other / f"{name}.pth")
        names = ["run1", f"{name}.pth"]
        told = refused(capsys, other, tmp_path / name, "--model", "test_resnet", names=names)
        assert all(part in told for part in (f"{name}.pth", *parts)), told
        assert not list((tmp_path / name).glob("trainings/*/state.json"))
    vit = timm.create_model("test_vit", num_classes=3)
    torch.save(vit.state_dict(), other / "vit.pth")
    told = refused(capsys, other, tmp_path / "x", names=["run1", "vit.pth"])
    assert "vit.pth" in told and "does not fit model 'test_resnet'" in told


@pytest.mark.parametrize(
    ("more", "names", "part"),
    [
        (("--methods", "wash"), ["run0", "run1"], "--methods wash: it trains"),
        (("--methods", "greedy-soup,papa"), ["run0", "run1"], "--methods papa: it trains"),
        ((), ["run0"], "at least two networks"),
        ((), ["run0", "run1", "run0"], "run0 is named twice"),
        ((), ["run0", "gone"], "gone: there is no such file"),
        (("--anchor", "gone.pth"), ["run0", "run1"], "gone.pth: there is no such file"),
        (("--set", "trimmed-mean.trim=1,2"), ["run0", "run1"], "--set"),
        *(
            (("--methods", f"uniform-soup,{rule}"), ["run0", "run1"], f"{rule!r} needs members")
            for rule in ("model-stock", "ties", "dare", "task-arithmetic", "wise-ft")
        ),
    ],
)
def test_what_cannot_be_merged_is_refused_in_a_line(networks, tmp_path, capsys, more, names, part):
    assert part in refused(capsys, networks, tmp_path / "out", *more, names=names)


def test_files_of_other_kinds_and_an_anchor(networks, tmp_path, capsys):
    """A file of torch.save, a Lightning checkpoint and an exported folder are one population."""
    from safetensors.torch import save_file

    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "data").symlink_to(networks / "data")
    state = [
        torch.load(networks / f"run{i}" / "model_best.pth.tar", weights_only=False)["state_dict"]
        for i in (1, 2, 3)
    ]
    torch.save({f"module.{key}": value for key, value in state[0].items()}, folder / "a.pth")
    torch.save(
        {"state_dict": {f"model.{key}": value for key, value in state[1].items()}, "epoch": 3},
        folder / "b.ckpt",
    )
    save_file(state[2], folder / "c.safetensors")
    names = ["a.pth", "b.ckpt", "c.safetensors"]
    args = yaml.safe_load((networks / "run1" / "args.yaml").read_text())
    listed = {key: ",".join(map(str, args[key])) for key in ("mean", "std")}
    code, _, err = merge(
        capsys, folder, tmp_path / "out", "--model", "test_resnet", "--image-size", str(SIDE),
        "--mean", listed["mean"], "--std", listed["std"], "--crop-pct", "1",
        "--interpolation", "bilinear", "--no-report", "--methods", "uniform-soup,model-stock",
        "--anchor", str(networks / "blank"), names=names,
    )  # fmt: skip
    assert code == 0, err
    members = {row["network"]: row for row in rows_of(tmp_path / "out")
               if row["batchnorm"] == "as it is"}  # fmt: skip
    assert [*members] == [*names, "uniform-soup", "model-stock"]
    images, labels = load(networks / "data", "val", transform_of(networks / "run1" / "args.yaml"))
    for name, tensors in zip(names, state, strict=True):
        model = timm.create_model("test_resnet", num_classes=3)
        model.load_state_dict(tensors)
        own = accuracy_by_timm(model, images, labels)
        assert own == pytest.approx(float(members[name]["acc"]), abs=0.01)
    exported = tmp_path / "out" / "best"
    (folder / "best").symlink_to(exported)
    code, _, err = merge(
        capsys, folder, tmp_path / "further", "--no-report", "--model", "test_resnet",
        names=["best", "c.safetensors"],
    )  # fmt: skip
    assert code == 0, err
