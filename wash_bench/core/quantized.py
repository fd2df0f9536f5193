"""Exchanges whose rows travel as short integers, and the wrapper around a method that uses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from wash_bench.core.ledger import CommEvent, CommLedger, Content, charge_gather
from wash_bench.core.method import CommShape, NotPredicted
from wash_bench.core.step_info import StepInfo
from wash_bench.core.wrapper import Wrapper

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population


BLOCK = 128  # values that share a scale
SCALE = 4  # bytes of a scale, float32


def coded_bytes(size: int, bits: int) -> int:
    """Bytes of a coded row of ``size`` values: the codes, then a scale for each block."""
    return -(-size * bits // 8) + SCALE * -(-size // BLOCK)


def encode(rows: Tensor, bits: int) -> Tensor:
    """Rows (M, D) as codes (M, C) of bytes: q = round(w / s), s = max |w| / L of the block.

    Args:
        rows: (M, D) float32.
        bits: 8, with L = 127; or 4, with L = 7 and two values a byte.

    Returns:
        uint8, C = ``coded_bytes(D, bits)``.
    """
    import torch
    from torch.nn.functional import pad

    m, size = rows.shape
    levels = 2 ** (bits - 1) - 1
    blocks = pad(rows, (0, -size % BLOCK)).reshape(m, -1, BLOCK)
    scales = blocks.abs().amax(dim=2) / levels
    codes = (blocks / scales.where(scales != 0, 1.0).unsqueeze(2)).round().clamp(-levels, levels)
    codes = codes.to(torch.int8).reshape(m, -1)[:, :size]
    if bits == 4:
        nibbles = pad(codes + 8, (0, size % 2)).view(torch.uint8)
        codes = nibbles[:, ::2] | nibbles[:, 1::2] << 4
    return torch.cat([codes.contiguous().view(torch.uint8), scales.view(torch.uint8)], dim=1)


def decode(coded: Tensor, size: int, bits: int) -> Tensor:
    """The rows (M, D) of ``size`` values that were encoded, up to half a scale."""
    import torch
    from torch.nn.functional import pad

    m, length = len(coded), -(-size * bits // 8)
    codes, scales = coded[:, :length], coded[:, length:].contiguous().view(torch.float32)
    if bits == 4:
        pairs = torch.stack([codes & 15, codes >> 4], dim=2).view(m, -1)[:, :size]
        codes = pairs.to(torch.int8) - 8
    else:
        codes = codes.contiguous().view(torch.int8)
    values = pad(codes.float(), (0, -size % BLOCK)).view(m, -1, BLOCK) * scales.unsqueeze(2)
    return values.view(m, -1)[:, :size].contiguous()


class DelegatingExchange:
    """Implements ``exchange.Exchange`` by another one, ``inner``, whose ledger it shares."""

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner
        self.n, self.seed = inner.n, inner.seed
        self.ledger: CommLedger = inner.ledger

    def stream(self, purpose: str, *counters: int) -> np.random.Generator:
        return self._inner.stream(purpose, *counters)

    def mean(self, rows: Tensor, content: Content = "weights") -> Tensor:
        return self._inner.mean(rows, content)

    def gather(
        self, rows: Tensor, content: Content = "weights", stands_for: int | None = None
    ) -> Tensor:
        return self._inner.gather(rows, content, stands_for)

    def fetch(
        self,
        rows: Tensor,
        sources: Sequence[int],
        content: Content = "weights",
        stands_for: int | None = None,
    ) -> Tensor:
        return self._inner.fetch(rows, sources, content, stands_for)

    def permute_(
        self, tensors: Sequence[tuple[Tensor, Content]], coordinates: Tensor, sources: Tensor
    ) -> None:
        self._inner.permute_(tensors, coordinates, sources)

    def broadcast_(self, rows: Tensor, source: int, content: Content = "weights") -> None:
        self._inner.broadcast_(rows, source, content)


class QuantizedExchange(DelegatingExchange):
    """An exchange that sends means and fetched rows coded, and passes the rest on as it is.

    A mean is an all-gather of codes, averaged where they arrive, everybody's own included; so all
    have the same mean. What a member has from itself is not coded. Shuffles and broadcasts keep
    every value as it is, and BatchNorm statistics travel in full.

    Args:
        inner: what sends the codes.
        bits: 8 or 4.
    """

    def __init__(self, inner: Exchange, bits: int) -> None:
        super().__init__(inner)
        self._bits = bits

    def mean(self, rows: Tensor, content: Content = "weights") -> Tensor:
        """The mean (D,) of what all rows (N, D) are coded as."""
        if content == "buffers":
            return self._inner.mean(rows, content)
        return self.gather(rows, content).mean(dim=0)

    def gather(
        self, rows: Tensor, content: Content = "weights", stands_for: int | None = None
    ) -> Tensor:
        """All rows (N, D) as they are coded."""
        if content == "buffers" or stands_for is not None:
            return self._inner.gather(rows, content, stands_for)
        size = rows.shape[1]
        coded = self._inner.gather(encode(rows, self._bits), content, size)
        return decode(coded, size, self._bits)

    def fetch(
        self,
        rows: Tensor,
        sources: Sequence[int],
        content: Content = "weights",
        stands_for: int | None = None,
    ) -> Tensor:
        """Rows of others, as they are coded."""
        if content == "buffers" or stands_for is not None:
            return self._inner.fetch(rows, sources, content, stands_for)
        size = rows.shape[1]
        coded = self._inner.fetch(encode(rows, self._bits), sources, content, size)
        received = decode(coded, size, self._bits)
        for row, member in enumerate(getattr(self._inner, "members", range(self.n))):
            if sources[member] == member:
                received[row] = rows[row]
        return received


class Coded(Wrapper):
    """Base of the wrappers that let a method's exchanges travel as short integers.

    Attributes:
        bits: of a value.
    """

    kind = "exchange"
    bits: ClassVar[int]

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        super().after_step(population, QuantizedExchange(exchange, self.bits), clock)

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        return [self._coded(charge, site) for charge in super().charges(site, clock)]

    def _coded(self, charge: CommEvent, site: CommShape) -> CommEvent:
        """What an exchange of the method inside sends when it is coded."""
        if charge.content == "buffers" or charge.kind in ("permute", "broadcast"):
            return charge
        if charge.kind == "fetch":  # of whole rows, as many as the values tell
            rows = charge.values / site.layout.size
            if not charge.variance and rows % 1:
                raise NotPredicted
            sent = rows * coded_bytes(site.layout.size, self.bits)
            return replace(charge, sent_bytes=sent, wire_bytes=sent)
        size = charge.values / site.n
        if charge.variance or size % 1:  # blocks of drawn coordinates: their number is not linear
            raise NotPredicted
        size = int(size)
        return charge_gather(site.n, coded_bytes(size, self.bits), charge.content, 1, size)
