"""A network's weights from a checkpoint: a file of tensors under the architecture's own names.

Read are safetensors files, as the members and averages of a finished training are, and what
``torch.save`` wrote (``checkpoint_file``). Nothing heavy is imported until a file is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError
from wash_bench.models.checkpoint_file import NESTED, digest_of_weights, read_file
from wash_bench.models.prefixes import unwrapped

if TYPE_CHECKING:
    from torch import Tensor, nn

_COUNTER = ".num_batches_tracked"  # older torch had none
_NAMED = 3  # tensors that an error line names of each kind


def check_checkpoint(path: Path, label: str = "") -> None:
    """Refuse early, as a UsageError, a file that is not there; ``label`` names it there."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise UsageError(
            f"{label or _of_init(path)}: the file {what}; name one with a network's weights, as "
            "the average.safetensors of a finished training"
        )


def content_of_checkpoint(path: Path, label: str = "") -> str:
    """A file's SHA-256, hexadecimal; a UsageError if it cannot be read."""
    check_checkpoint(path, label)
    try:
        return digest_of_weights(path)
    except OSError as error:
        label = label or _of_init(path)
        raise UsageError(f"{label}: cannot read it: {error.strerror}") from None


def _of_init(path: Path) -> str:
    return f"--init checkpoint:{path}"


@dataclass(frozen=True)
class InitCheckpoint:
    """A checkpoint as read.

    Attributes:
        path: the file.
        digest: its SHA-256.
        tensors: by name, buffers too.
        label: how error lines name it.
        beside: what stood beside the tensors, as ``checkpoint_file.read_file`` tells it.
    """

    path: Path
    digest: str
    tensors: Mapping[str, Tensor]
    label: str
    beside: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, label: str = "") -> InitCheckpoint:
        """Read a file; a UsageError, which names it by ``label``, if it holds no tensors."""
        digest = content_of_checkpoint(path, label)
        label = label or _of_init(path)
        tensors, beside = read_file(path, label)
        return cls(path, digest, tensors, label, beside)

    def check_finite(self) -> None:
        """A UsageError that names a tensor with values that are no numbers."""
        for key, tensor in self.tensors.items():
            if not tensor.isfinite().all():
                raise UsageError(f"{self.label}: {key} has values that are not finite")

    def load_into(self, model: nn.Module, name: str, *, new_head: bool = True) -> str:
        """Give a network the checkpoint's weights and buffers.

        Args:
            model: the network; its parameters and buffers are written.
            name: its architecture, for the error line.
            new_head: leave the network's head as it is where the file has one of another shape,
                as for other classes, or none; otherwise that is refused.

        Returns:
            A note if the head is new, position embeddings were resampled for the network's image
            size, the stem was adapted to the images' channels, or a wrapper's prefix was taken
            off, else "".

        Raises:
            UsageError: another tensor is missing, too much, or of another shape.
        """
        import torch

        from wash_bench.models.head import head_parameters
        from wash_bench.models.positions import of_another_size, resampled
        from wash_bench.models.stems import adapt_stem

        self._check_types()
        mine = model.state_dict()
        head = [key for key in head_parameters(model) if key in mine]
        needed = [k for k in mine if k not in head and not k.endswith(_COUNTER)]
        theirs, wrapped = unwrapped(self.tensors, needed, self.label)
        theirs, positions = resampled(theirs, model)
        theirs, stem = adapt_stem(theirs, model)
        nested = self.beside.get("nested", "")
        where = f"read from its {nested}" if nested and nested not in NESTED else ""
        said = filter(None, (where, wrapped, positions, stem))
        note = "; ".join(f"{self.path.name}: {text}" for text in said)
        other_head = any(k not in theirs or theirs[k].shape != mine[k].shape for k in head)
        if new_head and other_head:
            note = "; ".join(filter(None, [note, self._note(head, mine, theirs)]))
            for key in head:
                theirs[key] = mine[key]
        missing = [key for key in mine if key not in theirs and not key.endswith(_COUNTER)]
        # What timm computes now, and kept in files before.
        theirs = {k: v for k, v in theirs.items() if k in mine or not _is_buffer(model, k)}
        unknown = [key for key in theirs if key not in mine]
        other = [
            f"{key} {tuple(theirs[key].shape)} instead of {tuple(mine[key].shape)}"
            for key in mine
            if key in theirs and theirs[key].shape != mine[key].shape
        ]
        if missing or unknown or other:
            sized = ", --image-size" if any(map(of_another_size, other)) else ""
            said = [("lacks", missing), ("has besides", unknown), ("has", other)]
            raise UsageError(
                f"{self.label} does not fit model {name!r}: it "
                + "; it ".join(f"{verb} {_some(keys)}" for verb, keys in said if keys)
                + f" (--model{sized}, --stem, --model-arg and the data's channels must be those it "
                "was trained with)"
            )
        with torch.no_grad():
            for key, tensor in mine.items():
                if key in theirs:
                    tensor.copy_(theirs[key])
        return note

    def _check_types(self) -> None:
        """Refuse tensors whose numbers are no weights as they stand, as of quantized networks."""
        for key, tensor in self.tensors.items():
            whole = not tensor.is_floating_point()
            if tensor.is_meta or tensor.is_quantized or tensor.is_complex() or tensor.is_sparse or (
                whole and key.endswith((".weight", ".bias", ".running_mean", ".running_var"))
            ):  # fmt: skip
                kind = "without values" if tensor.is_meta else f"of {tensor.dtype}"
                raise UsageError(
                    f"{self.label}: {key} is {kind}; save the network in floating-point numbers"
                )

    def _note(
        self, head: list[str], mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
    ) -> str:
        key = head[0]
        had = f"the checkpoint's {key} has {len(theirs[key])}" if key in theirs else "it has none"
        return f"{self.path.name}: a new head for {len(mine[key])} classes ({had})"


def _is_buffer(model: nn.Module, key: str) -> bool:
    """Whether a network has a buffer of a name, which its state leaves out."""
    place, _, name = key.rpartition(".")
    try:
        return name in model.get_submodule(place)._buffers
    except AttributeError:
        return False


def _some(keys: list[str]) -> str:
    more = len(keys) - _NAMED
    return ", ".join(keys[:_NAMED]) + (f" and {more} more" if more > 0 else "")
