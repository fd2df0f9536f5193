"""The one training loop that all methods share.

All members in lockstep: each takes one optimizer step on its own batch, then the method couples
them. Data, order, augmentation, learning rate and evaluation are the loop's; a method cannot
change them except by the recipe of a member, by whose order of the data it follows, and by the
members that are active.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wash_bench.config import TrainingConfig
from wash_bench.core.branches import recipe_of
from wash_bench.core.exchange import Exchange
from wash_bench.core.method import Method
from wash_bench.core.population import Population
from wash_bench.core.step_info import Schedule, StepInfo
from wash_bench.data.recipe import Recipe
from wash_bench.data.source import Batch, DataSource
from wash_bench.distributed.world import LocalWorld, World
from wash_bench.errors import CellFailure
from wash_bench.train.engines import make_engine
from wash_bench.train.probe import LEADER

CHECK_EVERY = 50  # steps between looks at the losses: a look makes a GPU wait


@dataclass
class Pulse:
    """What the loop tells while it runs: losses (N,) are means over the epoch so far."""

    clock: StepInfo
    losses: Tensor


class Loop:
    """Trains one population under one method.

    Args:
        config: the settings of the training.
        method: the training rule.
        population: this process's members, at their initial or resumed state.
        exchange: the collectives, with the ledger.
        data: batches.
        recipes: base recipe of each member.
        seed: the run's seed.
        schedule: learning rates by step.
        world: the processes that hold the population together.
    """

    def __init__(
        self,
        config: TrainingConfig,
        method: Method,
        population: Population,
        exchange: Exchange,
        data: DataSource,
        recipes: list[Recipe],
        seed: int,
        schedule: Schedule,
        world: World | None = None,
    ) -> None:
        self.config = config
        self.method = method
        self.population = population
        self.exchange = exchange
        self.data = data
        self.recipes = recipes
        self.seed = seed
        self.schedule = schedule
        self.world = world or LocalWorld()
        self.engine = make_engine(population, config, seed)
        self.train_seconds = 0.0
        self.losses = torch.full((schedule.steps_per_epoch, population.n), torch.nan)
        self.losses = self.losses.to(population.device)
        self.resumed = 0  # steps of the next epoch that are done, with their ``losses``
        self._active_rows = population.n

    def epoch(
        self,
        epoch: int,
        pulse: Callable[[Pulse], None],
        between: Callable[[StepInfo], None] = lambda clock: None,
    ) -> Tensor:
        """Train one epoch, or what is left of it after its first ``resumed`` steps.

        A member whose loss, or whose weights at the end, are not finite is named in a CellFailure.

        Args:
            epoch: from 0.
            pulse: is called with the losses so far, now and then.
            between: is called after each step but the last, once the members are coupled; it may
                save, or raise to stop.

        Returns:
            The mean losses of this process's members, in the order of their rows, NaN for inactive
            members.
        """
        population, schedule, losses = self.population, self.schedule, self.losses
        done, self.resumed = self.resumed, 0
        first = schedule.clock(epoch * schedule.steps_per_epoch)
        self.engine.begin_epoch(epoch, resumed=done > 0)
        active = self.method.active(self.exchange.n, first)
        # Invariants of a step, which every method may rely on: all active members have taken their
        # optimizer step before the method couples them; a batch depends on (seed, member, epoch,
        # step) alone, never on the method, the process or what came before; and nothing reads a
        # global random generator. Hence resumed, spread and repeated trainings give the same bits.
        # Active members come first, so the active rows do too.
        streams = [
            self._batches(member, first, done) for member in population.members if member < active
        ]
        self._active_rows = len(streams)
        losses[done:] = torch.nan
        for offset in range(done, schedule.steps_per_epoch):
            began = time.monotonic()
            clock = schedule.clock(first.step + offset)
            self.engine.steps(streams, clock, losses[offset, : len(streams)])
            self.method.after_step(population, self.exchange, clock)
            if (offset + 1) % CHECK_EVERY == 0:
                self.check(clock)
                pulse(Pulse(clock, losses[: offset + 1].mean(dim=0)))
            self.train_seconds += time.monotonic() - began
            if not clock.epoch_end:
                between(clock)
        began = time.monotonic()
        self.check(schedule.clock(first.step + schedule.steps_per_epoch - 1))
        self._check_weights(epoch)
        self.train_seconds += time.monotonic() - began
        return losses.mean(dim=0)

    def _batches(self, member: int, clock: StepInfo, first: int = 0) -> Iterator[Batch]:
        member = LEADER if self.engine.probe.probing else member
        branches = self.config.branches
        recipe = recipe_of(self.method, member, self.recipes[member], branches, clock)
        return self.data.epoch_batches(
            self.seed,
            member,
            clock.epoch,
            self.config.batch_size,
            recipe,
            order_member=self.method.order(member, clock),
            first=first,
        )

    def check(self, clock: StepInfo) -> None:
        """Name the first active member whose loss was not finite up to now in this epoch."""
        losses = self.losses[: clock.step_in_epoch + 1, : self._active_rows]
        first_step = clock.step - clock.step_in_epoch
        # A method may have spread it to the others since. All processes find the same.
        bad = (~torch.isfinite(losses)).nonzero()
        found = []
        if len(bad):
            offset, row = bad[0].tolist()
            found = [(first_step + offset, self.population.members[row])]
        found = self.world.all_gather(found)
        if found:
            step, member = min(found)
            raise CellFailure(
                f"the loss of member {member} is not finite at step {step} "
                f"(epoch {step // self.schedule.steps_per_epoch + 1}); {self._advice()}"
            )

    def _check_weights(self, epoch: int) -> None:
        """Name the first member whose weights are not finite."""
        # No loss tells of the last step, or of weights that only meet a convolution's padding (on
        # CPUs, torch's bfloat16 kernels leave the gradient of such weights unset).
        bad = [
            member
            for member, row in zip(self.population.members, self.population.weights, strict=True)
            if not row.isfinite().all()
        ]
        if bad := self.world.all_gather(bad):
            raise CellFailure(
                f"the weights of member {bad[0]} are not finite at the end of epoch {epoch + 1}; "
                f"{self._advice()}"
            )

    def _advice(self) -> str:
        return "lower --lr" if self.config.amp == "off" else "lower --lr, or try --amp off"
