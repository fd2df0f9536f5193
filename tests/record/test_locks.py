"""One lock a training: one process holds it, the end of that process releases it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wash_bench.errors import WashBenchError
from wash_bench.record import locks
from wash_bench.record.locks import check_unused, hold, owner_of, owners, sweep

HOLDER = """
import os, sys, time
from pathlib import Path
{refuse}
from wash_bench.record.locks import hold
with hold(Path(sys.argv[1]), "x") as held:
    print(held, flush=True)
    time.sleep(60)
"""
REFUSE = """
import errno, fcntl
def flock(file, operation): raise OSError(errno.{name}, "refused")
fcntl.flock = flock
"""
FILE_SYSTEMS = ("", "ENOLCK", "EOPNOTSUPP", "ENOSYS")


@pytest.fixture(params=FILE_SYSTEMS)
def refuse(request, monkeypatch) -> str:
    """The system as it is, and file systems without locks."""
    if not request.param:
        return ""
    import fcntl

    def flock(file: int, operation: int) -> None:
        raise OSError(getattr(errno, request.param), "refused")

    monkeypatch.setattr(fcntl, "flock", flock)
    return REFUSE.format(name=request.param)


@pytest.fixture
def holder(tmp_path: Path, refuse: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of ``x``."""
    code = HOLDER.format(refuse=refuse)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()


def test_one_process_holds_it_and_its_end_releases_it(tmp_path: Path, holder) -> None:
    with hold(tmp_path, "x", 0) as held, hold(tmp_path, "y", 0) as other:
        assert (held, other) == (False, True)
        assert set(owners(tmp_path)) == {"x", "y"}
    assert owner_of(tmp_path, "x").endswith(f", process {holder.pid}")
    with pytest.raises(WashBenchError, match=f"process {holder.pid}"):
        check_unused(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert owner_of(tmp_path, "x") == "" and owners(tmp_path) == {}
    check_unused(tmp_path)
    with hold(tmp_path, "x", 0) as held:
        assert held
        assert owner_of(tmp_path, "x").endswith(f", process {os.getpid()}")
    assert owners(tmp_path) == {} and not list(tmp_path.glob("locks/*.json"))


def test_what_others_write_is_not_swept(tmp_path: Path, holder) -> None:
    parts = [
        tmp_path / "trainings" / name / f".state.json.{name}.part" for name in ("x", "gone")
    ] + [tmp_path / "cells" / ".c.json.1.part"]
    for part in parts:
        part.parent.mkdir(parents=True)
        part.write_text("half")
    sweep(tmp_path)
    assert [part.exists() for part in parts] == [True, False, True]
    holder.kill()
    holder.wait()
    sweep(tmp_path)
    assert not any(part.exists() for part in parts)
    assert not list(tmp_path.glob("locks/*.json"))


@pytest.mark.fault(
    "The machine",
    "a file system without locks (ENOLCK, EOPNOTSUPP, ENOSYS)",
    "one line; files stand for the locks",
)
@pytest.mark.parametrize("refuse", FILE_SYSTEMS[1:], indirect=True)
def test_a_file_system_without_locks_is_told_once(tmp_path: Path, refuse, capsys) -> None:
    locks._warn.cache_clear()
    for name in ("x", "y"):
        with hold(tmp_path, name) as held:
            assert held
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line and "no locks" in line and "--out" in line


def test_another_error_of_the_file_system_is_not_taken_for_it(tmp_path: Path, monkeypatch) -> None:
    import fcntl

    def flock(file: int, operation: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="broken"), hold(tmp_path, "x"):
        pass


def test_a_look_at_a_lock_does_not_keep_others_from_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from wash_bench.record.locks import owners\n"
        "print(flush=True)\nwhile True: owners(Path(sys.argv[1]))"
    )
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "x.json").write_text("{}")
    looks = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert looks.stdout and looks.stdout.readline()
    try:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            with hold(tmp_path, "x") as held:
                assert held
            (tmp_path / "locks" / "x.json").write_text("{}")
    finally:
        looks.kill()
        looks.wait()
