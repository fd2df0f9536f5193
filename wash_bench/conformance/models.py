"""The checks of the networks that come out, and of a training that is killed and resumed."""

import itertools
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wash_bench.conformance.bench import (
    CHANNELS,
    CLASSES,
    EPOCHS,
    PLAN,
    Trained,
    clones,
    disturb,
    first_difference,
    global_generators,
    population_of,
    train,
)
from wash_bench.conformance.case import Case, Failed, require
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.merge_context import Predictor, StudentLoss, StudentStart
from wash_bench.core.population import ModelState, Population
from wash_bench.core.step_info import StepInfo
from wash_bench.data.catalog import DatasetSpec
from wash_bench.data.memory import MemorySource
from wash_bench.data.readers import Arrays
from wash_bench.data.recipe import Recipe
from wash_bench.data.source import Split
from wash_bench.distributed.world import LocalWorld
from wash_bench.errors import CellFailure
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.population_context import PopulationJudge, Student
from wash_bench.train import checkpoint

N, SIDE, IMAGES, TEST = 5, 8, 96, 12
FIX_RESUME = (
    "give what the method remembers in state_dict (the same for all members, tensors) or in "
    "member_state, take it back in load_state_dict, and keep nothing else between epochs"
)
FIX_PREDICTORS = "return {name: Predictor([state, ...], members), ...}, the main one first"


class GuardedSource(MemorySource):
    """Random images; whoever asks for images or labels of the test split fails the check."""

    def eval_labels(self, split: Split, limit: int = 0) -> Tensor:
        require(split != "test", "the merge reads test data", "choose on judge.validation_... only")
        return super().eval_labels(split, limit)

    def eval_batches(
        self, split: Split, limit: int = 0, batch_size: int = 500
    ) -> Iterator[tuple[Tensor, Tensor]]:
        fix = "choose on judge.validation_... only"
        require(split != "test", "the merge reads test data", fix)
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


def merge(run: Trained, noise: int = 0) -> dict[str, Predictor]:
    """Return a trained population's predictors."""
    population = run.method.evaluated(run.population)
    evaluator = Evaluator(population, _source(), "off", run.exchange.seed, [Recipe()])

    def start() -> ModelState:
        return population_of([0]).state(0)

    with global_generators():
        disturb(noise)
        judge = PopulationJudge(evaluator, start, train=_train_student)
        return run.method.predictors(population, judge)


def _train_student(loss: StudentLoss, start: StudentStart, epochs: float) -> Student:
    """Take two steps of gradient descent in place of the run's training of a further network."""
    population = population_of([0 if start == "first" else N])
    for images, _ in itertools.islice(_source().eval_batches("train", batch_size=16), 2):
        population.gradients.zero_()
        loss(population.modules[0].train(), images).backward()
        population.weights.sub_(population.gradients, alpha=0.01)
    return Student(population.state(0), 2, 0.0)


def check_predictors(case: Case) -> str:
    """``predictors`` gives finite models of the population, the same ones when asked again."""
    run = train(case.make(), N)
    before = clones(_rows(run))
    try:
        first, second = merge(run), merge(run, noise=1)
    except CellFailure as failure:
        return f"not exercised, it refuses the small network: {failure}"
    finally:
        changed = first_difference(before, _rows(run))
    require(
        not changed,
        f"predictors changes the population's {changed}",
        "clone a member's state before writing to it",
    )
    _check_models(first, run.population)
    name = _different(first, second)
    require(
        not name,
        f"predictor {name!r} differs when it is made again",
        "draw from seeds.torch_stream(judge.seed, ...), not from a global generator",
    )
    return f"{', '.join(first)}; test data untouched"


def _rows(run: Trained) -> dict[str, Tensor]:
    measured = run.method.evaluated(run.population)
    rows = {"measured weights": measured.weights, "measured buffers": measured.buffers}
    return run.tensors() | rows


