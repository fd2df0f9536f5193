"""What makes reports fast changes nothing in them: helpers that draw, logs read at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.records import write_cell
from wash_bench.report import style
from wash_bench.report.figures.draw import Helpers, begin_figures
from wash_bench.report.read import record
from wash_bench.report.read.frames import load

NAMES = ("bytes", "inference")


def drawn(run: Path, out: Path, helpers: Helpers | None = None) -> dict[str, bytes]:
    out.mkdir()
    paths = begin_figures(load([run]), out, NAMES, helpers=helpers)()
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.slow
def test_helpers_draw_the_same(tmp_path: Path) -> None:
    for method in ("wash", "papa"):
        write_cell(tmp_path / "run", method, 0)
    alone = drawn(tmp_path / "run", tmp_path / "alone")
    with Helpers(2) as helpers, style.made_for("plain"):
        assert drawn(tmp_path / "run", tmp_path / "helped", helpers) == alone
        # What a helper was about to draw when it was killed is drawn after all.
        for helper in helpers._all:
            os.kill(helper.pid, signal.SIGKILL)
        for name in NAMES:
            (tmp_path / "lost").mkdir(exist_ok=True)
            (tmp_path / "lost" / f".{name}").touch()
        paths = begin_figures(load([tmp_path / "run"]), tmp_path / "lost", NAMES, helpers=helpers)()
        assert {path.name: path.read_bytes() for path in paths} == alone
    assert list(alone) == [f"{name}.{form}" for name in NAMES for form in ("png", "svg", "pdf")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_helpers_end_with_their_report(tmp_path: Path) -> None:
    code = (
        "from wash_bench.report.figures.draw import Helpers; h = Helpers(1); print(h._all[0].pid)"
    )
    command = [sys.executable, "-uc", f"{code}; import time; time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        helper = int(parent.stdout.readline())
        os.kill(helper, 0)  # it is there
        parent.kill()
        for _ in range(200):
            try:
                os.kill(helper, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)
    os.kill(helper, signal.SIGKILL)
    pytest.fail("the helper outlived the report that asked for it")


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
