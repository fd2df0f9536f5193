"""How many cores this process may use."""

import os


def cores() -> int:
    """Those of the job where a node's are shared out (affinity), at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
