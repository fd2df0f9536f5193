"""Every random stream of a run, derived in one place from (seed, purpose, counters).

The streams are counter-based: what is drawn for member 2 at step 900 depends on these numbers
alone, never on what was drawn before, on the method or on the number of members. A resumed run
needs no saved generator state, and every rank of a distributed run can draw what another one drew.

Purposes in use: ``init`` (member), ``order`` (member, epoch), ``augment`` (member, step),
``forward`` (member, step), ``shuffle`` (step), ``recipes`` (), ``split`` (use),
``reestimate`` (batch).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit integer that identifies one stream."""
    text = "/".join([str(seed), purpose, *map(str, counters)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def numpy_stream(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A NumPy generator (Philox, whose streams are the same on every platform)."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=derive(seed, purpose, *counters)))


def torch_stream(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A CPU torch generator; draw on the CPU and move, so that every device sees the same.

    torch's CPU generator takes the low 32 bits of a seed: of the million streams of a long training
    some hundred pairs draw alike, for other images at other steps.

    Returns:
        The generator, seeded for this stream alone.
    """
    import torch

    generator = torch.Generator()
    generator.manual_seed(derive(seed, purpose, *counters))
    return generator
