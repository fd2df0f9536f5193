"""The geometric median of vectors, from their pairwise distances."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wash_bench.merging.columns import CHUNK, precise


@torch.no_grad()
def squared_distances(vectors: Sequence[Tensor]) -> Tensor:
    """||v_i - v_j||^2 of N vectors (D,): (N, N), float64 on the CPU."""
    n = len(vectors)
    result = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(i):
            pieces = zip(vectors[i].split(CHUNK), vectors[j].split(CHUNK), strict=True)
            total = sum((precise(a) - precise(b)).square().sum().item() for a, b in pieces)
            result[i, j] = result[j, i] = total
    return result


def weiszfeld(squared: Tensor, iterations: int, smoothing: float) -> list[float]:
    """The geometric median as a convex combination of the vectors, by smoothed Weiszfeld steps.

    The median m minimizes sum_n ||v_n - m||. From the mean on, c_n is set to 1/max(smoothing,
    ||v_n - m||) and normalized, m = sum_n c_n v_n, until no c_n moves by a millionth of itself.
    (The sum of the distances is no measure of progress: one far vector makes it as large as it
    likes.) The vectors themselves are not needed:
    ||v_i - m||^2 = sum_n c_n ||v_i - v_n||^2 - 1/2 sum_nk c_n c_k ||v_n - v_k||^2.

    Args:
        squared: (N, N), the squared distances between the vectors.
        iterations: at most so many steps.
        smoothing: the least distance, in the units of the vectors.

    Returns:
        c_1..c_N, which sum to 1.
    """
    n = len(squared)
    coefficients = torch.full((n,), 1 / n, dtype=torch.float64)
    for _ in range(iterations):
        reach = squared @ coefficients
        distances = (reach - coefficients @ reach / 2).clamp(min=0).sqrt()
        before, coefficients = coefficients, 1 / distances.clamp(min=smoothing)
        coefficients /= coefficients.sum()
        if (coefficients - before).abs().le(1e-6 * before).all():
            break
    return coefficients.tolist()
