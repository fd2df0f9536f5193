"""Runs a function in a process of its own, or in several that gloo joins.

The processes are forked from one that has imported what takes seconds, and has computed nothing.
"""

from __future__ import annotations

import io
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

FORK_SERVER = mp.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(["pytest", "hypothesis", "wash_bench.runner.experiment", "timm"])


def exit_code_of(function: Callable[..., Any], *arguments: Any) -> int | None:
    """How a process of ``function(*arguments)`` ends: minus the signal where it is killed."""
    process = FORK_SERVER.Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def in_ranks(ranks: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``function(*arguments)`` gives in each of ``ranks`` processes of one group."""
    results = FORK_SERVER.Queue()
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        processes = [
            FORK_SERVER.Process(
                target=_one, args=(rank, ranks, store, results, function, arguments)
            )
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        answers: dict[int, Any] = {}
        for _ in range(ranks):
            rank, failure, answer = results.get(timeout=120)
            assert not failure, failure
            answers[rank] = torch.load(io.BytesIO(answer), weights_only=False)
        for process in processes:
            process.join()
    return [answers[rank] for rank in range(ranks)]


def _one(rank: int, ranks: int, store: str, results, function, arguments) -> None:
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
        answer = io.BytesIO()  # tensors in a queue live only as long as their sender
        torch.save(function(*arguments), answer)
        results.put((rank, "", answer.getvalue()))
        dist.barrier()
        dist.destroy_process_group()
    except Exception:
        results.put((rank, traceback.format_exc(), None))
