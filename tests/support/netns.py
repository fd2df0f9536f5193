"""One process a network namespace, joined by gloo over veth pairs whose bytes the kernel counts.

Every rank has a namespace of its own with one interface, ``eth0``; the other ends meet at a bridge
in a further namespace, so nothing outside is touched. Unless asked otherwise, segmentation offload
is off: each counted packet is one frame of at most 1,514 bytes, as on a cable.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

INTERFACE = "eth0"
PORT = 29400
ROOT = Path(__file__).resolve().parents[2]
_COUNTERS = Path("/sys/class/net") / INTERFACE / "statistics"
_numbers = itertools.count()


def counters() -> dict[str, int]:
    """The kernel's counts so far: of this namespace's interface, and of segments sent again."""
    names = ("tx_bytes", "tx_packets", "rx_bytes", "rx_packets")
    counts = {name: int((_COUNTERS / name).read_text()) for name in names}
    lines = Path("/proc/self/net/snmp").read_text().splitlines()
    titles, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return counts | {"resent": int(values[titles.index("RetransSegs")])}


def why_not() -> str | None:
    """Why namespaces cannot be made here; None if they can."""
    if sys.platform != "linux" or not shutil.which("ip"):
        return "needs Linux and iproute2"
    name = f"wash{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"may not make network namespaces: {made.stderr.strip()}"
    try:
        # A container may allow namespaces and yet have no bridge or veth in its kernel.
        for words in (["br0", "type", "bridge"], ["left", "type", "veth", "peer", "name", "right"]):
            link = ["ip", "-n", name, "link", "add", *words]
            made = subprocess.run(link, capture_output=True, text=True)
            if made.returncode:
                return f"may not make {words[2]} interfaces: {made.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
    return None


class Namespaces:
    """``ranks`` namespaces on one bridge; use as a context, which always takes them down.

    Args:
        ranks: how many.
        rate: bandwidth of every link, each way, in bit/s, headers, preambles and gaps of
            the frames included; none: unshaped.
        frames: frames that the kernel handles at a time. One counts what a cable carries; more
            cost less computing, which matters where time is measured. A shaped link lets two such
            parcels through at once.
        delay: seconds that a frame takes from one rank to another; then a process copies the
            frames in place of the bridge, which serves small messages only.
    """

    def __init__(
        self, ranks: int, rate: float | None = None, frames: int = 1, delay: float = 0.0
    ) -> None:
        self.ranks = ranks
        tag = f"wash{os.getpid()}-{next(_numbers)}"
        self._hub = f"{tag}-hub"
        self._names = [f"{tag}-{rank}" for rank in range(ranks)]
        self._rate, self._frames, self._delay = rate, frames, delay
        self._forwarder: subprocess.Popen | None = None
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> Namespaces:
        try:
            self._build()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._take_down()

    def _build(self) -> None:
        for name in (self._hub, *self._names):
            _ip("netns", "add", name)
            # Neighbour discovery would be counted.
            for key in ("all", "default"):
                _inside(name, "sysctl", "-qw", f"net.ipv6.conf.{key}.disable_ipv6=1")
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", self._hub, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._hub, "link", "set", "br0", "up")
        for rank, name in enumerate(self._names):
            port = f"port{rank}"
            ends = ["peer", "name", port, "netns", self._hub]
            _ip("link", "add", INTERFACE, "netns", name, "type", "veth", *ends)
            for where, link in ((name, INTERFACE), (self._hub, port)):
                _ip("-n", where, "link", "set", link, "gso_max_segs", str(self._frames))
                if self._rate:
                    self._shape(where, link)
            master = [] if self._delay else ["master", "br0"]
            _ip("-n", self._hub, "link", "set", port, *master, "up")
            _ip("-n", name, "address", "add", f"{_address(rank)}/24", "dev", INTERFACE)
            _ip("-n", name, "link", "set", INTERFACE, "up")
        if self._delay:
            delay = [sys.executable, "-m", "tests.support.link_delay"]
            for name in self._names:
                _inside(name, *delay, "checksums", INTERFACE)
            ports = [f"port{rank}" for rank in range(self.ranks)]
            self._forwarder = subprocess.Popen(
                ["ip", "netns", "exec", self._hub, *delay, str(self._delay), *ports], cwd=ROOT
            )

    def _shape(self, where: str, link: str) -> None:
        """A token bucket. It counts 1,514 bytes of the 1,538 for which a cable is busy a frame."""
        rate = f"{self._rate * 1514 / 1538:.0f}bit"
        words = ["rate", rate, "burst", str(2 * self._frames * 1514), "latency", "200ms"]
        subprocess.run(
            ["tc", "-n", where, "qdisc", "add", "dev", link, "root", "tbf", *words], check=True
        )

    def run(self, function: str, *arguments: Any, timeout: float = 900) -> list[Any]:
        """What ``module:function`` gives in each namespace, in a gloo group of all of them.

        Args:
            function: importable from the root of the repository.
            arguments: JSON values.
            timeout: seconds until a process that has not ended counts as failed.

        Raises:
            RuntimeError: a process failed; with the end of what it wrote.
        """
        module = (sys.executable, "-m", "tests.support.netns")
        with tempfile.TemporaryDirectory() as folder:
            for rank, name in enumerate(self._names):
                answer, log = Path(folder, f"{rank}.pickle"), Path(folder, f"{rank}.log")
                words = [function, str(rank), str(self.ranks), str(answer), json.dumps(arguments)]
                with log.open("wb") as out:
                    process = subprocess.Popen(
                        ["ip", "netns", "exec", name, *module, *words],
                        cwd=ROOT,
                        env=os.environ | {"GLOO_SOCKET_IFNAME": INTERFACE, "OMP_NUM_THREADS": "1"},
                        stdout=out,
                        stderr=subprocess.STDOUT,
                    )
                self._processes.append(process)
            self._wait(Path(folder), timeout)
            return [
                pickle.loads(Path(folder, f"{rank}.pickle").read_bytes())
                for rank in range(self.ranks)
            ]

    def _wait(self, folder: Path, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        try:
            while any(process.poll() is None for process in self._processes):
                failed = any(process.returncode for process in self._processes)
                if failed or time.monotonic() > deadline:
                    break
                time.sleep(0.02)
            codes = [process.poll() for process in self._processes]
            if any(code != 0 for code in codes):
                logs = [
                    Path(folder, f"{rank}.log").read_text()[-1500:] for rank in range(len(codes))
                ]
                raise RuntimeError(f"exit codes {codes}:\n" + "\n".join(logs))
        finally:
            self._end()

    def _end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._processes.clear()

    def _take_down(self) -> None:
        self._end()
        if self._forwarder:
            self._forwarder.kill()
            self._forwarder.wait()
        for name in (*self._names, self._hub):
            # Its interfaces go with a namespace. Some may not have been made.
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _inside(name: str, *command: str) -> None:
    subprocess.run(["ip", "netns", "exec", name, *command], check=True, cwd=ROOT)


def _address(rank: int) -> str:
    return f"10.77.0.{rank + 1}"


def _one(function: str, rank: str, ranks: str, answer: str, arguments: str) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://{_address(0)}:{PORT}",
        rank=int(rank),
        world_size=int(ranks),
        timeout=timedelta(minutes=10),
    )
    module, name = function.split(":")
    result = getattr(importlib.import_module(module), name)(*json.loads(arguments))
    Path(answer).write_bytes(pickle.dumps(result))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    _one(*sys.argv[1:])
