"""Who works on which training, told by files, for any number of hosts that share a run folder.

``claims/TRAINING/`` has one file a claim, ``1.json``, ``2.json``, ...: the newest is the one that
counts. A claim is made by creating its file with O_CREAT|O_EXCL, which one process alone can do,
and stays as long as its owner renews the file's time; a stale claim is succeeded, not removed, so
that of several that would succeed it one alone creates the next number.

Beside its file a claim has a symbolic link ``N`` to the training's folder, and its owner reads and
writes through this link only. Whoever succeeds a claim removes the link first: an owner that was
frozen and wakes up finds no way into the folder any more, even in the middle of a write.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from wash_bench.errors import WashBenchError
from wash_bench.record.presence import BEAT, alive, refuse_plain_run, who, workers
from wash_bench.record.store import Store, TrainingFolder

STALE = 120  # seconds without one after which a claim may be succeeded
REPORT = "report"  # the claim on writing the report


class ClaimLost(WashBenchError):
    """Another worker has taken over what this one was working on."""


class Claim:
    """This process's claim on one name, and the way into the training's folder while it is held."""

    def __init__(self, folder: Path, number: int) -> None:
        self.path = folder / f"{number}.json"
        self.link = folder / str(number)
        self._next = folder / f"{number + 1}.json"
        self._renewed = time.monotonic()
        self._lost = False
        self._released = False
        self._lock = threading.Lock()  # the owner's thread renews, and must not after a release

    def renew(self) -> None:
        """Say that the owner is alive; finds out whether the claim still counts."""
        with self._lock:
            if self._released:
                return
            try:
                self._lost = self._lost or self._next in self.path.parent.iterdir()
                if not self._lost:
                    os.utime(self.path)
                    self._renewed = time.monotonic()
            except FileNotFoundError:
                self._lost = True
            except OSError:
                pass  # the file server is away for a moment: writes would fail too

    def check(self) -> None:
        """Raise ClaimLost if somebody has succeeded the claim."""
        if time.monotonic() - self._renewed > 2 * BEAT:  # this process stood still
            self.renew()
        if self._lost:
            raise ClaimLost(
                f"another worker took over {self.path.parent.name} while this one stood still"
            )

    def held(self) -> bool:
        """Whether the claim counts, found out now."""
        self.renew()
        return not self._lost

    def release(self) -> None:
        """Leave the name to others; removes what was written when the link was gone already."""
        held = self.held()
        with self._lock:
            self._released = True
            if held:
                os.utime(self.path, (0, 0))
        with contextlib.suppress(OSError):
            if self.link.is_symlink():
                self.link.unlink()
            else:
                shutil.rmtree(self.link, ignore_errors=True)


class Claims:
    """The claims on a run folder as one worker sees and makes them; a context.

    While it is entered the worker counts as present, and its claim is kept alive.

    Args:
        root: the run folder.
        stale: seconds after which a claim or a worker that was not renewed does not count. Ages
            are taken between times of the file server, whose clock is the same for all.
    """

    def __init__(self, root: Path, stale: float = STALE) -> None:
        self.root = root
        self.stale = stale
        me = {"host": socket.gethostname(), "pid": os.getpid(), "stale": stale}
        self._me = me
        self._presence = workers(root) / f"{me['host']}-{me['pid']}-{uuid.uuid4().hex[:8]}.json"
        self._claim: Claim | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Claims:
        self._presence.parent.mkdir(parents=True, exist_ok=True)
        self._presence.write_text(json.dumps(self._about()))
        try:
            refuse_plain_run(Store(self.root))
        except BaseException:
            self._presence.unlink()
            raise
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._presence.unlink(missing_ok=True)

    def now(self) -> float:
        """The file server's time, seconds."""
        os.utime(self._presence)
        return self._presence.stat().st_mtime

    def take(self, name: str) -> Claim | None:
        """Claim a training, whose folder the claim's link then reaches; None if another has it."""
        folder = self.root / "claims" / name
        folder.mkdir(parents=True, exist_ok=True)
        newest = _newest(folder)
        if newest and self._counts(folder / f"{newest}.json"):
            return None
        claim = Claim(folder, newest + 1)
        try:
            with claim.path.open("x") as file:  # O_CREAT | O_EXCL
                file.write(json.dumps(self._about()))
        except FileExistsError:
            return None
        _shut_out(folder, newest)
        if name != REPORT and not self._admit(claim, name):
            return None
        self._claim = claim
        return claim

    def holder(self, name: str) -> str | None:
        """Who works on ``name``, as ``HOST, process PID``; None if nobody does."""
        folder = self.root / "claims" / name
        path = folder / f"{_newest(folder)}.json"
        if not self._counts(path):
            return None
        return who(path)

    def _about(self) -> dict[str, Any]:
        return self._me | {"since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}

    def _counts(self, path: Path) -> bool:
        return alive(path, self.stale, self.now)

    def _admit(self, claim: Claim, name: str) -> bool:
        """Open the way into the training's folder; False if the claim was lost meanwhile."""
        (self.root / "trainings" / name).mkdir(parents=True, exist_ok=True)
        claim.link.symlink_to(Path("..", "..", "trainings", name))
        try:
            if claim.held():  # looked at after the link was made: its remover may have come before
                events = TrainingFolder(claim.link).events
                if events.exists():  # a frozen owner may have it open: leave it that file
                    copy = events.with_name(f".{events.name}.{uuid.uuid4().hex}")
                    shutil.copyfile(events, copy)
                    copy.replace(events)
                return True
        except FileNotFoundError:
            if claim.held():
                raise
        claim.release()
        return False

    def _renew(self) -> None:
        while not self._stop.wait(BEAT):
            claim = self._claim
            with contextlib.suppress(OSError):
                os.utime(self._presence)
            if claim is not None:
                claim.renew()

    def release(self, claim: Claim) -> None:
        """Leave what was claimed to others."""
        self._claim = None
        claim.release()


class ClaimedStore(Store):
    """A run folder in which the claimed training is reached by the claim's link."""

    def __init__(self, root: Path, claim: Claim) -> None:
        super().__init__(root)
        self.claim = claim

    def training(self, training_id: str) -> TrainingFolder:
        return TrainingFolder(self.claim.link)

    def write_cell(self, record: dict[str, Any]) -> None:
        if not self.claim.held():
            self.claim.check()
        super().write_cell(record)


def newest_claim(folder: Path) -> Path | None:
    """The claim that counts of those in a folder, if there is one."""
    number = _newest(folder)
    return folder / f"{number}.json" if number else None


def _newest(folder: Path) -> int:
    try:
        return max((int(path.stem) for path in folder.iterdir() if path.suffix), default=0)
    except FileNotFoundError:
        return 0


def _shut_out(folder: Path, newest: int) -> None:
    for number in range(1, newest + 1):
        link = folder / str(number)
        if link.is_symlink():
            link.unlink(missing_ok=True)
