"""Methods that break one rule each, in a module that other processes can import."""

from __future__ import annotations

from tests.support.broken_method_state import (
    Dice,
    FixedSeed,
    FixedTorchSeed,
    Forgets,
    ForgetsTheMerge,
    GlobalDraw,
    GlobalNumpy,
    HiddenCount,
    KeepsNumbers,
    Lonely,
    Looks,
    NoModel,
    OwnMemory,
    Peeks,
    Spoils,
    Unbound,
)
from tests.support.valid_method import Sound
from wash_bench.core.ledger import charge_mean
from wash_bench.core.method import Method, MethodOptions, option
from wash_bench.core.wrapper import MergeRule, Wrapper
from wash_bench.methods.ema import Ema
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.methods.wash import Wash, WashOptions


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
