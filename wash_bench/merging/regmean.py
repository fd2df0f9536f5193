"""Gram matrices of layers' inputs, and the regression that merges the layers."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wash_bench.core.population import float64_for

# Shapes. G: groups (1 for a linear layer), O: outputs of a group, K: inputs of a group, which
# are the input channels times the kernel's positions of a convolution.

GRAM_BYTES = 2**30  # the Gram matrices held at a time; larger networks need several passes
UNFOLDED_BYTES = 2**26  # unfolded images at a time
RIDGES = (0.0, 1e-9, 1e-6)  # shares of the mean diagonal, tried in turn


def regression_layers(network: nn.Module, max_inputs: int) -> list[str]:
    """The linear layers and zero-padded 2-D convolutions with at most ``max_inputs`` inputs."""
    names, seen = [], set()
    for name, module in network.named_modules():
        if not _plain(module):
            continue
        weight = module.get_parameter("weight")
        if id(weight) in seen:  # a tied weight has one row and one merge
            continue
        seen.add(id(weight))
        if weight[0].numel() <= max_inputs:
            names.append(name)
    return names


def _plain(module: nn.Module) -> bool:
    # Subclasses may do something else with their inputs (own padding, standardized weights).
    if type(module) is nn.Conv2d:
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return type(module) is nn.Linear


def packs(network: nn.Module, names: Sequence[str]) -> Iterator[list[str]]:
    """The layers in turn, as many at a time as their Gram matrices fit into memory, one or more."""
    pack: list[str] = []
    used = 0
    for name in names:
        weight = as_rows(network.get_submodule(name))
        size = 2 * 8 * weight.shape[0] * weight.shape[2] ** 2  # a member's own, and the sum
        if pack and used + size > GRAM_BYTES:
            yield pack
            pack, used = [], 0
        pack.append(name)
        used += size
    if pack:
        yield pack


def as_rows(module: nn.Module) -> Tensor:
    """A layer's weight as (G, O, K)."""
    weight = module.get_parameter("weight").detach()
    return weight.reshape(getattr(module, "groups", 1), -1, weight[0].numel())


@torch.no_grad()
def gram_matrices(
    network: nn.Module, names: Sequence[str], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """X^T X (G, K, K) by layer over everything that it sees, over the number of images."""
    grams: dict[str, Tensor] = {}

    def collect(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if name not in grams:
                rows = as_rows(module)
                groups, _, k = rows.shape
                grams[name] = torch.zeros(groups, k, k, dtype=float64_for(rows), device=rows.device)
            for x in _inputs(module, inputs[0].detach()):
                x = x.to(grams[name].dtype)
                grams[name] += x @ x.mT

        return hook

    hooks = [network.get_submodule(name).register_forward_pre_hook(collect(name)) for name in names]
    images = 0
    try:
        for batch, _ in batches:
            network(batch)
            images += len(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: gram / images for name, gram in grams.items()}


def _inputs(module: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """What the layer multiplies its weight with, (G, K, any number), in parts."""
    if not isinstance(module, nn.Conv2d):
        yield x.reshape(-1, x.shape[-1]).T.unsqueeze(0)
        return
    padding = module.padding
    assert not isinstance(padding, str)
    positions = x[0, 0].numel()
    window = module.weight[0, 0].numel()
    rows = max(1, UNFOLDED_BYTES // (4 * x.shape[1] * window * positions))
    for part in x.split(rows):
        columns = F.unfold(part, module.kernel_size, module.dilation, padding, module.stride)
        # unfold lists channels first, positions of the kernel second: groups lie together.
        b, _, places = columns.shape
        columns = columns.view(b, module.groups, -1, places).permute(1, 2, 0, 3)
        yield columns.reshape(module.groups, -1, b * places)


def scaled(gram: Tensor, off_diagonal: float) -> Tensor:
    """The Gram matrices with everything off the diagonal multiplied by ``off_diagonal``."""
    diagonal = torch.diag_embed(torch.diagonal(gram, dim1=-2, dim2=-1))
    return off_diagonal * gram + (1 - off_diagonal) * diagonal


@torch.no_grad()
def regression(gram: Tensor, product: Tensor) -> Tensor | None:
    """Solve gram @ x = product by Cholesky, with a small ridge where that fails.

    Args:
        gram: (G, K, K), positive semidefinite; inputs that are never active make it singular.
        product: (G, K, O).

    Returns:
        x (G, K, O), or None if no ridge helps. Of the many solutions of a singular system it is
        close to the smallest one.
    """
    level = torch.diagonal(gram, dim1=-2, dim2=-1).mean(dim=-1)
    unit = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    for ridge in RIDGES:
        factor, info = torch.linalg.cholesky_ex(gram + (ridge * level)[:, None, None] * unit)
        if not info.any():
            solution = torch.cholesky_solve(product, factor)
            if solution.isfinite().all():
                return solution
    return None
