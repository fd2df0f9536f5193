"""The coordinates of a row that an optimizer steps on, by the factor of their learning rate."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wash_bench.models.batchnorm import batchnorm_parameters

if TYPE_CHECKING:
    from torch import nn

    from wash_bench.config import TrainingConfig
    from wash_bench.core.population import Population


@dataclass(frozen=True)
class ParamSpan:
    """Neighbouring coordinates: the first, the one past the end, their rate over the member's."""

    first: int
    stop: int
    scale: float = 1.0


def spans_of(
    population: Population, config: TrainingConfig, only: Collection[str] | None = None
) -> list[ParamSpan]:
    """What the configured optimizer steps on, neighbours of one rate joined.

    Args:
        population: the rows and their layout.
        config: ``freeze_bn`` takes BatchNorm's scales and shifts out; ``layer_decay`` gives layers
            rates of their own.
        only: the names of the parameters to step on, by default all.

    Returns:
        The runs, ascending; one run of everything where no setting says otherwise.
    """
    module = population.modules[0]
    frozen = set(batchnorm_parameters(module)) if config.freeze_bn else set()
    scales = layer_scales(module, config.layer_decay) if config.layer_decay < 1 else {}
    runs: list[ParamSpan] = []
    for piece in population.layout.slices:
        if piece.name in frozen or (only is not None and piece.name not in only):
            continue
        scale = scales.get(piece.name, 1.0)
        if runs and runs[-1].stop == piece.offset and runs[-1].scale == scale:
            runs[-1] = ParamSpan(runs[-1].first, piece.stop, scale)
        else:
            runs.append(ParamSpan(piece.offset, piece.stop, scale))
    return runs


def layer_scales(module: nn.Module, decay: float) -> dict[str, float]:
    """Each trained parameter's factor on the learning rate: decay to the power of its depth.

    The layers are timm's (``timm.optim.param_groups_layer_decay``, after BEiT, Bao et al. 2022,
    arXiv 2106.08254): of the network's own ``group_matcher``, counted down from the last, the
    head's, whose factor is 1.

    Returns:
        The factors by the parameters' names within the network.
    """
    from timm.optim import param_groups_layer_decay  # pyright: ignore[reportPrivateImportUsage]

    # Weight decay is the rows' own affair, so that it splits no group here.
    groups = param_groups_layer_decay(module, 0.0, weight_decay_exclude_1d=False, layer_decay=decay)
    of_parameter = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    return {
        name: of_parameter[id(parameter)]
        for name, parameter in module.named_parameters()
        if id(parameter) in of_parameter
    }
