"""The same training in one process and in two that talk over gloo."""

import io
import queue
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from wash_bench.conformance.bench import first_difference, population_of, train
from wash_bench.conformance.case import Case, Failed, crash, require
from wash_bench.distributed.ranks import DistributedExchange

N, RANKS = 5, 2
PATIENCE = 60.0  # seconds without an answer
SHARED = "state_dict "
FIX = "reach other members through the exchange only; population holds this process's members"


@dataclass
class Share:
    """What one process ends with."""

    tensors: dict[str, Tensor]
    ledger: dict[str, Any]


Answer = list[Share] | str  # each process's share, or why there is none


def in_two_processes(cases: Sequence[Case], patience: float = PATIENCE) -> list[Answer]:
    """Train 5 members of every case in two processes, each in at most ``patience`` seconds."""
    answers: list[Answer] = []
    while len(answers) < len(cases):  # a failure ends the pair; the rest gets another one
        answers += _one_pair(list(cases[len(answers) :]), patience)
    return answers


def _one_pair(cases: list[Case], patience: float) -> list[Answer]:
    """Answers up to the first failure."""
    context = mp.get_context("spawn")
    told = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        pair = [
            context.Process(target=_rank, args=(rank, store, cases, told), daemon=True)
            for rank in range(RANKS)
        ]
        for process in pair:
            process.start()
        answers: list[Answer] = []
        shares: list[dict[int, Share]] = [{} for _ in cases]
        failures: dict[int, str] = {}
        try:
            while len(answers) < len(cases):
                if failure := failures.get(len(answers)):
                    return [*answers, failure]
                rank, index, failure, share = _next(told, pair, patience)
                if failure:  # the other process may still have to tell of an earlier case
                    failures.setdefault(max(index, len(answers)), failure)
                    continue
                shares[index][rank] = torch.load(io.BytesIO(share), weights_only=False)
                if len(shares[index]) == RANKS:
                    answers.append([shares[index][rank] for rank in range(RANKS)])
        finally:
            for process in pair:
                process.join(5 if len(answers) == len(cases) else 0)
                if process.is_alive():
                    process.kill()
                    process.join()
        return answers


def _next(told: Queue, pair: list, patience: float) -> tuple[int, int, str, bytes]:
    """What a process tells next; a failure if it cannot tell any more."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        dead = [process.exitcode for process in pair if process.exitcode]
        try:
            return told.get(timeout=1.0)
        except queue.Empty:
            if dead:
                return 0, 0, f"a process ended with exit code {dead[0]}", b""
    return 0, 0, f"no answer within {patience:.0f} s: the processes wait for each other", b""


def _rank(rank: int, store: str, cases: list[Case], told: Queue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=RANKS,
        timeout=timedelta(seconds=PATIENCE),
    )
    for index, case in enumerate(cases):
        try:
            exchange = DistributedExchange(N, 0)
            run = train(case.make(), population_of(exchange.members), exchange=exchange)
            share = io.BytesIO()  # tensors in a queue live only as long as their sender
            torch.save(Share(run.tensors(), exchange.ledger.as_dict()), share)
            told.put((rank, index, "", share.getvalue()))
        except (Exception, SystemExit) as error:
            told.put((rank, index, crash(error), None))
            return
    dist.barrier()
    dist.destroy_process_group()


def two_processes(case: Case, answer: Answer | None = None) -> str:
    """Values equal to float32 rounding in one process and two, and the same ledger."""
    if answer is None:
        (answer,) = in_two_processes([case])
    if isinstance(answer, str):
        raise Failed(
            f"in two processes: {answer}",
            "every process must make the same exchanges in the same order; "
            "population holds this process's members only",
        )
    run = train(case.make(), N)
    alone, first, second = run.tensors(), answer[0].tensors, answer[1].tensors
    shared = [{k: v for k, v in part.items() if k.startswith(SHARED)} for part in (first, second)]
    name = first_difference(*shared)
    fix = "keep what differs between members in member_state"
    require(not name, f"{name} differs between the processes", fix)
    together = {
        name: tensor if name.startswith(SHARED) else torch.cat([tensor, second[name]])
        for name, tensor in first.items()
    }
    same = together.keys() == alone.keys()
    require(same, "state_dict has other names in two processes", FIX)
    largest = 0.0
    for name, expected in alone.items():
        found = together[name]
        near = found.shape == expected.shape and torch.allclose(
            found.double(), expected.double(), rtol=1e-4, atol=1e-5
        )
        require(near, f"{name} comes out differently in two processes", FIX)
        apart = (found.double() - expected.double()).abs()
        largest = max(largest, apart.max().item() if apart.numel() else 0.0)
    ledger = run.exchange.ledger.as_dict()
    same = all(share.ledger == ledger for share in answer)
    require(same, "the ledger differs between one process and two", FIX)
    if largest == 0:
        return "the same bits in one process and two"
    return f"equal to rounding in one process and two (largest difference {largest:.0e})"
