"""The words above a table: what was run, on what machine, and over which seeds the numbers are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.config import CHECKPOINT_PREFIX
from wash_bench.data.catalog import FOLDER_PREFIX, spec_of
from wash_bench.metrics import METRICS
from wash_bench.report.numbers.diagnosis import TWICE
from wash_bench.report.numbers.machines import environment_warning, machine
from wash_bench.report.numbers.stats import ENOUGH
from wash_bench.study.presets import NO_PRESET

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.report.read.frames import Records


def title(records: Records, cells: pd.DataFrame) -> str:
    """Return methods, data set, model and N, and the experiment's id where two have the same."""
    own = _title(cells)
    others = (_title(rows) for _, rows in records.experiments())
    return own if sum(other == own for other in others) < 2 else f"{own} ({_id(cells)})"


def _title(cells: pd.DataFrame) -> str:
    finished = cells[cells["status"] == "finished"]
    rows = cells if finished.empty else finished
    first, methods = rows.iloc[0], list(map(str, rows["variant"].unique()))
    named = " vs ".join(methods) if len(methods) <= 3 else f"{len(methods)} methods"
    data = str(first["dataset"]).removeprefix(FOLDER_PREFIX).rstrip("/").rpartition("/")[2]
    return f"{named} on {data} ({first['model']}, N = {first['population']})"


def _id(cells: pd.DataFrame) -> str:
    return f"experiment {cells['experiment_id'].iloc[0]}"


def _preset(name: str) -> str:
    return "No preset" if name == NO_PRESET else f"Preset {name}"


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
    usual = under_the_runs_settings(finished)
    if not math.isnan(parameters := usual["parameters"].max()):
        model += f" ({parameters:,.0f} parameters)"
    config = records.configs.get(experiment_id, {})
    elsewhere = config.get("training", {}).get("members")
    if elsewhere:
        sentences = [_of_members(elsewhere, data, model)]
    else:
        sentences = [_of_training(first, usual, data, model)]
    if pictures := _pictures(config.get("training", {})):
        sentences.append(pictures)
    if vary := first.get("vary"):
        sentences.append(
            f"Hyperparameters of the members: each has its own combination of {vary}, drawn with"
            " the seed (environment.csv lists them)."
        )
    if finished.empty:
        return [*sentences, "No cell finished."]
    environments = records.environments_of(cells)
    if machines := machine(
        environments, f" ({METRICS['train_seconds'].heading} is their wall time)"
    ):
        sentences.append(machines)
    if several := environment_warning(environments):
        sentences.append(f"{several.partition(': ')[0]}; the notes below say which differ.")
    reading = "Accuracies in per cent on test data; [min, max] over all members and seeds; "
    reading += intervals(sorted(finished["seed"].unique()))
    again = any(finished[key].notna().any() for key in TWICE if key in finished)
    reading += _of_test_set(str(first["dataset"]), finished["member_acc_mean"].mean())
    evaluation = records.evaluations.get(experiment_id, {})
    if evaluation.get("barrier_points"):
        split = evaluation.get("barrier_split")
        counted = f"{_at_most(evaluation.get('barrier_images'), split, first)} {split} images"
        reading += (
            f" Loss barrier: nats above the straight line between two members, the greatest over"
            f" {evaluation['barrier_points']} points and all pairs, {counted}"
            f"{', BN statistics averaged' if again else ''}."
        )
    sentences.append(reading)
    if elsewhere:
        return [*sentences, *([_RE_ESTIMATED.strip()] if again else [])]
    values, sent, wire = (
        METRICS[key].heading
        for key in ("sent_values_total", "sent_bytes_total", "wire_bytes_total")
    )
    sentences.append(
        f"Per member: {values} (the papers' convention: scalars of weights and optimizer state"
        f" that leave a member), {sent} (the same in 10^6 bytes), {wire} (what the"
        f" collectives really send{', BN statistics included' if again else ''})."
        + (_RE_ESTIMATED if again else "")
    )
    return sentences


def _at_most(images: int | None, split: str | None, first: pd.Series) -> str:
    """How many images a barrier is measured on: no more than there are."""
    there = spec_of(str(first["dataset"])).test_images if split == "test" else None
    if first.get("classes", "all") != "all":
        there = None
    if not images or (there is not None and images >= there):
        return "all" if there is None else f"all {there:,}"
    return f"{images:,}" if there is not None else f"at most {images:,}"


_RE_ESTIMATED = " BN re-est.: BatchNorm statistics re-estimated on augmented training images."


