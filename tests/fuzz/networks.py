"""Networks and images as other programs leave them; what is measured must be what whole ones give.

Of a damaged file nothing is known of the score; of every other form of the same network and the
same images the score must be equal, or the form be refused in a line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from tests.fuzz.case import Case

CLASSES = ("1", "10", "2", "Bengal", "american", "zoé")
COUNTS = (2, 5, 3, 1, 6, 4)  # of test images; unequal, so that labels in another order show
SIDE, MEAN, STD = 16, (0.4, 0.5, 0.6), (0.3, 0.3, 0.2)
MODELS = {"test_resnet": {}, "test_vit": {"patch_size": 4, "img_size": SIDE, "qkv_bias": False}}
SHORT = ("--threads=1", "--device=cpu", "--crop-pct=1", "--json")


def make_networks(base: Path) -> None:
    """Grey images of six classes, networks of random weights, and timm's scores of them."""
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for name, count in zip(CLASSES, COUNTS, strict=True):
            (base / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
                pixels[0, :2] = 0, 255  # so that each file's range is the whole
                Image.fromarray(pixels).save(base / "photos" / split / name / f"{i}.png")
    images, labels = [], []
    for label, name in enumerate(CLASSES):
        for path in sorted((base / "photos/val" / name).iterdir()):
            pixels = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
            images.append((pixels - np.float32(MEAN)) / np.float32(STD))
            labels.append(label)
    batch, target = torch.tensor(np.stack(images)).permute(0, 3, 1, 2), torch.tensor(labels)
    for model, args in MODELS.items():
        torch.manual_seed(0)
        network = timm.create_model(model, num_classes=len(CLASSES), **args).eval()
        with torch.no_grad():
            next(p for n, p in reversed([*network.named_parameters()]) if p.ndim == 2).mul_(30)
            logits = network(batch)
        torch.save(network.state_dict(), base / f"{model}.pt")
        scores = {
            "acc": 100 * (logits.argmax(1) == target).double().mean().item(),
            "nll": torch.nn.functional.cross_entropy(logits, target).item(),
        }
        (base / f"{model}.json").write_text(json.dumps(scores))


def image_files(case: Case) -> list[str]:
    """Image folders with files of other formats, depths, names and kinds, some damaged."""
    folder = _photos(case)
    keeps = True
    files = sorted(p for p in folder.rglob("*.*") if p.is_file())
    for path in case.draw.sample(files, case.draw.choice((1, 2, 3, 10))):
        if not path.is_file():  # its class is gone
            continue
        equal = case.draw.random() < 0.7
        keeps = keeps and equal
        case.draw.choice(EQUAL_IMAGES if equal else OTHER_IMAGES)(case, path)
    if case.draw.random() < 0.2:
        return ["run", f"--dataset=folder:{folder}", "--image-size=16", f"--out={case.out}"]
    return _eval(case, case.base / "networks/test_resnet.pt", "test_resnet", keeps)


def class_orders(case: Case) -> list[str]:
    """Networks whose outputs are in another order of the classes, and class folders renamed."""
    order = [*CLASSES]
    case.draw.shuffle(order)
    folder = _photos(case)
    named: Any = order
    match case.draw.randrange(6):
        case 0:
            named = dict(enumerate(order))
        case 1:  # timm's order of folders, of which args.yaml says nothing
            order = ["1", "2", "10", "american", "Bengal", "zoé"]
            named = None
        case 2:
            named = [unicodedata.normalize("NFD", name) for name in order]
        case 3:
            old = case.draw.choice(CLASSES)
            new = case.text().replace("/", "_").encode("utf-8", "replace")[:200].decode() or "x"
            for split in ("train", "val"):
                if not os.path.lexists(folder / split / new):
                    (folder / split / old).rename(folder / split / new)
    weights = torch.load(case.base / "networks/test_resnet.pt")
    at = torch.tensor([CLASSES.index(name) for name in order])
    weights = {k: v[at] if k.startswith("fc.") else v for k, v in weights.items()}
    place = case.given / "network"
    place.mkdir()
    torch.save(weights, place / "model_best.pth.tar")
    args: dict[str, Any] = {"num_classes": len(CLASSES), "mean": list(MEAN), "std": list(STD)}
    form = case.draw.randrange(2)
    if named is None:
        (place / "args.yaml").write_text(yaml.safe_dump({"model": "test_resnet", **args}))
    elif form == 0 or isinstance(named, dict):
        config = {"architecture": "test_resnet", "label_names": named, "pretrained_cfg": args}
        (place / "config.json").write_text(json.dumps(config))
    else:
        (place / "classes.txt").write_text("\n".join(named) + "\n")
        args |= {"model": "test_resnet", "class_map": "classes.txt"}
        (place / "args.yaml").write_text(yaml.safe_dump(args))
    return _eval(case, place, "", True)


def weight_files(case: Case) -> list[str]:
    """Weights in the forms of other programs, some damaged, and what lies beside them."""
    weights = torch.load(case.base / "networks/test_resnet.pt")
    place = case.given / "network"
    place.mkdir()
    prefix = case.draw.choice(("", "", "module.", "_orig_mod.", "module._orig_mod."))
    weights = {prefix + name: tensor for name, tensor in weights.items()}
    if case.draw.random() < 0.3:
        weights = {k: v.double() if v.is_floating_point() else v for k, v in weights.items()}
    names = ("model.safetensors", "a.pth", "model_best.pth.tar", "a.bin", "a.ckpt", "a.pt")
    path = place / case.draw.choice(names)
    keeps = True
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        keys = ("state_dict", "model", "model_state_dict", "net", "state_dict_ema", "")
        beside = {
            **{"epoch": 3, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}}},
            **{"loss": np.float64(0.5), "args": argparse.Namespace(lr=0.1), "x": None},
        }
        key = case.draw.choice(keys)
        found = {key: weights} | dict(case.draw.sample(sorted(beside.items()), 2))
        if key == "state_dict_ema":
            found["state_dict"] = {name: tensor * 0 for name, tensor in weights.items()}
        torch.save(found if key else weights, path)
    if case.draw.random() < 0.3:
        keeps = False
        case.draw.choice((_damaged, _replaced, _pointer, _page))(case, path)
    if case.draw.random() < 0.4:
        name = case.draw.choice(("config.json", "args.yaml", "training.json", "README.md"))
        text = json.dumps(case.json(json.loads(json.dumps(BESIDE[name]))))
        (place / name).write_text(text, encoding="utf-8", errors="surrogatepass")
        keeps = False  # it may say another size or normalization
    return _eval(case, case.draw.choice((place, path)), "test_resnet", keeps)


