"""A file of a network's tensors by name, as other programs write them. No code in it is run.

Read are safetensors files and what ``torch.save`` wrote: tensors alone, or nested as timm's
training script, Lightning and others nest them. Nothing heavy is imported until a file is read.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

CHECKSUM = "sha256"
"""Among a safetensors file's metadata, the ``content_sum`` of its tensors."""

# Where the weights are nested, what is averaged along the training first, as timm reads them.
NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")


def read_file(path: Path, label: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file by name, and what timm's training script wrote beside them.

    Args:
        path: the file.
        label: how an error line names it.

    Returns:
        The tensors, of any type, without the prefixes of DistributedDataParallel and
        torch.compile; and ``arch`` and ``args`` (a dict) of timm's, as far as they are there,
        with ``nested``, the name under which the weights stood.

    Raises:
        UsageError: the file is damaged, would run code, or holds no tensors by name.
    """
    import torch
    from timm.models import clean_state_dict

    from wash_bench.models.build import one_line

    try:
        found = _loaded(path, label)
        nested = next((key for key in NESTED if _table(found, key)), "")
        tensors = clean_state_dict(found[nested] if nested else found)
        tensors = {key: v for key, v in tensors.items() if isinstance(v, torch.Tensor)}
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{label}: damaged, or it holds objects that would run code when loaded; save the "
            "network's state_dict alone"
        ) from error
    except UsageError:
        raise
    except Exception as error:  # the readers raise many kinds
        raise UsageError(
            f"{label}: no safetensors file and no file of torch.save that holds weights alone "
            f"({one_line(error)})"
        ) from error
    if not tensors:
        raise UsageError(f"{label}: holds no tensors under their names")
    return tensors, _beside(found) | {"nested": nested}


def _table(found: Any, key: str) -> bool:
    return isinstance(found, Mapping) and isinstance(found.get(key), Mapping)


def _loaded(path: Path, label: str) -> Any:
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return _unchanged(path, label, load_file(path))
    # timm's training script keeps its arguments so; it is a record of values and runs no code.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _unchanged(path: Path, label: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors; a UsageError if the file says of others that they were written."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        said = (file.metadata() or {}).get(CHECKSUM)
    if said is not None and said != content_sum(tensors):
        raise UsageError(f"{label}: its weights are not those that were written; take another copy")
    return tensors


def content_sum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors: their names, types, shapes and bytes, hexadecimal."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _beside(found: Mapping[str, Any]) -> dict[str, Any]:
    beside: dict[str, Any] = {}
    if isinstance(args := found.get("args"), argparse.Namespace):
        beside["args"] = vars(args)
    if isinstance(arch := found.get("arch"), str):
        beside["arch"] = arch
    return beside
