"""The bill by arithmetic against the ledger of a training."""

import math

from wash_bench.conformance.bench import ADAM, LENGTH, PLAN, SGD, population_of, train
from wash_bench.conformance.finding import Failed
from wash_bench.conformance.subject import Subject
from wash_bench.core.bill import bill
from wash_bench.core.ledger import Ledger, Tally
from wash_bench.core.method import Site
from wash_bench.errors import WashBenchError

FIX = "make charges give, for every exchange of start and after_step, the charge_... of its kind"
FIX_DRAWN = "make charges give the expected number, and its variance (see methods/wash.py)"


def charged(subject: Subject) -> str:
    """What ``charges`` says is booked: exactly, or within 5 standard deviations if it is drawn."""
    sent, predicted = 0.0, True
    for n, slots in ((2, SGD), (5, ADAM), (3, ())):
        try:
            run = train(subject.make(), population_of(n, slots))
        except WashBenchError:
            if slots == SGD:
                raise
            continue  # a method may be made for one optimizer
        site = Site(run.population.layout, n, len(slots))
        sent = max(sent, run.exchange.ledger.wire_bytes)
        expected = bill(subject.make(), site, PLAN)
        if expected is None:
            predicted = False
        else:
            _compare(run.exchange.ledger, expected, n)
    if not predicted:
        return (
            f"not predicted: without charges the ledger alone counts what is sent, here up to "
            f"{sent / 1000:,.1f} kB a member in {LENGTH}; plan and comm tell nothing"
        )
    if not sent:
        return f"nothing is sent in {LENGTH} (--set makes a method act more often)"
    return f"charges tell what is sent, up to {sent / 1000:,.1f} kB a member in {LENGTH}"


def _compare(booked: Ledger, expected: Ledger, n: int) -> None:
    drawn = any(tally.variance for tally in expected.tallies.values())
    for key in sorted({*booked.tallies, *expected.tallies}):
        name = f"{key[0]} of {key[1]} with {n} members"
        sent, told = (ledger.tallies.get(key, Tally()) for ledger in (booked, expected))
        if told.variance or (drawn and key[1] == "buffers"):
            _near(name, sent, told, n)
            continue
        same = math.isclose(sent.values, told.values) and math.isclose(
            sent.wire_bytes, told.wire_bytes
        )
        if not same or sent.events != told.events:
            raise Failed(
                f"{name}: sent {sent.wire_bytes:,.0f} bytes in {sent.events} exchanges, "
                f"charges say {told.wire_bytes:,.0f} in {told.events}",
                FIX,
            )
    apart = abs(booked.sent_values - expected.sent_values)
    if drawn and apart > 5 * expected.sent_values_std:
        raise Failed(_far("all exchanges", booked.sent_values, expected.sent_values), FIX_DRAWN)


def _near(name: str, sent: Tally, told: Tally, n: int) -> None:
    """Drawn numbers: values within 5 deviations, and as many bytes a value as were told."""
    if told.variance:
        if abs(sent.values - told.values) > 5 * told.variance**0.5:
            raise Failed(_far(name, sent.values, told.values), FIX_DRAWN)
        wrong = sent.values and not math.isclose(
            sent.wire_bytes / sent.values, told.wire_bytes / max(told.values, 1e-9), rel_tol=1e-6
        )
    else:  # buffers count no values; a drawn coordinate moves at most n of them together
        wrong = abs(sent.wire_bytes - told.wire_bytes) > 5 * 4 * (n * told.wire_bytes / 4) ** 0.5
    if wrong:
        raise Failed(_far(f"{name}, bytes", sent.wire_bytes, told.wire_bytes), FIX_DRAWN)


def _far(name: str, sent: float, told: float) -> str:
    return f"{name}: sent {sent:,.0f}, charges expect {told:,.1f}, more than 5 deviations away"
