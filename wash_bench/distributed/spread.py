"""Which rank holds which members."""

from dataclasses import dataclass
from functools import cached_property

from wash_bench.errors import UsageError


@dataclass(frozen=True)
class Spread:
    """N members in even contiguous blocks over ranks; a UsageError if there are more ranks."""

    n: int
    ranks: int

    def __post_init__(self) -> None:
        if self.ranks > self.n:
            raise UsageError(
                f"{self.ranks} processes for {self.n} members: start at most {self.n}, "
                "or raise --population"
            )

    def members(self, rank: int) -> range:
        """The members of one rank; the first ``n mod ranks`` ranks have one more."""
        size, more = divmod(self.n, self.ranks)
        first = rank * size + min(rank, more)
        return range(first, first + size + (rank < more))

    @cached_property
    def owner(self) -> tuple[int, ...]:
        """The rank of each member."""
        return tuple(rank for rank in range(self.ranks) for _ in self.members(rank))
