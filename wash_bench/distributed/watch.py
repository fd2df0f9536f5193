"""Heartbeats: when a process dies, every other one ends within a minute and says which it was.

A collective whose partner died may fail at once (the connection breaks) or never (the host is
gone, the process stands still, NCCL). Each rank therefore counts up a number in the group's store
every second and looks at those of the others, from threads of its own that end the process
whatever its main thread waits for. A rank that ends with an error says so in the store. Of the
ranks of a node the first to know tells it, in one line; the others end in silence, unless the store
itself is silent: then each tells.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import NoReturn

from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from wash_bench.errors import KEPT, LAUNCHED

BEAT = 1.0  # seconds between beats
START = 90.0  # seconds that a rank may take to its first beat, longer than its fellows
BROKEN = 4.0  # the same as the silence, once a connection is broken or the launcher says to end

Handler = Callable[[int, FrameType | None], object] | int | None  # of a signal


class Watch:
    """Beats for this rank and watches the others until closed.

    Args:
        rank, ranks: this process, and how many there are.
        silence, beat: seconds without a beat until a rank counts as dead, and between beats.
    """

    def __init__(self, rank: int, ranks: int, silence: float, beat: float = BEAT) -> None:
        self._rank, self._ranks = rank, ranks
        self._beat, self._silence = beat, silence
        self._node = os.environ.get("GROUP_RANK", "0")
        self._prefix = f"wash-bench/{os.environ.get('TORCHELASTIC_RUN_ID', '')}/"
        self._store = self._connect()
        self._stop = threading.Event()
        self._answered = time.monotonic()  # when the store answered last
        self._broken = False  # whether somebody is known to be gone
        self._failed = False
        self._wake, self._signals = socket.socketpair()
        self._before = self._catch_sigterm()
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._watch, self._guard)
        ]
        for thread in self._threads:
            thread.start()

    def _connect(self) -> Store:
        """A connection of the watch's own: the group's may be busy waiting."""
        where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        limit = timedelta(seconds=START)
        store = TCPStore(*where, None, False, timeout=limit, wait_for_workers=False)
        return PrefixStore(self._prefix, store)

    def _watch(self) -> None:
        """Beat, and look at the others."""
        seen: dict[int, tuple[int, float]] = {}
        count, last = 0, time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if now - last > self._beat + self._silence / 2:
                seen.clear()  # this process (or the whole machine) stood still, not the others
            last = now
            count += 1
            try:
                self._store.set(f"beat/{self._rank}", str(count))
                word = self._word()
                dead = None if word else self._silent(seen)
            except (RuntimeError, ValueError):
                if self._stop.wait(self._beat):
                    return
                self._end(f"{_host()} is gone; {KEPT}")
            self._answered = time.monotonic()
            if word and not self._stop.is_set():
                self._end(word, announced=True)
            if dead is not None and not self._stop.is_set():
                self._end(self._name(dead, seen[dead][0]))
            self._stop.wait(self._beat)

    def _silent(self, seen: dict[int, tuple[int, float]]) -> int | None:
        """The first rank without a new beat for too long, or None."""
        now = time.monotonic()
        for rank in range(self._ranks):
            if rank == self._rank:
                continue
            key = f"beat/{rank}"
            beat = int(self._store.get(key)) if self._store.check([key]) else 0
            if rank not in seen or seen[rank][0] != beat:
                seen[rank] = (beat, now)
            limit = self._silence if beat else START
            if now - seen[rank][1] > (BROKEN if self._broken else limit):
                return rank
        return None

    def _guard(self) -> None:
        """End when the launcher says so, or when the store does not answer at all."""
        self._signals.settimeout(self._beat)
        told_to_end = None
        last = time.monotonic()
        while not self._stop.is_set():
            try:
                signals = self._signals.recv(16)
            except TimeoutError:
                signals = b""
            now = time.monotonic()
            if now - last > self._beat + self._silence / 2:
                self._answered = now  # stood still
            last = now
            if self._stop.is_set():
                return
            if signal.SIGTERM in signals:
                if LAUNCHED in os.environ:
                    os._exit(128 + signal.SIGTERM)
                told_to_end = told_to_end or now
                self._broken = True
            if told_to_end and now - told_to_end > 2 * BROKEN:
                self._end(f"told to end (SIGTERM); {KEPT}")
            if now - self._answered > self._silence:
                self._end(f"{_host()} is silent; {KEPT}")

    def _name(self, rank: int, beats: int) -> str:
        what = f"died or stands still; {KEPT}" if beats else "did not start"
        return f"rank {rank} {what}"

    def _word(self) -> str:
        """Why a rank said that the run ends; empty while none did."""
        return self._store.get("end").decode() if self._store.check(["end"]) else ""

    def _end(self, word: str, announced: bool = False) -> NoReturn:
        """Tell why, once a node, and end this process."""
        word, first = self._agreed(word, announced)
        if first:
            sys.stdout.flush()
            sys.stderr.write(f"wash-bench: error: {' '.join(word.split())}\n")
            sys.stderr.flush()
        # Stay until the others have read it: the launcher ends all, and the store, with the first.
        time.sleep(2 * self._beat)
        os._exit(1)

    def _agreed(self, word: str, announced: bool = False) -> tuple[str, bool]:
        """What all ranks say, and whether this one is the first of its node to say it."""
        answers: list[tuple[str, bool]] = []

        def ask() -> None:
            with contextlib.suppress(RuntimeError, ValueError):
                agreed = word if announced else self._store.compare_set("end", "", word).decode()
                answers.append((agreed, self._store.add(f"told/{self._node}", 1) == 1))

        # A host without power resets no connection: the store's answer may never come.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(BROKEN)
        if answers:
            return answers[0]
        return word, True  # rather several times than not at all

    def fail(self, error: str) -> bool:
        """This rank ends with an error of its own; whether it is the one to tell it."""
        self._stop.set()
        _, first = self._agreed(f"rank {self._rank} ended: {error}")
        self._failed = True
        return first

    def wait_for_end(self, patience: float) -> None:
        """After a broken connection: ends this process if somebody is gone, else returns."""
        self._broken = True
        self._stop.wait(patience)

    def close(self) -> None:
        """Stop watching; after a failure, once the others have had the time to read of it."""
        self._stop.set()
        if self._failed:
            time.sleep(2 * self._beat)
        for thread in self._threads:
            thread.join(timeout=2 * self._beat)
        if self._before is not None:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, self._before)

    def _catch_sigterm(self) -> Handler:
        """Let SIGTERM wake the guard, even while the main thread is inside a collective."""
        if threading.current_thread() is not threading.main_thread():
            return None
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        return signal.signal(signal.SIGTERM, lambda number, frame: None)


def _host() -> str:
    return f"rank 0 or its host ({os.environ['MASTER_ADDR']})"
