"""Methods that never return, and methods that misstate what they send."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.support.runs import records_of
from wash_bench.config import RunConfig
from wash_bench.errors import CellFailure, UsageError
from wash_bench.plugins.registry import find_method, load_method_file
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.runner.time_limit import time_limit

METHODS = """
import time
from wash_bench.core.ledger import charge_mean
from wash_bench.methods.papa import Papa

class Stuck(Papa):
    name = "stuck"
    def after_step(self, population, exchange, clock):
        while True:
            time.sleep(0.01)

class Boaster(Papa):
    name = "boaster"
    def charges(self, site, clock):
        return [charge_mean(site.n, 7)]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(METHODS)
    return tmp_path / "mine.py"


def test_what_takes_longer_is_ended_and_what_does_not_is_left_alone() -> None:
    began = time.monotonic()
    with pytest.raises(CellFailure, match="longer than --time-limit 1"), time_limit(1):
        while True:
            pass
    assert time.monotonic() - began < 30
    for seconds in (0, 60):
        with time_limit(seconds):
            time.sleep(0.01)


def test_in_another_thread_it_is_refused() -> None:
    found: list[BaseException] = []

    def inside() -> None:
        try:
            with time_limit(5):
                pass
        except UsageError as error:
            found.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert "main thread" in str(found[0])


@pytest.mark.fault(
    "Numbers and methods",
    "a method that never returns, under `--time-limit`",
    "its cell fails and says so, the others continue",
)
def test_a_method_that_never_returns_costs_its_own_cell(
    tiny: RunConfig, file: Path, tmp_path: Path
) -> None:
    entries = [load_method_file(f"{file}:Stuck"), find_method("naive-ensemble")]
    context = RunContext(out=tmp_path / "out", threads=1, time_limit=20)
    outcome = run_experiment(tiny, entries, context)
    assert (len(outcome.finished), len(outcome.failed)) == (1, 1)
    record = records_of(tmp_path / "out")["stuck", 0]
    assert record["status"] == "failed" and "--time-limit 20" in record["reason"]


@pytest.mark.fault(
    "Numbers and methods",
    "a method whose `charges` are not what it sends",
    "a line that tells both numbers; the record has what was sent",
)
def test_a_method_that_misstates_what_it_sends_is_told_of(
    tiny: RunConfig, file: Path, tmp_path: Path, capsys
) -> None:
    entries = [load_method_file(f"{file}:Boaster"), find_method("papa")]
    run_experiment(tiny, entries, RunContext(out=tmp_path / "out", threads=1))
    err = capsys.readouterr().err
    assert err.count("charges() say") == 1 and "boaster" in err
    found = records_of(tmp_path / "out")
    sent = [found[name, 0]["summary"]["sent_values_total"] for name in ("boaster", "papa")]
    assert sent[0] == sent[1]


@pytest.mark.parametrize("more", [{"procs": 2}])
def test_several_processes_of_one_population_are_refused(more: dict) -> None:
    with pytest.raises(UsageError, match="--time-limit is of trainings in one process"):
        RunContext(out=Path("x"), time_limit=5, **more)
