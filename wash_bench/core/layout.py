"""The names of the coordinates: which slice of a member's row is which parameter of the network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Kind = Literal["weight", "bias", "norm"]
LayerIndex = Literal["leaf_module", "tensor", "weight_layer"]


@dataclass(frozen=True, slots=True)
class Slice:
    """One tensor inside a row.

    Attributes:
        name: the parameter's (or buffer's) name in the module.
        shape: its shape in the module.
        offset: first coordinate in the row.
        size: number of coordinates.
        kind: ``norm`` for the affine parameters of normalization layers, else ``bias`` for
            tensors named so, else ``weight``.
        leaf_module: index of the module that owns it, among the modules that own parameters,
            in registration order.
        tensor: index in ``parameters()`` order.
        weight_layer: index of the last module at or before it that owns a tensor of two or
            more dimensions.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int
    kind: Kind = "weight"
    leaf_module: int = 0
    tensor: int = 0
    weight_layer: int = 0

    @property
    def stop(self) -> int:
        """The coordinate after its last."""
        return self.offset + self.size


@dataclass(frozen=True)
class Layout:
    """The slices of a row of parameters, and of the float and integer buffers beside it."""

    slices: tuple[Slice, ...]
    buffers: tuple[Slice, ...] = ()
    counters: tuple[Slice, ...] = ()

    @cached_property
    def size(self) -> int:
        """d, the number of parameters of one member."""
        return sum(piece.size for piece in self.slices)

    @cached_property
    def buffer_size(self) -> int:
        """Number of floating-point buffer values of one member (BatchNorm running statistics)."""
        return sum(piece.size for piece in self.buffers)

    @cached_property
    def counter_size(self) -> int:
        """Number of integer buffer values of one member (``num_batches_tracked``)."""
        return sum(piece.size for piece in self.counters)

    def layer_of(self, piece: Slice, index: LayerIndex = "leaf_module") -> int:
        """The layer of a slice under one of the three ways to count them."""
        return getattr(piece, index)

    def layers(self, index: LayerIndex = "leaf_module") -> int:
        """L, the number of layers under one of the three ways to count them."""
        return 1 + max(self.layer_of(piece, index) for piece in self.slices)


def layout_of(module: nn.Module) -> Layout:
    """Read the layout off a module; tied parameters are counted once, at their first name."""
    import torch

    slices: list[Slice] = []
    seen: set[int] = set()
    offset = leaf_module = 0
    weight_layer = -1
    for prefix, owner in module.named_modules():
        own = [
            (name, parameter)
            for name, parameter in owner.named_parameters(recurse=False)
            if id(parameter) not in seen
        ]
        if not own:
            continue
        is_norm = "norm" in type(owner).__name__.lower()
        if not is_norm and any(parameter.ndim >= 2 for _, parameter in own):
            weight_layer += 1
        for name, parameter in own:
            seen.add(id(parameter))
            kind: Kind = "norm" if is_norm else "bias" if name.endswith("bias") else "weight"
            full = f"{prefix}.{name}" if prefix else name
            slices.append(
                Slice(
                    full,
                    tuple(parameter.shape),
                    offset,
                    parameter.numel(),
                    kind,
                    leaf_module,
                    len(slices),
                    max(weight_layer, 0),
                )
            )
            offset += parameter.numel()
        leaf_module += 1

    return Layout(
        tuple(slices),
        tuple(_buffer_slices(module, torch.float32)),
        tuple(_buffer_slices(module, torch.int64)),
    )


def _buffer_slices(module: nn.Module, dtype: torch.dtype) -> list[Slice]:
    """The buffers of one type that belong to the state of the network."""
    # Those of another type (boolean masks), and those that are not saved with the network
    # (persistent=False: position indices and the like), are constants and stay put.
    saved = module.state_dict(keep_vars=True).keys()
    pieces: list[Slice] = []
    offset = 0
    for name, buffer in module.named_buffers():
        if buffer.dtype != dtype or name not in saved:
            continue
        size = math.prod(buffer.shape)
        pieces.append(Slice(name, tuple(buffer.shape), offset, size))
        offset += size
    return pieces


def values_at(rows: Tensor, coordinates: Tensor) -> Tensor:
    """Return the (N, K) values of (N, D) rows at (K,) coordinates."""
    import torch

    # On the CPU, index_select along the second dimension first copies all of rows that do not
    # follow one another without a gap, as a population's; row by row it copies none.
    if rows.device.type != "cpu" or rows.is_contiguous():
        return rows.index_select(1, coordinates)
    return torch.stack([row.index_select(0, coordinates) for row in rows])
