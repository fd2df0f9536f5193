"""That workers are on a run folder, so that they and a plain run keep out of each other's way."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from wash_bench.errors import WashBenchError
from wash_bench.record.store import Store

BEAT = 2.0  # seconds between an owner's signs of life


@contextlib.contextmanager
def alone(store: Store) -> Iterator[None]:
    """Keep the folder to one plain run; a WashBenchError if a run or a worker is using it."""
    with undisturbed(store):
        for path in dead_workers(store.root):
            path.unlink(missing_ok=True)
        for path in unfinished(store.root):
            remove(path)
        yield


@contextlib.contextmanager
def undisturbed(store: Store) -> Iterator[None]:
    """The same, and nothing is removed that a killed run or worker left behind."""
    with store.locked():
        dead = set(dead_workers(store.root))
        for path in workers(store.root).glob("*.json"):
            if path in dead:
                continue
            with contextlib.suppress(OSError, ValueError):
                stale = json.loads(path.read_text())["stale"]
                age = time_at(store.root) - path.stat().st_mtime
                raise WashBenchError(
                    f"a worker is using {store.root} ({who(path)}, seen {max(age, 0):.0f} s ago): "
                    f"wait until it ends (if it was killed, {stale:.0f} s), join it with "
                    "--worker, or choose another --out"
                )
        yield


def dead_workers(root: Path) -> list[Path]:
    """The files of workers that do not live any more."""
    dead = []
    for path in workers(root).glob("*.json"):
        with contextlib.suppress(OSError, ValueError):
            if not alive(path, json.loads(path.read_text())["stale"], lambda: time_at(root)):
                dead.append(path)
    return dead


def alive(path: Path, stale: float, now: Callable[[], float]) -> bool:
    """Whether the owner of a claim or of a worker's file still renews it.

    A time that lies in the future is one from before the clock was set back. A living owner has
    renewed it within a few beats, so that it is looked at again after these.

    Args:
        path: the file, whose time is its owner's last sign of life.
        stale: seconds of silence after which an owner does not count.
        now: tells the file server's time in seconds.

    Returns:
        False for a file that is gone, too.
    """
    try:
        seen = _time_of(path)
        if now() - seen < -stale:
            time.sleep(3 * BEAT)
            if _time_of(path) == seen:
                return False
            seen = _time_of(path)
        return now() - seen <= stale
    except FileNotFoundError:
        return False


def _time_of(path: Path) -> float:
    with path.open() as file:  # opening makes a network file system look again
        return os.fstat(file.fileno()).st_mtime


def unfinished(root: Path) -> list[Path]:
    """Unfinished files and folders that a killed run left behind, if nobody else is writing."""
    patterns = ("cells/.*.part", "trainings/*/.*.part", "trainings/*/state-*/.*.part")
    return [path for pattern in (*patterns, "report/.report-*") for path in root.glob(pattern)]


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def refuse_plain_run(store: Store) -> None:
    """Raise a WashBenchError if a plain run is using the folder."""
    # Workers announce themselves and then look at the lock, plain runs the other way round: one of
    # the two, at least, sees the other.
    for attempt in range(20):
        try:
            with store.locked():
                return
        except WashBenchError:
            if attempt == 19:  # another worker that looks holds it for a moment only
                raise
            time.sleep(0.05)


def workers(root: Path) -> Path:
    """The folder with one file a worker, renewed for as long as it lives."""
    return root / "claims" / "workers"


def time_at(root: Path) -> float:
    """The file server's time in seconds; an OSError where workers never were."""
    clock = workers(root) / ".clock"
    clock.touch()
    return clock.stat().st_mtime


def who(path: Path) -> str | None:
    """The owner of a claim, or the worker, that a file tells of; None if it is gone."""
    try:
        about = json.loads(path.read_text())
        return f"{about['host']}, process {about['pid']}"
    except FileNotFoundError:
        return None
    except (ValueError, KeyError):  # being written
        return "a worker"
