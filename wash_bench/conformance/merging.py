"""The models that come out: complete, repeatable, made without test data."""

import itertools
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor

from wash_bench.conformance.bench import (
    CHANNELS,
    CLASSES,
    Trained,
    clones,
    disturb,
    first_difference,
    global_generators,
    population_of,
    train,
)
from wash_bench.conformance.finding import Failed
from wash_bench.conformance.subject import Subject
from wash_bench.core.judge import Predictor, StudentLoss, StudentStart
from wash_bench.core.population import ModelState, Population
from wash_bench.data.arrays import Arrays
from wash_bench.data.catalog import DatasetSpec
from wash_bench.data.memory import MemorySource
from wash_bench.data.recipe import Recipe
from wash_bench.data.source import Split
from wash_bench.errors import CellFailure
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.population_judge import PopulationJudge, Student

N, SIDE, IMAGES, TEST = 5, 8, 96, 12


class GuardedSource(MemorySource):
    """Random images; whoever asks for those of the test split is told off."""

    def eval_batches(
        self, split: Split, limit: int = 0, batch_size: int = 500
    ) -> Iterator[tuple[Tensor, Tensor]]:
        if split == "test":
            raise Failed("the merge reads test data", "choose on judge.validation_... only")
        return super().eval_batches(split, limit, batch_size)


@cache
def _source() -> GuardedSource:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES + TEST, SIDE, SIDE, CHANNELS), dtype=np.uint8)
    labels = np.arange(IMAGES + TEST) % CLASSES
    spec = DatasetSpec(
        "noise", CLASSES, CHANNELS, SIDE, IMAGES, TEST, "", "", "", Recipe(), {},
        (0.5,) * CHANNELS, (0.3,) * CHANNELS,
    )  # fmt: skip
    arrays = Arrays((images[:IMAGES], labels[:IMAGES]), (images[IMAGES:], labels[IMAGES:]))
    return GuardedSource(spec, arrays, torch.device("cpu"), val_share=0.3)


def measured(run: Trained) -> Population:
    """The members that the method wants measured, with its memory."""
    return run.method.evaluated(run.population)


def merge(run: Trained, noise: int = 0) -> dict[str, Predictor]:
    """A trained population's predictors."""
    population = measured(run)
    evaluator = Evaluator(population, _source(), "off", run.exchange.seed, [Recipe()])

    def start() -> ModelState:
        return population_of([0]).state(0)

    with global_generators():
        disturb(noise)
        judge = PopulationJudge(evaluator, start, train=_train_student)
        return run.method.predictors(population, judge)


def _train_student(loss: StudentLoss, start: StudentStart, epochs: float) -> Student:
    """Two steps of gradient descent, which stand for the run's training of a further network."""
    population = population_of([0 if start == "first" else N])
    for images, _ in itertools.islice(_source().eval_batches("train", batch_size=16), 2):
        population.gradients.zero_()
        loss(population.modules[0].train(), images).backward()
        population.weights.sub_(population.gradients, alpha=0.01)
    return Student(population.state(0), 2, 0.0)


def merging(subject: Subject) -> str:
    """``predictors`` gives finite models of the population, the same ones when asked again."""
    run = train(subject.make(), N)
    before, rows = clones(run.tensors()), clones(_rows(measured(run)))
    try:
        first = merge(run)
        second = merge(run, noise=1)
    except CellFailure as failure:
        return f"not exercised, it refuses the small network: {failure}"
    finally:
        changed = first_difference(before, run.tensors())
        changed = changed or first_difference(rows, _rows(measured(run)))
    if changed:
        raise Failed(
            f"predictors changes the population's {changed}",
            "clone a member's state before writing to it",
        )
    _complete(first, run.population)
    for name, predictor in first.items():
        again = second.get(name)
        if again is None or not all(
            torch.equal(one.weights, two.weights)
            for one, two in zip(predictor.states, again.states, strict=True)
        ):
            raise Failed(
                f"predictor {name!r} differs when it is made again",
                "draw from seeds.torch_stream(judge.seed, ...), not from a global generator",
            )
    return f"{', '.join(first)}; test data untouched"


def _rows(population: Population) -> dict[str, Tensor]:
    return {"measured weights": population.weights, "measured buffers": population.buffers}


def _complete(predictors: dict[str, Predictor], population: Population) -> None:
    fix = "return {name: Predictor([state, ...], members), ...}, the main one first"
    if not isinstance(predictors, dict) or not predictors:
        raise Failed("predictors gives no model", fix)
    layout = population.layout
    for name, predictor in predictors.items():
        if not isinstance(predictor, Predictor) or not predictor.states:
            raise Failed(f"predictor {name!r} has no state", fix)
        members = set(predictor.members)
        if not members or not members <= set(range(N)):
            raise Failed(f"predictor {name!r} is made of members {predictor.members}", fix)
        for state in predictor.states:
            shapes = tuple(tuple(part.shape) for part in (state.weights, state.buffers))
            if shapes != ((layout.size,), (layout.buffer_size,)):
                raise Failed(f"predictor {name!r} has vectors of shapes {shapes}", fix)
            if not (state.weights.isfinite().all() and state.buffers.isfinite().all()):
                raise Failed(f"predictor {name!r} is not finite", "check divisions and roots")
            if state.counters.dtype != torch.int64:
                raise Failed(
                    f"predictor {name!r} has counters of type {state.counters.dtype}",
                    "take them from ModelState.mean or from a member, as integers",
                )
