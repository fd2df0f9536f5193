"""A population of networks and optimizers that belong to somebody else's training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wash_bench.core.layout import Slice, layout_of
from wash_bench.core.population import Population, bind, view_of, zero_rows
from wash_bench.errors import UsageError

# Optimizers of torch make their state at their first step and change it in place from then on. So
# a state tensor of a parameter's shape is moved into a row when a method first asks for it, and
# the optimizer is given a view of the row in its place.


class ModulePopulation(Population):
    """Networks as rows, made of modules that exist; their gradients stay their own.

    ``optimizer_state`` and ``optimizer_steps`` are those of the optimizers, read when a method
    asks for them.

    Args:
        modules: that pass ``check_modules``.
        optimizers: one for each.
        members: whose rows they are.
        gather: the values of all processes, in order; each gives a list of its own.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        members: Sequence[int],
        gather: Callable[[Sequence[Any]], list[Any]] = list,
    ) -> None:
        first = modules[0]
        layout = layout_of(first)
        self.device = next(first.parameters()).device
        self.channels_last = is_channels_last(first)
        self.members = tuple(members)
        self.modules = list(modules)
        self._optimizers = optimizers
        self._parameters = [dict(module.named_parameters()) for module in modules]
        self._gather = gather
        n, size = len(modules), layout.size
        self.layout = layout
        self.weights = zero_rows(n, size, self.device)
        self.buffers = zero_rows(n, layout.buffer_size, self.device)
        self.counters = torch.zeros(n, layout.counter_size, dtype=torch.int64, device=self.device)
        self.gradients = torch.zeros(0, size, device=self.device)  # parameters keep their own
        self.member_state = {}
        self._rows: dict[str, Tensor] = {}  # of the optimizers' state
        self._rows_agreed = False
        self._steps: tuple[Tensor, Tensor] | None = None  # as a method has them, and as read
        for row, module in enumerate(modules):
            self.fill(row, {**dict(module.named_parameters()), **dict(module.named_buffers())})
            bind(module, layout, self.state(row), None, self.channels_last)

    def check_bound(self) -> None:
        """Refuse, as a UsageError, networks whose parameters are no longer views of the rows."""
        for weights, parameters in zip(self.weights, self._parameters, strict=True):
            for piece in self.layout.slices:
                place = weights.data_ptr() + piece.offset * weights.element_size()
                if parameters[piece.name].data_ptr() != place:
                    raise UsageError(
                        f"parameter {piece.name!r} of a member has other memory than when the "
                        "coupling was made: move, cast or load with assign=True before that"
                    )

    # The optimizers' state -------------------------------------------------------------------

    @property
    def optimizer_state(self) -> dict[str, Tensor]:
        """Named (N, D) tensors, of which the optimizers' state tensors become views."""
        if "_own_state" in vars(self):
            return self._own_state
        found = [
            (row, piece, state, name)
            for row, piece, state in self._states()
            for name in self._movable(row, piece, state)
        ]
        names = list(dict.fromkeys(name for *_, name in found))
        if not self._rows_agreed:  # a member of another process may have none yet
            each = self._gather([names])
            self._rows_agreed = all(own == each[0] for own in each)
            names = list(dict.fromkeys(name for own in each for name in own))
        for name in names:
            if name not in self._rows:
                self._rows[name] = zero_rows(self.n, self.layout.size, self.device)
        for row, piece, state, name in found:
            view, value = view_of(self._rows[name][row], piece, self.channels_last), state[name]
            if view.data_ptr() != value.data_ptr():
                view.copy_(value)
                state[name] = view
        return self._rows

    @optimizer_state.setter
    def optimizer_state(self, rows: dict[str, Tensor]) -> None:
        self._own_state = rows  # of a copy that a method works on

    @property
    def optimizer_steps(self) -> Tensor:
        """(N,) float32, the steps that the optimizers have counted; 0 where none counts."""
        if "_own_steps" in vars(self):
            return self._own_steps
        if self._steps is None:
            steps = torch.zeros(self.n, device=self.device)
            for row, _, state in self._states():
                steps[row] = max(float(steps[row]), float(state.get("step", 0)))
            self._steps = steps, steps.clone()
        return self._steps[0]

    @optimizer_steps.setter
    def optimizer_steps(self, steps: Tensor) -> None:
        self._own_steps = steps

    def write_back(self) -> None:
        """Give the optimizers the steps, and members without a state theirs, that a method set."""
        if self._rows:
            self._begin_states()
        if self._steps is None:
            return
        (steps, before), self._steps = self._steps, None
        changed = (steps != before).tolist()
        for row, _, state in self._states():
            count = state.get("step")
            if changed[row] and isinstance(count, Tensor):
                count.fill_(steps[row])
            elif changed[row] and count is not None:
                state["step"] = type(count)(steps[row].item())

    def _begin_states(self) -> None:
        """Make the state of optimizers that have taken no step, where others have."""
        begun = {(row, piece.name): state for row, piece, state in self._states()}
        for piece in self.layout.slices:
            states = [begun.get((row, piece.name)) for row in range(self.n)]
            like = next((state for state in states if state), None)
            for row in range(self.n):
                if states[row] or not any(rows[row, piece.offset : piece.stop].any()
                                          for rows in self._rows.values()):  # fmt: skip
                    continue
                if like is None:
                    raise UsageError(
                        "the optimizer of a member has taken no step: with distributed=True train "
                        "all members from the first step on"
                    )
                self._optimizers[row].state[self._parameters[row][piece.name]] = {
                    name: view_of(self._rows[name][row], piece, self.channels_last)
                    if name in self._rows
                    else value.clone()
                    if isinstance(value, Tensor)
                    else value
                    for name, value in like.items()
                }

    def _states(self) -> Iterator[tuple[int, Slice, dict[str, Any]]]:
        """The state that each optimizer keeps of each parameter, where there is one."""
        for row, (optimizer, own) in enumerate(
            zip(self._optimizers, self._parameters, strict=True)
        ):
            for piece in self.layout.slices:
                if state := optimizer.state.get(own[piece.name]):
                    yield row, piece, state

    def _movable(self, row: int, piece: Slice, state: dict[str, Any]) -> Iterator[str]:
        """The names of a parameter's state tensors of its own shape; UsageError if of another."""
        for name, value in state.items():
            if not isinstance(value, Tensor) or name == "step":
                continue
            if value.shape == piece.shape and value.dtype == torch.float32:
                yield name
            elif value.numel() > 1:
                kind = type(self._optimizers[row]).__name__
                raise UsageError(
                    f"{kind} keeps {name!r} of shape {tuple(value.shape)} and {value.dtype} for "
                    f"parameter {piece.name!r} of shape {piece.shape}, which a method cannot move "
                    "between members: choose an optimizer with float32 state of the parameters' "
                    "shape, or a method that leaves it alone"
                )


