"""The population: N networks whose parameters are views into one (N, d) tensor."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wash_bench.core.layout import Layout, Slice, layout_of

# Shapes. N: members, D: parameters of one member, F: float buffers, I: integer buffers.

ROW_ALIGNMENT = 32  # values of 4 bytes


@dataclass
class ModelState:
    """One network as flat vectors: weights (D,), float buffers (F,), integer buffers (I,)."""

    weights: Tensor
    buffers: Tensor
    counters: Tensor

    def clone(self) -> ModelState:
        """A copy that shares no memory."""
        return ModelState(self.weights.clone(), self.buffers.clone(), self.counters.clone())

    def aligned(self) -> ModelState:
        """The state itself, or a copy if its vectors begin where no row of a population does."""
        # Rows of a stacked (N, D) tensor begin anywhere, and cuDNN ends with an error there.
        whole = all(
            vector.storage_offset() % ROW_ALIGNMENT == 0 for vector in (self.weights, self.buffers)
        )
        return self if whole else self.clone()

    @staticmethod
    def combine(states: Sequence[ModelState], coefficients: Sequence[float]) -> ModelState:
        """The linear combination of states, summed in float64."""
        # A step counter has no meaningful fraction: integer buffers are the main state's.
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


def float64_for(tensor: Tensor) -> torch.dtype:
    """The type in which states are summed and merged: float64, float32 on a device without it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64  # mps has no float64


