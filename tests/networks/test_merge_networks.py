"""Networks that timm's training script left, merged: rows, barriers, the best one, resuming."""

from __future__ import annotations

import csv
import html
import json
import math
import re
import shlex
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tests.support.command import command
from tests.support.shared_folder import made_once
from tests.support.timm_networks import (
    CLASSES,
    N,
    accuracy_by_timm,
    load,
    merge,
    rows_of,
    transform_of,
)
from wash_bench.metrics import FURTHER, OF_MERGES, SUMMARY

RULES = ("uniform-soup", "greedy-soup")


@pytest.fixture(scope="module")
def merged(networks, tmp_path_factory) -> Path:
    class Nothing:
        @staticmethod
        def readouterr():
            return Namespace(out="", err="")

    def fill(out: Path) -> None:
        assert merge(Nothing(), networks, out)[0] == 0

    return made_once(tmp_path_factory, "merged", fill)


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
    member, merge = (next(row for row in order if row["kind"] == k) for k in ("member", "merge"))
    p, q = float(member["val_acc"]) / 100, float(merge["val_acc"]) / 100
    images = 0.4 * 40 * len(CLASSES)
    best = merge if q - p > math.sqrt((p * (1 - p) + q * (1 - q)) / images) else member
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
