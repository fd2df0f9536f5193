"""Records in, tables out: a row a cell, nothing lost, what is broken told and left out."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from tests.support.records import write_cell
from wash_bench.errors import UsageError, WashBenchError
from wash_bench.report.read import frames
from wash_bench.report.read.summary import curves
from wash_bench.report.tables.main_table import main_tables

REQUIRED = [
    "preset",
    "dataset",
    "model",
    "method",
    "seed",
    "population",
    "status",
    "member_acc_mean",
    "member_acc_min",
    "member_acc_max",
    "ensemble_acc",
    "average_acc",
    "average_bn_acc",
    "greedy_acc",
    "greedy_size",
    "ensemble_nll",
    "ensemble_ece",
    "average_nll",
    "average_ece",
    "average_bn_nll",
    "average_bn_ece",
    "greedy_nll",
    "greedy_ece",
    "sent_values_per_step",
    "sent_bytes_total",
    "wire_bytes_total",
    "barrier_loss_max",
    "barrier_loss_mean",
    "barrier_acc_max",
    "consensus_distance",
    "train_seconds",
]


def test_summary_csv_has_a_row_a_cell_and_the_promised_columns(reported):
    table = pd.read_csv(reported / "summary.csv")
    assert set(REQUIRED) <= set(table.columns)
    assert list(table.columns[:7]) == REQUIRED[:7]
    assert len(table) == 19
    wash = table[(table["method"] == "wash") & (table["seed"] == 1)].iloc[0]
    noise = np.random.default_rng(1).normal(0, 0.3)
    assert wash["average_acc"] == pytest.approx(88.4 + noise)
    assert wash["greedy_members"] == "0 1 2"
    assert wash["init"] == "shared"
    assert json.loads(wash["options"]) == {"p": 0.05}
    failed = table[table["status"] == "failed"].iloc[0]
    assert failed["reason"] == "member 1: loss is nan at step 7 | lower --lr"
    assert math.isnan(failed["average_acc"])


def test_methods_that_share_a_training_share_its_events(recorded, reported):
    events = pd.read_csv(reported / "events.csv")
    assert list(events.columns) == [
        *("training_id", "methods", "dataset", "model", "seed", "population"),
        *("step", "epoch", "member", "metric", "value"),
    ]
    shared = events[events["methods"] == "greedy-soup;naive-ensemble"]
    # 8 epochs x (3 members x 2 metrics + 3 of the population) x 3 seeds, once.
    assert len(shared) == 8 * 9 * 3
    records = frames.load([recorded])
    names = curves(records.summary)
    assert names.groupby("curve")["training_id"].count().to_dict() == {
        "wash": 4,
        "wash-opt": 3,
        "papa": 3,
        "dart": 3,
        "greedy-soup, naive-ensemble": 3,
    }


def test_barrier_csv_keeps_every_point(reported):
    table = pd.read_csv(reported / "barrier.csv")
    # 16 trainings x 6 segments x 2 kinds of statistics x 11 points.
    assert len(table) == 16 * 6 * 2 * 11
    assert set(table["b"]) == {"1", "2", "average"}


def test_a_method_with_two_settings_gives_two_rows(tmp_path):
    for p in (0.05, 0.2):
        write_cell(tmp_path, "wash", 0, options={"p": p, "every": 1})
    (table,) = main_tables(frames.load([tmp_path]))
    assert table.frame()["method"].tolist() == ["wash (p=0.05)", "wash (p=0.2)"]


def test_broken_records_are_told_and_the_rest_is_reported(tmp_path):
    good = write_cell(tmp_path, "wash", 0)
    half = write_cell(tmp_path, "papa", 0)
    half.write_text(half.read_text()[:200])
    other = json.loads(good.read_text()) | {"schema": 99, "cell_id": "x"}
    (tmp_path / "cells" / "newer.json").write_text(json.dumps(other))
    (tmp_path / "cells" / "list.json").write_text("[]")
    bare = json.loads(good.read_text())
    del bare["config"]["training"]
    (tmp_path / "cells" / "bare.json").write_text(json.dumps(bare))
    del (bare := json.loads(good.read_text()))["config"]["training"]["lr"]
    bare["config"]["training"]["epochs"] = None
    (tmp_path / "cells" / "bare2.json").write_text(json.dumps(bare))
    (training,) = (tmp_path / "trainings").glob("wash-*")
    with (training / "events.jsonl").open("a") as log:
        log.write('{"step": 12, "epo')
    (barrier,) = training.glob("barrier-*.csv")
    barrier.write_text("kind,a\npair,0\n")
    (training / "environment.json").write_bytes(b"\xff\xfe")

    records = frames.load([tmp_path])
    assert records.summary["method"].tolist() == ["wash"]
    assert len(records.events) == 8 * 9
    told = "\n".join(records.warnings)
    for name in ("papa-s0", "newer.json", "list.json", "bare.json", "environment.json"):
        assert name in told
    assert f"{training / 'events.jsonl'}: broken at line 73" in told
    assert f"{barrier}: has no column b" in told
    assert "'config.training' is missing" in told
    assert "lacks lr, epochs" in told
    assert "this version of wash-bench reads 1" in told
    # A killed run's training has no cell yet: left out, but not in silence.
    assert "training without a cell" in told


def test_events_repeated_after_a_resume_count_once(tmp_path):
    write_cell(tmp_path, "papa", 0)
    (log,) = (tmp_path / "trainings").glob("*/events.jsonl")
    first = json.loads(log.read_text().splitlines()[0])
    with log.open("a") as file:
        file.write(json.dumps(first | {"value": -1.0}) + "\n")
    events = frames.load([tmp_path]).events
    assert len(events) == 8 * 9
    same = events[(events["step"] == first["step"]) & (events["metric"] == first["metric"])]
    assert same.loc[same["member"] == first["member"], "value"].tolist() == [-1.0]


def test_folders_of_run_folders_are_found_and_doubles_are_told(tmp_path):
    write_cell(tmp_path / "a", "wash", 0)
    write_cell(tmp_path / "b", "wash", 0)
    write_cell(tmp_path / "b", "wash", 1)
    records = frames.load([tmp_path])
    assert records.summary["seed"].tolist() == [0, 1]
    assert any("read before" in warning for warning in records.warnings)


def test_variants_are_named_by_what_sets_them_apart_a_wrappers_options_by_its_name(tmp_path):
    for share in (0.01, 0.1):
        options = {"alpha": 0.7, "topk": {"share": share}}
        write_cell(tmp_path, "papa+topk", 0, options=options)
    records = frames.load([tmp_path])
    found = set(records.summary["variant"])
    assert found == {"papa+topk (topk.share=0.01)", "papa+topk (topk.share=0.1)"}
    (told,) = [note for note in main_tables(records)[0].notes if note.startswith("Options")]
    assert told.startswith("Options: papa+topk: alpha=0.7 topk.share=0.0")


def test_a_folder_without_records_is_an_error_with_the_fix(tmp_path):
    with pytest.raises(WashBenchError, match="wash-bench run --out") as caught:
        frames.load([tmp_path])
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no folder"):
        frames.load([tmp_path / "absent"])
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "x.json").write_text("{")
    with pytest.raises(WashBenchError, match=r"no record can be read: .*x\.json"):
        frames.load([tmp_path])
