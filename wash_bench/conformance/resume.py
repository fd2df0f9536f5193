"""A training that is killed at the end of an epoch goes on to the same bits."""

import tempfile
from pathlib import Path

import torch

from wash_bench.conformance.bench import (
    EPOCHS,
    PLAN,
    Trained,
    clones,
    first_difference,
    population_of,
    train,
)
from wash_bench.conformance.finding import Failed
from wash_bench.conformance.merging import merge
from wash_bench.conformance.subject import Subject
from wash_bench.core.clock import Clock
from wash_bench.core.exchange import LocalExchange
from wash_bench.distributed.world import LocalWorld
from wash_bench.errors import CellFailure
from wash_bench.train import checkpoint

N = 2
FIX = (
    "give what the method remembers in state_dict (the same for all members, tensors) or in "
    "member_state, take it back in load_state_dict, and keep nothing else between epochs"
)


def resume(subject: Subject) -> str:
    """Killed after any epoch and resumed from its checkpoint, a training ends as if it were not."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def keep(run: Trained, clock: Clock) -> None:
            if clock.epoch_end:
                _save(run, root / str(clock.epoch + 1), clock)

        whole = train(subject.make(), N, after=keep)
        expected, ledger = clones(whole.tensors()), whole.exchange.ledger.as_dict()
        for epoch in range(1, EPOCHS):
            killed = _load(subject, root / str(epoch))
            first = epoch * PLAN.steps_per_epoch
            train(killed.method, killed.population, exchange=killed.exchange, first=first)
            if name := first_difference(expected, killed.tensors()):
                raise Failed(f"killed after epoch {epoch}, {name} comes out differently", FIX)
            if killed.exchange.ledger.as_dict() != ledger:
                raise Failed(f"killed after epoch {epoch}, it sends differently", FIX)
        _same_merge(whole, _load(subject, root / str(EPOCHS)))
    return f"killed after each of {EPOCHS} epochs: the same bits"


def _save(run: Trained, folder: Path, clock: Clock) -> None:
    try:
        checkpoint.save(
            folder,
            run.population,
            run.method,
            LocalWorld(),
            epoch=clock.epoch + 1,
            finished=clock.last,
            notes={"ledger": run.exchange.ledger.as_dict()},
        )
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        text = " ".join(str(error).split())[:160]
        raise Failed(
            f"state_dict cannot be saved: {text}",
            "give tensors of their own by name (clone what shares memory), nothing else",
        ) from error


def _load(subject: Subject, folder: Path) -> Trained:
    """A fresh method and population, filled from a checkpoint."""
    method, population = subject.make(), population_of(N, alike=True)
    population.remember(method.member_slots())
    found = checkpoint.pointer(folder)
    assert found is not None
    checkpoint.load(folder, found, population, method)
    exchange = LocalExchange(N, 0)
    exchange.ledger.load(found["notes"]["ledger"])
    return Trained(method, population, exchange)


def _same_merge(whole: Trained, loaded: Trained) -> None:
    try:
        expected = merge(whole)
    except CellFailure:  # it cannot merge such a network; the check of the merge tells
        return
    found = merge(loaded)
    for name, predictor in expected.items():
        other = found.get(name)
        if other is None or any(
            not torch.equal(one.weights, two.weights) or not torch.equal(one.buffers, two.buffers)
            for one, two in zip(predictor.states, other.states, strict=True)
        ):
            raise Failed(f"predictor {name!r} differs when it is made of the checkpoint", FIX)
