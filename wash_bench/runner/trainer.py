"""One training from its first step, or its last checkpoint, to its finished population."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from wash_bench import stop
from wash_bench.config.values import parse_interval
from wash_bench.core.ledger import CommLedger
from wash_bench.core.population import ModelState, Population, consensus
from wash_bench.core.step_info import StepInfo
from wash_bench.data.recipe import Recipe
from wash_bench.errors import CellFailure, WashBenchError, note
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.online_merge import merged_scores
from wash_bench.evaluate.scores import accuracy, nll
from wash_bench.loggers.contract import LoggedTraining
from wash_bench.loggers.feed import LogFeed
from wash_bench.record.events import EventLog
from wash_bench.record.store import TrainingFolder
from wash_bench.runner.context import RunContext
from wash_bench.runner.task import TrainingTask
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train import checkpoint
from wash_bench.train.loop import Loop, Pulse

ASK_EVERY = 10  # steps between two times that several processes agree on saving and stopping


def notes_of_state(
    events_bytes: int,
    ledger: CommLedger,
    scalers: Sequence[Any] = (),
    train_seconds: float = 0.0,
    ranks: int = 1,
) -> dict[str, Any]:
    """Return what the state of a training says besides its tensors.

    Args:
        events_bytes: length of the event log, bytes.
        ledger: what was sent.
        scalers: state of each member's loss scaling.
        train_seconds: of the loop.
        ranks: processes that share the population.
    """
    return {
        "events_bytes": events_bytes,
        "ledger": ledger.as_dict(),
        "scalers": list(scalers),
        "train_seconds": train_seconds,
        "ranks": ranks,
    }


class Trainer:
    """The training of one task: one population, its first cell's method, one seed, one folder."""

    def __init__(
        self,
        task: TrainingTask,
        setting: TrainingSetup,
        folder: TrainingFolder,
        context: RunContext,
    ) -> None:
        self.setting = setting = setting.but(task.training).for_seed(task.seed)
        self.method = task.new_method()
        self.seed = task.seed
        self.folder = folder
        self.world = context.world
        self.n = setting.config.population
        self.eval_every = task.config.eval_every
        self.merge_every = task.config.merge_every
        self._bn_images = task.config.evaluation.bn_images
        self._checkpoint_every = parse_interval(task.config.checkpoint_every)
        self.observer = context.observer
        self._log = context.log
        self._about = LoggedTraining(
            folder.path.name,
            task.cells[0].experiment_id,
            folder.path,
            task.cells[0].record(task.trained_config, self.method.settings()),
        )
        self.schedule = setting.schedule
        self.population: Population = setting.population(self.seed, self.world.members(self.n))
        self.population.remember(self.method.member_slots())
        self.exchange = self.world.exchange(self.n, self.seed)
        self.recipes: list[Recipe] = setting.recipes(self.seed)
        self.progress = task.progress(
            "training", steps=self.schedule.steps, epochs=setting.config.epochs
        )
        self.notes: dict[str, Any] = {}
        self._began = self._saved = time.monotonic()
        self._losses: Tensor | None = None  # of an epoch that was stopped in its middle
        self._first_step = 0

    def notify(self, text: str) -> None:
        """Print what is no failure, at rank 0."""
        if self.world.rank == 0:
            note(text)

    def evaluator(self, population: Population | None = None) -> Evaluator:
        """An evaluator of a population's states, by default of this process's own."""
        # Its re-estimation stream uses the members' base recipes, so that it is the same for every
        # method, whatever augmentation a method trains with.
        return Evaluator(
            population or self.population,
            self.setting.data,
            self.setting.config.amp,
            self.seed,
            self.recipes,
        )

    def initial(self) -> ModelState:
        """The weights that all members started from, where the start is a common one."""
        return self.setting.population(self.seed, [0]).state(0)

    def whole(self) -> Population | None:
        """The whole population as the method wants it measured, at rank 0; None elsewhere."""
        here = self.population
        weights, buffers, counters = (
            self.world.gather_to_main(held, self.n)
            for held in (here.weights, here.buffers, here.counters)
        )
        memory = {
            name: self.world.gather_to_main(held, self.n)
            for name, held in here.member_state.items()
        }
        if weights is None or buffers is None or counters is None:
            return None
        whole = here.with_rows(weights, buffers, counters)
        whole.member_state = {name: rows for name, rows in memory.items() if rows is not None}
        return self.method.evaluated(whole)

    def run(self, found: Mapping[str, Any] | None, until: int | None = None) -> None:
        """Train from the state that the pointer names to the end.

        Args:
            found: what the pointer says; None for a start.
            until: epochs after which to stop, though the schedule goes on; None for the end.

        Raises:
            CellFailure: the method replaced the population's tensors.
            KeyboardInterrupt: a signal asked to stop, and the state is saved.
        """
        loop = Loop(
            self.setting.config,
            self.method,
            self.population,
            self.exchange,
            self.setting.data,
            self.recipes,
            self.seed,
            self.schedule,
            self.world,
        )
        if self.setting.dead.count:
            self.exchange.ledger.dead = self.setting.dead.mask
        epoch, keep_bytes = self._resume(loop, found)
        self._first_step = epoch * self.schedule.steps_per_epoch + loop.resumed
        self.observer(self.progress)
        events = EventLog(None if self.world.rank else self.folder.events, keep_bytes, self.notify)
        feed = LogFeed(
            () if self.world.rank else self._log, self._about, self.folder.events, self.notify
        )
        evaluator = self.evaluator()
        epochs = self.setting.config.epochs
        rows = self._rows()

        due = False

        def between(clock: StepInfo) -> None:
            nonlocal due
            stopped = self._is_stopped(clock)
            due = self._save_is_due(clock) or due or stopped
            if due and self.method.at_rest():
                due = False
                loop.check(clock)
                self._save(loop, clock.epoch, events.flush(), clock.step_in_epoch + 1)
                if stopped:
                    raise KeyboardInterrupt

        try:
            while epoch < (until or epochs):
                losses = loop.epoch(epoch, self._pulse, between)
                if any(now is not before for now, before in zip(self._rows(), rows, strict=True)):
                    raise CellFailure(
                        f"{self.method.name} puts other tensors in the place of the population's, "
                        "which nobody trains: write into them, as population.weights[:] = ..."
                    )
                epoch += 1
                self._log_epoch(events, epoch, losses.tolist())
                if epoch % self.eval_every == 0 or epoch == epochs:
                    self._validate(events, epoch, evaluator)
                if self.merge_every and (epoch % self.merge_every == 0 or epoch == epochs):
                    self._merge(events, epoch)
                if feed:
                    events.flush()
                    feed.send()
                clock = self._clock(epoch)
                self._pulse(Pulse(clock, losses))
                stopped = self._is_stopped(clock)
                if self._save_is_due(clock) or stopped or epoch == epochs:
                    self._save(loop, epoch, events.flush())
                if stopped:
                    raise KeyboardInterrupt
        finally:
            events.close()
            feed.close()

    def _is_stopped(self, clock: StepInfo) -> bool:
        """Whether a signal asks to stop; all processes find the same at the same step."""
        if self.world.ranks == 1:
            return stop.requested() > 0
        return self._ranks_agree(clock) and any(self.world.all_gather([stop.requested() > 0]))

    def _save_is_due(self, clock: StepInfo) -> bool:
        number, unit = self._checkpoint_every
        if unit == "epochs":
            return clock.epoch_end and (clock.epoch + 1) % number == 0
        if unit == "steps":
            return (clock.step + 1) % number == 0
        due = time.monotonic() - self._saved >= 60 * number
        return self._ranks_agree(clock) and self.world.broadcast_object(due)

    def _ranks_agree(self, clock: StepInfo) -> bool:
        """Whether this is a step at which the processes ask one another."""
        return self.world.ranks == 1 or clock.epoch_end or (clock.step + 1) % ASK_EVERY == 0

    def _rows(self) -> list[Tensor]:
        here = self.population
        return [here.weights, here.buffers, here.counters]

    def load_finished(self, found: Mapping[str, Any]) -> None:
        """Fill the population from the state of a training that is done.

        Raises:
            WashBenchError: a file of it is damaged.
        """
        if damage := self._load(found):
            raise WashBenchError(
                f"{damage}; remove {self.folder.path} and run the same command again, which "
                "trains it anew"
            )
        self.take_notes(found["notes"])

    def take_notes(self, notes: Mapping[str, Any]) -> None:
        """Take what a state says besides its tensors."""
        self.notes = dict(notes)
        self.exchange.ledger.load(notes["ledger"])

    def _load(self, found: Mapping[str, Any]) -> str:
        """Take a state; what is damaged about it, in whatever process, or "" if it is taken."""
        failures = []
        try:
            self._losses = checkpoint.load(self.folder.path, found, self.population, self.method)
        except checkpoint.Damaged as failure:
            failures = [str(failure)]
        return next(iter(self.world.all_gather(failures)), "")

    def _resume(self, loop: Loop, found: Mapping[str, Any] | None) -> tuple[int, int]:
        """The epoch to go on with and the valid length of the event log."""
        if found is None:
            self.method.start(self.population, self.exchange)
            return 0, 0
        state = found
        if damage := self._load(state):
            state = found.get("previous")
            if state is None or self._load(state):
                raise checkpoint.Damaged(damage)
            self.notify(f"{damage}; goes on from epoch {state['epoch']}, the state before it")
        notes = state["notes"]
        try:
            self.take_notes(notes)
            loop.train_seconds = notes["train_seconds"]
            if self._losses is not None:
                loop.resumed = len(self._losses)
                loop.losses[: loop.resumed] = self._losses
            for member, scaler in zip(self.population.members, loop.engine.scalers, strict=True):
                if scaler is not None:
                    scaler.load_state_dict(notes["scalers"][member])
            return state["epoch"], notes["events_bytes"]
        except (AttributeError, KeyError, TypeError) as error:
            path = self.folder.path / "state.json"
            raise checkpoint.Damaged(f"{path}: its notes are not of its form") from error

    def _save(self, loop: Loop, epoch: int, events_bytes: int, steps: int = 0) -> None:
        """Write the state after ``epoch`` epochs and so many steps of the next."""
        self._saved = time.monotonic()
        scalers = [scaler and scaler.state_dict() for scaler in loop.engine.scalers]
        self.notes = notes_of_state(
            events_bytes,
            self.exchange.ledger,
            self.world.all_gather(scalers),
            loop.train_seconds,
            self.world.ranks,
        )
        checkpoint.save(
            self.folder.path,
            self.population,
            self.method,
            self.world,
            epoch=epoch,
            finished=epoch == self.setting.config.epochs,
            notes=self.notes,
            losses=loop.losses[:steps] if steps else None,
        )

    def _clock(self, epoch: int) -> StepInfo:
        return self.schedule.clock(epoch * self.schedule.steps_per_epoch - 1)

    def _log_epoch(self, events: EventLog, epoch: int, losses: list[float]) -> None:
        clock = self._clock(epoch)
        step = clock.step + 1

        def add(metric: str, value: float, member: int | None = None) -> None:
            events.add(step, epoch, metric, value, member)

        for member, loss in enumerate(self.world.all_gather(losses)):
            if loss == loss:  # an inactive member has none
                add("train_loss", loss, member)
        add("lr", clock.lr)
        ledger = self.exchange.ledger
        add("sent_values", ledger.sent_values)
        add("sent_bytes", ledger.sent_bytes)
        add("wire_bytes", ledger.wire_bytes)
        if self.method.active(self.n, clock) < self.n:
            return  # members that have not begun are no part of a consensus
        if self.n == 1:
            return
        mean = self.world.all_reduce_mean(self.population.weights, self.n)
        distances = self.world.all_gather(self.population.distances(mean))
        for name, value in consensus(distances, mean.norm().item()).items():
            add(f"consensus_{name}", value)

    def _validate(self, events: EventLog, epoch: int, evaluator: Evaluator) -> None:
        clock = self._clock(epoch)
        step = clock.step + 1
        active = self.method.active(self.n, clock)
        results = []
        for member, state in zip(self.population.members, self.population.states(), strict=True):
            if member < active:
                log_probs, labels = evaluator.compute(state, "val"), evaluator.labels("val")
                results.append((accuracy(log_probs, labels), nll(log_probs, labels)))
        results = self.world.all_gather(results)
        for member, (right, loss) in enumerate(results):
            events.add(step, epoch, "val_acc", right, member)
            events.add(step, epoch, "val_nll", loss, member)
        self.progress = replace(self.progress, val_acc=sum(r for r, _ in results) / len(results))

    def _merge(self, events: EventLog, epoch: int) -> None:
        """Log what the members, as the method wants them measured, would merge to by now."""
        if (whole := self.whole()) is None:
            return  # rank 0 has them
        clock = self._clock(epoch)
        members = whole.states()[: self.method.active(self.n, clock)]
        scores = merged_scores(self.evaluator(whole), members, self._bn_images)
        for name, value in scores.items():
            events.add(clock.step + 1, epoch, name, value)

    def _pulse(self, pulse: Pulse) -> None:
        done = pulse.clock.step + 1
        spent = time.monotonic() - self._began
        fresh = done - self._first_step
        losses = pulse.losses[~pulse.losses.isnan()]
        self.progress = replace(
            self.progress,
            step=done,
            epoch=done / self.schedule.steps_per_epoch,
            loss=losses.mean().item() if len(losses) else None,
            sent_bytes=self.exchange.ledger.sent_bytes,
            seconds_left=spent / fresh * (self.schedule.steps - done) if fresh else None,
        )
        self.observer(self.progress)
