"""Run folders of the version before are gone on with and reported; newer ones are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.records import write_cell
from tests.support.runs import stop_after_an_epoch
from wash_bench.config import RunConfig
from wash_bench.errors import WashBenchError
from wash_bench.files import read_json, write_json
from wash_bench.plugins.registry import find_method
from wash_bench.record.schema import SCHEMA, UnknownSchema, current
from wash_bench.record.store import Store
from wash_bench.report.read import frames
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment

TALLY_1 = {"events": 2, "values": 30, "wire_bytes": 160, "variance": 0.0}
TALLY_2 = TALLY_1 | {"sent_bytes": 120}
TIMES = {"train_seconds", "eval_seconds", "merge_seconds"}


def _as_version_1(out: Path) -> None:
    """Take out of a run folder what version 2 brought."""
    for path in out.rglob("*.json"):
        data = {k: v for k, v in read_json(path).items() if k not in ("checksum", "sha256")}
        if path.parent.name != "cells":  # they had a version before
            data.pop("schema", None)
        else:
            data["schema"] = 1
        for tallies in (
            data.get("exchanges"),
            data.get("notes", {}).get("ledger"),
            data.get("summary", {}).get("exchanges"),
        ):
            for tally in (tallies or {}).values():
                del tally["sent_bytes"]
        write_json(path, data)
    for path in out.glob("trainings/*/events.jsonl"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not re.search("schema|sent_bytes", line)))
        state = read_json(path.parent / "state.json")
        state["notes"]["events_bytes"] = path.stat().st_size
        write_json(path.parent / "state.json", state)


def _summary(out: Path) -> dict[str, Any]:
    (cell,) = out.glob("cells/*.json")
    return {key: value for key, value in read_json(cell)["summary"].items() if key not in TIMES}


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("cell", {"schema": 1, "summary": {}}, {"summary": {}}),
        (
            "cell",
            {"schema": 1, "summary": {"exchanges": {"mean/weights": TALLY_1}}},
            {"summary": {"exchanges": {"mean/weights": TALLY_2}}},
        ),
        ("evaluation", {"exchanges": {"a/b": TALLY_1}}, {"exchanges": {"a/b": TALLY_2}}),
        ("state", {"notes": {"ledger": {"a/b": TALLY_1}}}, {"notes": {"ledger": {"a/b": TALLY_2}}}),
        ("events", {"step": 3}, {"step": 3}),
    ],
)
def test_files_of_version_1_are_read_as_today_s(kind, old, new) -> None:
    assert current(kind, old) == new | {"schema": SCHEMA}
    assert current(kind, current(kind, old)) == current(kind, old)


@pytest.mark.parametrize("version", [0, SCHEMA + 1, "2", None, []])
def test_other_versions_are_refused(version) -> None:
    with pytest.raises(UnknownSchema, match=f"this version of wash-bench reads 1 to {SCHEMA}"):
        current("cell", {"schema": version})


@pytest.mark.slow
def test_a_training_of_version_1_goes_on_to_the_same_bits(tiny: RunConfig, tmp_path: Path) -> None:
    entries, (whole, old) = [find_method("wash-opt")], (tmp_path / "whole", tmp_path / "old")
    run_experiment(tiny, entries, RunContext(out=whole, threads=1))
    stop_after_an_epoch(tiny, entries, old)
    _as_version_1(old)
    assert run_experiment(tiny, entries, RunContext(out=old, threads=1)).finished
    assert _summary(old) == _summary(whole)
    for path in whole.glob("trainings/*/state-2/member-*.safetensors"):
        again = load_file(old / path.relative_to(whole))
        assert all(torch.equal(tensor, again[name]) for name, tensor in load_file(path).items())
    events = [frames.load([out]).events for out in (whole, old)]
    events[0] = events[0][(events[0]["metric"] != "sent_bytes") | (events[0]["epoch"] > 1)]
    assert events[1].equals(events[0].reset_index(drop=True))

    # Finished, it is kept, reported, and equal to what today's version writes.
    _as_version_1(old)
    before = frames.load([whole]).summary.drop(columns=list(TIMES))
    assert frames.load([old]).summary.drop(columns=list(TIMES)).equals(before)
    assert run_experiment(tiny, entries, RunContext(out=old, threads=1)).cached
    # A merge rule that reads it finds the bytes in its evaluation.
    (cell,) = run_experiment(tiny, [find_method("wash-opt+median")], RunContext(out=old)).finished
    exchanges = read_json(old / "cells" / f"{cell}.json")["summary"]["exchanges"]
    assert exchanges == _summary(whole)["exchanges"]


def _newer(path: Path) -> None:
    write_json(path, read_json(path) | {"schema": SCHEMA + 1})


@pytest.mark.slow
def test_a_newer_folder_is_refused_with_the_file_and_the_version(
    tiny: RunConfig, tmp_path: Path
) -> None:
    entries, context = [find_method("naive-ensemble")], RunContext(out=tmp_path / "out", threads=1)
    run_experiment(tiny, entries, context)
    (cell,) = context.out.glob("cells/*.json")
    (state,) = context.out.glob("trainings/*/state.json")
    _newer(cell)
    before = cell.read_bytes()
    with pytest.raises(WashBenchError, match=f"{cell}: schema {SCHEMA + 1}, this version"):
        run_experiment(tiny, entries, context)
    assert cell.read_bytes() == before
    cell.unlink()
    _newer(state)
    with pytest.raises(WashBenchError, match=f"{state}: schema {SCHEMA + 1}, this version"):
        run_experiment(tiny, entries, context)
    assert Store(context.out).cell(cell.stem) is None


def test_a_newer_event_log_is_left_out_of_a_report(tmp_path: Path) -> None:
    write_cell(tmp_path, "wash", 0)
    (log,) = tmp_path.glob("trainings/*/events.jsonl")
    log.write_text('{"schema": 99}\n' + log.read_text())
    records = frames.load([tmp_path])
    assert records.events.empty
    assert f"{log}: schema 99, this version of wash-bench reads 1 to" in "\n".join(records.warnings)
