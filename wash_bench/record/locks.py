"""One lock a training, so that several runs, on any hosts, can share a run folder.

A run trains, evaluates and writes the records of a training's cells only while it holds
``locks/TRAINING.lock``. The system releases a lock when the process that holds it ends, however it
ends. ``TRAINING.json`` beside it names the owner for the reader, and decides nothing.

Where a file system has no locks, a file that only one process can create stands for one. One that a
killed process left is removed on the host that it ran on; on another host the user has to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from multiprocessing import parent_process
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from wash_bench.errors import WashBenchError, note
from wash_bench.files import read_json, remove, write_json

REPORT = "report"  # the lock on writing the report
# Long enough to sit out another process that looks, for a moment, whether a lock is held.
WAIT = 0.3  # seconds
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextlib.contextmanager
def hold(root: Path, name: str, wait: float = WAIT) -> Iterator[bool]:
    """Hold the lock of a training, or of ``REPORT``, of the run folder ``root``.

    Yields:
        Whether it is held; False if another process holds it.
    """
    lock = _acquire(_folder(root) / f"{name}.lock", wait)
    if lock is None:
        yield False
        return
    owner = _owner_file(root, name)
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(owner, {"host": socket.gethostname(), "pid": os.getpid(), "since": since})
        yield True
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def hold_file(path: Path) -> Iterator[None]:
    """Hold the lock of a file, for which other processes that ask for it wait."""
    lock = None
    while lock is None:
        lock = _acquire(path, 60)
    try:
        yield
    finally:
        lock.release()


def owner_of(root: Path, name: str) -> str:
    """Return the process that holds a lock, as ``HOST, process PID``; "" if none does."""
    try:
        about = read_json(_owner_file(root, name))
        owner = f"{about['host']}, process {about['pid']}"
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        owner = "another process"
    try:
        lock = _acquire(_folder(root) / f"{name}.lock", 0)
    except OSError:  # a folder that may only be read: the file is all there is to go by
        return owner
    if lock is not None:
        lock.release()
        return ""  # a process that was killed left the file
    return owner


def owners(root: Path) -> dict[str, str]:
    """Return the processes that hold locks of a run folder, by training."""
    names = sorted(path.stem for path in _folder(root).glob("*.json"))
    return {name: owner for name in names if (owner := owner_of(root, name))}


def check_unused(root: Path) -> None:
    """Raise a WashBenchError while a run works on the folder."""
    if held := owners(root):
        raise WashBenchError(
            f"a run is using {root} ({'; '.join(sorted(set(held.values())))}): wait until it ends"
        )


def sweep(root: Path) -> None:
    """Remove what killed processes left behind, except of trainings that others work on."""
    # Listed before the locks are looked at: a living process that has a file open holds a lock.
    left = leftovers(root)
    held = owners(root)
    for path in left:
        place = path.relative_to(root).parts
        if place[1] not in held if place[0] == "trainings" else not held:
            remove(path)
    for path in _folder(root).glob("*.json"):
        if path.stem not in held:
            with hold(root, path.stem, 0):
                pass  # which removes the file that names a dead owner


def leftovers(root: Path) -> list[Path]:
    """Return unfinished files and folders, of killed processes and of those that write now."""
    patterns = ("cells/.*.part", "trainings/*/.*.part", "trainings/*/state-*/.*.part")
    return [path for pattern in (*patterns, "report/.report-*") for path in root.glob(pattern)]


def _acquire(path: Path, wait: float) -> BaseFileLock | None:
    """Return the lock, held; None if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            lock: BaseFileLock = FileLock(path)
            lock.acquire(timeout=wait)
        except Timeout:
            return None
        except (OSError, NotImplementedError) as error:
            code = error.errno if isinstance(error, OSError) else errno.ENOSYS
            if code not in _NO_LOCKS:
                raise
            _warn(path.parent, os.strerror(code or 0))
            lock = SoftFileLock(f"{path}.soft")
            try:
                lock.acquire(timeout=wait)
            except Timeout:
                return None
    if warned:  # filelock itself did without
        _warn(path.parent, os.strerror(errno.ENOSYS))
    return lock


@cache
def _warn(folder: Path, reason: str) -> None:
    """Say once what a file system without locks asks of the user."""
    if parent_process() is not None:
        return  # of several processes of one run, the first says it
    note(
        f"the file system of {folder} has no locks ({reason}); files there stand for "
        "them: if a host dies, remove its files, or choose an --out on another file system"
    )


def _folder(root: Path) -> Path:
    return root / "locks"


def _owner_file(root: Path, name: str) -> Path:
    return _folder(root) / f"{name}.json"
