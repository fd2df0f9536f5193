"""Joining the processes that torchrun started, and refusing those that do not belong together.

A single process joins nobody, and imports no torch for that.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from wash_bench import stop
from wash_bench.distributed.world import LocalWorld, World
from wash_bench.errors import UsageError


def under_torchrun() -> bool:
    """Whether torchrun (or ``--nproc``) started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ or {"RANK", "WORLD_SIZE"} <= os.environ.keys()


def local_device(name: str) -> str:
    """Return the device of this process: ``cuda`` is the GPU of its local rank or its job."""
    import torch

    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        rank = int(os.environ.get("LOCAL_RANK", "0"))
        return f"cuda:{rank % max(1, torch.cuda.device_count())}"
    return name


@contextmanager
def process_group(device: str, heartbeat_timeout: float = 15.0) -> Iterator[World]:
    """Join the processes that torchrun started, over NCCL or gloo; a single process joins nobody.

    Args:
        device: where the population is; decides between NCCL and gloo.
        heartbeat_timeout: seconds without a heartbeat after which a process counts as dead.

    Yields:
        The world, until the process leaves it.

    Raises:
        UsageError: the processes could not be joined.
    """
    if not under_torchrun():
        yield LocalWorld()
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    from wash_bench.distributed.heartbeat import START, Heartbeat
    from wash_bench.distributed.ranks import COLLECTIVE_TIMEOUT, DistributedWorld

    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if gpu:
        torch.cuda.set_device(local_device("cuda"))
    try:
        store, rank, ranks = next(rendezvous("env://", timeout=timedelta(seconds=START)))
        heartbeat = Heartbeat(rank, ranks, heartbeat_timeout)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"cannot join the other processes: {error}") from error
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo",
            store=store,
            rank=rank,
            world_size=ranks,
            timeout=COLLECTIVE_TIMEOUT,
        )
        yield DistributedWorld()
        dist.barrier()
    except BaseException as error:
        if stop.requested() and not isinstance(error, KeyboardInterrupt):
            os._exit(128 + stop.requested())  # another rank died; its launcher ends or restarts all
        if isinstance(error, RuntimeError):  # perhaps a collective whose partner is gone
            heartbeat.wait_for_end()
        error.told = not heartbeat.fail(str(error) or type(error).__name__)  # type: ignore[attr-defined]
        raise
    finally:
        heartbeat.close()
        if dist.is_initialized():
            dist.destroy_process_group()


def check_same_config(world: World, settings: Mapping[str, Any]) -> None:
    """Raise a UsageError that names what differs between the processes' versions and settings."""
    if world.ranks == 1:
        return
    mine = {name: version(name) for name in ("wash-bench", "torch", "timm")} | dict(settings)
    first, *others = world.all_gather([mine])
    for rank, theirs in enumerate(others, 1):
        for key in sorted({*first, *theirs}, key=[*first, *theirs].index):
            if theirs.get(key) != first.get(key):
                raise UsageError(
                    f"rank {rank} has {key} {theirs.get(key)} and rank 0 has {first.get(key)}: "
                    "start the same command with the same versions and the same data everywhere"
                )
