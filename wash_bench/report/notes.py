"""The words around a table: what was run, on what machine, and how to read the numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.config import CHECKPOINT_PREFIX

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.report.frames import Records

# The average counts as failed this many points of accuracy below its members.
FAR_BELOW = 10.0
# A loss barrier above so many nats is said to part basins.
BASIN = 0.1
# What should be the same in all environments of one table, and the name in the sentence.
BOLD = (
    "Bold: the greatest mean of a column that holds one network's accuracy (the ensembles"
    " need N networks)."
)
TIED = (
    "†: the seeds do not tell it from the bold value (the 95 % t interval of the"
    " difference, paired by seed, contains 0; not adjusted for several comparisons)."
)
COMPARED = {
    "wash_bench": "wash-bench",
    "python": "Python",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "numpy": "NumPy",
    "platform": "platform",
    "cpu": "CPU",
    "cpu_cores": "CPU cores",
    "threads": "threads",
    "jobs": "jobs side by side",
    "device": "device",
    "commit": "commit",
}


def title(cells: pd.DataFrame) -> str:
    """Data set, model, N and the experiment's id, which tells apart what the rest does not."""
    first = cells.iloc[0]
    return (
        f"{first['dataset']}, {first['model']}, N = {first['population']}"
        f" (experiment {first['experiment_id']})"
    )


def caption(records: Records, experiment_id: str, cells: pd.DataFrame) -> list[str]:
    """Sentences above the table: data, model, schedule, seeds, machine, intervals."""
    first = cells.iloc[0]
    finished = cells[cells["status"] == "finished"]
    data = f"data set {first['dataset']}"
    counted = finished["train_images"].max() if "train_images" in finished else math.nan
    if not math.isnan(counted):
        data += f" ({counted:,.0f} training images)"
    elif first["train_limit"]:
        data += f" (at most {first['train_limit']:,} training images)"
    else:
        data += " (all training images)"
    if first.get("classes", "all") != "all":
        data += f", classes {first['classes']} of it"
    if first["image_size"]:
        data += f" at {first['image_size']} px"
    model = f"model {first['model']}"
    if not math.isnan(parameters := finished["parameters"].max()):
        model += f" ({parameters:,.0f} parameters)"
    schedule = f"{_count(first['epochs'], 'epoch')}"
    if not math.isnan(steps := finished["steps"].max()):
        schedule += f" = {steps:,.0f} steps"
    warmup = f", {first['warmup']:g} epochs of warm-up" if first.get("warmup") else ""
    amp = "" if first["amp"] in (None, "off") else f", {first['amp']} autocast"
    sentences = [
        f"Preset {first['preset']}: {data}; {model}; N = {first['population']} members,"
        f" {_start(first)}, {first['augment']} augmentation; {schedule} of"
        f" {first['batch_size']} images a member; {first['optimizer']}, learning rate"
        f" {first['lr']:g} ({first['schedule']}{warmup}){amp}."
    ]
    if vary := first.get("vary"):
        sentences.append(
            f"Hyperparameters of the members: each has its own combination of {vary}, drawn with"
            " the seed (environment.csv lists them)."
        )
    if finished.empty:
        return [*sentences, "No cell finished."]
    if told := machine(_environments(records, cells), " (train s is their wall time)"):
        sentences.append(told)
    if several := mixed_environments(records, cells):
        names = several[0].partition(": ")[0]
        sentences.append(f"{names}; the notes below say which differ.")
    reading = "Accuracies in per cent on test data; [min, max] over all members and seeds; "
    reading += intervals(cells)
    evaluation = records.evaluations.get(experiment_id, {})
    if evaluation.get("barrier_points"):
        images = evaluation.get("barrier_images")
        split = evaluation.get("barrier_split")
        counted = f"{images:,} {split} images" if images else f"all {split} images"
        reading += (
            f" Loss barrier: nats above the straight line between two members, the greatest over"
            f" {evaluation['barrier_points']} points and all pairs, {counted}, BN statistics"
            " averaged."
        )
    sentences.append(reading)
    sentences.append(
        "Per member: values sent (the papers' convention: scalars of weights and optimizer state"
        " that leave a member), MB sent (the same in 10^6 bytes), MB on the wire (what the"
        " collectives really send, BN statistics included)."
        " BN re-est.: BatchNorm statistics re-estimated on augmented training images."
    )
    return sentences


def _start(first: pd.Series) -> str:
    """What members start from; of a checkpoint the file's name, and how long the head is probed."""
    kind, _, path = str(first["init"]).partition(CHECKPOINT_PREFIX)
    if not path:
        return f"{kind} initial weights"
    text = f"initial weights of checkpoint {Path(path).name}"
    if epochs := first.get("linear_probe"):
        text += f", its classifier alone trained for {_count(int(epochs), 'epoch')} first"
    return text


def intervals(cells: pd.DataFrame) -> str:
    """Which seeds the numbers are over, and what stands after ±."""
    seeds = sorted(cells.loc[cells["status"] == "finished", "seed"].unique())
    if not seeds:
        return "no cell finished."
    if len(seeds) == 1:
        return f"one seed ({seeds[0]}): no interval, small differences mean nothing."
    return (
        f"{len(seeds)} seeds ({', '.join(map(str, seeds))}): mean ± half-width of the 95 %"
        " Student-t interval over seeds."
    )


