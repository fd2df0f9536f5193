"""How long a training with its evaluation may take."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from wash_bench.errors import CellFailure, UsageError


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise a CellFailure in what is done inside, after so many seconds; 0 for no limit.

    It ends what runs in Python, a method's loop without an end too; a single call into a library
    that never returns it does not.

    Raises:
        UsageError: it is asked for outside of the main thread.
    """
    if not seconds:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        raise UsageError("--time-limit works in the main thread alone: leave it out")

    def end(number: int, frame: FrameType | None) -> None:
        raise CellFailure(f"it took longer than --time-limit {seconds}")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
