"""The resolved configuration of a run: every option written out, unknown names refused.

An experiment is what the command line (or a preset) describes: several methods, several seeds.
A cell is one method at one seed. Its identity is the hash of all settings that matter to it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SCHEMA_VERSION = 1
DEFAULT_METHODS = ("wash", "wash-opt", "papa", "dart", "greedy-soup", "naive-ensemble")


class Settings(BaseModel):
    """Base of the configuration models: frozen, and no key it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingConfig(Settings):
    """Everything that decides a training, apart from the method and the seed."""

    dataset: str = Field("digits", description="data set name, or folder:PATH")
    data_dir: str | None = Field(None, description="folder that holds (or receives) the data")
    train_limit: int = Field(0, ge=0, description="use only so many training images (0: all)")
    image_size: int = Field(0, ge=0, description="resize images to this side in pixels (0: as is)")
    val_share: float = Field(0.02, gt=0, lt=1, description="share of training images held out")
    model: str = Field("test_resnet", description="any architecture that timm knows")
    model_args: dict[str, Any] = Field({}, description="further arguments of timm.create_model")
    stem: Literal["auto", "keep", "cifar"] = Field("auto", description="how the network begins")
    population: int = Field(3, ge=2, description="members N")
    init: Literal["independent", "shared"] = Field("independent", description="initial weights")
    augment: Literal["homogeneous", "heterogeneous"] = Field("homogeneous")
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(64, ge=1, description="images a step and member")
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(0.1, gt=0, description="learning rate at the start of the schedule")
    lr_min: float = Field(1e-4, ge=0, description="learning rate at the end of the cosine")
    schedule: Literal["cosine", "constant", "multistep"] = "cosine"
    milestones: tuple[float, ...] = Field((0.5, 0.75), description="shares of the training")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only")
    weight_decay: float = Field(1e-4, ge=0, description="on all parameters, as PAPA")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    amp: Literal["off", "bf16", "fp16"] = "off"
    channels_last: bool = True

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if list(milestones) != sorted(milestones) or not all(0 < m < 1 for m in milestones):
            raise ValueError("milestones must ascend between 0 and 1")
        return milestones

    @model_validator(mode="after")
    def _lr_order(self) -> TrainingConfig:
        if self.schedule == "cosine" and self.lr_min > self.lr:
            raise ValueError(f"lr_min ({self.lr_min}) is above lr ({self.lr})")
        return self


class EvaluationConfig(Settings):
    """What is measured on the trained population."""

    barrier_points: int = Field(21, ge=3, description="points along a segment, ends included")
    barrier_split: Literal["train", "val", "test"] = "test"
    barrier_images: int = Field(1000, ge=0, description="images of the barrier (0: all)")
    bn_images: int = Field(0, ge=0, description="images of BatchNorm re-estimation (0: all train)")
    barrier_bn_images: int = Field(1280, ge=1, description="the same at each barrier point")
    ece_bins: int = Field(15, ge=1)


class RunConfig(Settings):
    """One experiment, as the command line and the preset resolve to it."""

    preset: str = "digits"
    methods: tuple[str, ...] = DEFAULT_METHODS
    set: dict[str, dict[str, Any]] = Field({}, description="options of methods")
    seeds: tuple[int, ...] = (0,)
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    eval_every: int = Field(1, ge=1, description="epochs between validations")
    checkpoint_every: int = Field(1, ge=1, description="epochs between checkpoints")


def fingerprint(data: Any) -> str:
    """Eight hex digits of the canonical JSON of ``data``."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
