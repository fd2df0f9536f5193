"""Errors of the machine: no failure of a cell, and the same command tries again."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import torch

from wash_bench.errors import CellFailure, UsageError, WashBenchError

FAILURES = (Exception, SystemExit)
"""What the code of a method or a network may raise; Ctrl-C passes."""

_MEMORY = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")
_LOADER = ("DataLoader worker", "unable to allocate shared memory", "Too many open files")


def is_system_error(error: BaseException) -> bool:
    """Whether an error is the machine's and not that of a method, a network or data."""
    if isinstance(error, (CellFailure, UsageError)):
        return False  # what is wrong with the settings was refused before: a method raises it
    kinds = (WashBenchError, OSError, MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or _says(error, *_MEMORY, *_LOADER)


@contextlib.contextmanager
def machine_failures(root: Path) -> Iterator[None]:
    """Turn what the machine refuses into a WashBenchError that says what to do."""
    try:
        yield
    except (BrokenPipeError, WashBenchError):
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise WashBenchError(
                f"the disk of {root} is full; free some space and run the same command again"
            ) from error
        reason = f"{error.strerror or error} ({error.filename or root})"
        raise WashBenchError(reason) from error
    except torch.OutOfMemoryError as error:
        raise WashBenchError(
            "the device is out of memory; lower --batch-size or --population, or set --amp bf16"
        ) from error
    except MemoryError as error:
        raise WashBenchError(_FULL) from error
    except RuntimeError as error:  # torch has no kinds of its own for these
        if _says(error, *_MEMORY):
            raise WashBenchError(_FULL) from error
        if _says(error, *_LOADER):
            reason = " ".join(str(error).split())
            raise WashBenchError(
                f"a process that reads images ended ({reason}); give it more memory or open files,"
                " or lower --batch-size, and run the same command again"
            ) from error
        raise


_FULL = (
    "this machine is out of memory; lower --batch-size, --population or --jobs, and run the same"
    " command again"
)


def _says(error: BaseException, *signs: str) -> bool:
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
