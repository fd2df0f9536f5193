"""The type of the device that a run trains on, without torch where that can be.

It is part of a cell's identity, so that whoever looks for finished cells asks for it first.
"""

import ctypes
import sys
from pathlib import Path


def device_type(name: str) -> str:
    """``cpu``, ``cuda`` or ``mps``: the type of ``cuda:1`` and the like, or what ``auto`` means."""
    # A named device need not be there: what was finished on it is found anyway.
    if name != "auto":
        return name.partition(":")[0]
    if _no_accelerator():
        return "cpu"
    from wash_bench.runner.setting import resolve_device  # the drivers' word does not do

    return resolve_device(name).type


def _no_accelerator() -> bool:
    """Whether it is certain, by the drivers that are missing, that torch finds no accelerator."""
    if sys.platform != "linux" or Path("/dev/kfd").exists():  # Metal; AMD's driver
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    return False
