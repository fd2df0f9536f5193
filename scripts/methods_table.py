"""All methods of a report on one compact table.

    python scripts/methods_table.py results/methods/summary.csv --out results/methods/methods.md

A row a method: the accuracy of the one network it delivers (test data), what that lacks to the
ensemble of the same members and to the naive ensemble of independent ones (paired by seed), what
a member sends, and what it costs beside N trainings. Merge rules whose network has less than half
of the members' accuracy stand in one line.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import pandas as pd

from wash_bench.core.method import KINDS
from wash_bench.data.catalog import spec_of
from wash_bench.plugins.names import parts
from wash_bench.plugins.registry import find_method
from wash_bench.report.numbers.stats import estimate, paired
from wash_bench.report.tables import markdown
from wash_bench.report.tables.grid import MISSING, amount, number, with_interval
from wash_bench.report.tables.markdown import escape

BASELINE = "naive-ensemble"


def label(rows: pd.DataFrame) -> str:
    """The method's name and, of several settings, what sets them apart.

    Of a rule that can corrupt a member before the merge it is only whether it did.
    """
    first = rows.iloc[0]
    options = json.loads(first["options"])
    own = options.get(parts(first["method"])[-1], options)
    corrupt = own.get("corrupt") if isinstance(own, dict) else None
    if corrupt is None:
        return str(first["variant"])
    return first["method"] if corrupt == "none" else f"{first['method']}, corrupt={corrupt}"


def by_seed(rows: pd.DataFrame, metric: str) -> dict[int, float]:
    return {int(s): float(v) for s, v in zip(rows["seed"], rows[metric], strict=True) if v == v}


def row(rows: pd.DataFrame, naive: dict[int, float]) -> list[str]:
    """One method's entries, from its cells of all seeds; the last one says how many there are."""
    single = "method" if (rows["method_networks"] == 1).all() else "average"
    network = by_seed(rows, f"{single}_acc")
    again = by_seed(rows, f"{single}_bn_acc")
    # A wrapped or merged network is compared with the ensemble of the members that it is made of.
    members = by_seed(rows, "ensemble_acc")
    name = rows["method_predictor"].iloc[0] if single == "method" else "average"
    sent = estimate(rows["sent_values_total"]).mean / rows["parameters"].iloc[0]
    merging = estimate(rows["merge_seconds"]).mean
    return [
        name,
        with_interval(estimate(network.values()), 2),
        with_interval(estimate(again.values()), 2) if again else MISSING,
        with_interval(paired(network, members), 2, signed=True),
        with_interval(paired(network, naive), 2, signed=True),
        amount(sent),
        number(100 * estimate(rows["member_steps_share"]).mean, 0),
        number(merging, 1) if merging >= 0.05 else "<0.1",
        number(estimate(rows["barrier_loss_max"]).mean, 2),
        str(rows["seed"].nunique()),
    ]


HEAD = [
    "method", "network", "accuracy", "BN re-est.", "− own ensemble", "− naive ensemble",
    "vectors sent", "training, %", "merge, s", "barrier", "seeds",
]  # fmt: skip


def table(summary: pd.DataFrame) -> str:
    """The table in Markdown, by kind, best accuracy first."""
    finished = summary[summary["status"] == "finished"]
    groups = dict(list(finished.groupby("variant", sort=False)))
    naive = by_seed(groups[BASELINE], "ensemble_acc")
    members = estimate(groups[BASELINE]["member_acc_mean"]).mean
    # A column that says the same in every row says nothing.
    last = len(HEAD) - (len({cells["seed"].nunique() for cells in groups.values()}) == 1)
    lines = []
    for kind, heading in KINDS.items():
        rows = [
            (label(cells), row(cells, naive))
            for cells in groups.values()
            if find_method(cells["method"].iloc[0]).kind == kind
        ]
        if not rows:
            continue
        rows.sort(key=lambda item: -_leading(item[1][1]))
        failed = [] if kind != "merge" else [item for item in rows if _fails(item[1], members)]
        entries = [
            [escape(name), *of_method][:last] for name, of_method in rows[: len(rows) - len(failed)]
        ]
        lines += [f"**{heading.capitalize()}**", ""]
        lines += [markdown.table(HEAD[:last], entries, "llrrrrrrrrr"[:last]), ""]
        if failed:
            ends = [f"{_leading(of_method[1]):.2f}" for _, of_method in (failed[-1], failed[0])]
            names = "; ".join(escape(name) for name, _ in failed)
            lines += [f"Fail here, with {' to '.join(ends)} %: {names}.", ""]
    return "\n".join(lines)


def _fails(entries: list[str], members: float) -> bool:
    """Whether a network has less than half of what independent members have."""
    return _leading(entries[1]) < members / 2


def _leading(text: str) -> float:
    try:
        return float(text.split()[0].replace("−", "-"))
    except ValueError:
        return -math.inf


def _size(first: pd.Series) -> str:
    """The images' side; 0 stands for the data set's own."""
    side = int(first["image_size"]) or spec_of(str(first["dataset"])).size
    return f"{side} px"


def caption(summary: pd.DataFrame) -> str:
    first = summary.iloc[0]
    seeds = sorted(summary["seed"].unique())
    naive = summary[(summary["method"] == BASELINE) & (summary["status"] == "finished")]
    ensemble = with_interval(estimate(naive["ensemble_acc"]), 2)
    member = with_interval(estimate(naive["member_acc_mean"]), 2)
    return (
        f"Data set {first['dataset']}, {int(naive['train_images'].iloc[0]):,} training images at "
        f"{_size(first)}; model {first['model']}; N = {int(first['population'])}, "
        f"{int(first['epochs'])} epochs = {int(naive['steps'].iloc[0]):,} steps; seeds "
        f"{', '.join(map(str, seeds))}: mean ± half-width of the 95 % Student-t interval, "
        "differences paired by seed. For scale: independent members reach "
        f"{member} %, their ensemble of {int(first['population'])} networks {ensemble} %.\n\n"
        "accuracy: test accuracy in per cent of the one network that the method delivers (of the "
        "naive ensemble, the average of its members); BN re-est.: the same with BatchNorm "
        "statistics re-estimated on augmented training images. vectors sent: values that a member "
        "sends in the whole training, in units of the network's size. training: optimizer steps "
        "of all members, in per cent of N full trainings; merge: seconds to make the network "
        "from the trained members; the network itself costs one forward pass an image, the "
        "ensembles N. barrier: greatest loss barrier between two members, in nats."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("summary", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    summary = pd.read_csv(arguments.summary)
    text = f"# All methods on one table\n\n{caption(summary)}\n\n{table(summary)}"
    arguments.out.write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
