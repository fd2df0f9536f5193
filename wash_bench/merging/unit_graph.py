"""Which permutations of a network's units leave its function unchanged, read off its graph.

Tensors that are added to one another (residual streams) must be permuted alike, so each group of
units that can be permuted has a list of all the axes it lies on. The input's and the output's
units keep their places.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from wash_bench.errors import CellFailure
from wash_bench.merging.permutation import Axis, Group

# What does the same to every unit, whatever its place.
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_PASSING = (*_ACTIVATIONS, *_POOLS, nn.Identity, nn.Dropout, nn.Dropout2d, nn.Sigmoid)
_PASSING_CALLS = {F.relu, torch.relu, torch.sigmoid, F.dropout, F.adaptive_avg_pool2d}
_PASSING_METHODS = {"relu", "sigmoid", "contiguous"}
_SUMS = {operator.add, operator.iadd, operator.mul, operator.imul, torch.add, torch.mul}


def permutation_groups(network: nn.Module) -> tuple[fx.Graph, list[Group]]:
    """Read off a network's graph which units can be permuted.

    Args:
        network: a VGG or a ResNet (basic or bottleneck blocks, with or without
            squeeze-and-excitation), or any chain of plain layers with sums.

    Returns:
        The graph, and the groups in the order in which the input passes them.

    Raises:
        Unsupported: the network does something that this reading does not know.
    """
    try:
        graph = _Tracer().trace(network)
    except Exception as error:  # whatever a network's Python runs into without real numbers
        what = f"has a graph that depends on its input ({type(error).__name__})"
        raise Unsupported(what) from error
    reader = _Reader(network)
    for node in graph.nodes:
        reader.read(node)
    return graph, reader.groups()


class Unsupported(CellFailure):
    """The graph has something that this reading does not know."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"matching units works for VGG and ResNet (vgg11, resnet18, resnet50, ...); this "
            f"network {what}; choose such a --model or another merge rule"
        )


@fx.wrap
def _at_least(x: Tensor, size: int) -> Tensor:
    """Feature maps of at least ``size`` pixels a side, as timm's VGG needs them for its head."""
    height, width = max(size, x.shape[-2]), max(size, x.shape[-1])
    return x if (height, width) == x.shape[-2:] else F.adaptive_avg_pool2d(x, (height, width))


def _conv_mlp(module: Any, x: Any) -> Any:
    x = _at_least(x, module.input_kernel_size)
    x = module.drop(module.act1(module.fc1(x)))
    return module.act2(module.fc2(x))


class _Tracer(fx.Tracer):
    """Knows the one part of timm's VGG whose Python asks for sizes."""

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        from timm.models.vgg import ConvMlp

        if isinstance(m, ConvMlp):
            forward = partial(_conv_mlp, m)
        return super().call_module(m, forward, args, kwargs)


@dataclass
class _Space:
    """Units that must be permuted alike; spaces are joined while the graph is read."""

    size: int | None
    fixed: bool = False
    axes: list[Axis] = field(default_factory=list)
    taps: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    joined: _Space | None = None

    def root(self) -> _Space:
        return self if self.joined is None else self.joined.root()


@dataclass(frozen=True)
class _Value:
    """What a node gives: the space of its units, and whether axis 1 is its last one."""

    space: _Space
    flat: bool = False


