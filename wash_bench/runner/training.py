"""One training from its first step, or its last checkpoint, to its finished population."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import Method
from wash_bench.core.population import Population
from wash_bench.data.recipe import Recipe
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.metrics import accuracy, nll
from wash_bench.record.events import EventLog
from wash_bench.record.store import TrainingFolder
from wash_bench.runner.progress import Progress
from wash_bench.runner.setting import Setting
from wash_bench.train import checkpoint
from wash_bench.train.loop import Loop, Pulse


class Training:
    """One population, one method, one seed, one folder.

    Args:
        setting: device, data, configuration.
        method: the training rule.
        seed: the run's seed.
        folder: where the records go.
        eval_every: epochs between validations; the last epoch is always validated.
        checkpoint_every: epochs between checkpoints.
        tell: receives progress.
        base: the progress record to fill in.
    """

    def __init__(
        self,
        setting: Setting,
        method: Method,
        seed: int,
        folder: TrainingFolder,
        *,
        eval_every: int,
        checkpoint_every: int,
        tell: Callable[[Progress], None],
        base: Progress,
    ) -> None:
        self.setting = setting
        self.method = method
        self.seed = seed
        self.folder = folder
        self.eval_every = eval_every
        self.checkpoint_every = checkpoint_every
        self.tell = tell
        self.schedule = setting.schedule
        self.population: Population = setting.population(seed)
        self.exchange = LocalExchange(self.population.n, seed)
        self.recipes: list[Recipe] = setting.recipes(seed)
        self.progress = replace(
            base, status="training", steps=self.schedule.steps, epochs=setting.config.epochs
        )
        self._began = time.monotonic()
        self._first_step = 0

    def evaluator(self) -> Evaluator:
        """An evaluator whose re-estimation stream uses the recipes the members end with."""
        last = self.schedule.clock(self.schedule.steps - 1)
        recipes = [
            self.method.recipe(member, recipe, last) for member, recipe in enumerate(self.recipes)
        ]
        return Evaluator(
            self.population, self.setting.data, self.setting.config.amp, self.seed, recipes
        )

    def run(self) -> dict[str, Any]:
        """Train to the end; returns the notes of the final state (ledger, seconds)."""
        loop = Loop(
            self.setting.config,
            self.method,
            self.population,
            self.exchange,
            self.setting.data,
            self.recipes,
            self.seed,
            self.schedule,
        )
        epoch, keep_bytes = self._resume(loop)
        self._first_step = epoch * self.schedule.steps_per_epoch
        self.tell(self.progress)
        events = EventLog(self.folder.events, keep_bytes)
        evaluator = self.evaluator()
        epochs = self.setting.config.epochs
        try:
            while epoch < epochs:
                losses = loop.epoch(epoch, self._pulse)
                epoch += 1
                self._log_epoch(events, epoch, losses.tolist())
                if epoch % self.eval_every == 0 or epoch == epochs:
                    self._validate(events, epoch, evaluator)
                self._pulse(Pulse(self._clock(epoch), losses))
                if epoch % self.checkpoint_every == 0 or epoch == epochs:
                    self._save(loop, epoch, events.flush())
        finally:
            events.close()
        self.folder.checkpoint.replace(self.folder.population)  # the last one is the end state
        return self.notes(loop, epochs, 0)

    def load_finished(self) -> dict[str, Any]:
        """Fill the population from a training that is done; returns its notes."""
        return checkpoint.load(self.folder.population, self.population, self.method)

    def notes(self, loop: Loop, epoch: int, events_bytes: int) -> dict[str, Any]:
        return {
            "epoch": epoch,
            "events_bytes": events_bytes,
            "ledger": self.exchange.ledger.as_dict(),
            "scalers": [scaler and scaler.state_dict() for scaler in loop.scalers],
            "train_seconds": loop.train_seconds,
        }

    def _resume(self, loop: Loop) -> tuple[int, int]:
        """The epoch to go on with and the valid length of the event log."""
        if not self.folder.checkpoint.exists():
            self.method.start(self.population, self.exchange)
            return 0, 0
        notes = checkpoint.load(self.folder.checkpoint, self.population, self.method)
        self.exchange.ledger.load(notes["ledger"])
        loop.train_seconds = notes["train_seconds"]
        for scaler, state in zip(loop.scalers, notes["scalers"], strict=True):
            if scaler is not None:
                scaler.load_state_dict(state)
        return notes["epoch"], notes["events_bytes"]

    def _save(self, loop: Loop, epoch: int, events_bytes: int) -> None:
        notes = self.notes(loop, epoch, events_bytes)
        checkpoint.save(self.folder.checkpoint, self.population, self.method, notes)

    def _clock(self, epoch: int):
        return self.schedule.clock(epoch * self.schedule.steps_per_epoch - 1)

    def _log_epoch(self, events: EventLog, epoch: int, losses: list[float]) -> None:
        clock = self._clock(epoch)
        step = clock.step + 1

        def add(metric: str, value: float, member: int | None = None) -> None:
            events.add(step, epoch, metric, value, member)

        for member, loss in enumerate(losses):
            if loss == loss:  # an inactive member has none
                add("train_loss", loss, member)
        add("lr", clock.lr)
        ledger = self.exchange.ledger
        add("sent_values", ledger.sent_values)
        add("wire_bytes", ledger.wire_bytes)
        if self.method.active(self.population.n, clock) < self.population.n:
            return  # members that have not begun are no part of a consensus
        consensus = self.population.consensus()
        add("consensus_distance", consensus.pop("distance"))
        add("consensus_relative", consensus.pop("relative"))
        for name, value in consensus.items():
            add(f"consensus_{name}", value)

    def _validate(self, events: EventLog, epoch: int, evaluator: Evaluator) -> None:
        clock = self._clock(epoch)
        step = clock.step + 1
        accuracies = []
        active = self.method.active(self.population.n, clock)
        for member, state in enumerate(self.population.states()[:active]):
            log_probs = evaluator.compute(state, "val")
            labels = evaluator.labels("val")
            accuracies.append(accuracy(log_probs, labels))
            events.add(step, epoch, "val_acc", accuracies[-1], member)
            events.add(step, epoch, "val_nll", nll(log_probs, labels), member)
        self.progress = replace(self.progress, val_acc=sum(accuracies) / len(accuracies))

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
        self.tell(self.progress)