BESIDE: dict[str, Any] = {
    "config.json": {
        **{"architecture": "test_resnet", "label_names": CLASSES, "model_args": {"in_chans": 3}},
        "pretrained_cfg": {"input_size": [3, 16, 16], "mean": MEAN, "std": STD, "crop_pct": 1.0},
        "wash_bench": {"training": {"model": "test_resnet"}, "scores": {"acc": 1.0}},
    },
    "args.yaml": {"model": "test_resnet", "bn_eps": 1e-5, "class_map": "x.txt", "gp": None},
    "training.json": {"config": {"training": {"model": "test_resnet"}}, "class_names": CLASSES},
    "README.md": ["text"],
}


def model_args(case: Case) -> list[str]:
    """Arguments of a model as texts: a network without a bias is never taken for one with it."""
    value = case.draw.choice(
        ("False", "false", "True", "true", "0", "1", "None", "null", "no", "off", case.text())
    )
    words = _eval(case, case.base / "networks/test_vit.pt", "test_vit", True)
    patch = case.draw.choice(("4", "4.0", "4", "(4, 4)", "[4,4]", case.text()))
    name = case.draw.choice(("qkv_bias", "qkv-bias", "qkv_bias", "qkv_bais"))
    return [*words, f"--model-arg=patch_size={patch}", f"--model-arg={name}={value}"]


def _photos(case: Case) -> Path:
    return shutil.copytree(case.base / "networks/photos", case.given / "photos")


