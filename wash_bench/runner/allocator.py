"""Keeps the C library from giving memory back that the next step asks for again."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_NEVER, _LARGEST = 2**31 - 1, 2**25  # of larger blocks pages count for less, and gaps for more


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees; elsewhere, or where its variables are set, do nothing.

    It returns large blocks to the system when they are freed, and every step faults its activations
    in again, page by page: up to a ninth of a small network's time, next to nothing where the
    network is large (``benchmarks/allocator.py``, with the price in memory).
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_MMAP_THRESHOLD, _LARGEST)
