"""The settings that decide a training, apart from the method and the seed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from wash_bench.config.field import (
    DATA,
    FINE_TUNING,
    MACHINE,
    MEASURE,
    METHODS,
    NETWORK,
    TRAINING,
    WHAT,
    Choice,
    ConfigModel,
    setting,
)
from wash_bench.config.optimizers import OPTIMIZERS
from wash_bench.config.schedules import SCHEDULES
from wash_bench.config.values import (
    BRANCHES,
    PRETRAINED,
    VARIED,
    parse_channels,
    parse_classes,
    parse_grid,
    path_in,
)
from wash_bench.errors import UsageError, nearest


class TrainingConfig(ConfigModel):
    """Everything that decides a training, apart from the method and the seed.

    Attributes:
        members: where the members were trained elsewhere, their files; nothing is trained then.
    """

    dataset: str = setting("digits", WHAT, "NAME")
    """Data set (see wash-bench datasets), folder:PATH, tar:PATH, hfds/NAME, torch/NAME, or
    FILE.py:FUNCTION."""
    data_dir: str | None = setting(None, DATA, "DIR", shown="the user's cache", identity="never")
    """Folder that holds, or receives, the data."""
    classes: str = setting("all", DATA, "LIST", identity="later")
    """Use only these classes, by their numbers, as 0-4 or 0,2,5."""
    train_limit: int = setting(0, DATA, unit="images", ge=0)
    """Use only so many training images (0: all)."""
    image_size: int = setting(0, DATA, unit="pixels", ge=0)
    """Resize images to this side in pixels (0: as they are)."""
    mean: tuple[float, ...] | None = setting(
        None, DATA, "LIST", shown="the data set's", identity="later"
    )
    """Per-channel mean of pixels in [0, 1], as 0.485,0.456,0.406; subtracted."""
    std: tuple[float, ...] | None = setting(
        None, DATA, "LIST", shown="the data set's", identity="later"
    )
    """Per-channel standard deviation, by which they are divided."""
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box", "hamming", "nearest"] = setting(
        "bilinear", DATA, identity="later"
    )
    """How the images of a folder are resized."""
    crop_pct: float = setting(0.0, DATA, "SHARE", shown="224/256", identity="later", ge=0, le=1)
    """Test-time centre-crop ratio of image folders (timm's crop_pct; 0: 224/256)."""
    val_share: float = setting(0.02, MEASURE, "SHARE", gt=0, lt=1)
    """Share of the training images that is held out for selections."""
    val_limit: int = setting(0, MEASURE, unit="images", identity="later", ge=0)
    """Hold out so many images for selections, whatever --val-share says (0: that share)."""
    subset_seed: str = setting("fixed", DATA, "seed|fixed|N", shown="seed", identity="later")
    """Draw the validation images and the subset of --train-limit for each seed (seed), once for all
    seeds as in the papers (fixed), or once from this number."""
    model: str = setting("test_resnet", WHAT, "NAME")
    """Any architecture of timm, torchvision:NAME, transformers:PATH, or FILE.py:FUNCTION
    (see wash-bench models)."""
    model_args: dict[str, Any] = setting({}, NETWORK, "KEY=VALUE", option="model_arg", repeat=True)
    """A further argument of timm.create_model; repeatable."""
    stem: Literal["auto", "keep", "cifar"] = setting("auto", NETWORK)
    """How the network begins: as timm has it (keep), with the papers' stem for small images
    (cifar), or by the image size (auto)."""
    drop_path: float = setting(0.0, FINE_TUNING, "SHARE", identity="later", ge=0, lt=1)
    """Stochastic depth: the rate at which a residual branch is dropped for an image, timm's
    drop_path_rate (timm raises it with the depth, from 0 to this, in most networks)."""
    population: int = setting(3, WHAT, "N", ge=2)
    """Members N of a population."""
    init: str = setting(
        "independent",
        METHODS,
        "independent|shared|pretrained|checkpoint:PATH",
        shown="shared without a preset, else independent",
    )
    """Initial weights: the same for all members (shared), one draw per member (independent), or,
    to fine-tune, timm's weights of the model and its tag (pretrained) or a checkpoint's."""
    augment: Literal["homogeneous", "heterogeneous"] = setting("homogeneous", DATA)
    """Crop and flip for all members (same), or also the papers' draw of mixup, CutMix, erasing and
    label smoothing, a different one per member (per-member)."""
    branches: tuple[str, ...] = setting((), METHODS, "LIST", identity="later")
    """Further augmentation of member 0, 1, ..., repeated as needed: plain, auto-augment, cutout
    (8 pixels), cutmix or mixup (alpha 1). A method's own branches (dart, lookaround) win."""
    vary: dict[str, tuple[float, ...]] = setting(
        *({}, METHODS, "NAME=V1,V2,..."),
        help=f"Values of a hyperparameter ({', '.join(VARIED)}) that members draw from, each its "
        "own combination; repeatable.",
        repeat=True,
        identity="later",
    )
    epochs: int = setting(20, WHAT, unit="epochs", ge=1)
    """Epochs of a training."""
    linear_probe: int = setting(0, FINE_TUNING, unit="epochs", identity="later", ge=0)
    """Epochs, at the start, in which only the classifier is trained, once for all members."""
    freeze_bn: bool = setting(False, FINE_TUNING, identity="later")
    """Keep the checkpoint's BatchNorm: its statistics normalize (evaluation mode), and its scales
    and shifts are not trained."""
    batch_size: int = setting(64, TRAINING, unit="images", ge=1)
    """Images a step and member."""
    accumulate: int = setting(1, TRAINING, unit="parts", identity="later", ge=1)
    """Accumulate the gradient of a batch over so many equal parts, to save memory; --batch-size
    counts the images of a step. BatchNorm sees one part at a time."""
    optimizer: Annotated[str, Choice(OPTIMIZERS)] = setting("sgd", TRAINING)
    """The members' optimizer."""
    lr: float = setting(0.1, TRAINING, "RATE", gt=0)
    """Peak learning rate, at the start of the schedule."""
    lr_min: float = setting(1e-4, TRAINING, "RATE", ge=0)
    """Learning rate at the end of the cosine."""
    schedule: Annotated[str, Choice(SCHEDULES)] = setting("cosine", TRAINING)
    """Learning rate over the steps: cosine to --lr-min, constant, or a tenth at each of
    --milestones."""
    milestones: tuple[float, ...] = setting((0.5, 0.75), TRAINING, "LIST")
    """Where multistep lowers the rate, as shares of the schedule, separated by commas."""
    warmup: float = setting(0.0, TRAINING, unit="epochs", identity="later", ge=0)
    """Epochs of linear warm-up to --lr, as 0.5 or 5; the schedule covers the rest."""
    momentum: float = setting(0.9, TRAINING, "SHARE", ge=0, lt=1)
    """Momentum of SGD, from 0 to below 1."""
    weight_decay: float = setting(1e-4, TRAINING, "RATE", ge=0)
    """Weight decay, on all parameters (biases and normalization too, as PAPA)."""
    layer_decay: float = setting(1.0, FINE_TUNING, "FACTOR", identity="later", gt=0, le=1)
    """Layer-wise decay of the learning rate, from each of timm's layers to the one below it."""
    clip_grad: float = setting(0.0, TRAINING, "NORM", identity="later", ge=0)
    """Clip a member's gradient to this L2 norm (0: do not)."""
    sam_rho: float = setting(0.0, TRAINING, "RADIUS", identity="later", ge=0)
    """Sharpness-aware minimization with this radius; doubles the cost of a step (0: off)."""
    device: str = setting("auto", WHAT, "NAME")
    """auto, cpu, cuda, cuda:1 or mps."""
    amp: Literal["off", "bf16", "fp16"] = setting("off", MACHINE)
    """Mixed precision of forward and backward pass."""
    engine: Literal["auto", "eager", "graph"] = setting("auto", MACHINE, identity="later")
    """How steps are computed: eager (auto) or as CUDA graphs (experimental)."""
    compile: bool = setting(False, MACHINE, identity="later")
    """Compile the network with torch.compile, once for all members."""
    deterministic: bool = setting(True, MACHINE, identity="later")
    """On a GPU, use deterministic convolutions, not the fastest."""
    channels_last: bool = setting(True, MACHINE)
    """Keep convolution weights channels-last (faster)."""
    members: tuple[str, ...] = Field(default=())

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if list(milestones) != sorted(milestones) or not all(0 < m < 1 for m in milestones):
            raise ValueError("milestones must ascend between 0 and 1")
        return milestones

    @field_validator("subset_seed", mode="before")
    @classmethod
    def _known_subset(cls, given: Any) -> str:
        text = str(given).strip()
        if text not in ("seed", "fixed") and not re.fullmatch(r"\d{1,9}", text):
            raise ValueError("must be seed, fixed or a whole number")
        return text

    @field_validator("init")
    @classmethod
    def _known_init(cls, init: str) -> str:
        if init not in ("independent", "shared", PRETRAINED) and not path_in(init):
            raise ValueError("must be independent, shared, pretrained or checkpoint:PATH")
        return init

    @field_validator("branches")
    @classmethod
    def _known_branches(cls, branches: tuple[str, ...]) -> tuple[str, ...]:
        for name in branches:
            if name not in BRANCHES:
                raise ValueError(f"no branch {name!r}: {nearest(name, BRANCHES)}")
        return branches

    @field_validator("vary", mode="before")
    @classmethod
    def _grid(cls, given: Any) -> dict[str, tuple[float, ...]]:
        return parse_grid(given)

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _of_channels(cls, given: Any) -> tuple[float, ...] | None:
        return parse_channels(given)

    @field_validator("std")
    @classmethod
    def _positive(cls, std: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if std and min(std) <= 0:
            raise ValueError("must be above 0")
        return std

    @field_validator("classes", mode="before")
    @classmethod
    def _class_numbers(cls, given: Any) -> str:
        return parse_classes(given)

    @model_validator(mode="after")
    def _relations(self) -> TrainingConfig:
        if self.members and len(self.members) != self.population:
            raise ValueError(f"{len(self.members)} members, --population {self.population}")
        if self.schedule == "cosine" and self.lr_min > self.lr:
            raise ValueError(f"--lr-min ({self.lr_min}) is above --lr ({self.lr})")
        if self.linear_probe and not self._trained_before:
            raise ValueError(
                f"--linear-probe {self.linear_probe} needs --init checkpoint:PATH, not {self.init}"
            )
        if self.freeze_bn and not self._trained_before:
            raise ValueError(f"--freeze-bn needs --init checkpoint:PATH, not {self.init}")
        if self.drop_path and "drop_path_rate" in self.model_args:
            raise ValueError("give either --drop-path or --model-arg drop_path_rate")
        if self.accumulate > 1 and (
            self.batch_size % self.accumulate or self.batch_size < 2 * self.accumulate
        ):
            raise ValueError(
                f"--batch-size {self.batch_size} cannot be divided into --grad-accum-steps "
                f"{self.accumulate} equal parts of two images or more"
            )
        if self.sam_rho and self.engine == "graph":
            raise ValueError("--engine graph takes no --sam-rho: leave one of them out")
        for flag, epochs in (("--linear-probe", self.linear_probe), ("--warmup", self.warmup)):
            if epochs and epochs >= self.epochs:
                raise ValueError(f"{flag} {epochs:g} is not below --epochs {self.epochs}")
        return self

    def but(self, **changes: Any) -> TrainingConfig:
        """Return these settings with some changed; a population of one is allowed here.

        Raises:
            UsageError: the settings do not fit together.
        """
        users = {name: value for name, value in changes.items() if name != "population"}
        try:
            changed = TrainingConfig.model_validate(self.model_dump() | users)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            told = ", ".join(f"{name}={value}" for name, value in users.items())
            raise UsageError(f"with {told}: {message}") from None
        return changed.model_copy(update=changes)

    @property
    def checkpoint(self) -> Path | None:
        """The file that all members start from, if they do."""
        path = path_in(self.init)
        return Path(path).expanduser() if path else None

    @property
    def _trained_before(self) -> bool:
        return self.init == PRETRAINED or self.checkpoint is not None

    @property
    def network_args(self) -> dict[str, Any]:
        """The further arguments of timm.create_model that networks are trained with."""
        return self.model_args | ({"drop_path_rate": self.drop_path} if self.drop_path else {})

    @property
    def common_start(self) -> bool:
        """Whether all members start from the same weights."""
        return self.init != "independent"

    @property
    def chosen_classes(self) -> tuple[int, ...]:
        """The numbers of the classes that are used; empty for all of them."""
        return () if self.classes == "all" else tuple(map(int, self.classes.split(",")))
