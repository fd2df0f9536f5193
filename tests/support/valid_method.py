"""A method that breaks no rule."""

from __future__ import annotations

from wash_bench.core.ledger import charge_mean
from wash_bench.core.method import Method


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
