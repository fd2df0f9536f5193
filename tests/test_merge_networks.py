"""Networks that timm's training script left, merged: rows, barriers, the best one, resuming."""

from __future__ import annotations

import csv
import html
import json
import re
import shlex
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from torch import nn

from tests.invoke import command
from tests.once import made_once
from wash_bench.evaluate.likeness import weight_cosine
from wash_bench.metrics import FURTHER, OF_MERGES, SUMMARY
from wash_bench.report.causes import why

CLASSES, SIDE, N = ("dots", "lines", "noise"), 32, 5
SHORT = ("--threads", "1", "--device", "cpu", "--val-share", "0.4", "--barrier-points", "3")
RULES = ("uniform-soup", "greedy-soup")


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


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    return made_once(tmp_path_factory, "timm-networks", make)


def merge(capsys, networks: Path, out: Path, *more: str, names: list[str] | None = None):
    names = names or [f"run{i}" for i in range(N)]
    paths = [str(networks / name) for name in names]
    data = ("--dataset", f"folder:{networks / 'data'}", "--out", str(out))
    return command(capsys, "merge", *paths, *data, *SHORT, *more)


@pytest.fixture(scope="module")
def merged(networks, tmp_path_factory) -> Path:
    class Nothing:
        @staticmethod
        def readouterr():
            return Namespace(out="", err="")

    def fill(out: Path) -> None:
        assert merge(Nothing(), networks, out)[0] == 0

    return made_once(tmp_path_factory, "merged", fill)


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "networks.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def accuracy_by_timm(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return 100 * (model.eval()(images).argmax(1) == labels).double().mean().item()


def test_each_member_and_each_rule_has_its_rows(merged, networks):
    rows = rows_of(merged)
    kinds = [(row["network"], row["batchnorm"]) for row in rows]
    names = [*(f"run{i}" for i in range(N)), *RULES]
    assert sorted(kinds) == sorted(
        (name, which) for name in names for which in ("as it is", "re-estimated")
    )
    images, labels = load(networks / "data", "val", transform_of(networks / "run0" / "args.yaml"))
    for row in rows:
        if row["kind"] == "member" and row["batchnorm"] == "as it is":
            path = networks / row["network"] / "model_best.pth.tar"
            model = timm.create_model("test_resnet", num_classes=3, checkpoint_path=path)
            own = accuracy_by_timm(model, images, labels)
            assert own == pytest.approx(float(row["acc"]), abs=0.01)


def test_records_are_those_of_a_run_and_the_soup_is_the_mean_of_the_files(merged, networks):
    cells = [json.loads(path.read_text()) for path in (merged / "cells").glob("*.json")]
    assert {(cell["method"], cell["status"]) for cell in cells} == {(r, "finished") for r in RULES}
    summary = next(cell["summary"] for cell in cells if cell["method"] == "uniform-soup")
    assert summary["method_acc"] == summary["average_acc"]
    states = [
        torch.load(networks / f"run{i}" / "model_best.pth.tar", weights_only=False)["state_dict"]
        for i in range(N)
    ]
    model = timm.create_model("test_resnet", num_classes=3)
    model.load_state_dict(
        {key: sum(s[key].double() for s in states).div(N).to(states[0][key]) for key in states[0]}
    )
    images, labels = load(networks / "data", "val", transform_of(networks / "run0" / "args.yaml"))
    assert accuracy_by_timm(model, images, labels) == pytest.approx(
        summary["average_acc"], abs=0.01
    )
    assert summary["weight_cosine"] == pytest.approx(_cosine(states), abs=1e-4)
    known = {metric.key for metric in (*SUMMARY, *FURTHER, *OF_MERGES)}
    found = {re.sub(r"(?<=^predictor_).+(?=_acc$)", "NAME", name) for name in summary}
    assert {metric.key for metric in OF_MERGES} <= found <= known
    assert "train_seconds" not in summary and "sent_bytes_total" not in summary


