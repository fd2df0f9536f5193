"""Methods that break one rule each, in a module that other processes can import."""

from __future__ import annotations

import numpy as np
import torch

from wash_bench.core.judge import Predictor
from wash_bench.core.ledger import charge_mean
from wash_bench.core.method import Method, MethodOptions, option
from wash_bench.core.wrapper import MergeRule, Wrapper
from wash_bench.methods.ema import Ema
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.methods.wash import Wash, WashOptions


class Sound(Method):
    """Members pulled to their mean: nothing is wrong with it."""

    name = "sound"
    rule = paper = sends = "for tests"

    def after_step(self, population, exchange, clock):
        for rows, content in ((population.weights, "weights"), (population.buffers, "buffers")):
            rows.lerp_(exchange.mean(rows, content), 0.2)

    def charges(self, site, clock):
        layout = site.layout
        return [
            charge_mean(site.n, layout.size),
            charge_mean(site.n, layout.buffer_size, "buffers"),
        ]

    def predictors(self, population, judge):
        return {"average": judge.average()}


class Uncharged(Method):
    """The same without charges: nothing is wrong with it either."""

    name = "uncharged"
    rule = paper = sends = "for tests"
    after_step = Sound.after_step


class WideDefault(Sound):
    class Options(MethodOptions):
        pull: float = option(2.0, "share", ge=0, le=1)


class NobodyTrains(Sound):
    def active(self, n, clock):
        return n if clock.epoch else 0


class StrangeRecipe(Sound):
    def recipe(self, member, base, clock):
        return None


class SecretTraining(NaiveEnsemble):
    name = "secret"

    def after_step(self, population, exchange, clock):
        population.weights *= 0.9


class MergeThatTrains(MergeRule):
    name = "trains"
    rule = paper = sends = "for tests"

    def after_step(self, population, exchange, clock):
        population.weights *= 0.9

    def merge(self, population, judge):
        return judge.average()


class Rebinds(Sound):
    def after_step(self, population, exchange, clock):
        population.weights = population.weights * 0.9 + 0.1 * exchange.mean(population.weights)

    def charges(self, site, clock):
        return [charge_mean(site.n, site.layout.size)]


class DividesByOthers(Sound):
    def after_step(self, population, exchange, clock):
        super().after_step(population, exchange, clock)
        population.weights.div_(min(1, exchange.n - 1))


class Numbers(Sound):
    def after_step(self, population, exchange, clock):
        super().after_step(population, exchange, clock)
        for row, member in enumerate(population.members):
            population.weights[row] += 0.01 * member


class Counts(Sound):
    def after_step(self, population, exchange, clock):
        super().after_step(population, exchange, clock)
        for row, member in enumerate(population.members):
            population.counters[row] += member


class Extrapolates(Sound):
    def after_step(self, population, exchange, clock):
        super().after_step(population, exchange, clock)
        population.buffers -= 0.5


class ForgetsBuffers(Sound):
    def charges(self, site, clock):
        return [charge_mean(site.n, site.layout.size)]


class ForgetsTheLast(Sound):
    def charges(self, site, clock):
        return [] if clock.last else super().charges(site, clock)


class CheapWash(Wash):
    """Charges a third of what it sends on average."""

    def __init__(self, options=None):
        super().__init__(WashOptions(p=0.3))

    def charges(self, site, clock):
        return Wash(WashOptions(p=0.1)).charges(site, clock)


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


class Silences(Wrapper):
    name = "silences"
    rule = paper = sends = "for tests"

    def after_step(self, population, exchange, clock):
        """The method inside is not called."""

    def charges(self, site, clock):
        return []


class StartsNobody(Wrapper):
    name = "starts-nobody"
    rule = paper = sends = "for tests"

    def start(self, population, exchange):
        """The method inside is not started."""


class LosesMemory(Ema):
    name = "loses-memory"

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


BROKEN = {  # check: (method, words of the reason)
    "options": [(WideDefault, "default of pull")],
    "hooks": [(NobodyTrains, "active(5, clock) is 0"), (StrangeRecipe, "recipe gives None")],
    "training key": [
        (SecretTraining, "training_key is that of independent members, but weights"),
        (MergeThatTrains, "a merge rule that defines after_step"),
    ],
    "population sizes": [
        (Rebinds, "the rows are other tensors"),
        (DividesByOthers, "of 1 members is not finite"),
    ],
    "equal members": [(Numbers, "end with different weights")],
    "buffers": [(Counts, "num_batches_tracked ends as"), (Extrapolates, "is not positive")],
    "bytes": [
        (ForgetsBuffers, "mean of buffers with 2 members: sent"),
        (ForgetsTheLast, "in 40 exchanges, charges say"),
        (CheapWash, "more than 5 deviations"),
    ],
    "seeds": [
        (FixedSeed, "another seed gives the same bits"),
        (FixedTorchSeed, "another seed gives the same bits"),
        (HiddenCount, "the same seed twice"),
    ],
    "global generators": [(GlobalDraw, "weights depends on"), (GlobalNumpy, "weights depends on")],
    "resume": [
        (Forgets, "killed after epoch 1, weights"),
        (ForgetsTheMerge, "predictor 'first' differs when"),
        (KeepsNumbers, "state_dict cannot be saved"),
    ],
    "predictors": [
        (Spoils, "predictors changes the population's weights"),
        (Dice, "'dice' differs when it is made again"),
        (Peeks, "reads test data"),
        (NoModel, "gives no model"),
        (Unbound, "made of members (0, 7)"),
    ],
    "two processes": [
        (Looks, "weights comes out differently in two processes"),
        (OwnMemory, "state_dict first differs between the processes"),
        (Lonely, "ValueError: no member 0 here"),
    ],
}
AROUND = [
    (Silences, "after_step of the method inside is called after 0 of 40"),
    (StartsNobody, "is called 0 times"),
    (LosesMemory, "memory of the method inside is lost: centre"),
]
