"""A few kills at random moments; ``make chaos`` makes a hundred."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.chaos import Chain, chains

pytestmark = pytest.mark.slow

KILLED = ("one process", "--nproc 2")
# Seconds a command.
SHORT = ("--methods=wash,greedy-soup", "--epochs=5", "--eval-every=5", "--no-report")


@pytest.mark.fault(
    "Kills and stops",
    "SIGKILL, SIGTERM and SIGINT at random moments, of one process and of `--nproc` (`make chaos`: "
    "a hundred of them, of `--jobs` too)",
    "the same command resumes to the bits and the files of an undisturbed run; no process and no "
    "temporary file stays",
)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_killed_at_random_moments_a_run_ends_as_if_undisturbed(tmp_path: Path) -> None:
    found = list(chains(2, 184, tmp_path, SHORT, side=2, modes=KILLED, fork=True))
    assert sum(len(chain.kills) for chain in found) >= 2
    assert [chain.faults for chain in found] == [[], []]


@pytest.mark.fault(
    "Kills and stops", "Ctrl-C on `--jobs` with many trainings left", "one line, exit 130"
)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_ctrl_c_waits_for_no_task_that_is_left(tmp_path: Path) -> None:
    """Of so many the queue cannot hold all, and nobody takes them any more."""
    many = ("--seeds=" + ",".join(map(str, range(150))), "--methods=wash,papa", "--epochs=1")
    chain = Chain("--jobs 2", (*many, "--no-report"), tmp_path)
    run = chain.start()
    while not list(chain.out.glob("cells/*.json")):
        assert run.poll() is None, chain.said()
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(30) == 130
    chain.await_end()
    assert chain.faults == []
    last = chain.said().splitlines()[-1]
    assert last.startswith("wash-bench: interrupted; all that is finished is kept")
