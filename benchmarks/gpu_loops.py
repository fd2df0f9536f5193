"""The loops that the suite's is measured beside, as others write them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

Couple = Callable[[list[nn.Module], int], None]


class UsersLoop:
    """A list of networks with an optimizer each; batches that already lie on the device.

    Args:
        networks: N networks of one architecture.
        device: where they train.
        amp: off or bf16.
        batches: the batches of an epoch, the same for all members.
        couple: called with the networks and the step, counted from 0, after each step.
        together: one backward pass of the summed loss, as PAPA's published code.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        device: torch.device,
        amp: str,
        batches: Sequence,
        couple: Couple | None = None,
        together: bool = False,
    ) -> None:
        self.networks = [
            network.to(device, memory_format=torch.channels_last).train() for network in networks
        ]
        self.optimizers = [
            torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
            for network in self.networks
        ]
        self.device, self.amp, self.batches = device, amp, batches
        self.couple, self.together = couple, together
        self.steps = itertools.count()

    def epoch(self) -> None:
        for batch in self.batches:
            losses = []
            for network, optimizer in zip(self.networks, self.optimizers, strict=True):
                optimizer.zero_grad()
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp == "bf16"):
                    loss = F.cross_entropy(network(batch.images), batch.targets)
                if self.together:
                    losses.append(loss)
                else:
                    loss.backward()
                    optimizer.step()
            if self.together:
                torch.stack(losses).sum().backward()
                for optimizer in self.optimizers:
                    optimizer.step()
            if self.couple:
                self.couple(self.networks, next(self.steps))


def papa_published(alpha: float, every: int) -> Couple:
    """Every ``every`` steps each tensor of each state dict is pulled to its mean over the N."""

    @torch.no_grad()
    def couple(networks: list[nn.Module], step: int) -> None:
        if (step + 1) % every:
            return
        states = [network.state_dict() for network in networks]
        for name, first in states[0].items():
            if not first.is_floating_point():
                continue
            mean = sum(state[name] for state in states) / len(states)
            for state in states:
                state[name].copy_(alpha * state[name] + (1 - alpha) * mean)

    return couple


def wash_by_masks(p: float) -> Couple:
    """After each step, a Bernoulli mask and a permutation of each coordinate, tensor by tensor."""

    @torch.no_grad()
    def couple(networks: list[nn.Module], step: int) -> None:
        parameters = [list(network.parameters()) for network in networks]
        layers = len(parameters[0])
        for layer, tensors in enumerate(zip(*parameters, strict=True)):
            stacked = torch.stack(tensors)
            chosen = torch.rand_like(tensors[0]) < p * (1 - layer / (layers - 1))
            sources = torch.rand_like(stacked).argsort(0)
            shuffled = torch.where(chosen, stacked.gather(0, sources), stacked)
            for tensor, values in zip(tensors, shuffled, strict=True):
                tensor.copy_(values)

    return couple
