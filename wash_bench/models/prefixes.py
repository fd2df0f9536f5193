"""A network's tensors inside others' checkpoints: wrappers' prefixes and counters taken off.

timm's reader takes off those of DistributedDataParallel and torch.compile. Left are modules that
hold the network as an attribute, as Lightning's do (``model.conv1.weight``), and what
``torch.optim.swa_utils.AveragedModel`` keeps beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from wash_bench.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

COUNTERS = ("n_averaged",)


def unwrapped(
    tensors: Mapping[str, Tensor], wanted: Collection[str], what: str
) -> tuple[dict[str, Tensor], str]:
    """The tensors under the network's own names, and a note on what was taken off.

    Args:
        tensors: a checkpoint's, by name.
        wanted: names that the network needs to have; without its head and its counters.
        what: how an error line names the file.

    Returns:
        The tensors (as they are where they lack something under every prefix), and a note or "".

    Raises:
        UsageError: the network stands under several prefixes.
    """
    plain = {key: value for key, value in tensors.items() if key not in COUNTERS}
    if not wanted or any(key in plain for key in wanted):
        return plain, ""
    probe = next(iter(wanted))
    prefixes = [key.removesuffix(probe) for key in plain if key.endswith(f".{probe}")]
    whole = [prefix for prefix in prefixes if all(prefix + key in plain for key in wanted)]
    if not whole:
        return plain, ""
    if len(whole) > 1:
        raise UsageError(
            f"{what}: the network stands in it {len(whole)} times, under {', '.join(whole)}; "
            "keep one of them in a file of its own"
        )
    prefix = whole[0]
    own = {
        key.removeprefix(prefix): value for key, value in plain.items() if key.startswith(prefix)
    }
    left = [key for key in plain if not key.startswith(prefix)]
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    beside = f", besides it {left[0]}{more}, which is left alone" if left else ""
    return own, f"read from under {prefix}{beside}"
