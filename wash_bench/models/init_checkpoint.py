"""Starting from a checkpoint: a file of tensors under the architecture's own names.

Read are safetensors files, as the members and averages of a finished training are, and what
``torch.save`` wrote, weights alone or nested as timm's training script nests them. Tensors only:
no code in a file is run. Nothing heavy is imported until a file is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.errors import UsageError
from wash_bench.models.prefixes import unwrapped

if TYPE_CHECKING:
    from torch import Tensor, nn

_COUNTER = ".num_batches_tracked"  # older torch had none
_NAMED = 3  # tensors that an error line names of each kind


def check_checkpoint(path: Path) -> None:
    """Refuse early, as a UsageError, a file that is not there."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise UsageError(
            f"--init checkpoint:{path}: the file {what}; name one with a network's weights, as the "
            "average.safetensors of a finished training"
        )


def content_of_checkpoint(path: Path) -> str:
    """A file's SHA-256, hexadecimal; a UsageError if it cannot be read."""
    check_checkpoint(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"--init checkpoint:{path}: cannot read it: {error.strerror}") from None


@dataclass(frozen=True)
class InitCheckpoint:
    """A checkpoint as read: its tensors by name, buffers too, and the file's SHA-256."""

    path: Path
    digest: str
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> InitCheckpoint:
        """Read a file; a UsageError if it holds no tensors by name."""
        import torch
        from timm.models import load_state_dict

        from wash_bench.models.build import one_line

        digest = content_of_checkpoint(path)
        try:
            found = load_state_dict(str(path), weights_only=True)
            tensors = {k: v for k, v in found.items() if isinstance(v, torch.Tensor)}
        except Exception as error:  # the readers raise many kinds
            raise UsageError(
                f"--init checkpoint:{path}: no safetensors file and no file of torch.save that "
                f"holds weights alone ({one_line(error)})"
            ) from error
        if not tensors:
            raise UsageError(f"--init checkpoint:{path}: holds no tensors under their names")
        return cls(path, digest, tensors)

    def load_into(self, model: nn.Module, name: str) -> str:
        """Give a network the checkpoint's weights and buffers.

        A head of another shape, as for other classes, is left as it is in the network, and so is
        one that the file lacks.

        Args:
            model: the network; its parameters and buffers are written.
            name: its architecture, for the error line.

        Returns:
            A note if the head is new or a wrapper's prefix was taken off, else "".

        Raises:
            UsageError: another tensor is missing, too much, or of another shape.
        """
        import torch

        from wash_bench.models.head import head_parameters

        mine = model.state_dict()
        head = [key for key in head_parameters(model) if key in mine]
        needed = [k for k in mine if k not in head and not k.endswith(_COUNTER)]
        theirs, note = unwrapped(self.tensors, needed, f"--init checkpoint:{self.path}")
        note = f"{self.path.name}: {note}" if note else ""
        if any(key not in theirs or theirs[key].shape != mine[key].shape for key in head):
            note = "; ".join(filter(None, [note, self._note(head, mine, theirs)]))
            for key in head:
                theirs[key] = mine[key]
        missing = [key for key in mine if key not in theirs and not key.endswith(_COUNTER)]
        unknown = [key for key in theirs if key not in mine]
        other = [
            f"{key} {tuple(theirs[key].shape)} instead of {tuple(mine[key].shape)}"
            for key in mine
            if key in theirs and theirs[key].shape != mine[key].shape
        ]
        if missing or unknown or other:
            said = [("lacks", missing), ("has besides", unknown), ("has", other)]
            raise UsageError(
                f"--init checkpoint:{self.path} does not fit model {name!r}: it "
                + "; it ".join(f"{verb} {_some(keys)}" for verb, keys in said if keys)
                + " (--model, --stem, --model-arg and the data's channels must be those it was "
                "trained with)"
            )
        with torch.no_grad():
            for key, tensor in mine.items():
                if key in theirs:
                    tensor.copy_(theirs[key])
        return note

    def _note(
        self, head: list[str], mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
    ) -> str:
        key = head[0]
        had = f"the checkpoint's {key} has {len(theirs[key])}" if key in theirs else "it has none"
        return f"{self.path.name}: a new head for {len(mine[key])} classes ({had})"


def _some(keys: list[str]) -> str:
    more = len(keys) - _NAMED
    return ", ".join(keys[:_NAMED]) + (f" and {more} more" if more > 0 else "")
