"""The population: N networks whose parameters are views into one (N, d) tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wash_bench.core.layout import Layout, Slice, layout_of

# Shapes. N: members, D: parameters of one member, F: float buffers, I: integer buffers.


@dataclass
class ModelState:
    """One network as flat vectors: weights (D,), float buffers (F,), integer buffers (I,)."""

    weights: Tensor
    buffers: Tensor
    counters: Tensor

    def clone(self) -> ModelState:
        return ModelState(self.weights.clone(), self.buffers.clone(), self.counters.clone())

    @staticmethod
    def combine(states: Sequence[ModelState], coefficients: Sequence[float]) -> ModelState:
        """The linear combination of states, summed in float64.

        Integer buffers are those of the state with the largest coefficient: a step counter
        has no meaningful fraction.
        """
        main = states[max(range(len(states)), key=lambda i: coefficients[i])]
        return ModelState(
            _combine([state.weights for state in states], coefficients),
            _combine([state.buffers for state in states], coefficients),
            main.counters.clone(),
        )

    @staticmethod
    def mean(states: Sequence[ModelState]) -> ModelState:
        """The uniform average: the soup of all the states."""
        return ModelState(
            _mean([state.weights for state in states]),
            _mean([state.buffers for state in states]),
            torch.stack([state.counters for state in states]).max(dim=0).values,
        )


def _float64_for(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64  # mps has no float64


def _combine(vectors: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    total = torch.zeros_like(vectors[0], dtype=_float64_for(vectors[0]))
    for vector, coefficient in zip(vectors, coefficients, strict=True):
        if coefficient:
            total.add_(vector, alpha=coefficient)
    return total.to(vectors[0].dtype)


def _mean(vectors: Sequence[Tensor]) -> Tensor:
    total = torch.zeros_like(vectors[0], dtype=_float64_for(vectors[0]))
    for vector in vectors:
        total.add_(vector)
    return total.div_(len(vectors)).to(vectors[0].dtype)


class Population:
    """N networks of one architecture, as rows.

    Attributes:
        layout: the slices of a row.
        weights: (N, D) float32; the members' parameters are views into it. Four-dimensional
            weights are stored channels-last where the population was built so.
        buffers: (N, F) float32, the BatchNorm running statistics and the like.
        counters: (N, I) int64, as ``num_batches_tracked``.
        gradient: (D,), the one gradient row that the members use in turn.
        optimizer_state: named (N, D) tensors of the optimizer (momentum; exp_avg, exp_avg_sq).
        optimizer_steps: (N,) float32, optimizer steps that each member has taken.
        modules: the N networks.
    """

    def __init__(
        self,
        build: Callable[[int], nn.Module],
        n: int,
        *,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
        optimizer_slots: Sequence[str] = (),
    ) -> None:
        """Build the members one after another and move them into the rows.

        Args:
            build: gives the initialized network of member i, float32, on the CPU.
            n: number of members.
            device: where the rows live.
            channels_last: store 4-D weights as (out, height, width, in).
            optimizer_slots: names of the optimizer's state tensors.
        """
        self.device = torch.device(device)
        self.channels_last = channels_last
        self.modules: list[nn.Module] = []
        for member in range(n):
            module = build(member)
            if member == 0:
                layout = layout_of(module)
                self._allocate(layout, n, optimizer_slots)
            self._fill(module, member)
            module.to(self.device)  # what is neither parameter nor row-held buffer
            bind(module, self.layout, self.state(member), self.gradient, channels_last)
            self.modules.append(module)

    def _allocate(self, layout: Layout, n: int, slots: Sequence[str]) -> None:
        self.layout = layout
        device = self.device
        self.weights = torch.zeros(n, layout.size, device=device)
        self.buffers = torch.zeros(n, layout.buffer_size, device=device)
        self.counters = torch.zeros(n, layout.counter_size, dtype=torch.int64, device=device)
        self.gradient = torch.zeros(layout.size, device=device)
        self.optimizer_state = {slot: torch.zeros_like(self.weights) for slot in slots}
        self.optimizer_steps = torch.zeros(n, device=device)

    def _fill(self, module: nn.Module, member: int) -> None:
        state = self.state(member)
        parameters = dict(module.named_parameters())
        with torch.no_grad():
            for piece in self.layout.slices:
                view = view_of(state.weights, piece, self.channels_last)
                view.copy_(parameters[piece.name])
            held = dict(module.named_buffers())
            for pieces, row in (
                (self.layout.buffers, state.buffers),
                (self.layout.counters, state.counters),
            ):
                for piece in pieces:
                    view_of(row, piece, False).copy_(held[piece.name])

    @property
    def n(self) -> int:
        return self.weights.shape[0]

    def state(self, member: int) -> ModelState:
        """A member's rows, as views: writing to them writes to the member."""
        return ModelState(self.weights[member], self.buffers[member], self.counters[member])

    def states(self) -> list[ModelState]:
        return [self.state(member) for member in range(self.n)]

    def named_tensors(self, state: ModelState) -> dict[str, Tensor]:
        """A state under the module's own names, contiguous (what timm loads)."""
        tensors = {}
        for pieces, row in (
            (self.layout.slices, state.weights),
            (self.layout.buffers, state.buffers),
            (self.layout.counters, state.counters),
        ):
            for piece in pieces:
                last = self.channels_last and row is state.weights
                tensors[piece.name] = view_of(row, piece, last).contiguous().clone()
        return tensors

    @torch.no_grad()
    def consensus(self) -> dict[str, float]:
        """Distance to consensus of the weights (buffers excluded).

        ``distance`` is (1/N) sum_n ||theta_n - mean||_2, ``relative`` the same over ||mean||_2,
        and ``layer/NAME`` the distance within one parameter tensor.
        """
        mean = self.weights.mean(dim=0)
        norm = mean.norm().item()
        sizes = [piece.size for piece in self.layout.slices]
        rows = []  # a member at a time, or the differences would take as much as the population
        for weights in self.weights:
            squares = (weights - mean).square_()
            rows.append(torch.stack([squares.sum(), *(p.sum() for p in squares.split(sizes))]))
        distance, *layers = torch.stack(rows).sqrt().mean(dim=0).tolist()
        names = [f"layer/{piece.name}" for piece in self.layout.slices]
        relative = distance / norm if norm else math.nan
        return {"distance": distance, "relative": relative, **dict(zip(names, layers, strict=True))}


