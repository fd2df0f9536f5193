"""The bytes in the books against those that the kernel counts, and latencies of a delayed link."""

from __future__ import annotations

import pytest

from tests.support.netns import Namespaces, why_not
from tests.support.wire_exchanges import CODED, KINDS
from wash_bench.core.ledger import copies, latencies

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

EXCHANGES = 100
HEADERS = 66  # Ethernet 14, IP 20, TCP with timestamps 32
SEGMENT = 1448  # payload of a full frame
SACK = 36  # options that an acknowledgement carries after a loss, at most
GLOO = 48  # header of a message of gloo, and its announcements "ready to send", "ready to receive"
# Multiples of 12, so that a ring of 2 or 3 ranks splits them evenly into its segments.
SIZES = ((1_200, 0.05), (24_000, 0.5))
JOBS = [(kind, size, p, EXCHANGES) for size, p in SIZES for kind in (*KINDS, *CODED)]


def _messages(kind: str, rank: int, ranks: int) -> tuple[int, int]:
    """Messages of gloo that a rank sends and receives in one exchange."""
    if kind == "broadcast":
        return copies(rank, ranks), int(rank > 0)
    if kind == "pairs":
        alone = rank == ranks - 1 and ranks % 2 == 1
        return int(not alone), int(not alone)
    if kind in CODED:  # codes are gathered, and averaged where they arrive
        kind = "gather"
    each = {"mean": 4 * (ranks - 1), "permute": ranks - 1, "gather": 2 * (ranks - 1), "ring": 1}
    return each[kind], each[kind]


@pytest.fixture(scope="module", params=[2, 3])
def counted(request) -> list[list[dict]]:
    """For each rank the results of all jobs."""
    with Namespaces(request.param) as namespaces:
        return namespaces.run("tests.support.wire_exchanges:count", JOBS)


@pytest.mark.slow
def test_ledger_is_the_sum_of_what_the_ranks_sent(counted: list[list[dict]]) -> None:
    for of_all in zip(*counted, strict=True):
        total = sum(found["link_bytes"] for found in of_all)
        assert total > 0
        assert total == pytest.approx(of_all[0]["wire_bytes"]), of_all[0]["kind"]


@pytest.mark.slow
def test_tcp_carried_link_bytes_and_gloos_headers(counted: list[list[dict]]) -> None:
    ranks = len(counted)
    for job in range(len(JOBS)):
        resent = sum(found[job]["resent"] for found in counted)
        for rank in range(ranks):
            found = counted[rank][job]
            carried = found["tx_bytes"] - HEADERS * found["tx_packets"]
            extra = carried - found["link_bytes"]
            sent, received = _messages(found["kind"], rank, ranks)
            # Either side says that it is ready, or need not if the other already is: that is a
            # matter of time, and so is the barrier that the idle measurement shares.
            least = GLOO * (EXCHANGES * (sent + received) - 4 * ranks)
            most = GLOO * (EXCHANGES * 2 * (sent + received) + 4 * ranks)
            again = SEGMENT * found["resent"] + SACK * resent
            assert least <= extra <= most + again, (found, rank)


@pytest.mark.slow
def test_frames_cost_no_more_than_stated(counted: list[list[dict]]) -> None:
    """Documented in docs/distributed.md: 7 % of large messages, six frames of a small one."""
    ranks = len(counted)
    for of_rank, rank in zip(counted, range(ranks), strict=True):
        for found, (kind, size, *_) in zip(of_rank, JOBS, strict=True):
            sent, received = _messages(kind, rank, ranks)
            messages = EXCHANGES * (sent + received) + 1
            small = messages * (2 * GLOO + 6 * HEADERS)
            again = (SEGMENT + HEADERS + SACK) * found["resent"]
            # Headers of full frames, and an acknowledgement for every two frames received.
            share = (
                HEADERS / SEGMENT * found["link_bytes"]
                + HEADERS / (2 * SEGMENT) * (found["rx_bytes"])
            )
            overhead = found["tx_bytes"] - found["link_bytes"]
            assert overhead <= small + share + again, (kind, size, rank)


@pytest.mark.slow
def test_nothing_is_lost_between_the_interfaces(counted: list[list[dict]]) -> None:
    for of_all in zip(*counted, strict=True):
        sent = sum(found["tx_bytes"] for found in of_all)
        received = sum(found["rx_bytes"] for found in of_all)
        # Broadcast frames (address resolution) are received more than once.
        assert sent == pytest.approx(received, rel=1e-3, abs=2_000)


@pytest.mark.slow
def test_latencies_that_follow_one_another() -> None:
    """On a link of 40 ms, tiny messages take the model's number of latencies and little more."""
    delay, ranks = 0.04, 3
    with Namespaces(ranks, delay=delay) as namespaces:
        jobs = [(kind, 60, 0.5, 3) for kind in KINDS]
        times = namespaces.run("tests.support.wire_exchanges:seconds", jobs)[0]
    for kind, taken in zip(KINDS, times, strict=True):
        expected = latencies("fetch" if kind in ("pairs", "ring") else kind, ranks)
        assert expected <= min(taken) / delay < expected + 0.9, kind


@pytest.mark.slow
def test_codes_are_as_small_on_the_link_as_they_are_told(counted: list[list[dict]]) -> None:
    """Of D values in eight bits 1.03 D bytes reach each other rank, of top-k 8 bytes an entry."""
    ranks = len(counted)
    for job, (kind, size, p, _) in enumerate(JOBS):
        if kind in CODED:
            scales = 4 * -(-size // 128)
            code = {"int8": size + scales, "int4": size // 2 + scales, "topk": 8 * round(p * size)}
            for of_rank in counted:
                assert of_rank[job]["link_bytes"] == EXCHANGES * code[kind] * (ranks - 1)
