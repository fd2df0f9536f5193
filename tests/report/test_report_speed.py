"""What makes reports fast changes nothing in them: logs are read at once."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.records import write_cell
from wash_bench.report.read import record

LINES = st.lists(
    st.builds(
        lambda step, epoch, member, metric, value: json.dumps(
            {"step": step, "epoch": epoch, "member": member, "metric": metric, "value": value}
        ),
        st.integers(0, 3) | st.just(10**400) | st.booleans() | st.none(),
        st.integers(0, 3) | st.floats(allow_nan=True) | st.text(max_size=2) | st.just(10**400),
        st.none() | st.integers(-1, 3) | st.just(2**31) | st.booleans() | st.floats(0, 3),
        st.sampled_from(["lr", "val_acc", "\ud800", "é", "\\u"]) | st.integers(0, 3),
        st.floats() | st.integers(-3, 3) | st.none() | st.text(max_size=2) | st.just(10**400),
    )
    | st.sampled_from(["", "{}", "[]", "null", '{"step": 1', '"epoch": 2}', '{"a": 1},{"a": 2}'])
    | st.just('{"step": 1, "epoch": 2, "member": 0, "metric": "lr", "value": 0.5}'),
    max_size=6,
)
HEADS = st.sampled_from(['{"schema": 2}', '{"schema": 1}', '{"schema": 99}', "{}", "", '{"schem'])


@given(HEADS, LINES)
def test_logs_read_at_once_are_read_as_line_by_line(
    tmp_path_factory: pytest.TempPathFactory, head: str, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    at_once = record.events(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "_whole", lambda lines: None)
        by_line = record.events(path)
    pd.testing.assert_frame_equal(at_once[0], by_line[0])
    assert at_once[1] == by_line[1]


def test_a_whole_log_is_read_at_once(tmp_path: Path) -> None:
    write_cell(tmp_path, "wash", 0)
    (log,) = tmp_path.glob("trainings/*/events.jsonl")
    assert record._whole(['{"schema": 2}', *log.read_text().splitlines()]) is not None