def check_alike(modules: Sequence[nn.Module]) -> None:
    """Refuse, as a UsageError, networks that cannot be the rows of one tensor."""
    if not modules:
        raise UsageError("give at least one network")
    layout = layout_of(modules[0])
    if not layout.slices:
        raise UsageError("the networks have no parameters")
    device = next(modules[0].parameters()).device
    for member, module in enumerate(modules):
        if layout_of(module) != layout:
            raise UsageError(f"network {member} has other parameters than network 0")
        for name, parameter in module.named_parameters():
            if parameter.dtype != torch.float32 or parameter.device != device:
                raise UsageError(
                    f"parameter {name!r} of network {member} is {parameter.dtype} on "
                    f"{parameter.device}: all are to be float32 on one device (mixed precision by "
                    "autocast)"
                )


def check_modules(
    modules: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Refuse, as a UsageError, networks and optimizers that are no population."""
    if not modules or len(modules) != len(optimizers):
        raise UsageError(f"{len(modules)} networks and {len(optimizers)} optimizers: give one each")
    if len({id(module) for module in modules}) < len(modules):
        raise UsageError("one network is given twice: make each with a copy.deepcopy of its own")
    check_alike(modules)
    owner: dict[int, int] = {}
    for member, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise UsageError(f"optimizer {member} is a {type(optimizer).__name__}, not torch's")
        for name, parameter in module.named_parameters():
            if owner.setdefault(id(parameter), member) != member:
                raise UsageError(f"networks {owner[id(parameter)]} and {member} share {name!r}")
        held = [id(p) for group in optimizer.param_groups for p in group["params"]]
        if any(owner.get(parameter) != member for parameter in held):
            raise UsageError(f"optimizer {member} updates parameters of another network")


def is_channels_last(module: nn.Module) -> bool:
    """Whether a network's convolutions are stored channels-last."""
    return any(
        parameter.ndim == 4
        and parameter.is_contiguous(memory_format=torch.channels_last)
        and not parameter.is_contiguous()
        for parameter in module.parameters()
    )
