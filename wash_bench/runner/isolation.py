"""One task's settings of torch do not reach the next one's."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def isolated_torch_state(deterministic: bool = True) -> Iterator[None]:
    """Gradients on inside; gradient mode and default type afterwards as they were before.

    Args:
        deterministic: whether cuDNN must take kernels that give the same bits again.
    """
    # A method or a network of a user's own may switch them and not back.
    kind = torch.get_default_dtype()
    # A resumed training must give the same bits on a GPU too.
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(kind)