def _combine(vectors: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    total = torch.zeros_like(vectors[0], dtype=float64_for(vectors[0]))
    for vector, coefficient in zip(vectors, coefficients, strict=True):
        if coefficient:
            total.add_(vector, alpha=coefficient)
    return total.to(vectors[0].dtype)


def _mean(vectors: Sequence[Tensor]) -> Tensor:
    total = torch.zeros_like(vectors[0], dtype=float64_for(vectors[0]))
    for vector in vectors:
        total.add_(vector)
    return total.div_(len(vectors)).to(vectors[0].dtype)


class Population:
    """N networks of one architecture, as rows.

    Attributes:
        members: whose rows they are; 0..N-1 unless the population is spread over processes.
        layout: the slices of a row.
        weights: (N, D) float32; the members' parameters are views into it. Four-dimensional
            weights are stored channels-last where the population was built so. Rows are contiguous
            and begin at multiples of 128 bytes, which vectorized kernels want.
        buffers: (N, F) float32, the BatchNorm running statistics and the like.
        counters: (N, I) int64, as ``num_batches_tracked``.
        gradients: (R, D), the gradient rows: one that the members use in turn, or one a member.
        optimizer_state: named (N, D) tensors of the optimizer (momentum; exp_avg, exp_avg_sq).
        optimizer_steps: (N,) float32, optimizer steps that each member has taken.
        member_state: named (N, D) or (N, F) tensors, what the method remembers of each member.
        modules: the N networks.
    """

    def __init__(
        self,
        build: Callable[[int], nn.Module],
        members: int | Sequence[int],
        *,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
        optimizer_slots: Sequence[str] = (),
        own_gradients: bool = False,
    ) -> None:
        """Build the members one after another and move them into the rows.

        Args:
            build: gives the initialized network of member i, float32, on the CPU.
            members: how many, or which members of a larger population this process holds.
            device: where the rows live.
            channels_last: store 4-D weights as (out, height, width, in).
            optimizer_slots: names of the optimizer's state tensors.
            own_gradients: whether each member has a gradient row of its own.
        """
        self.device = torch.device(device)
        self.channels_last = channels_last
        self.modules: list[nn.Module] = []
        self.members = range(members) if isinstance(members, int) else tuple(members)
        for row, member in enumerate(self.members):
            module = build(member)
            if row == 0:
                layout = layout_of(module)
                self._allocate(layout, len(self.members), optimizer_slots, own_gradients)
            self.fill(row, {**dict(module.named_parameters()), **dict(module.named_buffers())})
            module.to(self.device)  # what is neither parameter nor row-held buffer
            bind(module, self.layout, self.state(row), self.gradient_row(row), channels_last)
            self.modules.append(module)

    def _allocate(self, layout: Layout, n: int, slots: Sequence[str], own_gradients: bool) -> None:
        self.layout = layout
        device = self.device
        self.weights = zero_rows(n, layout.size, device)
        self.buffers = zero_rows(n, layout.buffer_size, device)
        self.counters = torch.zeros(n, layout.counter_size, dtype=torch.int64, device=device)
        self.gradients = zero_rows(n if own_gradients else 1, layout.size, device)
        self.optimizer_state = {slot: zero_rows(n, layout.size, device) for slot in slots}
        self.optimizer_steps = torch.zeros(n, device=device)
        self.member_state: dict[str, Tensor] = {}

    def remember(self, slots: Mapping[str, str]) -> None:
        """Make room, zero, for what a method remembers: rows like ``weights`` or ``buffers``."""
        sizes = {"weights": self.layout.size, "buffers": self.layout.buffer_size}
        self.member_state = {
            name: zero_rows(self.n, sizes[rows], self.device) for name, rows in slots.items()
        }

    @property
    def n(self) -> int:
        """Members that this process holds (all of them, unless it is one rank of several)."""
        return self.weights.shape[0]

    def gradient_row(self, row: int) -> Tensor:
        """(D,) where the gradient of a member is written."""
        return self.gradients[row % len(self.gradients)]

    def shell(self) -> nn.Module:
        """A network of the architecture without weights of its own, to be bound to states."""
        # A copy of the module would copy the storage its tensors are views into: all the rows.
        module = self.modules[0]
        held = {piece.name for piece in (*self.layout.buffers, *self.layout.counters)}
        empty: dict[int, Any] = {
            id(parameter): nn.Parameter(parameter.new_empty(0), requires_grad=False)
            for parameter in module.parameters()
        }
        for name, buffer in module.named_buffers():
            if name in held:
                empty[id(buffer)] = buffer.new_empty(0)
        return copy.deepcopy(module, empty)

    def state(self, row: int) -> ModelState:
        """A member's rows, as views: writing to them writes to the member."""
        return ModelState(self.weights[row], self.buffers[row], self.counters[row])

    def states(self) -> list[ModelState]:
        """The rows of all members here, as views."""
        return [self.state(member) for member in range(self.n)]

    def named_tensors(self, state: ModelState) -> dict[str, Tensor]:
        """A state under the module's own names, as contiguous copies (what timm loads)."""
        views = named_views(self.layout, state, self.channels_last)
        return {name: view.clone(memory_format=torch.contiguous_format) for name, view in views}

    @torch.no_grad()
    def fill(self, row: int, tensors: Mapping[str, Tensor]) -> None:
        """Take over a member from tensors under the module's own names."""
        for name, view in named_views(self.layout, self.state(row), self.channels_last):
            view.copy_(tensors[name])

    @torch.no_grad()
    def distances(self, mean: Tensor) -> list[dict[str, float]]:
        """Each member's distance ||theta_n - mean||_2 of the weights (buffers excluded).

        Args:
            mean: (D,), the mean of the whole population.

        Returns:
            For each member here, ``distance``, and ``layer/NAME`` within each parameter tensor.
        """
        sizes = [piece.size for piece in self.layout.slices]
        names = ["distance", *(f"layer/{piece.name}" for piece in self.layout.slices)]
        result = []
        for weights in self.weights:  # one by one: all differences would double the memory
            squares = (weights - mean).square_()
            sums = torch.stack([squares.sum(), *(part.sum() for part in squares.split(sizes))])
            result.append(dict(zip(names, sums.sqrt().tolist(), strict=True)))
        return result

    def with_rows(self, weights: Tensor, buffers: Tensor, counters: Tensor) -> Population:
        """A population of gathered rows, for evaluation; its modules stay bound to those here."""
        other = copy.copy(self)
        other.weights, other.buffers, other.counters = weights, buffers, counters
        other.members = range(len(weights))
        return other

    def consensus(self) -> dict[str, float]:
        """Distance to consensus of a population that this process holds as a whole."""
        mean = self.weights.mean(dim=0)
        return consensus(self.distances(mean), mean.norm().item())


def zero_rows(
    n: int, size: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(n, size) zeros whose rows begin at multiples of ``ROW_ALIGNMENT`` values."""
    stride = math.ceil(size / ROW_ALIGNMENT) * ROW_ALIGNMENT
    return torch.zeros(n, stride, dtype=dtype, device=device)[:, :size]


def consensus(distances: Sequence[Mapping[str, float]], mean_norm: float) -> dict[str, float]:
    """The population's distance to consensus, from all members' distances.

    Args:
        distances: of each member, as ``Population.distances`` gives them.
        mean_norm: the norm of the population's mean.

    Returns:
        ``distance`` is (1/N) sum_n ||theta_n - mean||_2, ``relative`` the same over ||mean||_2,
        and ``layer/NAME`` the distance within one parameter tensor.
    """
    result = {key: sum(row[key] for row in distances) / len(distances) for key in distances[0]}
    result["relative"] = result["distance"] / mean_norm if mean_norm else math.nan
    return result


def named_views(
    layout: Layout, state: ModelState, channels_last: bool
) -> Iterator[tuple[str, Tensor]]:
    """The names of a state's tensors with views into its vectors, in the tensors' own shapes."""
    for piece in layout.slices:
        yield piece.name, view_of(state.weights, piece, channels_last)
    for pieces, row in ((layout.buffers, state.buffers), (layout.counters, state.counters)):
        for piece in pieces:
            yield piece.name, view_of(row, piece, False)


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
