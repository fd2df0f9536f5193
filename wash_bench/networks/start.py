"""The network that members start from: its file, and how it takes its pictures."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from wash_bench.config import TrainingConfig
from wash_bench.config.values import CHECKPOINT_PREFIX, PRETRAINED
from wash_bench.data.catalog import spec_of
from wash_bench.networks.found import find, of_architecture
from wash_bench.networks.pretrained import weights_of

PICTURES = ("image_size", "mean", "std", "interpolation", "crop_pct")


def of_start(
    training: TrainingConfig, chosen: Collection[str], download: bool
) -> tuple[dict[str, Any], str]:
    """What the start of the members says of further settings.

    Args:
        training: the configuration.
        chosen: keys of settings that the user has chosen, which stay as they are.
        download: whether timm's weights may be fetched.

    Returns:
        Settings by key, which are to be laid over the others, and a sentence that tells of them;
        both empty where members start anew.
    """
    settings, told = {}, []
    if training.init == PRETRAINED:
        path, called = weights_of(training.model, download)
        settings["init"] = f"{CHECKPOINT_PREFIX}{path}"
        told.append(f"Starts from timm's weights {called} ({path}).")
        training = training.model_copy(update=settings)
    pictures, origin = pictures_of_start(training, chosen)
    if pictures:
        flags = ", ".join("--" + key.replace("_", "-") for key in pictures)
        told.append(f"Pictures as {origin} says ({flags} change that).")
    return settings | pictures, " ".join(told)


def pictures_of_start(
    training: TrainingConfig, chosen: Collection[str]
) -> tuple[dict[str, Any], str]:
    """Size, normalization, interpolation and crop that a checkpoint was trained with.

    Args:
        training: a configuration with a checkpoint, or without.
        chosen: keys of settings that the user has chosen, which stay as they are.

    Returns:
        The other settings by key, and who says so: what lies beside the weights, else timm's
        configuration of the architecture. Empty where members start anew, or the data are arrays,
        which are taken whole and are normalized as the data set says.
    """
    if training.checkpoint is None or spec_of(training.dataset).reader is not None:
        return {}, ""
    network = find(training.checkpoint)
    told = {key: network.settings[key] for key in PICTURES if network.settings.get(key)}
    origin = network.origin
    if not told:
        told, origin = of_architecture(training.model), f"timm's {training.model}"
    taken = {key: value for key, value in told.items() if key in PICTURES and key not in chosen}
    return taken, origin
