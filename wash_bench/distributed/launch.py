"""``--nproc R``: the same command in R processes on this machine, through torchrun's own engine."""

import logging
import os
import signal
import socket
import sys
import uuid

from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousClosedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from wash_bench.errors import KEPT, LAUNCHED, WashBenchError


def launch(procs: int, arguments: list[str]) -> int:
    """Run ``wash-bench ARGUMENTS`` in ``procs`` processes that form one group.

    A process that dies takes the others with it; it is named on one line.

    Args:
        procs: number of processes.
        arguments: the command line.

    Returns:
        The exit code of the command: that of the process that failed first, 1 if it was killed.
    """
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)  # a platform sets them for a single process too
    os.environ[LAUNCHED] = str(os.getpid())  # this process names the one that was killed
    os.environ["PYTHONSAFEPATH"] = "1"  # or the user's random.py would be Python's
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    for name in {name for _, name in socket.if_nameindex()} & {"lo", "lo0"}:
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = name
    store, port = _loopback_store()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=procs,
        run_id=uuid.uuid4().hex,
        rdzv_backend="static",  # c10d would unpickle what it reads from the store
        rdzv_endpoint=f"127.0.0.1:{port}",
        rdzv_configs={"rank": 0},
        local_addr="127.0.0.1",  # a machine's own name may be one that no server knows
        max_restarts=0,
        monitor_interval=0.1,
    )
    if hasattr(config, "signals_to_handle"):
        handled = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1"]
        # Under nohup the agent would otherwise end of SIGHUP.
        config.signals_to_handle = ",".join(handled if _under_nohup() else [*handled, "SIGHUP"])
    try:
        elastic_launch(config, sys.executable)("-m", "wash_bench", *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:  # it has told why itself
            return failure.exitcode
        name = signal.Signals(-failure.exitcode).name
        sys.stderr.write(f"wash-bench: error: rank {rank} was killed ({name}); {KEPT}\n")
        return 1
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            sys.stderr.write(f"wash-bench: interrupted; {KEPT}\n")
        else:
            sys.stderr.write(f"wash-bench: told to end ({error.sigval.name}); {KEPT}\n")
        return 128 + error.sigval
    except RendezvousClosedError as error:
        sys.stderr.write(f"wash-bench: the processes could not be joined: {error}\n")
        return 1
    finally:
        del store
    return 0


def _loopback_store() -> tuple[TCPStore, int]:
    """Open the store that the processes meet at, on the loopback interface alone.

    Returns:
        The store and its port.

    Raises:
        WashBenchError: there is no such interface.
    """
    # torch itself would listen on all interfaces. Its rendezvous takes over this port's server.
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        listener.accept()[0].close()
    except OSError as error:
        raise WashBenchError(
            f"the processes of --nproc meet at 127.0.0.1, which this machine does not have "
            f"({error.strerror or error}): bring its loopback interface up (ip link set lo up)"
        ) from None
    store = TCPStore(
        "127.0.0.1",
        port,
        is_master=True,
        multi_tenant=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    return store, port


def _under_nohup() -> bool:
    return hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
