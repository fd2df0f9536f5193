"""One experiment worked off by several workers, and in shards."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from wash_bench.config import RunConfig
from wash_bench.errors import WashBenchError
from wash_bench.files import write_json
from wash_bench.plugins.registry import find_method
from wash_bench.record import claims as claims_module
from wash_bench.record import presence
from wash_bench.record.claims import ClaimedStore, ClaimLost, Claims
from wash_bench.record.events import EventLog
from wash_bench.record.presence import alone
from wash_bench.record.store import Store
from wash_bench.report.write import write_report
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Store(tmp_path)
    return tmp_path


@pytest.fixture
def small(tiny: RunConfig) -> RunConfig:
    training = tiny.training.model_copy(update={"train_limit": 96, "population": 2})
    return tiny.model_copy(update={"training": training, "set": {}})


def _entries(*names: str):
    return [find_method(name) for name in names]


def _age(path: Path, seconds: float = 1000) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def _members(root: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.relative_to(root)}:{name}": tensor
        for path in sorted(root.glob("trainings/*/state-*/member-*"))
        for name, tensor in load_file(path).items()
    }


def _assert_same_bits(a: Path, b: Path) -> None:
    ours, theirs = _members(a), _members(b)
    assert ours.keys() == theirs.keys() and ours
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_claim_has_one_owner_until_it_is_released(folder: Path) -> None:
    with Claims(folder) as one, Claims(folder) as two:
        claim = one.take("x")
        assert claim is not None
        assert two.take("x") is None and one.take("x") is None
        assert two.holder("x").endswith(f"process {os.getpid()}")
        one.release(claim)
        assert two.holder("x") is None
        assert two.take("x") is not None
    assert not list((folder / "claims" / "workers").glob("*.json"))


def test_of_many_that_find_a_stale_claim_one_gets_it(folder: Path) -> None:
    with Claims(folder) as dead:
        first = dead.take("x")
        dead._claim = None  # renewed no more
        _age(first.path)
        assert first.held()  # nobody has taken over yet; the owner's own look renewed it
        with Claims(folder) as other:
            assert other.take("x") is None
        _age(first.path)
        takers = [Claims(folder) for _ in range(8)]
        for taker in takers:
            taker.__enter__()
        won: list = []
        start = threading.Barrier(len(takers))

        def take(taker: Claims) -> None:
            start.wait()
            claim = taker.take("x")
            if claim:
                won.append(claim)

        threads = [threading.Thread(target=take, args=(taker,)) for taker in takers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for taker in takers:
            taker.__exit__()
        assert len(won) == 1 and won[0].held() and not first.held()


@pytest.mark.fault(
    "Kills and stops",
    "a clock set back",
    "claims of the dead go stale as ever, those of the living stay",
)
def test_a_clock_set_back_keeps_no_dead_owner_and_no_living_one_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "BEAT", 0.1)
    later = time.time() + 3600

    def ahead(path: Path) -> None:
        os.utime(path, (later, later))

    with Claims(folder, stale=10) as dead:
        claim = dead.take("x")
        dead._stop.set()
        dead._thread.join()
        with Claims(folder, stale=10) as other:
            ahead(claim.path)
            renewal = threading.Timer(0.1, os.utime, (claim.path,))
            renewal.start()  # a living owner's next beat
            assert other.take("x") is None
            renewal.join()
            ahead(claim.path)
            assert other.take("x") is not None and not claim.held()
        ahead(dead._presence)
        with alone(Store(folder)):
            assert not dead._presence.exists()


def test_an_owner_that_was_succeeded_cannot_write(folder: Path) -> None:
    with Claims(folder) as one, Claims(folder) as two:
        old = one.take("x")
        one._claim = None
        store = ClaimedStore(folder, old)
        write_json(store.training("x").path / "state.json", {"epoch": 1})
        log = EventLog(store.training("x").events, 0)
        log.add(1, 1, "loss", 0.5)
        log.flush()
        _age(old.path)
        new = two.take("x")
        real = folder / "trainings" / "x"
        before = (real / "events.jsonl").read_text()
        # The old owner goes on as if nothing had happened.
        log.add(2, 2, "loss", 0.25)
        log.close()
        write_json(store.training("x").path / "state.json", {"epoch": 2})
        assert json.loads((real / "state.json").read_text()) == {"epoch": 1}
        assert (real / "events.jsonl").read_text() == before != ""
        with pytest.raises(ClaimLost, match="another worker took over x"):
            store.write_cell({"cell_id": "c"})
        assert not list((folder / "cells").iterdir())
        old.release()
        assert new.held() and not old.link.exists()
        assert json.loads((new.link / "state.json").read_text()) == {"epoch": 1}


@pytest.mark.slow
def test_a_worker_leaves_to_others_what_is_theirs(small: RunConfig, folder: Path) -> None:
    entries = _entries("wash", "papa")
    with Claims(folder) as other:
        plain = folder / "plain"
        finished = run_experiment(small, entries, RunContext(out=plain, threads=1)).finished
        (wash,) = (path.name for path in plain.glob("trainings/wash-*"))
        claim = other.take(wash)
        outcome = run_experiment(small, entries, RunContext(out=folder, threads=1, worker=True))
        assert [cell for cell, _ in outcome.elsewhere] == [finished[0]]
        assert outcome.finished == [finished[1]]
        other.release(claim)
        outcome = run_experiment(small, entries, RunContext(out=folder, threads=1, worker=True))
        assert (outcome.finished, outcome.cached) == ([finished[0]], [finished[1]])
        assert not outcome.elsewhere
    _assert_same_bits(folder, plain)


@pytest.mark.fault(
    "Kills and stops",
    "a worker of a sweep frozen past `--stale`",
    "another takes its training; when it wakes it stops",
)
@pytest.mark.slow
def test_a_frozen_worker_stops_and_its_successor_goes_on(
    small: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "BEAT", 0.01)  # so that every report of progress looks
    successor = Claims(folder)
    taken = []

    def observe(progress) -> None:
        if progress.epoch >= 1.5 and not taken:  # the checkpoint of epoch 1 stands
            claim_file = folder / "claims" / progress.training / "1.json"
            successor.__enter__()
            while not taken or taken[-1] is None:  # the owner's thread may renew it meanwhile
                _age(claim_file)
                taken.append(successor.take(progress.training))

    longer = small.model_copy(update={"training": small.training.model_copy(update={"epochs": 3})})
    outcome = run_experiment(
        longer, _entries("wash"), RunContext(out=folder, threads=1, worker=True, observer=observe)
    )
    assert not outcome.finished and not outcome.failed
    assert len(outcome.elsewhere) == 1
    (state,) = folder.glob("trainings/*/state.json")
    assert json.loads(state.read_text())["epoch"] < 3
    assert not list((folder / "cells").iterdir())
    successor.release(taken[-1])
    successor.__exit__()
    monkeypatch.undo()
    assert run_experiment(
        longer, _entries("wash"), RunContext(out=folder, threads=1, worker=True)
    ).finished
    run_experiment(longer, _entries("wash"), RunContext(out=folder / "plain", threads=1))
    _assert_same_bits(folder, folder / "plain")


def test_workers_and_a_plain_run_exclude_one_another(small: RunConfig, folder: Path) -> None:
    with Claims(folder) as worker:
        with pytest.raises(WashBenchError, match=r"a worker is using .*--worker"):
            run_experiment(small, _entries("wash"), RunContext(out=folder))
        worker._stop.set()
        worker._thread.join()
        _age(worker._presence)  # killed long ago
        with (
            FileLock(folder / ".lock"),
            pytest.raises(WashBenchError, match="another run is using"),
        ):
            run_experiment(small, _entries("wash"), RunContext(out=folder, worker=True))
        with alone(Store(folder)):
            pass


def test_a_retried_failure_is_tried_once(small: RunConfig, folder: Path) -> None:
    method = folder / "poison.py"
    method.write_text(
        "from wash_bench.methods.naive_ensemble import NaiveEnsemble\n"
        "class Poison(NaiveEnsemble):\n"
        "    name = 'poison'\n"
        "    def training_key(self): return {'rule': 'poison'}\n"
        "    def after_step(self, population, exchange, clock): population.weights.fill_(1e30)\n"
    )
    from wash_bench.plugins.registry import load_method_file

    entries = [load_method_file(f"{method}:Poison")]
    first = run_experiment(small, entries, RunContext(out=folder, threads=1, worker=True))
    assert len(first.failed) == 1 and not first.cached
    (record,) = (folder / "cells").iterdir()
    _age(record)
    old = record.stat().st_mtime
    kept = run_experiment(small, entries, RunContext(out=folder, threads=1, worker=True))
    assert kept.failed == first.failed and record.stat().st_mtime == old
    again = run_experiment(
        small, entries, RunContext(out=folder, threads=1, worker=True, retry_failed=True)
    )
    assert again.failed == first.failed and record.stat().st_mtime > old


@pytest.mark.slow
def test_shards_are_disjoint_and_joined_by_the_report(small: RunConfig, tmp_path: Path) -> None:
    config = small.model_copy(update={"seeds": (0, 1)})
    found = []
    for share in (1, 2, 3):
        entries = _entries("wash", "greedy-soup", "naive-ensemble")
        out = tmp_path / str(share)
        found.append(
            run_experiment(
                config, entries, RunContext(out=out, threads=1, shard=(share, 3))
            ).finished
        )
    # Four trainings: soup and ensemble read one, and stay together.
    assert [len(ids) for ids in found] == [3, 2, 1]
    assert len({cell for ids in found for cell in ids}) == 6
    write_report([tmp_path / str(share) for share in (1, 2, 3)], tmp_path / "report", figures=())
    assert len(pd.read_csv(tmp_path / "report" / "summary.csv")) == 6
