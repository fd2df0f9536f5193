"""Heartbeats: when a process dies, every other one ends within a minute and says which it was.

A collective whose partner died may fail at once (the connection breaks) or never (the host is
gone). Each rank therefore writes a count into the group's store every few seconds, and looks at
those of the others, from a thread of its own.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import torch.distributed as dist

BEAT = 2.0  # seconds between beats
SILENCE = 20.0  # seconds without a beat after which a rank counts as dead
DEAD_EXIT = 1


class Watch:
    """Beats for this rank and watches the others until closed."""

    def __init__(self, beat: float = BEAT, silence: float = SILENCE) -> None:
        self._store = dist.distributed_c10d._get_default_store()
        self._rank, self._ranks = dist.get_rank(), dist.get_world_size()
        self._beat, self._silence = beat, silence
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        seen: dict[int, tuple[int, float]] = {}
        count = 0
        while not self._stop.wait(self._beat if count else 0):
            count += 1
            try:
                self._store.set(f"beat/{self._rank}", str(count))
                dead = self._silent(seen)
            except (RuntimeError, dist.DistStoreError):
                # The store lives with the launcher or with rank 0: it is gone when they are.
                dead = 0
            if dead is not None and not self._stop.is_set():
                say_dead(dead, self._rank)
                os._exit(DEAD_EXIT)

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
            elif now - seen[rank][1] > self._silence and beat >= 0:
                return rank
        return None

    def failing(self) -> None:
        """This rank ends with an error of its own: the others should not wait for it."""
        self._stop.set()

    def silent_rank(self, patience: float) -> int | None:
        """After a broken collective: the rank that beats no more, None if all do."""
        first = self._beats()
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            time.sleep(self._beat / 2)
            now = self._beats()
            still = [r for r in first if r != self._rank and now.get(r) == first[r]]
            if not still:
                return None
        return still[0]

    def _beats(self) -> dict[int, bytes]:
        keys = {rank: f"beat/{rank}" for rank in range(self._ranks)}
        return {r: self._store.get(key) for r, key in keys.items() if self._store.check([key])}

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2 * self._beat)


def say_dead(rank: int, here: int) -> None:
    """The one line that names a dead rank."""
    sys.stderr.write(
        f"wash-bench: rank {rank} died (seen from rank {here}); the last checkpoint is whole, "
        "and the same command goes on from it\n"
    )
    sys.stderr.flush()
