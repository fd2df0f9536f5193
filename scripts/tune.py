"""Choose a preset's coupling by measurement: a grid, on seeds that no result uses.

    python scripts/tune.py digits --out results/tuning/digits.md

Every setting of the grid trains at the preset's own scale. The setting with the highest mean
validation accuracy of the method's own network (the averaged model, for most) is the preset's;
test data plays no part. Settings that are done are not trained again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from wash_bench.metrics import METRICS
from wash_bench.report import markdown

GRIDS = {
    "digits": {
        "wash": [{"p": p} for p in (0.02, 0.05, 0.1, 0.2)],
        "wash-opt": [{"p": p} for p in (0.02, 0.05, 0.1, 0.2)],
        "papa": [{"alpha": alpha} for alpha in (0.5, 0.8, 0.9, 0.95)],
        "dart": [{"every": every, "warmup": w} for w in (0.2, 0.5) for every in (1, 2)],
    },
    "fashion-mnist": {
        "wash": [{"p": p} for p in (0.05, 0.1)],
        "wash-opt": [{"p": p} for p in (0.05, 0.1)],
        "papa": [{"alpha": alpha} for alpha in (0.9, 0.8)],
        "dart": [{"every": every, "warmup": 0.2} for every in (1, 2)],
    },
    "methods": {
        "wash": [{"p": p} for p in (0.05, 0.1)],
        "wash-opt": [{"p": p} for p in (0.05, 0.1)],
        "papa": [{"alpha": alpha} for alpha in (0.5, 0.8)],
        "dart": [{"every": 1, "warmup": warmup} for warmup in (0.1, 0.2)],
        "papa-all": [{"every": every} for every in (1, 2)],
        "papa-2": [{"every": every} for every in (1, 2)],
        "local-sgd": [{"every": every} for every in (4, 16)],
        "post-local-sgd": [{"every": every} for every in (4, 16)],
        "diloco": [{"every": every} for every in (8, 20)],
        "sparta": [{"p": p} for p in (0.02, 0.1)],
        "sparta-diloco": [{"every": 40, "p": p} for p in (0.02, 0.1)],
        "lookaround": [{"every": every} for every in (5, 15)],
        "swap": [{"phase1": share} for share in (0.25, 0.5)],
        "hwa": [{"every": every} for every in (8, 20)],
        "easgd": [{"every": every} for every in (2, 10)],
        "gossip": [{"every": every} for every in (2, 10)],
        "sparse-soup": [{"sparsity": sparsity} for sparsity in (0.3, 0.5)],
    },
}
SEEDS = {"digits": "100,101,102", "fashion-mnist": "100", "methods": "100"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", choices=GRIDS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=None)
    parser.add_argument("--jobs", default="2")
    arguments = parser.parse_args()
    runs = arguments.runs or Path("runs") / f"tune-{arguments.preset}"
    command = [sys.executable, "-m", "wash_bench"]

    grid = GRIDS[arguments.preset]
    for i in range(max(len(settings) for settings in grid.values())):  # one of each method a round
        chosen = {method: settings[i] for method, settings in grid.items() if i < len(settings)}
        options = [
            f"--set={method}.{key}={value}"
            for method, setting in chosen.items()
            for key, value in setting.items()
        ]
        subprocess.run(
            [*command, "run", arguments.preset, "--methods", ",".join(chosen), *options,
             "--seeds", SEEDS[arguments.preset], "--barrier-points", "3", "--no-report",
             "--jobs", arguments.jobs, "--out", str(runs)],
            check=True,
        )  # fmt: skip
    subprocess.run([*command, "report", str(runs), "--out", str(runs / "report")], check=True)
    write(arguments.preset, pd.read_csv(runs / "report" / "summary.csv"), arguments.out)


def write(preset: str, summary: pd.DataFrame, out: Path) -> None:
    """The grid as a table, best setting of each method in bold."""
    lines = [
        f"# How the coupling of the preset `{preset}` was chosen",
        "",
        f"`python scripts/tune.py {preset} --out {out}`; seeds {SEEDS[preset]}, used nowhere else.",
        "Validation accuracy of the method's own network in per cent (of most methods the averaged"
        " model, BatchNorm statistics averaged), mean over the seeds; the best of a method is bold"
        " and stands in the preset, of equals the one that sends less. The other columns are for"
        " reading, they choose nothing.",
        "",
    ]
    entries = []
    for method, settings in GRIDS[preset].items():
        rows = []
        for setting in settings:
            cells = summary[(summary["method"] == method) & matches(summary, setting)]
            rows.append((setting, cells.mean(numeric_only=True)))
        best = max(row["method_val_acc"] for _, row in rows)
        for setting, row in rows:
            text = f"{row['method_val_acc']:.2f}"
            bold = f"**{text}**" if row["method_val_acc"] == best else text
            named = ", ".join(f"{key} = {value}" for key, value in setting.items())
            tested = [f"{row[key]:.2f}" for key in ("member_val_acc_mean", "method_acc")]
            entries.append([method, named, bold, *tested, f"{row['ensemble_acc']:.2f}",
                            f"{row['sent_values_per_step']:,.0f}"])  # fmt: skip
    validated, members, sent = (
        METRICS[key].heading
        for key in ("method_val_acc", "member_val_acc_mean", "sent_values_per_step")
    )
    headings = [
        "method",
        "setting",
        validated,
        members,
        "own network, test",
        "ensemble, test",
        sent,
    ]
    lines.append(markdown.table(headings, entries, "llrrrrr"))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def matches(summary: pd.DataFrame, setting: dict) -> pd.Series:
    options = summary["options"].map(json.loads)
    return options.map(lambda row: all(row.get(key) == value for key, value in setting.items()))


if __name__ == "__main__":
    main()