def _different(one: dict[str, Predictor], two: dict[str, Predictor], buffers: bool = False) -> str:
    """Return the first predictor of ``one`` that ``two`` has not to the bit; empty if none."""
    for name, predictor in one.items():
        other = two.get(name)
        if other is None or any(
            not torch.equal(a.weights, b.weights)
            or (buffers and not torch.equal(a.buffers, b.buffers))
            for a, b in zip(predictor.states, other.states, strict=True)
        ):
            return name
    return ""


def _check_models(predictors: dict[str, Predictor], population: Population) -> None:
    ok = isinstance(predictors, dict) and predictors
    require(ok, "predictors gives no model", FIX_PREDICTORS)
    layout = population.layout
    for name, predictor in predictors.items():
        ok = isinstance(predictor, Predictor) and predictor.states
        require(ok, f"predictor {name!r} has no state", FIX_PREDICTORS)
        members = set(predictor.members)
        require(
            members and members <= set(range(N)),
            f"predictor {name!r} is made of members {predictor.members}",
            FIX_PREDICTORS,
        )
        for state in predictor.states:
            shapes = tuple(tuple(part.shape) for part in (state.weights, state.buffers))
            require(
                shapes == ((layout.size,), (layout.buffer_size,)),
                f"predictor {name!r} has vectors of shapes {shapes}",
                FIX_PREDICTORS,
            )
            require(
                state.weights.isfinite().all() and state.buffers.isfinite().all(),
                f"predictor {name!r} is not finite",
                "check divisions and roots",
            )
            require(
                state.counters.dtype == torch.int64,
                f"predictor {name!r} has counters of type {state.counters.dtype}",
                "take them from ModelState.mean or from a member, as integers",
            )


def check_resume(case: Case) -> str:
    """Killed after any epoch and resumed from its checkpoint, a training ends as if it were not."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def keep(run: Trained, clock: StepInfo) -> None:
            if clock.epoch_end:
                _save(run, root / str(clock.epoch + 1), clock)

        whole = train(case.make(), 2, after=keep)
        expected, ledger = clones(whole.tensors()), whole.exchange.ledger.as_dict()
        for epoch in range(1, EPOCHS):
            killed = _load(case, root / str(epoch))
            first = epoch * PLAN.steps_per_epoch
            train(killed.method, killed.population, exchange=killed.exchange, first=first)
            name, when = first_difference(expected, killed.tensors()), f"killed after epoch {epoch}"
            require(not name, f"{when}, {name} comes out differently", FIX_RESUME)
            same = killed.exchange.ledger.as_dict() == ledger
            require(same, f"{when}, it sends differently", FIX_RESUME)
        loaded = _load(case, root / str(EPOCHS))
    try:
        merged = merge(whole)
    except CellFailure:  # it cannot merge such a network; the check of the predictors says so
        merged = {}
    name = merged and _different(merged, merge(loaded), buffers=True)
    require(not name, f"predictor {name!r} differs when it is made of the checkpoint", FIX_RESUME)
    return f"killed after each of {EPOCHS} epochs: the same bits"


def _save(run: Trained, folder: Path, clock: StepInfo) -> None:
    notes = {"ledger": run.exchange.ledger.as_dict()}
    saved = {"epoch": clock.epoch + 1, "finished": clock.last, "notes": notes}
    try:
        checkpoint.save(folder, run.population, run.method, LocalWorld(), **saved)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise Failed(
            f"state_dict cannot be saved: {' '.join(str(error).split())[:160]}",
            "give tensors of their own by name (clone what shares memory), nothing else",
        ) from error


def _load(case: Case, folder: Path) -> Trained:
    """Return a fresh method and population, filled from a checkpoint."""
    method, population = case.make(), population_of(2, alike=True)
    population.remember(method.member_slots())
    found = checkpoint.pointer(folder)
    assert found is not None
    checkpoint.load(folder, found, population, method)
    exchange = LocalExchange(2, 0)
    exchange.ledger.load(found["notes"]["ledger"])
    return Trained(method, population, exchange)
