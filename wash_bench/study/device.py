"""The device that a run trains on, and its type, without torch where that can be.

The type is part of a cell's identity, so that whoever looks for finished cells asks for it first.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.errors import UsageError

if TYPE_CHECKING:
    import torch


def device_type(name: str) -> str:
    """Return ``cpu``, ``cuda`` or ``mps``: the type of ``cuda:1`` and the like, or of ``auto``."""
    # A named device need not be there: what was finished on it is found anyway.
    if name != "auto":
        return name.partition(":")[0]
    return "cpu" if _no_accelerator() else resolve_device(name).type


def resolve_device(name: str) -> torch.device:
    """Return the device of a name, ``auto`` the first accelerator; UsageError if not there."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            there.append("mps")
        raise UsageError(
            f"device {name!r} is not there; this machine has: {', '.join(there)}"
        ) from error
    return device


def _no_accelerator() -> bool:
    """Whether it is certain, by the drivers that are missing, that torch finds no accelerator."""
    if sys.platform != "linux" or Path("/dev/kfd").exists():  # Metal; AMD's driver
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    return False
