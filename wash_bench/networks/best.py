"""The best network of a merge, as a folder that timm loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wash_bench.networks.found import recorded_in
from wash_bench.networks.merge import Merged
from wash_bench.networks.rows import Rows
from wash_bench.networks.timm_folder import Export, write_folder


def export_best(merged: Merged, rows: Rows, out: Path, networks: Sequence[Path]) -> None:
    """Export the network of the best row to ``out``, unless it is there already."""
    best, training = rows.best, merged.setting.config
    methods = ",".join(cell.method for cell in merged.task.cells)
    scores = {score: getattr(best, score) for score in ("acc", "nll", "ece", "brier")}
    if recorded_in(out) == scores:
        return
    write_folder(
        Export(
            setting=merged.setting,
            tensors=rows.best_tensors(),
            about=f"network {best.network} of {len(networks)}, BatchNorm statistics "
            f"{best.batchnorm}, chosen by validation accuracy ({best.val_acc:.2f} %)",
            scores=scores,
            commands=(
                f"wash-bench merge {' '.join(path.name for path in networks)} --dataset "
                f"{training.dataset} --methods {methods}",
                f"wash-bench eval DIR --dataset {training.dataset}",
            ),
        ),
        out,
    )