def view_of(row: Tensor, piece: Slice, channels_last: bool) -> Tensor:
    """The part of a row that is one tensor, in the tensor's own shape, without a copy."""
    flat = row[piece.offset : piece.stop]
    if channels_last and len(piece.shape) == 4:
        out, inner, height, width = piece.shape
        return flat.view(out, height, width, inner).permute(0, 3, 1, 2)
    return flat.view(piece.shape)


def bind(
    module: nn.Module,
    layout: Layout,
    state: ModelState,
    gradient: Tensor | None,
    channels_last: bool,
) -> None:
    """Make the module's parameters, gradients and buffers views into a state's vectors.

    Setting ``parameter.data`` keeps the Parameter objects, hence tied weights stay tied.
    Float buffers are set in their owners, since ``Tensor.data`` of a buffer may be shared.
    """
    parameters = dict(module.named_parameters())
    for piece in layout.slices:
        parameter = parameters[piece.name]
        parameter.data = view_of(state.weights, piece, channels_last)
        if gradient is not None:
            parameter.grad = view_of(gradient, piece, channels_last)
    for pieces, row in ((layout.buffers, state.buffers), (layout.counters, state.counters)):
        for piece in pieces:
            owner, _, name = piece.name.rpartition(".")
            module.get_submodule(owner)._buffers[name] = view_of(row, piece, False)