class _Reader:
    def __init__(self, network: nn.Module) -> None:
        self.modules = dict(network.named_modules())
        self.values: dict[fx.Node, _Value] = {}
        self.spaces: list[_Space] = []
        self.owner: dict[tuple[str, int], _Space] = {}

    def groups(self) -> list[Group]:
        result = []
        for space in self.spaces:
            if space.joined is None and not space.fixed and space.axes:
                names = [axis.tensor for axis in space.axes]
                if len(set(names)) < len(names):
                    raise Unsupported("adds a layer's output to its own input without another")
                taps = tuple(space.taps or space.others)
                result.append(Group(space.size or 0, tuple(space.axes), taps))
        return result

    def read(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.values[node] = _Value(self._new(None, fixed=True))
        elif node.op == "output":
            for value in self._inputs(node):
                value.space.root().fixed = True
        else:
            value = self._call(node)
            self.values[node] = value
            value.space.root().others.append(node.name)

    def _call(self, node: fx.Node) -> _Value:
        inputs = self._inputs(node)
        target = node.target
        if node.op == "call_module":
            return self._module(node, str(target), self.modules[str(target)], inputs)
        if target in _SUMS:
            return self._sum(inputs)
        call = getattr(target, "__name__", str(target))
        if len(inputs) == 1:
            value = inputs[0]
            flattens = target is torch.flatten or (node.op, target) == ("call_method", "flatten")
            if flattens and node.args[1:] == (1,):
                return _Value(value.space, flat=True)
            if node.op == "call_method" and target == "mean":
                axes, keep = node.args[1:2], node.kwargs.get("keepdim", False)
                if axes and axes[0] in ((2, 3), (-2, -1), [2, 3], [-2, -1]):
                    return _Value(value.space, flat=not keep)
            passing = _PASSING_METHODS if node.op == "call_method" else _PASSING_CALLS
            if target in passing or target is _at_least:
                if "relu" in call:
                    value.space.root().taps.append(node.name)
                return value
        raise Unsupported(f"contains {call!r}")

    def _module(self, node: fx.Node, path: str, module: nn.Module, inputs: list[_Value]) -> _Value:
        (value,) = inputs
        if type(module) is nn.Conv2d:
            if module.groups == 1:
                self._lies(f"{path}.weight", 1, value)
                return self._made(path, module, module.out_channels)
            if module.groups == module.in_channels == module.out_channels:
                self._own(path, module, value)
                return value
            raise Unsupported(f"has grouped convolutions ({path!r})")
        if type(module) is nn.Linear and (value.flat or value.space.root().fixed):
            self._lies(f"{path}.weight", 1, value, module.in_features)
            return _Value(self._made(path, module, module.out_features).space, flat=True)
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            self._own(path, module, value)
            return value
        if isinstance(module, nn.Flatten) and module.start_dim == 1 and module.end_dim == -1:
            return _Value(value.space, flat=True)
        if isinstance(module, _PASSING):
            if isinstance(module, _ACTIVATIONS):
                value.space.root().taps.append(node.name)
            return value
        raise Unsupported(f"contains {type(module).__name__} ({path!r})")

    def _made(self, path: str, module: nn.Module, size: int) -> _Value:
        value = _Value(self._new(size))
        self._own(path, module, value)
        return value

    def _own(self, path: str, module: nn.Module, value: _Value) -> None:
        """The module's tensors whose first axis are the units."""
        tensors = {
            **dict(module.named_parameters(recurse=False)),
            **dict(module.named_buffers(recurse=False)),
        }
        for name, tensor in tensors.items():
            if tensor.ndim:  # a counter of batches has no axis
                self._lies(f"{path}.{name}", 0, value, len(tensor))

    def _lies(self, tensor: str, axis: int, value: _Value, length: int | None = None) -> None:
        space = value.space.root()
        if (tensor, axis) in self.owner:  # a module that is called twice
            self._join(space, self.owner[tensor, axis])
            return
        self.owner[tensor, axis] = space
        if space.size is None:
            return
        block, rest = divmod(length or space.size, space.size)
        if rest:
            raise Unsupported(f"has {tensor!r} with {length} units for {space.size}")
        space.axes.append(Axis(tensor, axis, block))

    def _sum(self, inputs: list[_Value]) -> _Value:
        first, *others = inputs
        for other in others:
            if other.flat != first.flat:
                raise Unsupported("adds feature maps to vectors")
            self._join(first.space, other.space)
        return first

    def _join(self, one: _Space, other: _Space) -> None:
        one, other = one.root(), other.root()
        if one is other:
            return
        if self.spaces.index(other) < self.spaces.index(one):
            one, other = other, one
        if one.size is None and other.size is not None:
            raise Unsupported("adds its input to its features")
        other.joined = one
        one.fixed = one.fixed or other.fixed
        one.axes += other.axes
        one.taps += other.taps
        one.others += other.others

    def _new(self, size: int | None, fixed: bool = False) -> _Space:
        self.spaces.append(_Space(size, fixed))
        return self.spaces[-1]

    def _inputs(self, node: fx.Node) -> list[_Value]:
        return [self.values[source] for source in node.all_input_nodes if source in self.values]