def _cosine(states: list[dict[str, torch.Tensor]]) -> float:
    vectors = [
        torch.cat([value.flatten().double() for value in state.values() if value.ndim > 1])
        for state in states
    ]
    pairs = [(a, b) for i, a in enumerate(vectors) for b in vectors[i + 1 :]]
    return float(np.mean([nn.functional.cosine_similarity(a, b, dim=0) for a, b in pairs]))


def test_the_barriers_of_all_pairs_are_a_matrix(merged):
    with (merged / "barriers.csv").open(newline="") as file:
        heading, *lines = csv.reader(file)
    assert heading == ["member", "network", *map(str, range(N))]
    assert [line[1] for line in lines] == [f"run{i}" for i in range(N)]
    matrix = np.array([line[2:] for line in lines], dtype=float)
    assert matrix.shape == (N, N)
    assert (matrix == matrix.T).all() and (np.diag(matrix) == 0).all()
    assert (matrix[~np.eye(N, dtype=bool)] > 0).all()  # they started apart
    (points,) = merged.glob("trainings/*/barrier-*.csv")
    with points.open(newline="") as file:
        found = [r for r in csv.DictReader(file) if (r["a"], r["b"], r["bn"], r["kind"]) ==
                 ("1", "3", "averaged", "pair")]  # fmt: skip
    middle, ends = found[1], (found[0], found[2])
    rise = float(middle["loss"]) - np.mean([float(end["loss"]) for end in ends])
    assert matrix[1, 3] == pytest.approx(max(rise, 0))


