"""Joining the processes that torchrun started, and refusing those that do not belong together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version

import torch
import torch.distributed as dist

from wash_bench.distributed.watch import Watch
from wash_bench.distributed.world import DistributedWorld, LocalWorld, World
from wash_bench.errors import UsageError

# Rank 0 evaluates while the others wait. That somebody died is found by the watch, much sooner.
COLLECTIVE_TIMEOUT = timedelta(hours=12)


def under_torchrun() -> bool:
    """Whether torchrun (or ``--procs``) started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ or {"RANK", "WORLD_SIZE"} <= os.environ.keys()


def is_main() -> bool:
    """Whether this process is the one that writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0 or not under_torchrun()


def local_device(name: str) -> str:
    """The device of this process: ``cuda`` is the GPU of its local rank."""
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        rank = int(os.environ.get("LOCAL_RANK", "0"))
        return f"cuda:{rank % max(1, torch.cuda.device_count())}"
    return name


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The world of this process: joins the group if torchrun started it.

    Args:
        device: the run's device; GPUs talk over NCCL (and gloo for objects), CPUs over gloo.

    Raises:
        UsageError: the group cannot be joined.
    """
    if not under_torchrun():
        yield LocalWorld()
        return
    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if gpu:
        torch.cuda.set_device(local_device("cuda"))
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=COLLECTIVE_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"cannot join the other processes: {error}") from error
    watch = Watch()
    try:
        yield DistributedWorld()
    except BaseException:
        watch.failing()
        raise
    else:
        dist.barrier()
    finally:
        watch.close()
        dist.destroy_process_group()


def agree(world: World, config: str) -> None:
    """Refuse to start unless every process runs the same thing.

    Args:
        world: the processes.
        config: the fingerprint of this process's configuration.

    Raises:
        UsageError: another version or configuration on some rank; it is named.
    """
    if world.ranks == 1:
        return
    mine = {
        "wash-bench": version("wash-bench"),
        "torch": torch.__version__,
        "timm": version("timm"),
        "configuration": config,
    }
    everybody: list[dict] = [{}] * world.ranks
    dist.all_gather_object(everybody, mine)
    for key in mine:
        for rank, theirs in enumerate(everybody):
            if theirs[key] != everybody[0][key]:
                raise UsageError(
                    f"rank {rank} has {key} {theirs[key]} and rank 0 has {everybody[0][key]}: "
                    "start the same command with the same versions everywhere"
                )