def _eval(case: Case, network: Path, model: str, keeps: bool) -> list[str]:
    """The command that measures a network on the case's images."""
    folder = case.given / "photos"
    if not folder.exists():
        folder = case.base / "networks/photos"
    known = case.base / f"networks/{model or 'test_resnet'}.json"
    case.scores = json.loads(known.read_text()) if keeps else {}
    words = ["eval", str(network), f"--dataset=folder:{folder}", f"--image-size={SIDE}", *SHORT]
    for key, values in (("mean", MEAN), ("std", STD)):
        words.append(f"--{key}=" + ",".join(map(str, values)))
    return [*words, f"--model={model}"] if model else words


# Changes of a folder that leave its pictures as they are.


def _other_format(case: Case, path: Path) -> None:
    image = Image.open(path)
    mode = case.draw.choice(("RGB", "L", "P", "RGBA", "LA"))
    image = image.convert("L").convert(mode)
    ending = case.draw.choice((".png", ".tif", ".PNG", ".tiff"))
    if mode in ("RGB", "L") and case.draw.random() < 0.3:
        ending = case.draw.choice((".bmp", ".ppm", ".webp"))
    path.unlink()
    image.save(path.with_suffix(ending), **({"lossless": True} if ending == ".webp" else {}))


def _deeper(case: Case, path: Path) -> None:
    """32 bits hold the values 0 to 255 that they had, in all pictures of the folder."""
    deep = Image.fromarray(np.asarray(Image.open(path)).astype(np.int32))
    path.unlink()
    deep.save(path.with_suffix(".tif"))


def _stray_file(case: Case, path: Path) -> None:
    names = (".DS_Store", "Thumbs.db", "README.txt", "._0.png", ".hidden.png", "notes.txt")
    place = case.draw.choice((path.parent, path.parents[1], path.parents[2]))
    (place / case.draw.choice(names)).write_bytes(b"\0\1text")


def _linked(case: Case, path: Path) -> None:
    elsewhere = case.given / f"elsewhere-{len(list(case.given.iterdir()))}{path.suffix}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _nested(case: Case, path: Path) -> None:
    (path.parent / "more").mkdir(exist_ok=True)
    path.rename(path.parent / "more" / path.name)


def _renamed(case: Case, path: Path) -> None:
    name = case.draw.choice(("e\u0301", "a b", "-x", "[1]", "%s", "'", "🧪"))
    path.rename(path.with_name(f"{name}{path.stem}{path.suffix}"))


EQUAL_IMAGES: tuple[Callable[[Case, Path], None], ...] = (
    *(_other_format, _other_format, _deeper, _stray_file, _linked, _nested, _renamed),
)


# Changes after which another score may be right.


def _damaged(case: Case, path: Path) -> None:
    path.write_bytes(case.bytes(path.read_bytes()))


def _replaced(case: Case, path: Path) -> None:
    """Something else of the same name: nothing, a folder, a link that leads nowhere."""
    path.unlink()
    match case.draw.randrange(3):
        case 0:
            path.touch()
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to(case.draw.choice(("missing", ".", path.name)))


def _pointer(case: Case, path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def _page(case: Case, path: Path) -> None:
    path.write_text("<!DOCTYPE html><html>not found</html>")


def _other_values(case: Case, path: Path) -> None:
    """Numbers of a range that may not be known, or of one row."""
    values = np.asarray(Image.open(path).convert("L")).astype(np.float32)
    scale, offset = case.draw.choice(((1.0, 0.0), (1 / 255, 0.0), (257.0, -5.0), (float("nan"), 0)))
    deep = Image.fromarray(values * np.float32(scale) + np.float32(offset))
    path.unlink()
    deep.resize((case.draw.choice((1, SIDE)), SIDE)).save(path.with_suffix(".tif"))


def _class_gone(case: Case, path: Path) -> None:
    if case.draw.random() < 0.5:
        shutil.rmtree(path.parent)
    else:
        (path.parents[1] / case.text().replace("/", "")[:100].strip(".\x00")).mkdir(exist_ok=True)


def _other_script(case: Case, path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\n")


OTHER_IMAGES: tuple[Callable[[Case, Path], None], ...] = (
    *(_damaged, _replaced, _pointer, _page, _other_values, _class_gone, _other_script),
)
