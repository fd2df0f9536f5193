"""What a prepared folder holds, as its prepared.json says; imports nothing heavy."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wash_bench.config import fingerprint
from wash_bench.errors import WashBenchError

NAME = "prepared.json"
PARTS = ("train", "val")


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of pixels: of which part, which one, its images, its bytes and their SHA-256."""

    part: str
    number: int
    images: int
    size: int
    sha256: str

    def path(self, root: Path) -> Path:
        """Its file in a prepared folder."""
        return pixels(root, self.part, self.number)


@dataclass(frozen=True, slots=True)
class Index:
    """A prepared folder.

    Attributes:
        classes: names of the class folders, sorted.
        content: fingerprint of the images as they are here; of images at full size it is that of
            the folder that they come from.
        side: pixels of the shorter side that larger images were resized to; 0: none was.
        interpolation: how they were resized.
        tables: SHA-256 of PART.npy by part.
        shards: the files of pixels, in order, training images first.
    """

    classes: tuple[str, ...]
    content: str
    side: int
    interpolation: str
    tables: dict[str, str]
    shards: tuple[Shard, ...]

    @property
    def size(self) -> int:
        """Bytes of all pixels."""
        return sum(shard.size for shard in self.shards)

    @property
    def images(self) -> int:
        """How many images there are."""
        return sum(shard.images for shard in self.shards)

    def text(self) -> str:
        """The text of prepared.json."""
        return json.dumps({"schema": 1} | asdict(self), indent=1) + "\n"


def pixels(root: Path, part: str, number: int) -> Path:
    """The file of one shard."""
    return root / f"{part}-{number:05d}.pixels"


def content_when(content: str, side: int, interpolation: str) -> str:
    """The fingerprint of prepared images, from that of the folder that they come from."""
    if not side:
        return content
    return fingerprint({"content": content, "side": side, "interpolation": interpolation})


def is_prepared(root: Path) -> bool:
    """Whether ``wash-bench prepare`` has finished this folder."""
    return (root / NAME).is_file()


def read_index(root: Path) -> Index:
    """What a prepared folder holds; a WashBenchError if its prepared.json is none."""
    try:
        data: dict[str, Any] = json.loads((root / NAME).read_text(encoding="utf-8"))
        shards = tuple(Shard(**entry) for entry in data.pop("shards"))
        if data.pop("schema") != 1:
            raise ValueError("it was written by a later version")
        return Index(**data | {"classes": tuple(data["classes"]), "shards": shards})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WashBenchError(f"cannot read {root / NAME}: {error}; {again(root)}") from None


def again(root: Path) -> str:
    """What to do about a damaged prepared folder."""
    return f"remove {root} and run 'wash-bench prepare' again"
