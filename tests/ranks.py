"""Runs a function in several processes joined by gloo, on the loopback interface."""

from __future__ import annotations

import io
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def in_ranks(ranks: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``function(*arguments)`` gives in each of ``ranks`` processes of one group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=_one, args=(rank, ranks, port, results, function, arguments))
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


def _one(rank: int, ranks: int, port: int, results, function, arguments) -> None:
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks
        )
        answer = io.BytesIO()  # tensors in a queue live only as long as their sender
        torch.save(function(*arguments), answer)
        results.put((rank, "", answer.getvalue()))
        dist.barrier()
        dist.destroy_process_group()
    except Exception:
        results.put((rank, traceback.format_exc(), None))
