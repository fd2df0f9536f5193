"""Predict how long exchanges take: the alpha-beta model of a collective's time.

A message of m bytes takes m / beta seconds beside its latency, where beta is the bandwidth of a
member's full-duplex link, and a collective is a chain of messages (Thakur et al. 2005,
"Optimization of collective communication operations in MPICH"). The chains are those of gloo as
measured (``core.ledger.latencies``).

It is a lower bound: it leaves out processors (packing, adding, the network stack), waiting for a
slower member, TCP's start and losses, and gloo's limit of two segments of 1 MiB under way. Means
are predicted within 10 % where the link sets the pace; gloo's all-to-all of large messages moves
the two directions between two ranks one after the other, which takes up to twice as long. Every
member is on a machine of its own, and exchanges do not overlap with computing.
"""

import math
import re
from dataclasses import dataclass

from wash_bench.core.ledger import CommLedger, latencies, longest_chain_bytes
from wash_bench.errors import UsageError

# Ethernet, IP and TCP headers with timestamps: 66 bytes around at most 1,448 of payload, and 24
# bytes of preamble, check sum and gap that a link spends on each frame.
FRAMING = (1448 + 66 + 24) / 1448
_UNITS = {
    "rate": {f"{p}{u}": f * b for p, f in (("", 1), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12))
             for u, b in (("bit", 1 / 8), ("b", 1 / 8), ("B", 1))},
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6},
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A member's link.

    Attributes:
        bandwidth: in bytes a second, each way.
        latency: in seconds, one way.
        framing: bytes on the link per byte of payload.
    """

    bandwidth: float
    latency: float = 0.0
    framing: float = FRAMING


@dataclass(frozen=True)
class Prediction:
    """Time that exchanges take, averaged over training steps.

    Attributes:
        latency_seconds: the part that no bandwidth shortens.
        transfer_seconds: the part that bytes take.
        slowdown: duration of a step with exchanges over one without; None without a step time.
        one_percent_bandwidth: bandwidth in bytes a second at which exchanges cost 1 % of a step; 0
            if nothing is sent, infinite if latency alone costs more, None without a step time.
    """

    latency_seconds: float
    transfer_seconds: float
    slowdown: float | None = None
    one_percent_bandwidth: float | None = None

    @property
    def seconds(self) -> float:
        """Both parts together."""
        return self.latency_seconds + self.transfer_seconds


def predict(
    ledger: CommLedger, steps: int, network: Network, step_seconds: float | None = None
) -> Prediction:
    """Return the time per step of a training's exchanges, predicted or recorded, on a network."""
    tallies = ledger.tallies
    latency = payload = 0.0
    for (kind, content), tally in tallies.items():
        payload += longest_chain_bytes(kind, tally, ledger.n)
        # Weights and optimizer state that one shuffle moves travel in one message.
        if (kind, content) != ("permute", "optimizer") or ("permute", "weights") not in tallies:
            latency += tally.events * latencies(kind, ledger.n) * network.latency
    latency, load = latency / steps, payload * network.framing / steps
    transfer = load / network.bandwidth
    if step_seconds is None:
        return Prediction(latency, transfer)
    room = 0.01 * step_seconds - latency
    needed = 0.0 if not load else (load / room if room > 0 else math.inf)
    return Prediction(latency, transfer, 1 + (latency + transfer) / step_seconds, needed)


def parse_bandwidth(text: str) -> float:
    """Return ``100Mbit`` or ``1GB`` (a second) in bytes a second."""
    return _parse("--bandwidth", text, "rate", "100Mbit, 1Gbit or 2GB (a second)")


def parse_duration(flag: str, text: str) -> float:
    """Return ``0.5ms``, ``300ms`` or ``2s`` in seconds."""
    return _parse(flag, text, "time", "0.5ms, 300ms or 2s")


def _parse(flag: str, text: str, kind: str, examples: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)(?:/s|ps)?", text.strip())
    unit = match and _UNITS[kind].get(match[2].removesuffix("ps"))
    if not match or not unit or (kind == "rate" and not float(match[1])):
        raise UsageError(f"{flag} {text}: write it as {examples}")
    return float(match[1]) * unit
