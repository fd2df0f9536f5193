"""Decodes the images of one shard; what the processes of ``prepare`` run (imports no torch)."""

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from wash_bench import stop
from wash_bench.data.image import opened, rgb


@dataclass(frozen=True, slots=True)
class Work:
    """One shard to make: its file, the images, how they are resized, and their white (``rgb``)."""

    target: Path
    paths: Sequence[str]
    side: int
    interpolation: str
    top: int = 0


class NotDecoded(Exception):
    """An image that does not decode: its path and why."""


def end_with_parent() -> None:
    """End this process of a pool at an interrupt, or when the process that started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, *stop.SIGNALS})

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def encode(work: Work) -> tuple[np.ndarray, str]:
    """Write one shard; the file has its name only when it is whole.

    Returns:
        (n, 2) int32 heights and widths, and the SHA-256 of the file.

    Raises:
        NotDecoded: an image does not decode.
    """
    part = work.target.with_suffix(".part")
    shapes, sha = [], hashlib.sha256()
    with part.open("wb") as file:
        for path in work.paths:
            try:
                image = decoded(path, work.side, work.interpolation, work.top)
            except Exception as error:  # Pillow's plug-ins raise many kinds
                raise NotDecoded(path, f"{type(error).__name__}: {error}") from None
            values = image.tobytes()
            shapes.append((image.height, image.width))
            sha.update(values)
            file.write(values)
        file.flush()
        os.fsync(file.fileno())
    part.replace(work.target)
    return np.array(shapes, dtype=np.int32), sha.hexdigest()


def decoded(path: str, side: int, interpolation: str, top: int = 0) -> Image.Image:
    """An image file in red, green and blue, its shorter side at most ``side`` pixels if not 0."""
    with opened(path) as file:
        image = rgb(file, top)
    shape = resized(image.size, side)
    return (
        image
        if shape == image.size
        else image.resize(shape, Image.Resampling[interpolation.upper()])
    )


def resized(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height after resizing, as torchvision rounds; nothing is made larger."""
    short = min(shape)
    if not side or short <= side:
        return shape
    width, height = shape
    return (side, side * height // width) if width == short else (side * width // height, side)
