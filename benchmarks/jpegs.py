"""A folder data set of synthetic JPEGs, of about ImageNet's sides and bytes; no command."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 10


def write_jpegs(root: Path, train: int, val: int = 200, processes: int = 2) -> Path:
    """``train`` and ``val`` images in ROOT/train/CLASS and ROOT/val/CLASS; what is there stays."""
    jobs = [
        (root / part / f"class{i % CLASSES}" / f"{i:06d}.jpg", i)
        for part, count in (("train", train), ("val", val))
        for i in range(count)
    ]
    missing = [job for job in jobs if not job[0].exists()]
    for folder in {path.parent for path, _ in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes) as pool:
        for _ in pool.map(_write, missing, chunksize=64):
            pass
    return root


def _write(job: tuple[Path, int]) -> None:
    """Coarse structure and fine noise: a JPEG of smooth noise alone decodes too fast."""
    path, number = job
    rng = np.random.default_rng([number, path.parts[-3] == "val"])
    width, height = int(rng.integers(350, 501)), int(rng.integers(300, 401))
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    picture = picture + rng.normal(0, 10, picture.shape).astype(np.float32)
    part = path.with_suffix(".part")
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(part, "JPEG", quality=92)
    part.replace(path)
