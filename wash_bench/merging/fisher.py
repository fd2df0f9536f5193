"""The diagonal Fisher information of a network, and the average that it weights."""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from wash_bench.core.population import float64_for

Labels = Literal["model", "sample", "true"]
MEMORY = 2**28  # bytes of the gradients that are held at a time, one row an example


def diagonal_fisher(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    labels: Labels = "model",
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """The mean over examples of E_y[(d log p(y|x) / d theta)^2].

    Every example has its own gradient: the square of a batch's mean gradient is another thing.

    Args:
        network: in eval mode, so that BatchNorm treats every example by itself.
        batches: images (B, C, H, W) with labels (B,).
        labels: y runs over all classes, weighted by the network's own probabilities (``model``,
            exact); is drawn once an image from them (``sample``); or is the image's label
            (``true``, the empirical Fisher).
        generator: of the draws of ``sample``, on the CPU.

    Returns:
        The Fisher under the parameters' names, in their shapes, float64 where the device has it.

    Raises:
        ValueError: there is no image.
    """
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    buffers = dict(network.named_buffers())
    size = sum(parameter.numel() for parameter in parameters.values())
    chunk = max(1, MEMORY // (4 * size))

    def squares(image: Tensor, label: Tensor) -> dict[str, Tensor]:
        def log_probs(parameters: dict[str, Tensor]) -> Tensor:
            logits = functional_call(network, (parameters, buffers), (image.unsqueeze(0),))
            return logits.squeeze(0).log_softmax(0)

        value, pull, *_ = vjp(log_probs, parameters)
        unit = torch.eye(len(value), dtype=value.dtype, device=value.device)
        if labels != "model":
            (gradient,) = pull(unit.index_select(0, label.unsqueeze(0)).squeeze(0))
            return {name: part.square() for name, part in gradient.items()}
        total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        for direction, probability in zip(unit, value.exp(), strict=True):
            (gradient,) = pull(direction)
            total = {name: total[name] + probability * gradient[name].square() for name in total}
        return total

    sums = {name: torch.zeros_like(p, dtype=float64_for(p)) for name, p in parameters.items()}
    examples = 0
    for images, given in batches:
        target = _drawn(network, images, generator) if labels == "sample" else given
        for part, own in zip(images.split(chunk), target.split(chunk), strict=True):
            with sdpa_kernel(SDPBackend.MATH):  # the fused attentions know no vmap
                rows = vmap(squares)(part, own)
            for name, values in rows.items():
                sums[name] += values.sum(dim=0)
        examples += len(images)
    if not examples:
        raise ValueError("the Fisher information needs at least one image")
    return {name: total / examples for name, total in sums.items()}


@torch.no_grad()
def _drawn(network: nn.Module, images: Tensor, generator: torch.Generator | None) -> Tensor:
    """A label for each image from the network's own prediction."""
    probabilities = network(images).float().softmax(dim=1).cpu()  # equal draws on every device
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(1).to(images.device)


@torch.no_grad()
def fisher_average(
    weights: Sequence[Tensor], fishers: Iterable[Tensor], floor: float, normalize: bool
) -> Tensor:
    """sum_n F_n theta_n / sum_n F_n, coordinate by coordinate.

    It is taken as the mean plus the weighted mean of the deviations from it, so that coordinates
    in which the members agree, or which no Fisher says anything about, are exactly the mean's.

    Args:
        weights: N vectors theta_n (D,).
        fishers: N vectors F_n (D,), taken one after another; changed.
        floor: least Fisher of a member's coordinates, as a share of their mean.
        normalize: divide each Fisher by its L2 norm first, so that no member is heard less
            only because it is surer of its predictions.

    Returns:
        The average (D,), in the members' type.
    """
    dtype = float64_for(weights[0])
    mean = torch.zeros_like(weights[0], dtype=dtype)
    for theta in weights:
        mean += theta
    mean /= len(weights)
    weighted, total = torch.zeros_like(mean), torch.zeros_like(mean)
    for theta, fisher in zip(weights, fishers, strict=True):
        norm = fisher.norm()
        if normalize and norm > 0:
            fisher /= norm
        fisher.clamp_(min=floor * fisher.mean())
        weighted.addcmul_(fisher, theta - mean)
        total += fisher
    return mean.add_(torch.where(total > 0, weighted / total, 0)).to(weights[0].dtype)