def below(
    records: Records, experiment_id: str, cells: pd.DataFrame, *, bold: bool, dagger: bool
) -> list[str]:
    """Notes under the table: marks, broken averages, mixed machines, settings, failed cells."""
    finished = cells[cells["status"] == "finished"]
    lines = []
    if bold:
        lines.append(BOLD)
    if dagger:
        lines.append(TIED)
    lines += broken_averages(finished)
    lines += unequal_work(finished)
    lines += _couplings(finished)
    lines += _shared_trainings(finished)
    lines += _unequal_seeds(finished)
    lines += mixed_environments(records, cells)
    lines += _settings(cells)
    for _, cell in cells[cells["status"] == "failed"].iterrows():
        reason = cell["reason"] or "no reason recorded"
        lines.append(f"Failed: {cell['variant']}, seed {cell['seed']}: {reason}")
    return lines


def broken_averages(finished: pd.DataFrame) -> list[str]:
    """A line for each method whose averaged model fell far below its members, and why."""
    said: dict[str, list[str]] = {}
    for variant, rows in finished.groupby("variant", sort=False):
        average, members = rows["average_acc"].mean(), rows["member_acc_mean"].mean()
        if not average < members - FAR_BELOW:
            continue
        barrier, mended = rows["barrier_loss_max"].mean(), rows["average_bn_acc"].mean()
        text = f"the average stands at {average:.1f} % and the members at {members:.1f} %"
        if mended - average > (rows["member_bn_acc_mean"].mean() - average) / 2:
            text = (
                f"{text}; re-estimating the BatchNorm statistics brings the average to"
                f" {mended:.1f} %, so most of the fall is theirs and not the weights'"
            )
        elif barrier > BASIN:
            text = (
                f"members share no basin: the loss barrier between members is {barrier:.1f} nats,"
                f" so the average stands at {average:.1f} %"
            )
        said.setdefault(text, []).append(variant)
    return [f"{', '.join(variants)}: {text}" for text, variants in said.items()]


def unequal_work(finished: pd.DataFrame) -> list[str]:
    """A line for each method whose members trained less than the others', as DART's do."""
    lines = []
    for variant, rows in finished.groupby("variant", sort=False):
        share = rows["member_steps_share"].mean()
        if share < 1 - 1e-9:
            lines.append(
                f"{variant} computes less: its members together took {100 * share:.3g} % of the"
                " optimizer steps of a population that trains in full."
            )
    return lines


def _couplings(finished: pd.DataFrame) -> list[str]:
    """How ``--coupling-budget paper`` scaled each method's coupling."""
    if "coupling" not in finished:
        return []
    lines = []
    for variant, rows in finished.groupby("variant", sort=False):
        lines += [f"Coupling of {variant}: {text}." for text in rows["coupling"].unique() if text]
    return lines


def mixed_environments(records: Records, cells: pd.DataFrame) -> list[str]:
    """A line if the cells of one table ran on different machines or library versions."""
    return mixed(_environments(records, cells))


def mixed(rows: pd.DataFrame) -> list[str]:
    """The same for environments given as rows, one a training."""
    parts = []
    for key, name in COMPARED.items():
        if key in rows and len(values := sorted(rows[key].dropna().astype(str).unique())) > 1:
            parts.append(f"{name} {' and '.join(values)}")
    if not parts:
        return []
    return [
        f"Mixed environments in this table, so the numbers may not compare: {'; '.join(parts)}."
    ]


def machine(rows: pd.DataFrame, aside: str = "") -> str:
    """The machine, device and versions of environments, one a training; empty without any.

    Args:
        rows: the environments.
        aside: what to add where trainings ran side by side.
    """
    if rows.empty:
        return ""

    def of(key: str) -> str:
        return " and ".join(sorted(rows[key].dropna().astype(str).unique())) if key in rows else ""

    text = of("cpu") + (f", {of('cpu_cores')} cores" if of("cpu_cores") else "")
    if of("threads"):
        text += f", {of('threads')} thread{'' if of('threads') == '1' else 's'} a process"
    if of("jobs") not in ("", "1"):
        text += f", {of('jobs')} trainings side by side{aside}"
    if of("device") not in ("", "cpu"):
        text += f", {of('device')}"
    versions = [f"{COMPARED[key]} {of(key)}" for key in ("torch", "timm", "wash_bench") if of(key)]
    text = "; ".join(part for part in (text.strip(", "), ", ".join(versions)) if part)
    return f"Machine: {text}." if text else ""


def _environments(records: Records, cells: pd.DataFrame) -> pd.DataFrame:
    rows = records.environments
    if "training_id" not in rows:
        return rows
    return rows[rows["training_id"].isin(cells["training_id"])]


def _shared_trainings(finished: pd.DataFrame) -> list[str]:
    lines = {}
    for _, rows in finished.groupby("training_id", sort=False):
        if (names := rows["variant"].unique()).size > 1:
            lines[f"{' and '.join(names)} are read off the same trainings."] = None
    return list(lines)


def _unequal_seeds(finished: pd.DataFrame) -> list[str]:
    every = set(finished["seed"])
    lines = []
    for variant, rows in finished.groupby("variant", sort=False):
        own = sorted(set(rows["seed"]))
        if set(own) != every:
            lines.append(f"{variant}: only {_seeds(own)}.")
    return lines


def _settings(cells: pd.DataFrame) -> list[str]:
    parts = []
    for variant, rows in cells.groupby("variant", sort=False):
        options: dict[str, Any] = json.loads(rows["options"].iloc[0])
        if options:
            told = " ".join(f"{key}={as_typed(value)}" for key, value in options.items())
            parts.append(f"{str(variant).split(' (')[0]}: {told}")
    return [f"Options: {'; '.join(parts)}."] if parts else []


def as_typed(value: Any) -> str:
    """An option's value as ``--set`` takes it."""
    if isinstance(value, list | tuple):
        return ",".join(map(as_typed, value))
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _count(n: int, unit: str) -> str:
    return f"{n:,} {unit}{'' if n == 1 else 's'}"
