"""Predictions of any network state of a population, each computed once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wash_bench.core.population import ModelState, Population, bind
from wash_bench.core.precision import autocast
from wash_bench.data.recipe import Recipe
from wash_bench.data.source import DataSource, Split
from wash_bench.evaluate.batchnorm import reestimate_
from wash_bench.evaluate.scores import log_probabilities
from wash_bench.models.batchnorm import batchnorms

# Batches of a part of the images, as a barrier asks for them at each of its points, are made once
# if they are not larger.
KEPT_BYTES = 2**30


@dataclass
class Evaluator:
    """Runs states through one network of the population's architecture.

    Attributes:
        population: whose architecture it is.
        data: where the images come from.
        amp: precision of the forward passes.
        seed: the run's seed, for the augmented images of re-estimation.
        recipes: the augmentations of the re-estimation stream, in turn: the same stream for
            members, ensemble and averages, so that none is flattered.
    """

    population: Population
    data: DataSource
    amp: str
    seed: int
    recipes: Sequence[Recipe]
    batch_size: int = 256  # of re-estimation: the larger, the better each batch's statistics
    _kept: dict[tuple[object, ...], tuple[ModelState, Tensor]] = field(default_factory=dict)
    _fresh: dict[tuple[int, int], tuple[ModelState, ModelState]] = field(default_factory=dict)
    _labels: dict[tuple[Split, int], Tensor] = field(default_factory=dict)
    _batches: dict[tuple[str, int], list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shell = self.population.shell().eval()
        self.has_batchnorm = bool(batchnorms(self.shell))

    def _load(self, state: ModelState) -> None:
        bind(self.shell, self.population.layout, state, None, self.population.channels_last)

    def compute(self, state: ModelState, split: Split, limit: int = 0) -> Tensor:
        """Log-probabilities (M, C), float64 on the CPU, of one state on a split."""
        batches = self._kept_batches(
            (split, limit), limit, lambda: self.data.eval_batches(split, limit)
        )
        found, self._labels[split, limit] = self.outputs(state, batches)
        return found

    @torch.no_grad()
    def outputs(
        self, state: ModelState, batches: Iterable[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities (M, C) of one state on images, and their labels (M,), on the CPU."""
        self._load(state.aligned())
        self.shell.eval()
        parts, labels = [], []
        for images, targets in batches:
            with autocast(self.population.device, self.amp):
                logits = self.shell(images)
            parts.append(logits.float())
            labels.append(targets)
        # Moved at the end: a copy from a GPU would wait for it at every batch.
        return log_probabilities(torch.cat(parts).cpu()), torch.cat(labels).cpu()

    def log_probs(self, state: ModelState, split: Split) -> Tensor:
        """As ``compute`` on a whole split, kept: a state object must not change afterwards."""
        return self._keep(state, (split,), lambda: self.compute(state, split))

    def reestimated_log_probs(self, state: ModelState, split: Split, images: int) -> Tensor:
        """As ``log_probs``, of the state that ``reestimated`` makes of this one."""
        if not self.has_batchnorm:
            return self.log_probs(state, split)
        return self._keep(
            state, (split, images), lambda: self.compute(self.reestimated(state, images), split)
        )

    def _keep(
        self, state: ModelState, key: tuple[object, ...], make: Callable[[], Tensor]
    ) -> Tensor:
        """What ``make`` gives, made once for a state object and a key."""
        key = (id(state), *key)
        if key not in self._kept:
            # The state is kept too, so that its id is not given to another one.
            self._kept[key] = (state, make())
        return self._kept[key][1]

    def labels(self, split: Split, limit: int = 0) -> Tensor:
        """(M,) labels of a split, in the order of ``compute``."""
        if (split, limit) not in self._labels:
            self._labels[split, limit] = self.data.eval_labels(split, limit)
        return self._labels[split, limit]

    def reestimated(self, state: ModelState, images: int) -> ModelState:
        """The state, its BatchNorm statistics re-estimated on so many training images (0: all)."""
        if not self.has_batchnorm:
            return state
        if (known := self._fresh.get((id(state), images))) and known[0] is state:
            return known[1]
        given, state = state, state.aligned()
        fresh = ModelState(state.weights, state.buffers.clone(), state.counters.clone())
        self._load(fresh)
        stream = self._kept_batches(
            ("reestimation", images),
            images,
            lambda: self.data.reestimation_batches(
                self.seed, self.recipes, images, self.batch_size
            ),
        )
        reestimate_(self.shell, stream, self.amp)
        self._fresh[id(given), images] = given, fresh  # for the next split
        return fresh

    def _kept_batches(
        self, key: tuple[str, int], images: int, make: Callable[[], Iterable[Any]]
    ) -> Iterable[Any]:
        """The batches that ``make`` gives, made once if they are a small part of the data."""
        data = self.data
        if key not in self._batches:
            if not 0 < images * data.channels * data.size**2 * 4 <= KEPT_BYTES:
                return make()
            self._batches[key] = list(make())
        return self._batches[key]
