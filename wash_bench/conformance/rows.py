"""Rows, BatchNorm statistics and integer buffers, for populations of 1, 2 and 5."""

import torch

from wash_bench.conformance.bench import Trained, population_of, train
from wash_bench.conformance.finding import Failed
from wash_bench.conformance.merging import measured
from wash_bench.conformance.subject import Subject
from wash_bench.core.clock import Clock
from wash_bench.core.population import Population


def sizes(subject: Subject) -> str:
    """It runs with 1, 2 and 5 members, keeps the rows in their place and every number finite."""
    for n in (1, 2, 5):
        population = population_of(n)
        places = _places(population)

        def look(run: Trained, clock: Clock, places: list[int] = places) -> None:
            if _places(run.population) != places:
                raise Failed(
                    f"after step {clock.step} the rows are other tensors than before",
                    "write into them: population.weights[:] = ..., lerp_, copy_",
                )

        run = train(subject.make(), population, after=look)
        for name, rows in run.tensors().items():
            if not rows.isfinite().all():
                raise Failed(f"{name} of {n} members is not finite", "check divisions and roots")
        if n == 1 and run.exchange.ledger.wire_bytes:
            raise Failed("a single member sends bytes", "leave nothing to send for exchange.n < 2")
    return "N = 1, 2 and 5 run; rows stay in place and finite"


def _places(population: Population) -> list[int]:
    parameters = [next(module.parameters()) for module in population.modules]
    return [
        tensor.data_ptr()
        for tensor in (
            population.weights,
            population.buffers,
            population.counters,
            *population.optimizer_state.values(),
            *parameters,
        )
    ]


def buffers(subject: Subject) -> str:
    """BatchNorm statistics stay possible; integer buffers stay integers, equal in all members."""
    run = train(subject.make(), 5)
    counters = run.population.counters
    if counters.dtype != torch.int64:
        raise Failed(f"counters are {counters.dtype}", "leave integer buffers as they are")
    if not torch.equal(counters, counters[:1].expand_as(counters)):
        raise Failed(
            f"num_batches_tracked ends as {counters[:, 0].tolist()} in the members",
            "copy counters with weights and buffers when a member starts late, else leave them",
        )
    if int(counters.min()) < 0:
        raise Failed("num_batches_tracked is negative", "leave integer buffers as they are")
    for what, population in (("the members", run.population), ("the measured", measured(run))):
        _possible(what, population)
    return "counters equal and integer, running variances positive"


def _possible(what: str, population: Population) -> None:
    rows = population.buffers
    if not rows.isfinite().all():
        raise Failed(f"BatchNorm statistics of {what} are not finite", "check divisions")
    for piece in population.layout.buffers:
        if piece.name.endswith("running_var") and (rows[:, piece.offset : piece.stop] <= 0).any():
            raise Failed(
                f"{piece.name} of {what} is not positive",
                "average BatchNorm statistics, but do not extrapolate or shift them",
            )


def equal_members(subject: Subject) -> str:
    """Equal members that take equal steps stay equal."""
    run = train(subject.make(), population_of(5, alike=True), alike=True)
    for name in ("weights", "buffers"):
        rows = getattr(run.population, name)
        if not torch.allclose(rows, rows[:1].expand_as(rows), rtol=1e-4, atol=1e-5):
            raise Failed(
                f"members that start and step alike end with different {name}",
                "let what a member becomes depend on the members' values, not on its number",
            )
    return "equal members stay equal"
