"""Options under which the methods that act rarely do so often within 40 steps."""

from __future__ import annotations

from typing import Any

BUSY: dict[str, dict[str, Any]] = {
    "wash": {"p": 0.05},
    "wash-opt": {"p": 0.05},
    "dart": {"every": 1},
    "local-sgd": {"every": 3},
    "post-local-sgd": {"every": 4},
    "papa-all": {"every": 1},
    "papa-2": {"every": 1},
    "diloco": {"every": 4},
    "sparta": {"p": 0.05},
    "sparta-diloco": {"every": 4, "p": 0.05},
    "hwa": {"every": 4},
    "gossip": {"every": 3},
    "noloco": {"every": 4},
    "sparse-gossip": {"every": 3, "merge": 0.8},
    "streaming-diloco": {"every": 6, "tau": 2},
    "palsgd": {"every": 4},
    "lawa": {"every": 1},
    "swa": {"every": 1},
}
SILENT = {"lawa", "swa"}  # they average along a trajectory: nothing is sent, no member is changed
