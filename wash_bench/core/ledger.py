"""What was sent: the unit in which every exchange is charged, and the book that adds them up.

Two conventions stand side by side.

*Values sent*, the papers' convention: scalars of the parameters and of the optimizer's state that
leave a member. An average of the population counts one full vector a member, whatever the
collective does; a shuffled coordinate counts once for each member that gives its value away.
BatchNorm statistics are not counted, as in the papers.

*Bytes on the wire*: what the collective really used sends, everything included. A mean is a ring
all-reduce, 2 (N-1)/N of the vector a member; a shuffle is an all-to-all of the values that change
owner (indices are drawn from a shared seed and do not travel); a broadcast or a gather sends
every receiver one copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

ExchangeKind = Literal["mean", "permute", "broadcast", "gather", "fetch"]
Content = Literal["weights", "optimizer", "buffers"]


@dataclass(frozen=True, slots=True)
class CommEvent:
    """One exchange, summed over all members.

    Attributes:
        kind: the collective.
        content: what was sent.
        values: scalars in the papers' convention (0 for buffers).
        sent_bytes: the same scalars in bytes.
        wire_bytes: bytes on the wire.
        variance: variance of ``values`` where the charge is an expectation, else 0.
        dead_bytes: of ``sent_bytes``, those of dead parameters; None where it is not known.
    """

    kind: ExchangeKind
    content: Content
    values: float
    sent_bytes: float
    wire_bytes: float
    variance: float = 0.0
    dead_bytes: float | None = None


def charge(
    kind: ExchangeKind,
    content: Content,
    values: float,
    wire_values: float,
    itemsize: int = 4,
    variance: float = 0.0,
) -> CommEvent:
    """The charge of ``values`` that leave a member and ``wire_values`` on the wire."""
    # The papers' convention counts no buffers.
    if content == "buffers":
        values, variance = 0, 0.0
    return CommEvent(kind, content, values, values * itemsize, wire_values * itemsize, variance)


def charge_mean(
    n: int, size: float, content: Content = "weights", itemsize: int = 4, variance: float = 0.0
) -> CommEvent:
    """A mean of ``size`` values over ``n`` members, all of whom receive it (ring all-reduce)."""
    return charge("mean", content, n * size, 2 * (n - 1) * size, itemsize, variance)


def charge_permute(
    moved: float, content: Content = "weights", itemsize: int = 4, variance: float = 0.0
) -> CommEvent:
    """``moved`` values change owner, each sent once (all-to-all)."""
    return charge("permute", content, moved, moved, itemsize, variance)


def charge_broadcast(
    n: int, size: int, content: Content = "weights", itemsize: int = 4
) -> CommEvent:
    """One member's ``size`` values go to the ``n - 1`` others."""
    return charge("broadcast", content, (n - 1) * size, (n - 1) * size, itemsize)


def charge_gather(
    n: int,
    size: int,
    content: Content = "weights",
    itemsize: int = 4,
    stands_for: int | None = None,
) -> CommEvent:
    """Every member's ``size`` values go to all others (ring all-gather).

    Args:
        n: number of members.
        size: items of a row.
        content: what they are.
        itemsize: bytes of each.
        stands_for: scalars that a row is a code of; ``size`` if it is none.

    Returns:
        The charge.
    """
    found = charge("gather", content, n * size, n * (n - 1) * size, itemsize)
    return _of_code(found, size, stands_for)


def charge_fetch(
    sources: Sequence[int],
    size: int,
    content: Content = "weights",
    itemsize: int = 4,
    stands_for: int | None = None,
) -> CommEvent:
    """Member n receives the ``size`` values of member ``sources[n]``; its own cost nothing.

    Args:
        sources: the member that each receives from.
        size: items of a row.
        content: what they are.
        itemsize: bytes of each.
        stands_for: scalars that a row is a code of; ``size`` if it is none.

    Returns:
        The charge.
    """
    values = size * sum(source != member for member, source in enumerate(sources))
    return _of_code(charge("fetch", content, values, values, itemsize), size, stands_for)


