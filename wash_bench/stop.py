"""Stops trainings where a scheduler asks for it by a signal: at the next step, once they are saved.

While trainings run, the first SIGTERM or SIGUSR1 (as Slurm's ``--signal`` sends it) is only noted;
each training saves its state after the step that it is in, and a KeyboardInterrupt ends the
command. A second signal, or one while nothing trains, ends it at once.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
_noted = 0
_trainings = 0
_working = False


def among_ranks() -> bool:
    """Whether this process is one of several; a platform may call a single one rank 0 of 1."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE") != "1"


def requested() -> int:
    """Return the signal that asks to stop; 0 if none does."""
    return _noted


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Note the first signal in what is done inside; KeyboardInterrupt at the end if one came."""
    global _trainings
    _trainings += 1
    try:
        yield
    finally:
        _trainings -= 1
    if _noted and not _trainings:
        raise KeyboardInterrupt


def note_signal(number: int, frame: FrameType | None = None) -> None:
    """Handle a signal: note it while something trains, else raise a KeyboardInterrupt."""
    global _noted
    again, _noted = _noted > 0, number
    if _trainings and not again:
        return
    if among_ranks():  # what unwinds might wait for the other ranks
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    raise KeyboardInterrupt


def note_in_worker(number: int, frame: FrameType | None = None) -> None:
    """Handle a signal in a process of a pool, which may get it from several sides."""
    global _noted
    _noted = number
    if _working and not _trainings:
        raise KeyboardInterrupt


@contextlib.contextmanager
def work_of_worker() -> Iterator[None]:
    """Let a signal end what is done inside, in a process of a pool."""
    global _working
    if _noted:
        raise KeyboardInterrupt
    _working = True
    try:
        yield
    finally:
        _working = False


def _send_again(lost: "sys.UnraisableHookArgs") -> None:
    """Repeat a signal whose exception Python dropped in a destructor or a weakref callback."""
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
        return
    again = threading.Timer(0.1, os.kill, (os.getpid(), _noted or signal.SIGINT))
    again.daemon = True
    again.start()


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Handle the signals inside, unless the program has handlers of its own; main thread only."""
    global _noted
    free = [each for each in SIGNALS if signal.getsignal(each) is signal.SIG_DFL]
    for each in free:
        signal.signal(each, note_signal)
    hook, sys.unraisablehook = sys.unraisablehook, _send_again
    try:
        yield
    finally:
        _noted = 0
        sys.unraisablehook = hook
        for each in free:
            signal.signal(each, signal.SIG_DFL)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Let signals that would end this process wait for the end of what is done inside.

    Processes that are started inside are born with the signals blocked.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    signals = {signal.SIGINT, *SIGNALS}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
