"""How much members' weights have in common: near 0 where they started apart."""

import torch

from wash_bench.core.population import Population


@torch.no_grad()
def weight_cosine(population: Population) -> float:
    """Mean cosine between members' weights, over all pairs.

    Only tensors of two and more dimensions count: the factors of normalization layers begin at 1
    in every network, so that they are alike in networks that have nothing else in common.

    Returns:
        From -1 to 1; NaN where a member's weights are all zero.
    """
    n = population.n
    gram = torch.zeros(n, n, dtype=torch.float64)
    for piece in population.layout.slices:
        if len(piece.shape) > 1:
            part = population.weights[:, piece.offset : piece.stop]
            gram += (part @ part.T).double().cpu()
    norms = gram.diagonal().sqrt()
    cosines = gram / torch.outer(norms, norms)
    first, second = torch.triu_indices(n, n, 1)
    return cosines[first, second].mean().item()
