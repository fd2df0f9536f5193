"""``--procs R``: the same command in R processes on this machine, through torchrun's own engine."""

from __future__ import annotations

import logging
import signal
import sys
import uuid

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousClosedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def launch(procs: int, arguments: list[str]) -> int:
    """Run ``wash-bench ARGUMENTS`` in ``procs`` processes that form one group.

    A process that dies takes the others with it; it is named on one line.

    Args:
        procs: number of processes.
        arguments: the command line without ``--procs``.

    Returns:
        The exit code of the command: that of the process that failed first, 1 if it was killed.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=procs,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "wash_bench", *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:  # it has told why itself
            return failure.exitcode
        name = signal.Signals(-failure.exitcode).name
        sys.stderr.write(
            f"wash-bench: rank {rank} was killed ({name}); the last checkpoint is whole, and the "
            "same command goes on from it\n"
        )
        return 1
    except RendezvousClosedError as error:
        sys.stderr.write(f"wash-bench: the processes could not be joined: {error}\n")
        return 1
    return 0
