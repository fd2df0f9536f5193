"""Heartbeats between the ranks of a run: end when a rank or its whole host falls silent.

torchrun ends a run whose process dies. It does not see a process that stands still, or a host that
loses power: no connection breaks, and a collective waits for ever. Each rank therefore counts up a
number in the group's store every second and checks those of the others, from threads that end the
process whatever its main thread waits for.
"""

import contextlib
import os
import sys
import threading
import time
from datetime import timedelta
from typing import NoReturn

from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from wash_bench.errors import KEPT

BEAT = 1.0  # seconds between beats
START = 90.0  # seconds until a rank's first beat
BROKEN = 4.0  # the timeout once a connection is known to be broken


class Heartbeat:
    """Beat for this rank and check the others, until closed.

    Args:
        rank, ranks: this process, and how many there are.
        timeout: seconds without a beat after which a rank counts as dead.
    """

    def __init__(self, rank: int, ranks: int, timeout: float) -> None:
        self._rank, self._ranks, self._timeout = rank, ranks, timeout
        self._node = os.environ.get("GROUP_RANK", "0")
        self._stop = threading.Event()
        self._answered = time.monotonic()  # when the store answered last
        self._store = self._connect()
        for target in (self._beat, self._guard):
            threading.Thread(target=target, daemon=True).start()

    def _connect(self) -> Store:
        """Open a connection of its own; the group's may be busy waiting."""
        # torchrun keeps its store over restarts: an earlier attempt's words must not be read.
        names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
        attempt = "/".join(os.environ.get(name, "") for name in names)
        where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        limit = timedelta(seconds=START)
        store = TCPStore(*where, None, False, timeout=limit, wait_for_workers=False)
        return PrefixStore(f"wash-bench/{attempt}/", store)

    def _beat(self) -> None:
        """Beat, and look at the others."""
        seen: dict[int, tuple[int, float]] = {}
        count, last = 0, time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if now - last > BEAT + self._timeout / 2:
                seen.clear()  # this process (or the whole machine) stood still, not the others
            last, count = now, count + 1
            try:
                self._store.set(f"beat/{self._rank}", str(count))
                end = self._store.get("end").decode() if self._store.check(["end"]) else ""
                dead = None if end else self._silent(seen)
            except (RuntimeError, ValueError):
                if self._stop.wait(BEAT):
                    return
                self._exit(f"{_host()} is gone; {KEPT}")
            self._answered = time.monotonic()
            if end and not self._stop.is_set():
                self._exit(end)
            if dead is not None and not self._stop.is_set():
                what = f"died or stands still; {KEPT}" if seen[dead][0] else "did not start"
                self._exit(f"rank {dead} {what}")
            self._stop.wait(BEAT)

    def _silent(self, seen: dict[int, tuple[int, float]]) -> int | None:
        """Return the first rank without a new beat for too long, or None."""
        now = time.monotonic()
        for rank in range(self._ranks):
            key = f"beat/{rank}"
            beat = int(self._store.get(key)) if self._store.check([key]) else 0
            if rank == self._rank or rank not in seen or seen[rank][0] != beat:
                seen[rank] = (beat, now)
            if now - seen[rank][1] > (self._timeout if beat else START):
                return rank
        return None

    def _guard(self) -> None:
        """End when the store does not answer at all, as when rank 0's host has no power."""
        last = time.monotonic()
        while not self._stop.wait(BEAT):
            now = time.monotonic()
            if now - last > BEAT + self._timeout / 2:
                self._answered = now  # this process stood still
            last = now
            if now - self._answered > self._timeout:
                self._exit(f"{_host()} is silent; {KEPT}")

    def _exit(self, reason: str) -> NoReturn:
        """Tell why, once per node, and end this process."""
        reason, first = self._announce(reason)
        if first:
            sys.stdout.flush()
            sys.stderr.write(f"wash-bench: error: {' '.join(reason.split())}\n")
            sys.stderr.flush()
        time.sleep(2 * BEAT)  # the launcher ends all, and the store, with the first
        os._exit(1)

    def _announce(self, reason: str) -> tuple[str, bool]:
        """Return the reason that all ranks give, and whether this one is its node's first."""
        answers: list[tuple[str, bool]] = []

        def ask() -> None:
            with contextlib.suppress(RuntimeError, ValueError):
                agreed = self._store.compare_set("end", "", reason).decode()
                answers.append((agreed, self._store.add(f"told/{self._node}", 1) == 1))

        # A host without power resets no connection: the store's answer may never come.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(BROKEN)
        return answers[0] if answers else (reason, True)  # rather told twice than not at all

    def fail(self, error: str) -> bool:
        """Announce that this rank ends with an error of its own; whether it is to tell it."""
        self._stop.set()
        _, first = self._announce(f"rank {self._rank} ended: {error}")
        time.sleep(2 * BEAT)  # until the others have read it
        return first

    def wait_for_end(self) -> None:
        """After a broken connection: return only if no rank turns out to be gone."""
        self._timeout = min(self._timeout, BROKEN)
        self._stop.wait(2 * BROKEN)

    def close(self) -> None:
        """Stop beating and checking."""
        self._stop.set()


def _host() -> str:
    return f"rank 0 or its host ({os.environ['MASTER_ADDR']})"
