"""What records do not hold: event logs that were not kept, statistics that a network lacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.records import write_cell
from wash_bench.report.figures.catalogue import figures
from wash_bench.report.read import frames
from wash_bench.report.tables.main_table import main_tables
from wash_bench.report.tables.terminal import markdown as in_terminal
from wash_bench.report.write import markdown


@pytest.mark.fault(
    "Records and reports",
    "records without event logs",
    "one line; the report lacks the figures of training",
)
def test_event_logs_that_were_not_kept_are_one_line(tmp_path):
    for seed in range(4):
        write_cell(tmp_path, "wash", seed)
    logs = sorted((tmp_path / "trainings").glob("*/events.jsonl"))
    for log in logs[1:]:
        log.unlink()
    broken = logs[0].read_text().splitlines()
    logs[0].write_text("\n".join([*broken[:3], "{", *broken[3:]]) + "\n")
    (told, other) = frames.load([tmp_path]).warnings
    assert told.startswith("3 of 4 trainings have no event log (")
    assert "events.csv and the figures training and consensus" in told
    assert "broken at line 4" in other and str(logs[0]) in other
    page = markdown(frames.load([tmp_path]))
    assert page.count("event log") == 1
    logs[0].write_text("\n".join(broken) + "\n")
    for log in logs[2:]:
        log.write_text("\n".join(broken) + "\n")
    (told,) = frames.load([tmp_path]).warnings
    assert told.startswith(f"1 of 4 trainings has no event log ({logs[1]}):")


def plain_network(out: Path) -> None:
    """Records of a network without BatchNorm, which hold each value twice and no barrier twice."""
    for method in ("wash", "naive-ensemble"):
        path = write_cell(out, method, 0)
        record = json.loads(path.read_text())
        summary = record["summary"]
        for key in [key for key in summary if "_bn_" in key]:
            del summary[key]
        again = {key: key.replace("_acc", "_bn_acc", 1) for key in summary if "_acc" in key}
        summary |= {new: summary[key] for key, new in again.items() if not key.startswith("barr")}
        path.write_text(json.dumps(record))
    for path in (out / "trainings").glob("*/barrier-*.csv"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join(line for line in lines if "reestimated" not in line) + "\n")


@pytest.mark.parametrize("batch_norm", [True, False])
def test_nothing_speaks_of_batchnorm_where_there_is_none(batch_norm, tmp_path):
    if batch_norm:
        write_cell(tmp_path, "wash", 0)
        write_cell(tmp_path, "naive-ensemble", 0)
    else:
        plain_network(tmp_path)
    records = frames.load([tmp_path])
    (table,) = main_tables(records)
    told = markdown(records) + in_terminal(table, 60)[0]
    drawn = {
        text.get_text()
        for _, figure in figures(records, ("barrier", "bytes", "accuracy", "ablation"))
        for legend in figure.legends
        for text in (*legend.get_texts(), legend.get_title())
    }
    assert ("BN" in told) == ("BatchNorm" in told) == batch_norm
    assert any("BN" in text for text in drawn) == batch_norm
    # The table of all columns keeps what was recorded.
    assert records.summary["average_bn_acc"].notna().all()
