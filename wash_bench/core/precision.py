"""Mixed precision of a forward pass."""

import torch

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """The context of a forward pass in ``bf16`` or ``fp16``; an inactive one for ``off``."""
    return torch.autocast(device.type, AMP_TYPES.get(amp, torch.bfloat16), enabled=amp != "off")
