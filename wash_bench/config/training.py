"""The settings that decide a training, apart from the method and the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import field_validator, model_validator

from wash_bench.config.field import (
    MACHINE,
    MEASURE,
    NETWORK,
    TRAINING,
    WHAT,
    OneOf,
    Settings,
    setting,
)
from wash_bench.config.optimizers import OPTIMIZERS
from wash_bench.config.schedules import SCHEDULES
from wash_bench.config.values import VARIED, parse_classes, parse_grid, path_in


class TrainingConfig(Settings):
    """Everything that decides a training, apart from the method and the seed."""

    dataset: str = setting(
        "digits",
        "Data set (see wash-bench datasets), or folder:PATH with train/ and val/ class folders.",
        NETWORK,
        metavar="NAME",
    )
    data_dir: str | None = setting(
        None,
        "Folder that holds, or receives, the data.",
        NETWORK,
        metavar="DIR",
        shown="the user's cache",
        identity="never",
    )
    classes: str = setting(
        "all",
        "Use only these classes, by their numbers, as 0-4 or 0,2,5.",
        NETWORK,
        metavar="LIST",
        identity="later",
    )
    train_limit: int = setting(
        0, "Use only so many training images (0: all).", NETWORK, unit="images", ge=0
    )
    image_size: int = setting(
        0, "Resize images to this side in pixels (0: as they are).", NETWORK, unit="pixels", ge=0
    )
    val_share: float = setting(
        0.02,
        "Share of the training images that is held out for selections.",
        MEASURE,
        metavar="SHARE",
        gt=0,
        lt=1,
    )
    model: str = setting(
        "test_resnet",
        "Architecture: any that timm knows (see wash-bench models).",
        NETWORK,
        metavar="NAME",
    )
    model_args: dict[str, Any] = setting(
        {},
        "A further argument of timm.create_model; repeatable.",
        NETWORK,
        metavar="KEY=VALUE",
        option="model_arg",
        repeat=True,
    )
    stem: Literal["auto", "keep", "cifar"] = setting(
        "auto",
        "How the network begins: as timm has it (keep), with the papers' stem for small images "
        "(cifar), or by the image size (auto).",
        NETWORK,
    )
    population: int = setting(3, "Members N of a population, at least 2.", WHAT, metavar="N", ge=2)
    init: str = setting(
        "independent",
        "Initial weights: each member its own (independent), all the same (shared), or all those "
        "of a file, to fine-tune them.",
        WHAT,
        metavar="independent|shared|checkpoint:PATH",
    )
    augment: Literal["homogeneous", "heterogeneous"] = setting(
        "homogeneous",
        "Crop and flip for all members, or besides it the papers' draw of mixup, CutMix, erasing "
        "and smoothing, another for each member.",
        NETWORK,
    )
    vary: dict[str, tuple[float, ...]] = setting(
        {},
        f"A hyperparameter that differs between members, with its values: {', '.join(VARIED)}; "
        "repeatable, and each member draws a combination.",
        WHAT,
        metavar="NAME=V1,V2,...",
        repeat=True,
        identity="later",
    )
    epochs: int = setting(20, "Length of a training in epochs.", TRAINING, unit="epochs", ge=1)
    linear_probe: int = setting(
        0,
        "First epochs in which only the classifier is trained, once for all members.",
        TRAINING,
        unit="epochs",
        identity="later",
        ge=0,
    )
    batch_size: int = setting(64, "Images a step and member.", TRAINING, unit="images", ge=1)
    optimizer: Annotated[str, OneOf(OPTIMIZERS)] = setting(
        "sgd", "The members' optimizer.", TRAINING
    )
    lr: float = setting(
        0.1,
        "Learning rate at the start of the schedule, the greatest.",
        TRAINING,
        metavar="RATE",
        gt=0,
    )
    lr_min: float = setting(
        1e-4, "Learning rate at the end of the cosine.", TRAINING, metavar="RATE", ge=0
    )
    schedule: Annotated[str, OneOf(SCHEDULES)] = setting(
        "cosine",
        "Learning rate over the steps: cosine to --lr-min, constant, or a tenth at each of "
        "--milestones.",
        TRAINING,
    )
    milestones: tuple[float, ...] = setting(
        (0.5, 0.75),
        "Where multistep lowers the rate, as shares of the schedule, separated by commas.",
        TRAINING,
        metavar="LIST",
    )
    warmup: float = setting(
        0.0,
        "First epochs, as 0.5 or 5, in which the learning rate rises in equal steps to --lr; the "
        "schedule runs over those that are left.",
        TRAINING,
        unit="epochs",
        identity="later",
        ge=0,
    )
    momentum: float = setting(
        0.9, "Momentum of SGD, from 0 to below 1.", TRAINING, metavar="SHARE", ge=0, lt=1
    )
    weight_decay: float = setting(
        1e-4,
        "Weight decay, on all parameters (biases and normalization too, as PAPA).",
        TRAINING,
        metavar="RATE",
        ge=0,
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:1 or mps.", MACHINE, metavar="NAME")
    amp: Literal["off", "bf16", "fp16"] = setting(
        "off", "Mixed precision of forward and backward pass.", MACHINE
    )
    channels_last: bool = setting(True, "Keep convolution weights channels-last (faster).", MACHINE)

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if list(milestones) != sorted(milestones) or not all(0 < m < 1 for m in milestones):
            raise ValueError("milestones must ascend between 0 and 1")
        return milestones

    @field_validator("init")
    @classmethod
    def _known_init(cls, init: str) -> str:
        if init not in ("independent", "shared") and not path_in(init):
            raise ValueError("must be independent, shared or checkpoint:PATH")
        return init

    @field_validator("vary", mode="before")
    @classmethod
    def _grid(cls, given: Any) -> dict[str, tuple[float, ...]]:
        return parse_grid(given)

    @field_validator("classes", mode="before")
    @classmethod
    def _class_numbers(cls, given: Any) -> str:
        return parse_classes(given)

    @model_validator(mode="after")
    def _relations(self) -> TrainingConfig:
        if self.schedule == "cosine" and self.lr_min > self.lr:
            raise ValueError(f"--lr-min ({self.lr_min}) is above --lr ({self.lr})")
        if self.linear_probe and self.checkpoint is None:
            raise ValueError(
                f"--linear-probe {self.linear_probe} needs --init checkpoint:PATH, not {self.init}"
            )
        for flag, epochs in (("--linear-probe", self.linear_probe), ("--warmup", self.warmup)):
            if epochs and epochs >= self.epochs:
                raise ValueError(f"{flag} {epochs:g} is not below --epochs {self.epochs}")
        return self

    @property
    def checkpoint(self) -> Path | None:
        """The file that all members start from, if they do."""
        path = path_in(self.init)
        return Path(path).expanduser() if path else None

    @property
    def common_start(self) -> bool:
        """Whether all members start from the same weights."""
        return self.init != "independent"

    @property
    def chosen_classes(self) -> tuple[int, ...]:
        """The numbers of the classes that are used; empty for all of them."""
        return () if self.classes == "all" else tuple(map(int, self.classes.split(",")))
