"""The network that members start from: its file, and how it takes its pictures."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.config import TrainingConfig
from wash_bench.config.values import CHECKPOINT_PREFIX, PRETRAINED
from wash_bench.data.catalog import spec_of
from wash_bench.data.paths import class_folders, nfc
from wash_bench.errors import UsageError, note, one_line
from wash_bench.models.names import check_architecture
from wash_bench.models.sources import TRANSFORMERS, is_external, weights_url
from wash_bench.networks.inspect import NetworkInfo, find, of_architecture

if TYPE_CHECKING:
    from timm.models import PretrainedCfg


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
        owner = "" if is_external(called) else "timm's "
        told.append(f"Starts from {owner}weights {called} ({path}).")
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
    _note_order(network, training)
    told = {key: network.settings[key] for key in PICTURES if network.settings.get(key)}
    origin = network.origin
    if not told:
        owner = "" if is_external(training.model) else "timm's "
        told, origin = of_architecture(training.model), f"{owner}{training.model}"
    taken = {key: value for key, value in told.items() if key in PICTURES and key not in chosen}
    return taken, origin


NAMES = ("model.safetensors", "pytorch_model.bin")  # on the hub


def weights_of(model: str, download: bool) -> tuple[Path, str]:
    """Where timm's weights of a model lie, and what they are called.

    Args:
        model: an architecture, with a tag of its weights or without one, for timm's default.
        download: whether the hub may be asked; else a cache serves.

    Returns:
        The file, and ``ARCHITECTURE.TAG``.

    Raises:
        UsageError: timm has none, or they are not here.
    """
    from timm.models import get_pretrained_cfg

    name = check_architecture(model)
    if is_external(name):
        return _external_weights(name, download), name
    config = get_pretrained_cfg(name, allow_unregistered=True)
    if config is None or not config.has_weights:
        raise UsageError(
            f"--init pretrained: timm has no weights of {name!r}; give another --model, or a file "
            "as --init checkpoint:PATH"
        )
    called = ".".join(filter(None, (name.partition(".")[0], config.tag)))
    if config.file:
        return Path(config.file), called
    if config.hf_hub_id:
        return _from_hub(config, called, download), called
    url = config.url if isinstance(config.url, str) else (config.url or ("",))[0]
    return _from_url(url, f"timm's weights {called}", download), called


def _external_weights(model: str, download: bool) -> Path:
    """The weights of a network of torchvision, or in a folder of transformers."""
    if url := weights_url(model):
        return _from_url(url, f"the weights of {model}", download)
    folder = Path(model.removeprefix(TRANSFORMERS)).expanduser()
    for name in NAMES if model.startswith(TRANSFORMERS) else ():
        if (folder / name).is_file():
            return folder / name
    raise UsageError(
        f"--init pretrained: {model} has no weights here; give a file as --init checkpoint:PATH"
    )


def _from_hub(config: PretrainedCfg, called: str, download: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    repository = str(config.hf_hub_id).partition("@")[0]
    reason = "they are in no cache of the Hugging Face hub here; --download fetches them"
    for name in (config.hf_hub_filename,) if config.hf_hub_filename else NAMES:
        try:
            return Path(hf_hub_download(repository, name, local_files_only=not download))
        except EntryNotFoundError as error:  # offline, or under the other name
            if download:
                reason = f"they could not be fetched from {repository} ({one_line(error)})"
        except (HfHubHTTPError, OSError) as error:
            reason = f"they could not be fetched from {repository} ({one_line(error)})"
    raise UsageError(f"--init pretrained: timm's weights {called}: {reason}")


def _from_url(url: str, called: str, download: bool) -> Path:
    import torch

    file = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if file.is_file():
        return file
    if not download:
        raise UsageError(f"--init pretrained: {called} are not at {file}; --download fetches them")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), progress=False)
    except OSError as error:
        raise UsageError(f"--init pretrained: cannot fetch {url} ({one_line(error)})") from None
    return file


def _note_order(network: NetworkInfo, training: TrainingConfig) -> None:
    """Note where the classes of a checkpoint are in another order than the class folders."""
    if not (root := spec_of(training.dataset).root(training.data_dir)):
        return
    folders = class_folders(Path(root).expanduser())
    own = network.classes_of(folders)
    if len(own) == len(folders) and tuple(map(nfc, own)) != tuple(map(nfc, folders)):
        i = next(i for i, (a, b) in enumerate(zip(own, folders, strict=True)) if nfc(a) != nfc(b))
        note(
            f"{network.path}: its class {i} is {own[i]!r}, that of {training.dataset} is "
            f"{folders[i]!r}; a head that is kept begins with its classes in that order"
        )