def test_the_best_is_chosen_on_validation_data_and_timm_scores_it_as_the_table(merged, networks):
    rows = rows_of(merged)
    order = sorted(rows, key=lambda row: (-float(row["val_acc"]), float(row["val_nll"])))
    best = order[0]
    config = json.loads((merged / "best" / "config.json").read_text())
    assert config["wash_bench"]["scores"]["acc"] == float(best["acc"])
    assert config["wash_bench"]["scores"]["nll"] == float(best["nll"])
    assert config["label_names"] == sorted(CLASSES)
    card = (merged / "best" / "README.md").read_text()
    assert f"Network {best['network']} of {N}, BatchNorm" in card
    model = timm.create_model(f"local-dir:{merged / 'best'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    images, labels = load(networks / "data", "val", transform)
    own = accuracy_by_timm(model, images, labels)
    assert own == pytest.approx(float(best["acc"]), abs=0.01)
    assert len({row["acc"] for row in rows}) > 3  # so that this tells networks apart


def test_the_report_says_what_was_not_trained_here_and_why_the_soup_fails(merged):
    text = (merged / "report" / "table.md").read_text()
    assert "trained elsewhere, nothing was trained here" in text
    assert "N = 5 members: 0 " in text and "run3/model_best.pth.tar" in text
    heading = next(line for line in text.splitlines() if line.startswith("| method"))
    assert "averaged, BN re-est." in heading
    assert not re.search(r"train s|MB|values sent", heading)
    assert "learning rate" not in text and "nan" not in text
    assert re.search(r"have a cosine of 0\.0\d, as networks that started apart", text)


def test_the_reports_command_measures_the_same_again(merged, tmp_path, capsys, monkeypatch):
    (line,) = [
        line
        for line in (merged / "report" / "commands.sh").read_text().splitlines()
        if line.startswith("wash-bench merge")
    ]
    words = shlex.split(line)
    assert "--mean" in words and "--val-share" in words and "--set" in words
    assert line in html.unescape((merged / "report" / "report.html").read_text())
    monkeypatch.chdir(tmp_path)
    code, _, err = command(capsys, *words[1:], "--threads", "1", "--no-report")
    assert code == 0, err
    again = tmp_path / words[words.index("--out") + 1]
    numbers = [
        sorted((Path(row["network"]).parts[0], *list(row.values())[1:-1]) for row in rows_of(out))
        for out in (again, merged)
    ]
    assert numbers[0] == numbers[1]
    ids = [sorted(path.name for path in (out / "cells").iterdir()) for out in (merged, again)]
    assert ids[0] == ids[1]


def test_a_second_run_measures_nothing_and_another_rule_alone_is_measured(
    merged, networks, tmp_path, capsys, monkeypatch
):
    from wash_bench.evaluate.evaluator import Evaluator

    out = tmp_path / "again"
    shutil.copytree(merged, out)
    before = {path: path.stat().st_mtime_ns for path in (out / "best").iterdir()}
    rows, calls, compute = rows_of(out), [], Evaluator.compute

    def counted(self, state, split, limit=0):
        calls.append(split)
        return compute(self, state, split, limit)

    monkeypatch.setattr(Evaluator, "compute", counted)
    code, told, err = merge(capsys, networks, out)
    assert (code, calls, err) == (0, [], "")
    assert rows_of(out) == rows
    assert {path: path.stat().st_mtime_ns for path in (out / "best").iterdir()} == before
    assert "Ensemble of all: test" in told

    code, _, err = merge(
        capsys, networks, out, "--methods", "uniform-soup,greedy-soup,median", "--no-report"
    )
    assert code == 0, err
    old = {(row["network"], row["batchnorm"]): row for row in rows}
    new = {(row["network"], row["batchnorm"]): row for row in rows_of(out)}
    assert new.keys() - old.keys() == {("median", "as it is"), ("median", "re-estimated")}
    assert all(new[key] == row for key, row in old.items())

    (out / "networks.csv").write_text("network,kind\nrun0,member\n")
    assert merge(capsys, networks, out, "--no-report")[0] == 0
    assert rows_of(out) == rows


def test_other_bytes_in_a_file_are_another_population(merged, networks, tmp_path, capsys):
    copied = tmp_path / "in"
    for name in ("run1", "run2", "run3"):
        shutil.copytree(networks / name, copied / name)
    shutil.copytree(networks / "data", copied / "data")
    names = ["run1", "run2"]
    assert merge(capsys, copied, tmp_path / "out", "--no-report", names=names)[0] == 0
    shutil.copy(copied / "run3" / "model_best.pth.tar", copied / "run2" / "model_best.pth.tar")
    assert merge(capsys, copied, tmp_path / "out", "--no-report", names=names)[0] == 0
    assert len(list((tmp_path / "out" / "trainings").iterdir())) == 2


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


def test_equal_starts_have_a_cosine_near_one_and_other_starts_near_zero():
    from wash_bench.core.population import Population

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return timm.create_model("test_resnet", num_classes=3)

    assert weight_cosine(Population(lambda _: build(0), 3)) == pytest.approx(1, abs=1e-5)
    assert abs(weight_cosine(Population(build, 3))) < 0.05


FALL = {"average_acc": 40.0, "member_acc_mean": 90.0, "average_bn_acc": 45.0,
        "member_bn_acc_mean": 91.0, "barrier_loss_max": 2.0, "weight_cosine": 0.01}  # fmt: skip


def test_the_cause_follows_the_numbers():
    assert "started apart" in why(FALL, 10) and "basin: the loss barrier" in why(FALL, 10)
    assert "started apart" not in why(FALL | {"weight_cosine": 0.8}, 10)
    lag = why(FALL | {"average_bn_acc": 88.0, "weight_cosine": 0.8, "barrier_loss_max": 1.0}, 10)
    assert "BatchNorm" in lag and "basin" not in lag
    assert why(FALL | {"average_acc": 85.0}, 10) == ""
    assert why(FALL | {"average_acc": 85.0}, 1) != ""
    plain = why(FALL | {"barrier_loss_max": 0.01}, 10)
    assert "basin" not in plain and "apart" not in plain and "40.0 %" in plain