def under_the_runs_settings(finished: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of methods that left the settings of their training as the run has them."""
    if "changed_settings" not in finished:
        return finished
    return finished[finished["changed_settings"].isna()]


def _of_training(first: pd.Series, finished: pd.DataFrame, data: str, model: str) -> str:
    """What was trained: data, network, population, schedule and optimizer."""
    schedule = f"{_count(first['epochs'], 'epoch')}"
    if not math.isnan(steps := finished["steps"].max()):
        schedule += f" = {steps:,.0f} steps"
    warmup = f", {first['warmup']:g} epochs of warm-up" if first.get("warmup") else ""
    amp = "" if first["amp"] in (None, "off") else f", {first['amp']} autocast"
    return (
        f"{_preset(first['preset'])}: {data}; {model}; N = {first['population']} members,"
        f" {_start(first)}, {first['augment']} augmentation; {schedule} of"
        f" {first['batch_size']} images a member; {first['optimizer']}, learning rate"
        f" {first['lr']:g} ({first['schedule']}{warmup}){amp}{_further(first)}."
    )


def _pictures(training: Mapping[str, Any]) -> str:
    """How images are normalized, resized and cropped, where that is not the data set's way."""
    parts = [
        f"{name} {', '.join(f'{value:g}' for value in training[key])}"
        for key, name in (("mean", "mean"), ("std", "standard deviation"))
        if training.get(key)
    ]
    if training.get("interpolation", "bilinear") != "bilinear":
        parts.append(f"{training['interpolation']} interpolation")
    if crop := training.get("crop_pct"):
        parts.append(f"test images cropped to {100 * crop:g} % of their side")
    return f"Images as the network takes them: {'; '.join(parts)}." if parts else ""


def _further(first: pd.Series) -> str:
    """What fine-tuning asks of the step besides, where it does."""
    texts = {
        "layer_decay": ", layer-wise learning-rate decay {:g}",
        "clip_grad": ", gradient norm at most {:g}",
        "drop_path": ", drop path {:g}",
        "accumulate": ", gradients accumulated over {:g} parts",
        "freeze_bn": ", BatchNorm frozen",
    }
    values = {key: first.get(key) for key in texts}
    off = {"layer_decay": 1.0, "accumulate": 1.0}
    return "".join(
        text.format(values[key])
        for key, text in texts.items()
        if values[key] and values[key] == values[key] and values[key] != off.get(key)
    )


def _of_members(files: Sequence[str], data: str, model: str) -> str:
    """What stands in place of the training where there was none here."""
    listed = ", ".join(f"{index} {file}" for index, file in enumerate(files))
    return (
        f"Networks that were trained elsewhere, nothing was trained here: {data}; {model};"
        f" N = {len(files)} members: {listed}."
    )


# A repository in the cache of the Hugging Face hub.
_HUB = re.compile(r"models--([^/\\]+?)--([^/\\]+)[/\\]snapshots")


def _start(first: pd.Series) -> str:
    """What members start from; of a checkpoint the file's name, and how long the head is probed."""
    kind, _, path = str(first["init"]).partition(CHECKPOINT_PREFIX)
    if not path:
        return f"{kind} initial weights"
    name = Path(path).name
    if cached := _HUB.search(path):  # whose files have one name
        name = "/".join(cached.groups())
    text = f"initial weights of checkpoint {name}"
    if epochs := first.get("linear_probe"):
        text += f", its classifier alone trained for {_count(int(epochs), 'epoch')} first"
    return text


def intervals(seeds: Sequence[int]) -> str:
    """Which seeds the numbers are over, in ascending order, and what stands after ±."""
    if not seeds:
        return "no cell finished."
    if len(seeds) == 1:
        return f"one seed ({seeds[0]}): no interval, small differences mean nothing."
    head = f"{len(seeds)} seeds ({', '.join(map(str, seeds))}):"
    if len(seeds) < ENOUGH:
        return f"{head} the values themselves, no interval."
    return (
        f"{head} mean ± half-width of the 95 % Student-t interval over seeds (of two seeds, the"
        " values themselves); of accuracies it ends at 0 and 100."
    )


def _of_test_set(dataset: str, accuracy: float) -> str:
    """The error that a test set's size leaves, which no seed shows: binomial, at 95 %."""
    images = spec_of(dataset).test_images
    if not images or math.isnan(accuracy):
        return ""
    half = 1.96 * math.sqrt(accuracy * (100 - accuracy) / images)
    return (
        f" The {images:,} test images, the same at every seed, leave an error of their own, about"
        f" {half:.1f} points to either side at {accuracy:.0f} %, which the intervals do not hold."
    )


def _count(n: int, unit: str) -> str:
    return f"{n:,} {unit}{'' if n == 1 else 's'}"
