"""Files that are written whole."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.ranks import FORK_SERVER
from wash_bench.files import write_atomically, write_text


def _write_for_ever(path: Path) -> None:
    def write(part: Path) -> None:
        part.write_text("half")
        time.sleep(600)

    write_atomically(path, write)


def _writer(path: Path):
    process = FORK_SERVER.Process(target=_write_for_ever, args=(path,))
    process.start()
    while not any(part.read_text() for part in path.parent.glob(".*.part")):
        time.sleep(0.01)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.json", ".made.json", "b[1]*.csv"])
def test_what_a_killed_writer_left_goes_with_the_next_writing_of_the_file(tmp_path, name) -> None:
    path = tmp_path / name
    path.write_text("before")
    process = _writer(path)
    write_text(tmp_path / "other.json", "another file")
    write_text(path, "now")  # beside the living one, whose part stays
    parts = list(tmp_path.glob(".*.part"))
    assert path.read_text() == "now" and [part.read_text() for part in parts] == ["half"]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    write_text(tmp_path / "other.json", "another file")
    assert list(tmp_path.glob(".*.part")) == parts
    write_text(path, "last")
    assert path.read_text() == "last"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "other.json"])
