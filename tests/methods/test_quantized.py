"""Coded exchanges: the rounding by hand, and exact bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.identities import train
from tests.support.populations import PLAN, small_population
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.quantized import QuantizedExchange, coded_bytes, decode, encode
from wash_bench.plugins.registry import find_method, make_method

BITS = pytest.mark.parametrize("bits", [8, 4])


def naive(row: np.ndarray, bits: int) -> np.ndarray:
    levels, result = 2 ** (bits - 1) - 1, []
    for first in range(0, len(row), 128):
        block = row[first : first + 128]
        scale = np.float64(np.float32(np.abs(block).max() / levels))
        result += [scale * np.round(value / scale) if scale else 0.0 for value in block]
    return np.array(result)


@BITS
@pytest.mark.parametrize("size", [1, 2, 127, 128, 129, 371])
def test_codes_are_rounded_by_block(bits, size):
    rows = torch.randn(3, size, generator=torch.Generator().manual_seed(size))
    rows[1] = 0
    coded = encode(rows, bits)
    assert coded.dtype == torch.uint8 and coded.shape == (3, coded_bytes(size, bits))
    found = decode(coded, size, bits)
    for row, expected in zip(found, rows.double().numpy(), strict=True):
        np.testing.assert_allclose(row, naive(expected, bits), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(decode(encode(found, bits), size, bits), found)  # nothing is lost


@BITS
def test_a_mean_is_that_of_the_codes_and_a_row_of_ones_own_is_exact(bits):
    rows = small_population(3).weights
    inner = LocalExchange(3, 0)
    exchange = QuantizedExchange(inner, bits)
    coded = np.array([naive(row, bits) for row in rows.double().numpy()])
    np.testing.assert_allclose(exchange.mean(rows), coded.mean(axis=0), rtol=1e-5, atol=1e-6)
    fetched = exchange.fetch(rows, [1, 0, 2])
    np.testing.assert_allclose(fetched[:2], coded[[1, 0]], rtol=1e-5, atol=1e-7)
    assert torch.equal(fetched[2], rows[2])
    length, tallies = coded_bytes(371, bits), inner.ledger.tallies
    assert length == {8: 371 + 12, 4: 186 + 12}[bits]
    mean, fetch = tallies["gather", "weights"], tallies["fetch", "weights"]
    assert (mean.values, mean.sent_bytes, mean.wire_bytes) == (3 * 371, 3 * length, 6 * length)
    assert (fetch.values, fetch.sent_bytes, fetch.wire_bytes) == (2 * 371, 2 * length, 2 * length)


@pytest.mark.parametrize("name", ["papa", "diloco", "gossip", "noloco", "streaming-diloco"])
def test_eight_bits_are_near_the_method_and_send_about_a_quarter(name):
    plain, coded = (make_method(find_method(n), {"every": 6}) for n in (name, f"{name}+int8"))
    one, two = train(plain, 3).weights, train(coded, 3).weights
    assert not torch.equal(one, two)
    assert (one - two).norm() < 0.05 * one.norm()


def test_shuffles_are_not_coded():
    for one, two in zip(
        train(make_method(find_method("wash"), {"p": 0.1}), 3).weights,
        train(make_method(find_method("wash+int4"), {"p": 0.1}), 3).weights,
        strict=True,
    ):
        assert torch.equal(one, two)
    assert PLAN.steps == 40
