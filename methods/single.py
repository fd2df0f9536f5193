"""One network at the population's compute: the control of every comparison with N members.

A population of N members computes N times what one network does. Whoever can afford it can also
train one network for longer, on larger batches, or of a greater width. With E the run's epochs, B
its batch size and N its population, the ``budget`` trains

    one      E epochs of batches of B              1/N of the population's compute: one member
    epochs   N E epochs of batches of B            N times a member's steps
    batch    N E epochs of batches of N B          a member's steps, each on N times the images
    width    E epochs of B, channels times sqrt(N) a member's steps, each about N times as dear

``batch`` is synchronous data-parallel training on N workers: as many steps as a member takes (up to
the rounding of an epoch to whole batches). The schedule of the learning rate covers the whole of
the training, whatever its length. The network has the initial weights, the data order and the
augmentation of member 0. Nothing is sent. The rate that suits another length, batch or width is not
the run's: ``lr`` and ``weight_decay`` set them apart.

The width enters the operations of a convolution twice, as its inputs and its outputs, which makes
sqrt(N) N times the cost (Zagoruyko and Komodakis 2016, arXiv 1605.07146, section 2). First and last
layer grow with sqrt(N) alone. The model must take the argument ``width``.

Choice of the suite: a warm-up and a linear probe keep their lengths in epochs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from wash_bench.core.merge_context import Predictor
from wash_bench.core.method import MethodOptions, option
from wash_bench.core.wrapper import Independent

if TYPE_CHECKING:
    from wash_bench.config import TrainingConfig
    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import Population


class SingleOptions(MethodOptions):
    """Settings of the single network."""

    budget: Literal["one", "epochs", "batch", "width"] = option(
        "one",
        "what the network has more of than a member: nothing, N times the steps, N times the "
        "images a step, or sqrt(N) times the width",
    )
    lr: float = option(0.0, "learning rate at the start of the schedule (0: the run's)", ge=0)
    weight_decay: float | None = option(None, "weight decay (none: the run's)", ge=0)


class Single(Independent):
    """One network, trained alone."""

    name = "single"
    rule = "one network, with N times the steps, the batch or the cost of a step if asked for"
    paper = "none: the control of a comparison"
    when = "the control at the population's compute: one network that is trained longer, or larger"
    needs = "budget=width: a model with the argument width; rate and decay tuned to the budget"
    Options = SingleOptions
    options: SingleOptions

    def training_key(self) -> dict[str, Any]:
        """What the options change is in the settings of the training."""
        return {"rule": self.name}

    def training_config(self, config: TrainingConfig) -> TrainingConfig:
        options, n = self.options, config.population
        changes: dict[str, Any] = {"population": 1}
        match options.budget:
            case "epochs":
                changes["epochs"] = n * config.epochs
            case "batch":
                changes |= {"epochs": n * config.epochs, "batch_size": n * config.batch_size}
            case "width":
                width = config.model_args.get("width", 1.0) * math.sqrt(n)
                changes["model_args"] = config.model_args | {"width": width}
        if options.lr:
            changes["lr"] = options.lr
        if options.weight_decay is not None:
            changes["weight_decay"] = options.weight_decay
        return config.but(**changes)

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        return {"average": judge.average()}
