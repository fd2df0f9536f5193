"""A loop of a configuration, as a training would make it."""

from __future__ import annotations

from wash_bench.config import TrainingConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import Method
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train.loop import Loop


def loop_of(config: TrainingConfig, method: Method | None = None, seed: int = 0) -> Loop:
    setting = TrainingSetup.of(config)
    population = setting.population(seed)
    return Loop(
        config,
        method or NaiveEnsemble(),
        population,
        LocalExchange(population.n, seed),
        setting.data,
        setting.recipes(seed),
        seed,
        setting.schedule,
    )
