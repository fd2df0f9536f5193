"""Methods that break one rule each of randomness, memory, prediction or processes."""

from __future__ import annotations

import numpy as np
import torch

from tests.support.valid_method import Sound
from wash_bench.core.merge_context import Predictor


class FixedSeed(Sound):
    def after_step(self, population, exchange, clock):
        super().after_step(population, exchange, clock)
        chosen = np.random.default_rng(clock.step).choice(population.weights.shape[1], 20)
        population.weights[:, torch.from_numpy(chosen)] *= 0.5


class FixedTorchSeed(Sound):
    def after_step(self, population, exchange, clock):
        super().after_step(population, exchange, clock)
        generator = torch.Generator().manual_seed(clock.step)
        population.weights *= torch.rand(population.weights.shape[1], generator=generator)


class HiddenCount(Sound):
    """The same seed gives other bits in a second training of one process."""

    calls = 0

    def after_step(self, population, exchange, clock):
        super().after_step(population, exchange, clock)
        type(self).calls += 1
        population.weights += 1e-3 * (type(self).calls % 7)


class GlobalDraw(Sound):
    def after_step(self, population, exchange, clock):
        super().after_step(population, exchange, clock)
        population.weights *= torch.rand(population.weights.shape[1])


class GlobalNumpy(Sound):
    def after_step(self, population, exchange, clock):
        super().after_step(population, exchange, clock)
        population.weights *= float(np.random.rand())


class Forgets(Sound):
    """A momentum of the mean that no checkpoint holds."""

    def __init__(self, options=None):
        super().__init__(options)
        self.velocity = 0.0

    def after_step(self, population, exchange, clock):
        super().after_step(population, exchange, clock)
        self.velocity = 0.9 * self.velocity + 0.01
        population.weights += self.velocity


class ForgetsTheMerge(Sound):
    """What only the merge needs is not in the checkpoint."""

    def start(self, population, exchange):
        self.best = population.state(0).clone()

    def predictors(self, population, judge):
        state = getattr(self, "best", None)
        return {"first": Predictor([state], (0,))} if state else {"average": judge.average()}


class KeepsNumbers(Sound):
    def state_dict(self):
        return {"count": 3}


class Spoils(Sound):
    def predictors(self, population, judge):
        judge.members[0].weights.zero_()
        return super().predictors(population, judge)


class Dice(Sound):
    def predictors(self, population, judge):
        state = judge.average().states[0].clone()
        state.weights += torch.rand(state.weights.shape)
        return {"dice": Predictor([state], tuple(range(population.n)))}


class Peeks(Sound):
    def predictors(self, population, judge):
        judge._evaluator.labels("test")
        return super().predictors(population, judge)


class NoModel(Sound):
    def predictors(self, population, judge):
        return {}


class Unbound(Sound):
    def predictors(self, population, judge):
        average = judge.average()
        return {"average": Predictor(average.states, (0, 7))}


class Looks(Sound):
    """Reads the others' rows where they lie: right in one process only, and free of charge."""

    def after_step(self, population, exchange, clock):
        population.weights.lerp_(population.weights.mean(dim=0), 0.2)

    def charges(self, site, clock):
        return []


class OwnMemory(Sound):
    """Shared memory that is not the same in all processes."""

    def __init__(self, options=None):
        super().__init__(options)
        self.first = torch.zeros(1)

    def after_step(self, population, exchange, clock):
        super().after_step(population, exchange, clock)
        self.first = population.weights[0, :1].clone()

    def state_dict(self):
        return {"first": self.first}

    def load_state_dict(self, state):
        self.first = state["first"]


class Lonely(Sound):
    """One process asks for an exchange in which the other takes no part."""

    def after_step(self, population, exchange, clock):
        if 0 in population.members:
            super().after_step(population, exchange, clock)
        else:
            raise ValueError("no member 0 here")
