"""Moving what the host has made to the device, without waiting for the device."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on the device; on CUDA the copy is queued behind what is under way there."""
    # From memory that is not pinned, CUDA would first finish all that is queued.
    if device.type != "cuda" or not tensor.numel():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
