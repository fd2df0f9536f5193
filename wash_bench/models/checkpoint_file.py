"""A file of a network's tensors by name, as other programs write them. No code in it is run.

Read are safetensors files, the shards of an ``*.index.json``, and what ``torch.save`` wrote:
tensors alone, or nested as training scripts nest them. Nothing heavy is imported until a file is
read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pathlib
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError, one_line

if TYPE_CHECKING:
    from torch import Tensor

CHECKSUM = "sha256"
"""Among a safetensors file's metadata, the ``content_sum`` of its tensors."""
INDEX = ".index.json"
"""How the list of a network's shards ends, as the Hugging Face hub has it."""

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
    from timm.models import clean_state_dict

    _check_form(path, label)
    try:
        if path.name.endswith(INDEX):
            found: Any = {}
            for shard in shards_of(path):
                found |= _loaded(shard, f"{label} ({shard.name})")
        else:
            found = _loaded(path, label)
    except pickle.UnpicklingError as error:
        kind = re.search(r"GLOBAL (\S+)", str(error))
        what = f"an object of {kind[1]}, which" if kind else "objects that"
        raise UsageError(
            f"{label}: damaged, or it holds {what} would run code when loaded; save the network's "
            "state_dict alone"
        ) from error
    except UsageError:
        raise
    except Exception as error:  # the readers raise many kinds
        raise UsageError(
            f"{label}: no safetensors file and no file of torch.save that holds weights alone "
            f"({one_line(error)})"
        ) from error
    nested, table = _table_of(found, label)
    return clean_state_dict(dict(table)), _beside(found) | {"nested": nested}


def _table_of(found: Any, label: str) -> tuple[str, Mapping[str, Any]]:
    """Where in a file the network's tensors are, and the table that holds them."""
    tables = dict(_tables(found))

    def larger_inside(name: str) -> bool:
        """Whether tensors beside a larger table, as a loss, are all that is directly there."""
        below = [other for other in tables if other.startswith(f"{name}." if name else "")]
        return any(len(tables[other]) >= len(tables[name]) for other in below if other != name)

    networks = [name for name in tables if not larger_inside(name)]
    if not networks:
        keys = ", ".join(map(str, list(found)[:5])) if isinstance(found, Mapping) else ""
        what = f"its keys are {keys}" if keys else f"it holds a {type(found).__name__}"
        raise UsageError(f"{label}: holds no tensors under their names ({what})")
    chosen = next((name for name in (*NESTED, "") if name in networks), networks[0])
    if len(networks) > 1 and chosen not in NESTED and chosen:
        raise UsageError(
            f"{label}: holds several tables of tensors, "
            + ", ".join(f"{name} ({len(tables[name])})" for name in networks)
            + "; keep one of them in a file of its own"
        )
    return chosen, tables[chosen]


def _tables(found: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All tables in a file with tensors under texts, by the keys that lead there."""
    import torch

    if not isinstance(found, Mapping):
        return
    texts = {key: value for key, value in found.items() if isinstance(key, str)}
    if tensors := {key: v for key, v in texts.items() if isinstance(v, torch.Tensor)}:
        yield name, tensors
    for key, value in texts.items() if depth < 3 else ():
        if not re.search("optim|sched|scaler", key, re.I):
            yield from _tables(value, f"{name}.{key}" if name else key, depth + 1)


def shards_of(index: Path) -> list[Path]:
    """Return the files that an index names, sorted; a UsageError if it is none, or one is gone."""
    try:
        names = sorted(set(json.loads(index.read_text("utf-8-sig"))["weight_map"].values()))
        shards = [index.parent / Path(name).name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{index}: no list of shards ({type(error).__name__})") from None
    for shard in shards:
        if not shard.is_file():
            raise UsageError(f"{index}: its shard {shard.name} is not there")
    return shards


def digest_of_weights(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal; of an index that of the shards it names."""
    if not path.name.endswith(INDEX):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    text = "\n".join(f"{shard.name} {digest_of_weights(shard)}" for shard in shards_of(path))
    return hashlib.sha256(text.encode()).hexdigest()


def _check_form(path: Path, label: str) -> None:
    """Refuse what only stands for a file of weights."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise UsageError(f"{label}: the file is empty; take another copy")
    if head.startswith(b"version https://git-lfs"):
        raise UsageError(
            f"{label}: a pointer of Git LFS, not the weights themselves; run git lfs pull there"
        )
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise UsageError(f"{label}: a web page, not a file of weights; download it anew")


def _loaded(path: Path, label: str) -> Any:
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return _unchanged(path, label, load_file(path))
    with torch.serialization.safe_globals(_records()):
        return torch.load(path, map_location="cpu", weights_only=True)


def _records() -> list[Any]:
    """The objects that stand beside weights and run no code: arguments, numbers of NumPy, paths."""
    import importlib

    import numpy as np

    multiarray = importlib.import_module("numpy._core.multiarray")
    scalar, rebuilt = multiarray.scalar, multiarray._reconstruct
    dtypes = {type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OSUVMm"}
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2
    return [
        argparse.Namespace,
        np.dtype,
        np.ndarray,
        *dtypes,
        *((scalar, f"{module}.scalar") for module in modules),
        *((rebuilt, f"{module}._reconstruct") for module in modules),
        *((pathlib.PurePosixPath, f"pathlib{more}.{name}") for more in ("", "._local")
          for name in ("PosixPath", "PurePosixPath")),
        *((pathlib.PureWindowsPath, f"pathlib{more}.{name}") for more in ("", "._local")
          for name in ("WindowsPath", "PureWindowsPath")),
    ]  # fmt: skip


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


def _beside(found: Any) -> dict[str, Any]:
    beside: dict[str, Any] = {}
    if not isinstance(found, Mapping):
        return beside
    if isinstance(args := found.get("args"), argparse.Namespace):
        beside["args"] = vars(args)
    if isinstance(arch := found.get("arch"), str):
        beside["arch"] = arch
    return beside
