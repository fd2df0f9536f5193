"""The resolved configuration of a run: every option written out, unknown names refused.

An experiment is what the command line (or a preset) describes: several methods, several seeds.
A cell is one method at one seed. Its identity is the hash of all settings that matter to it.
"""

import hashlib
import json
from typing import Any

from wash_bench.config.run import DEFAULT_METHODS, EvaluationConfig, RunConfig
from wash_bench.config.training import TrainingConfig
from wash_bench.config.values import CHECKPOINT_PREFIX

__all__ = [
    "CHECKPOINT_PREFIX",
    "DEFAULT_METHODS",
    "EvaluationConfig",
    "RunConfig",
    "TrainingConfig",
    "fingerprint",
]


def fingerprint(data: Any) -> str:
    """Eight hex digits of the canonical JSON of ``data``."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
