"""The bill: what a method will send over a whole training, from arithmetic alone."""

from collections import Counter
from collections.abc import Iterable

from wash_bench.core.clock import Clock, Schedule
from wash_bench.core.ledger import Charge, Ledger
from wash_bench.core.method import Method, NotPredicted, Site


def bill(method: Method, site: Site, schedule: Schedule | Iterable[Clock]) -> Ledger | None:
    """Add up ``method.charges`` over the clocks of a training.

    Returns:
        The ledger that the exchange would keep: exactly, where the rule is deterministic; in
        expectation, with the variance beside it, where coordinates are drawn. None if the method
        has no charges.
    """
    clocks = schedule.clocks() if isinstance(schedule, Schedule) else schedule
    # A method has a handful of different moments in some 10^5 steps: count first, multiply later.
    moments: Counter[tuple[Charge, ...]] = Counter()
    try:
        moments.update(tuple(method.charges(site, clock)) for clock in clocks)
    except NotPredicted:
        return None
    ledger = Ledger(site.n)
    for charges, times in moments.items():
        for charge in charges:
            ledger.add(charge, times)
    return ledger
