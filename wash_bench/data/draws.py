"""Random numbers of the images of several batches, each batch's from a stream of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """What is drawn for each image, so that batches can be augmented together as if in turn.

    Attributes:
        streams: a CPU generator a batch.
        sizes: images of each batch; B in all.
    """

    streams: Sequence[torch.Generator]
    sizes: Sequence[int]

    @property
    def only(self) -> torch.Generator:
        """The stream, where there is one batch."""
        (stream,) = self.streams
        return stream

    def integers(self, stop: int, *lead: int) -> Tensor:
        """(*lead, B) int64, uniform in [0, ``stop``)."""
        pairs = zip(self.streams, self.sizes, strict=True)
        return torch.cat(
            [torch.randint(0, stop, (*lead, size), generator=stream) for stream, size in pairs], -1
        )

    def uniform(self, lead: Sequence[int] = (), trail: Sequence[int] = ()) -> Tensor:
        """(*lead, B, *trail) float32, uniform in [0, 1)."""
        pairs = zip(self.streams, self.sizes, strict=True)
        return torch.cat(
            [torch.rand(*lead, size, *trail, generator=stream) for stream, size in pairs],
            len(lead),
        )


def draws_of(stream: torch.Generator, images: int) -> Draws:
    """The draws of one batch."""
    return Draws([stream], [images])
