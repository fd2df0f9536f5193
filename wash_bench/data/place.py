"""Whether the folder of a data set is there, asked before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from wash_bench.data.catalog import FOLDER_PREFIX
from wash_bench.errors import UsageError


def check_place(dataset: str, data_dir: str | None) -> None:
    """Look for train/ and val/ of a data set that lies in class folders.

    Raises:
        UsageError: a folder is not there.
    """
    if dataset.startswith(FOLDER_PREFIX):
        root = Path(dataset.removeprefix(FOLDER_PREFIX)).expanduser()
    elif dataset == "imagenet":
        if not data_dir:
            return  # the loader tells: a preset may be read before anybody says where the data lie
        root = Path(data_dir).expanduser()
    else:
        return
    if not root.is_dir():
        raise UsageError(f"data set {dataset}: there is no folder {root}")
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise UsageError(
                f"data set {dataset}: there is no folder {root / part}; "
                "a data set needs train/ and val/"
            )
