"""Position embeddings for images of another size than a checkpoint was trained on."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

# What timm's networks call tensors whose shape goes with the size of the image.
_NAMES = ("pos_embed", "rel_pos", "relative_position")


def of_another_size(name: str) -> bool:
    """Whether a tensor of this name has a shape that goes with the size of the image."""
    return any(part in name for part in _NAMES)


def resampled(tensors: Mapping[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], str]:
    """Tensors of a checkpoint with the position embeddings that a network's image size asks for.

    timm's own filter of the architecture does it (``resample_abs_pos_embed`` for vision
    transformers), as it does for timm's pretrained weights; all other tensors stay as they are.

    Args:
        tensors: the checkpoint's, by name.
        model: the network that they are for.

    Returns:
        The tensors, and a note that tells of the change, or "". What the filter does not bring to
        the network's shape is left as it was.
    """
    mine = model.state_dict()
    other = [
        key
        for key in mine
        if of_another_size(key) and key in tensors and tensors[key].shape != mine[key].shape
    ]
    timm_filter = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if not other or timm_filter is None:
        return dict(tensors), ""
    try:
        with warnings.catch_warnings():  # torch's, on timm's interpolation
            warnings.simplefilter("ignore")
            found = timm_filter(dict(tensors), model)
    except Exception:  # a filter meets whatever the file holds; the shapes are told of then
        return dict(tensors), ""
    new = {key: found[key] for key in other if key in found and found[key].shape == mine[key].shape}
    if not new:
        return dict(tensors), ""
    key = next(iter(new))
    more = f" and {len(new) - 1} more" if len(new) > 1 else ""
    return {**tensors, **new}, (
        f"position embeddings resampled for the image size ({key} from "
        f"{tuple(tensors[key].shape)} to {tuple(mine[key].shape)}{more})"
    )
