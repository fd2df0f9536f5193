"""The settings of an experiment: what is trained, and what is measured of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from wash_bench.config.field import (
    CORRUPTED,
    DETAILS,
    MEASURE,
    METHODS,
    RECORD,
    SIMPLEX,
    WHAT,
    ConfigModel,
    setting,
)
from wash_bench.config.training import TrainingConfig
from wash_bench.config.values import parse_interval
from wash_bench.errors import nearest
from wash_bench.known_methods import DEFAULT_METHODS

SEVERITIES = (1, 2, 3, 4, 5)
GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
CORRUPTIONS = tuple(name for names in GROUPS.values() for name in names)
WORDS = (*CORRUPTIONS, *GROUPS, "all")


class EvaluationConfig(ConfigModel):
    """What is measured on the trained population."""

    barrier_points: int = setting(21, DETAILS, unit="points", ge=3)
    """Points along a segment, both ends included."""
    barrier_split: Literal["train", "val", "test"] = setting("test", DETAILS)
    """Images on which loss barriers are measured."""
    barrier_images: int = setting(1000, DETAILS, unit="images", ge=0)
    """How many of them (0: all)."""
    bn_images: int = setting(0, DETAILS, unit="images", ge=0)
    """Images that re-estimate BatchNorm, except along segments (0: the training data)."""
    barrier_bn_images: int = setting(1280, DETAILS, unit="images", ge=2)
    """Images that re-estimate BatchNorm at each barrier point."""
    test_pool: Literal["official", "rest"] = setting("official", DETAILS, identity="later")
    """Test on the official test images, or also on the unused training images (rest)."""
    ece_bins: int = setting(15, DETAILS, unit="bins", ge=1)
    """Bins of the expected calibration error."""
    simplex_points: int = setting(0, SIMPLEX, unit="points", identity="later", ge=0, le=201)
    """Map loss and accuracy over the triangle between three members, with so many points along an
    edge (0: do not)."""
    simplex_margin: float = setting(0.0, SIMPLEX, "SHARE", needs="simplex_points", ge=0, le=1)
    """Margin of the map around the triangle, as a share of its edge."""

    corruptions: tuple[str, ...] = setting((), CORRUPTED, "NAMES", identity="later")
    """Test under these corruptions of ImageNet-C too, separated by commas: names as gaussian_noise,
    groups (noise, blur, weather, digital) or all."""
    corruption_severities: tuple[int, ...] = setting(
        SEVERITIES, CORRUPTED, "LIST", needs="corruptions"
    )
    """Severities of the corruptions, from 1 to 5."""
    corruption_images: int = setting(0, CORRUPTED, unit="images", needs="corruptions", ge=0)
    """Test images that are corrupted (0: all)."""
    corruption_dir: str | None = setting(
        None, CORRUPTED, "DIR", shown="corrupted here", identity="later", needs="corruptions"
    )
    """Folder with the published files of CIFAR-10-C or CIFAR-100-C."""

    @field_validator("corruptions")
    @classmethod
    def _known(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for word in given:
            if word not in WORDS:
                raise ValueError(f"no corruption {word!r}: {nearest(word, WORDS)}")
        return given

    @field_validator("corruption_severities")
    @classmethod
    def _published_ones(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        if not given or not set(given) <= set(SEVERITIES) or len(set(given)) < len(given):
            raise ValueError("must be different numbers of 1 to 5")
        return given

    @property
    def corruption_names(self) -> tuple[str, ...]:
        """The corruptions, groups spelled out, in the paper's order."""
        return spelled_out(self.corruptions)

    def identity(self) -> dict[str, Any]:
        told = super().identity()
        if "corruptions" in told:
            told["corruptions"] = list(self.corruption_names)
        if "corruption_dir" in told:  # wherever it lies
            told["corruption_dir"] = "published"
        return told

    @field_validator("bn_images")
    @classmethod
    def _variance(cls, images: int) -> int:
        if images == 1:
            raise ValueError("must be 0 (the training data) or at least 2")
        return images

    @field_validator("simplex_points")
    @classmethod
    def _both_ends(cls, points: int) -> int:
        if points == 1:
            raise ValueError("must be 0 (no map) or at least 2")
        return points


class RunConfig(ConfigModel):
    """One experiment, as the command line and the preset resolve to it.

    Attributes:
        preset: where its settings come from.
        coupling: what ``coupling_budget`` scaled, by method.
    """

    preset: str = "digits"
    methods: tuple[str, ...] = setting(
        DEFAULT_METHODS, WHAT, "NAMES", shown="six of them", identity="cell"
    )
    """Methods, by commas (see wash-bench methods), or your own path.py:Class."""
    set: dict[str, dict[str, Any]] = setting(
        {}, WHAT, "M.OPTION=VALUE", shown="the method's own", repeat=True, identity="cell"
    )
    """Option of a method, as wash.p=0.05 or, to sweep, wash.p=0.03,0.1; repeatable."""
    coupling_budget: Literal["given", "paper"] = setting("given", METHODS, identity="cell")
    """Use the papers' coupling, rescaled so that a coordinate is exchanged as often in the whole
    training (a preset's coupling is left out; --set is read as of the papers' training). Without a
    preset this is done for each method whose coupling --set leaves open."""
    coupling: dict[str, dict[str, Any]] = Field({})
    seeds: tuple[int, ...] = setting((0,), WHAT, "LIST", identity="cell")
    """Seeds, separated by commas."""
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    eval_every: int = setting(1, MEASURE, unit="epochs", ge=1)
    """Epochs between validations."""
    merge_every: int = setting(0, MEASURE, unit="epochs", identity="later", ge=0, shown="never")
    """Evaluate the average (BatchNorm as it is, and re-estimated) and the ensemble on validation
    data every K epochs."""
    checkpoint_every: str = setting("1", RECORD, "5|500steps|15min", identity="never")
    """Epochs, steps or minutes between checkpoints, from which a stopped run resumes."""

    @field_validator("checkpoint_every", mode="before")
    @classmethod
    def _interval(cls, given: Any) -> str:
        number, unit = parse_interval(given)
        return str(number) if unit == "epochs" else f"{number}{unit}"

    @model_validator(mode="after")
    def _three_corners(self) -> RunConfig:
        if self.evaluation.simplex_points and self.training.population < 3:
            raise ValueError(
                f"--simplex-points {self.evaluation.simplex_points} needs three members, not"
                f" --population {self.training.population}"
            )
        return self


def spelled_out(words: Iterable[str]) -> tuple[str, ...]:
    """The corruptions that names and groups stand for, in the paper's order."""
    asked = {name for word in words for name in GROUPS.get(word, (word,))}
    return tuple(name for name in CORRUPTIONS if name in asked or "all" in asked)
