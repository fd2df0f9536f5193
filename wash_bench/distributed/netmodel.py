"""From what is sent to how long it takes: the alpha-beta model of a collective's time.

A message of m bytes takes m / beta seconds beside its latency, beta being the bandwidth of a
member's link, which sends and receives at the same time (full duplex), and a collective is a
chain of messages (Thakur et al. 2005, "Optimization of collective communication operations in
MPICH"). The chains are those of gloo as measured (``core.ledger.latencies``).

It is a lower bound. gloo's all-to-all of large messages mostly moves the two directions between
two ranks one after the other, which takes up to twice as long. Where the link sets the pace, means
are met within 10 %.

The model leaves out what processors do (packing, adding up, the kernel's network stack), waiting
for a slower member, TCP's start and losses, and the bound that gloo sets on a fast link of long
latency: two segments of at most 1 MiB under way. NCCL's latencies are not measured. Members are on
machines of their own; exchanges do not overlap with computing.
"""

import math
import re
from dataclasses import dataclass

from wash_bench.core.ledger import Ledger, latencies, longest_chain_bytes
from wash_bench.errors import UsageError

# Ethernet, IP and TCP headers with timestamps: 66 bytes around at most 1,448 of payload, and 24
# bytes of preamble, check sum and gap that a link spends on each frame.
FRAMING = (1448 + 66 + 24) / 1448


@dataclass(frozen=True)
class Network:
    """A member's link.

    Attributes:
        bandwidth: in bytes a second, each way.
        latency: in seconds, one way.
        framing: bytes on the link for one byte of payload.
    """

    bandwidth: float
    latency: float = 0.0
    framing: float = FRAMING


@dataclass(frozen=True)
class Prediction:
    """Time that exchanges take, a training step on average.

    Attributes:
        latency_seconds: the part that no bandwidth shortens.
        transfer_seconds: the part that bytes take.
        slowdown: duration of a step with exchanges over one without; None without a step time.
        one_percent_bandwidth: bandwidth in bytes a second at which exchanges cost one per cent of
            a step; 0 if nothing is sent, infinite if latency alone costs more, None without a
            step time.
    """

    latency_seconds: float
    transfer_seconds: float
    slowdown: float | None
    one_percent_bandwidth: float | None

    @property
    def seconds(self) -> float:
        """Both together."""
        return self.latency_seconds + self.transfer_seconds


def predict(
    ledger: Ledger, steps: int, network: Network, step_seconds: float | None = None
) -> Prediction:
    """The time a step that a training's exchanges, billed or recorded, take on a network."""
    tallies = ledger.tallies
    latency = payload = 0.0
    for (kind, content), tally in tallies.items():
        payload += longest_chain_bytes(kind, tally, ledger.n)
        # Weights and optimizer state that one shuffle moves travel in one message.
        rides = (kind, content) == ("permute", "optimizer") and ("permute", "weights") in tallies
        if not rides:
            latency += tally.events * latencies(kind, ledger.n) * network.latency
    latency, load = latency / steps, payload * network.framing / steps
    transfer = load / network.bandwidth
    if step_seconds is None:
        return Prediction(latency, transfer, None, None)
    room = 0.01 * step_seconds - latency
    needed = 0.0 if not load else (load / room if room > 0 else math.inf)
    return Prediction(latency, transfer, 1 + (latency + transfer) / step_seconds, needed)


_BITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def parse_bandwidth(text: str) -> float:
    """``100Mbit`` or ``1GB`` (a second) in bytes a second; a UsageError if it is neither."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(bit|b|B)(?:/s|ps)?", text.strip())
    if not match or float(match[1]) == 0:
        raise UsageError(f"--bandwidth {text}: write it as 100Mbit, 1Gbit or 2GB (a second)")
    size = float(match[1]) * _BITS[match[2]]
    return size if match[3] == "B" else size / 8


def parse_duration(flag: str, text: str) -> float:
    """``0.5ms``, ``300ms`` or ``2s`` in seconds; a UsageError that names ``flag`` if it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|ms|us)", text.strip())
    if not match:
        raise UsageError(f"{flag} {text}: write it as 0.5ms, 300ms or 2s")
    return float(match[1]) * _SECONDS[match[2]]
