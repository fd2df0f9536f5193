"""The tree along which gloo broadcasts: binomial, every sender sends all its copies at once.

Places are ranks counted from the source. In round i = 0, 1, ... the places below 2^i send to the
places 2^i above them. No place waits for its copies to arrive before it sends the next, so copies
of one sender share its link and arrive together (measured: benchmarks/results/network_time.md).
"""


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