def _of_code(found: CommEvent, size: int, stands_for: int | None) -> CommEvent:
    if stands_for is None or not found.values:
        return found
    return replace(found, values=found.values // size * stands_for)


@dataclass
class CommTotals:
    """Running totals of one kind of exchange with one content, summed over members."""

    events: int = 0
    values: float = 0
    sent_bytes: float = 0
    wire_bytes: float = 0
    variance: float = 0.0
    dead_bytes: float | None = None

    def add(self, charge: CommEvent, times: int) -> None:
        """Enter ``times`` exchanges of the same charge."""
        if charge.dead_bytes is None:
            self.dead_bytes = None
        elif self.events == 0 or self.dead_bytes is not None:
            self.dead_bytes = (self.dead_bytes or 0.0) + times * charge.dead_bytes
        self.events += times
        self.values += times * charge.values
        self.sent_bytes += times * charge.sent_bytes
        self.wire_bytes += times * charge.wire_bytes
        self.variance += times * charge.variance

    def as_dict(self) -> dict[str, float]:
        """The fields; ``dead_bytes`` only where it is known."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass
class CommLedger:
    """The book of one training, kept by the exchange.

    Attributes:
        n: members of the population.
        tallies: totals over members, by collective and content.
        dead: (D,) bool, the parameters that receive no gradient, if any: of chosen coordinates,
            theirs are counted apart.
    """

    n: int
    tallies: dict[tuple[str, str], CommTotals] = field(default_factory=dict)
    dead: Tensor | None = field(default=None, repr=False, compare=False)

    def add(self, charge: CommEvent, times: int = 1) -> None:
        """Enter one exchange, or ``times`` equal ones."""
        self.tallies.setdefault((charge.kind, charge.content), CommTotals()).add(charge, times)

    @property
    def sent_values(self) -> float:
        """Scalars sent per member (mean over members), the papers' convention."""
        return sum(tally.values for tally in self.tallies.values()) / self.n

    def exchanges_of_parameter(self, size: int) -> tuple[float, int]:
        """Return how often each of ``size`` parameters is sent on average, and in how many events.

        The two are equal where all weights are sent at once.
        """
        weights = [t for (_, content), t in self.tallies.items() if content == "weights"]
        sent, events = sum(t.values for t in weights), sum(t.events for t in weights)
        return sent / (self.n * size), events

    @property
    def sent_values_std(self) -> float:
        """Standard deviation of ``sent_values`` where it is an expectation."""
        return sum(tally.variance for tally in self.tallies.values()) ** 0.5 / self.n

    @property
    def sent_bytes(self) -> float:
        """``sent_values`` in bytes, per member."""
        return sum(tally.sent_bytes for tally in self.tallies.values()) / self.n

    @property
    def rounds(self) -> int:
        """Exchanges that members wait for; those of one kind with several contents are one."""
        most: dict[str, int] = {}
        for (kind, _), tally in self.tallies.items():
            most[kind] = max(most.get(kind, 0), tally.events)
        return sum(most.values())

    @property
    def wire_bytes(self) -> float:
        """Bytes on the wire sent per member (mean over members)."""
        return sum(tally.wire_bytes for tally in self.tallies.values()) / self.n

    def live_bytes(self, dead_share: float) -> tuple[float, bool]:
        """Return ``sent_bytes`` without dead parameters, and whether all were counted.

        Where an exchange did not know its coordinates, ``dead_share`` of its bytes is left out,
        which is exact for whole vectors.
        """
        dead, counted = 0.0, True
        for tally in self.tallies.values():
            if tally.dead_bytes is not None:
                dead += tally.dead_bytes
            elif tally.sent_bytes:
                dead, counted = dead + dead_share * tally.sent_bytes, False
        return self.sent_bytes - dead / self.n, counted

    def as_dict(self) -> dict[str, dict[str, float]]:
        """A tally's fields by ``kind/content``, totals over members."""
        return {"/".join(key): tally.as_dict() for key, tally in sorted(self.tallies.items())}

    def load(self, tallies: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what ``as_dict`` gave."""
        self.tallies = {}
        for key, tally in tallies.items():
            kind, _, content = key.partition("/")
            self.tallies[kind, content] = CommTotals(**tally)


def latencies(kind: str, n: int) -> int:
    """One-way latencies that follow one another in a collective of ``n`` members over gloo."""
    # Before a message moves, its receiver says that it is ready: two latencies a message that
    # nobody could announce before, one where the receiver has waited since the start. Measured in
    # benchmarks/results/network_time.md.
    if n == 1:
        return 0
    return {
        "mean": 4 * (n - 1),  # a ring, 2 (N-1) rounds
        "permute": 2,  # all messages are under way at once
        "broadcast": 1 + depth(n),  # a binomial tree
        "gather": 2 * (n - 1),  # a ring, N-1 rounds
        "fetch": 2,  # one message
    }[kind]


def longest_chain_bytes(kind: str, tally: CommTotals, n: int) -> float:
    """Payload bytes that one link carries after another, over all events of a tally."""
    if kind == "broadcast":  # senders share their link among all their copies
        return tally.wire_bytes / max(1, n - 1) * serial_copies(n)
    return tally.wire_bytes / n


def copies(place: int, ranks: int) -> int:
    """Copies that the rank at ``place`` sends in a broadcast over ``ranks`` ranks."""
    return len(_receivers(place, ranks))


def depth(ranks: int) -> int:
    """Messages that follow one another on the longest way from the source."""
    return max(place.bit_count() for place in range(ranks))


def serial_copies(ranks: int) -> int:
    """Copies that pass before the last rank has its own, where senders share their links evenly."""
    arrived = {0: 0}
    for place in range(ranks):  # a sender's place is lower than its receivers'
        for receiver in _receivers(place, ranks):
            arrived[receiver] = arrived[place] + copies(place, ranks)
    return max(arrived.values())


def _receivers(place: int, ranks: int) -> list[int]:
    rounds = range(place.bit_length(), (ranks - 1).bit_length())
    return [place + 2**i for i in rounds if place + 2**i < ranks]
