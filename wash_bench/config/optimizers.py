"""The members' optimizers, by name: classes of torch (or timm), found when they are needed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class OptimizerSpec:
    """One optimizer, whose update must be elementwise: it runs over a whole row of weights.

    Attributes:
        target: its class, as ``module:Class``.
        slots: the state tensors of the weights' shape that it keeps; each with the setting that
            must not be 0 for it, or an empty text.
        settings: settings that it takes under their own names, besides lr and weight_decay.
        arguments: what else it is called with.
        counts: whether its state counts the steps.
    """

    target: str
    slots: Mapping[str, str]
    settings: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    counts: bool = False


OPTIMIZERS: Mapping[str, OptimizerSpec] = {
    "sgd": OptimizerSpec(
        "torch.optim:SGD",
        slots={"momentum_buffer": "momentum"},
        settings=("momentum",),
        arguments={"fused": True},
    ),
    "adamw": OptimizerSpec(
        "torch.optim:AdamW",
        slots={"exp_avg": "", "exp_avg_sq": ""},
        arguments={"fused": True},
        counts=True,
    ),
}
