"""Signals that come at awkward moments."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import weakref

import pytest

from tests.support.ranks import exit_code_of
from wash_bench import stop


class Dying:
    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        if self.number:
            os.kill(os.getpid(), self.number)
            time.sleep(0.05)


def _lose_and_wait(number: int, where: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ended = 1
    try:
        with stop.noted():
            if where == "__del__":
                Dying(number)
            else:
                held = Dying(0)
                about = weakref.ref(
                    held, lambda _: (os.kill(os.getpid(), number), time.sleep(0.05))
                )
                del held
                assert about() is None
            gc.collect()
            time.sleep(10)
    except KeyboardInterrupt:
        ended = 7
    sys.exit(ended)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("where", ["__del__", "weak reference"])
def test_a_signal_within_a_destructor_is_not_lost(number: int, where: str) -> None:
    began = time.monotonic()
    assert exit_code_of(_lose_and_wait, number, where) == 7
    assert time.monotonic() - began < 60
