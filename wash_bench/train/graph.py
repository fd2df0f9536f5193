"""Steps captured once as CUDA graphs and replayed: one launch instead of several hundred.

A small network's step is bound by the launches of its kernels, not by their work. Forward pass,
backward pass and the optimizer's update of a member read and write nothing but its rows and a
static batch, so that they can be recorded as one graph. Members whose graphs fit side by side into
the memory run on streams of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wash_bench.core.population import view_of
from wash_bench.core.step_info import StepInfo
from wash_bench.data.source import Batch
from wash_bench.errors import UsageError, one_line
from wash_bench.train.engine import Engine
from wash_bench.train.loss import MemberLoss

if TYPE_CHECKING:
    from wash_bench.config import TrainingConfig
    from wash_bench.core.population import Population

WARM_UP = 2
"""Eager steps of a member on batches of one form before a graph is captured: kernels are chosen
and libraries set up in them. They are steps of the training as all others."""
FREE_SHARE = 0.5  # of the free memory that graphs side by side may take

Form = tuple[torch.Size, torch.Size, torch.dtype]  # of images and targets


@dataclass
class Captured:
    """A graph with the batch that it reads."""

    graph: torch.cuda.CUDAGraph
    batch: Batch


class GraphEngine(Engine):
    """Graphs for every member and form of a batch; eager while probing.

    Members run side by side if their graphs fit into memory and their networks draw no random
    numbers: the generator's state is one for the whole device.

    Args:
        population: this process's members on a CUDA device, with gradient rows of their own.
        config: the settings of the training.
        seed: the run's seed.
        loss: how the loss of a batch is computed.
    """

    def __init__(
        self,
        population: Population,
        config: TrainingConfig,
        seed: int,
        loss: MemberLoss | None = None,
    ) -> None:
        super().__init__(population, config, seed, loss)
        device = population.device
        # A rate that lies on the device can be changed between replays.
        self._rates = [torch.zeros((), device=device) for _ in range(population.n)]
        self._losses = torch.zeros(population.n, device=device)
        self._seen: dict[tuple[int, Form], int] = {}
        self._captured: dict[tuple[int, Form], Captured] = {}
        self._streams = [torch.cuda.Stream(device) for _ in range(population.n)]
        self._pools = [torch.cuda.graph_pool_handle() for _ in range(population.n)]
        self._parameters = [_trained(population, row) for row in range(population.n)]
        self.side_by_side: bool | None = None  # not known before the first capture
        self._draws = False
        self._whole = config.amp != "fp16"  # a loss scale's update is decided on the host

    def steps(self, streams: Sequence[Iterator[Batch]], clock: StepInfo, losses: Tensor) -> None:
        if self.probe.probing:
            super().steps(streams, clock, losses)
            return
        main = torch.cuda.current_stream(self.population.device)
        previous: torch.cuda.Stream | None = None
        for row, batches in enumerate(streams):
            batch = next(batches)
            self._rates[row].fill_(self.optimizer.rate(row, clock.lr))
            captured = self._graph_for(row, batch)
            self.seed_forward(row, clock)
            if captured is None:
                self._step(row, batch)
                self._notice_draws()
                continue
            # On the main stream: what else reads the batch's memory would have to be told of.
            captured.batch.images.copy_(batch.images)
            captured.batch.targets.copy_(batch.targets)
            # A stream each even in turn: changing graphs on one stream costs more than a step.
            stream = self._streams[row]
            stream.wait_stream(main)
            if previous and not self.side_by_side:
                stream.wait_stream(previous)
            with torch.cuda.stream(stream):
                captured.graph.replay()
                if not self._whole:
                    self.update(row, self._rates[row])
            previous = stream
        for stream in self._streams:
            main.wait_stream(stream)
        losses.copy_(self._losses[: len(streams)])

    def write_gradient(self, row: int, loss: Tensor, *, add: bool) -> None:
        if self.probe.probing:
            super().write_gradient(row, loss, add=add)
            return
        # Gradients written by one kernel, not added to the row by one a tensor.
        weights, rows = self._parameters[row]
        found = list(torch.autograd.grad(loss, weights, materialize_grads=True))
        write = torch._foreach_add_ if add else torch._foreach_copy_  # pyright: ignore[reportPrivateImportUsage]
        write(rows, found)

    def _step(self, row: int, batch: Batch) -> None:
        """What a graph holds, and, where it does not hold it, the update."""
        self._losses[row].copy_(self.differentiate(row, batch))
        self.update(row, self._rates[row])

    def _notice_draws(self) -> None:
        # The seeding before the step set the offset of the generator's counter to 0.
        state = torch.cuda.get_rng_state(self.population.device)
        self._draws |= bool(state[8:].any())

    def _graph_for(self, row: int, batch: Batch) -> Captured | None:
        """The graph of a member for batches of this form; None while there is none."""
        form = (batch.images.shape, batch.targets.shape, batch.targets.dtype)
        key = (row, form)
        if key not in self._captured:
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._seen[key] > WARM_UP:
                try:
                    self._captured[key] = self._capture(row, batch)
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError as error:
                    # The device's generator is not whole after a capture that failed.
                    raise UsageError(
                        f"the step cannot be captured as a CUDA graph ({one_line(error)}): "
                        "leave --engine graph out"
                    ) from error
        return self._captured.get(key)

    def _capture(self, row: int, batch: Batch) -> Captured:
        static = Batch(batch.images.clone(), batch.targets.clone())
        graph = torch.cuda.CUDAGraph()
        pool = self._pools[row if self.side_by_side else 0]
        device = self.population.device
        before = torch.cuda.memory_reserved(device)
        capture = torch.cuda.graph(
            graph,
            pool=pool,
            stream=self._streams[row],
            capture_error_mode="thread_local",  # loaders' threads may use the device meanwhile
        )
        with self.optimizer.captured(), capture:
            if self._whole:
                self._step(row, static)
            else:
                self._losses[row].copy_(self.differentiate(row, static))
        if self.side_by_side is None:
            more = (torch.cuda.memory_reserved(device) - before) * (self.population.n - 1)
            fits = more <= FREE_SHARE * torch.cuda.mem_get_info(device)[0]
            self.side_by_side = fits and not self._draws
        return Captured(graph, static)


def _trained(population: Population, row: int) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of a member that have a gradient, and where it is written."""
    named = dict(population.modules[row].named_parameters())
    pieces = [piece for piece in population.layout.slices if named[piece.name].requires_grad]
    gradient = population.gradient_row(row)
    rows = [view_of(gradient, piece, population.channels_last) for piece in pieces]
    return [named[piece.name] for piece in pieces], rows
