"""The cells whose identities are pinned: run folders of earlier versions must be found again.

``python -m tests.support.golden > tests/support/golden_cells.json`` writes them anew, for a change
that is meant to train everything again.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from wash_bench.plugins.registry import method_names
from wash_bench.study.resolve import resolve

AROUND = ("wash+ema", "wash+overlap", "papa+swa", "wash+fisher", "wash+ema+median", "dart+diwa")
PRESETS = (
    "cifar10-resnet18",
    "digits",
    "fashion-mnist",
    "fine-tuning-checkpoint",
    "imagenet-resnet50",
    "methods",
)
SETTINGS: dict[str, dict[str, Any]] = {
    "classes": {"classes": "0-4"},
    "vary": {"vary": ["lr=0.1,0.03", "mixup=0,0.5"]},
    "simplex": {"simplex_points": "5"},
    "adamw": {"optimizer": "adamw", "lr": "0.001", "amp": "bf16"},
    "multistep": {"schedule": "multistep", "milestones": "0.3,0.6"},
    "model arguments": {"model_arg": ["drop_rate=0.1"], "model": "test_vit"},
    "options": {"set": ["wash.p=0.3", "wash.operator=average", "papa.every=3"]},
    "papers' coupling": {"coupling_budget": "paper"},
    "elsewhere": {"data_dir": "somewhere", "checkpoint_every": "5", "device": "cpu"},
}


def cells(preset: str, options: dict[str, Any]) -> dict[str, list[str]]:
    """Cell, training, evaluation and experiment of every method at seed 7."""
    resolved = resolve(preset, None, {"seeds": "7", "device": "cpu"} | options)
    return {
        cell.method: [cell.cell_id, cell.training_id, cell.evaluation_id, cell.experiment_id]
        for cell in resolved.cells()
    }


def pinned(names: list[str]) -> dict[str, dict[str, list[str]]]:
    """All cells that are pinned: every method under every preset, and settings one by one."""
    everything = ",".join([*names, *AROUND])
    found = {preset: cells(preset, {"methods": everything}) for preset in PRESETS}
    for name, options in SETTINGS.items():
        found[f"digits, {name}"] = cells("digits", options)
    return found


if __name__ == "__main__":
    json.dump(pinned(method_names()), sys.stdout, indent=0, sort_keys=True)
