"""A rank ends when its launcher does, from its first second on. No torch.

Without the launcher nobody ends the rank, and at the start, before there is a group to watch, it
would wait for its fellows.
"""

import os
import sys
import threading
import time

from wash_bench.errors import KEPT, LAUNCHED

LOOK = 0.5  # seconds between two looks at the parent


def end_with_launcher() -> None:
    """Watch the launcher from a thread, in a process that torchrun or ``--procs`` started."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return  # a process that a shell started may outlive it
    # Of --procs the launcher is known, so that one that died before this line counts too.
    launcher = int(os.environ.get(LAUNCHED) or os.getppid())
    threading.Thread(target=_watch, args=(launcher,), daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(LOOK)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        sys.stderr.write(f"wash-bench: error: the launcher of this run died; {KEPT}\n")
        sys.stderr.flush()
    os._exit(1)
