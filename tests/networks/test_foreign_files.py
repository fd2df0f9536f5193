"""Networks of other programs: the order of their classes, and what is in and beside a file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path, PosixPath

import numpy as np
import pytest
import timm
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from tests.support.images import class_folders
from wash_bench.config import TrainingConfig
from wash_bench.data.load import load_data
from wash_bench.data.source import DataSource
from wash_bench.errors import UsageError
from wash_bench.models.checkpoint_file import digest_of_weights, read_file
from wash_bench.models.init_checkpoint import InitCheckpoint
from wash_bench.networks.cell_network import as_trained
from wash_bench.networks.inspect import NetworkInfo, find, in_order_of, natural_key
from wash_bench.record.schema import write_summed
from wash_bench.record.store import TrainingFolder

SOME = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = ("1", "10", "2", "Bengal", "american", "zoé")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    return class_folders(folder, 3, 20, 20, names=NAMES, test_count=2)


def source(root: Path, **options: object) -> DataSource:
    config = TrainingConfig(dataset=f"folder:{root}", image_size=8, val_share=0.3, **options)
    return load_data(config, torch.device("cpu"))


def named(*names: str, **more: object) -> NetworkInfo:
    return NetworkInfo(Path("net"), Path("net.pt"), origin="a file", class_names=names, **more)


@given(st.lists(st.text("aAbB129 é", min_size=1), unique=True))
def test_timms_order_of_class_folders(names: list[str]) -> None:
    from timm.utils.misc import natural_key as timms

    assert sorted(names, key=natural_key) == sorted(names, key=timms)


@pytest.mark.fault(
    "Checkpoints and code", "classes in another order than the folders", "labels follow the network"
)
@SOME
@given(order=st.permutations(NAMES))
def test_labels_follow_the_order_of_the_networks_classes(images: Path, order: list[str]) -> None:
    data = source(images)
    found = in_order_of([named(*order)], data, "pets")
    assert found.class_names == tuple(order) or tuple(order) == data.class_names
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(found.indices[split], data.indices[split])
        for (mine, labels), (theirs, before) in zip(
            found.eval_batches(split), data.eval_batches(split), strict=True
        ):
            assert torch.equal(mine, theirs)
            assert [order[i] for i in labels] == [data.class_names[i] for i in before]
        assert torch.equal(found.eval_labels(split), labels)


def test_a_network_of_timms_script_has_its_classes_in_timms_order(images: Path) -> None:
    data = source(images)
    assert data.class_names == NAMES
    found = in_order_of([NetworkInfo(Path("net"), Path("x"), natural=True)], data, "pets")
    assert found.class_names == ("1", "2", "10", "american", "Bengal", "zoé")
    part = source(images, classes="0,1,2")  # the order among those that are used
    found = in_order_of([NetworkInfo(Path("net"), Path("x"), natural=True)], part, "pets")
    assert found.class_names == ("1", "2", "10")


def test_what_is_not_known_of_the_order_is_noted(images: Path, capsys) -> None:
    data = source(images)
    assert in_order_of([NetworkInfo(Path("net"), Path("x"))], data, "pets") is data
    assert "class 1 is '10' here, as torchvision sorts folders, and '2' by timm" in (
        capsys.readouterr().err
    )
    in_order_of([named(*NAMES), NetworkInfo(Path("net"), Path("x"))], data, "pets")
    assert capsys.readouterr().err == ""


@pytest.mark.fault(
    "Checkpoints and code", "classes that the data do not have", "one line that names one"
)
def test_other_classes_and_two_orders_in_a_population_are_refused(images: Path) -> None:
    data = source(images)
    with pytest.raises(UsageError, match="class 5 is 'zebra', which pets does not have"):
        in_order_of([named(*NAMES[:5], "zebra")], data, "pets")
    with pytest.raises(UsageError, match="class 0 is 'zoé', and '1' that of net"):
        in_order_of([named(*NAMES), named(*NAMES[::-1])], data, "pets")


@pytest.mark.fault(
    "Checkpoints and code", "a class folder renamed after the training", "the training's classes"
)
def test_a_cell_keeps_the_classes_of_its_training(images: Path, tmp_path: Path, capsys) -> None:
    folder, data = TrainingFolder(tmp_path), source(images)
    assert as_trained(data, folder, "folder:pets", uses_labels=True) is data
    assert "does not name its classes" in capsys.readouterr().err
    write_summed(tmp_path / "training.json", {"class_names": list(NAMES[::-1])})
    found = as_trained(data, folder, "folder:pets", uses_labels=True)
    assert found.class_names == NAMES[::-1] and found.labels[0] == len(NAMES) - 1
    assert capsys.readouterr().err == ""
    write_summed(tmp_path / "training.json", {"class_names": ["ape", *NAMES[1:]]})
    with pytest.raises(UsageError, match="had 'ape'"):
        as_trained(data, folder, "folder:pets", uses_labels=True)
    found = as_trained(data, folder, "folder:pets", uses_labels=False)
    assert found.class_names == ("ape", *NAMES[1:])
    assert "had 'ape'" in capsys.readouterr().err


def weights(folder: Path, name: str = "best.pth") -> dict[str, torch.Tensor]:
    folder.mkdir(parents=True, exist_ok=True)
    state = timm.create_model("test_resnet", num_classes=2).state_dict()
    torch.save(state, folder / name)
    return state


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
keys = ("model_args", "wash_bench", "label_names", "mean", "input_size", "pretrained_cfg", "lr")


@pytest.mark.fault(
    "Checkpoints and code",
    "a config.json or args.yaml of another program",
    "left aside with a note",
)
@SOME
@given(
    st.sampled_from(["config.json", "args.yaml"]),
    st.dictionaries(st.sampled_from(keys), json_values),
)
def test_what_lies_beside_the_weights_is_no_obstacle(
    tmp_path: Path, name: str, data: dict[str, object]
) -> None:
    if not (tmp_path / "best.pth").exists():
        weights(tmp_path)
    for other in ("config.json", "args.yaml"):
        (tmp_path / other).unlink(missing_ok=True)
    for text in (json.dumps(data), json.dumps([data]), "[" * 5_000, "", "\ufeff{"):
        (tmp_path / name).write_text(text)
        found = find(tmp_path / "best.pth")
        assert found.weights == tmp_path / "best.pth"
        assert (found.settings, found.origin) == ({}, "")
        assert any(name in note and "left aside" in note for note in found.notes)
    for value in data.values():  # as far as it is timm's, what it says is taken or left aside
        told = {"architecture": "test_resnet", "model": "test_resnet", **data}
        (tmp_path / name).write_text(json.dumps(told | {"std": value, "crop_pct": value}))
        find(tmp_path / "best.pth")


@pytest.mark.fault("Checkpoints and code", "aliases in an args.yaml without end", "left aside")
def test_aliases_of_yaml_are_not_spelled_out(tmp_path: Path) -> None:
    weights(tmp_path)
    lines = ["a0: &a0 [1, 1]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    (tmp_path / "args.yaml").write_text("model: test_resnet\n" + "\n".join(lines))
    assert "more than" in find(tmp_path / "best.pth").notes[0]


def test_what_timms_script_was_given_is_read(tmp_path: Path) -> None:
    weights(tmp_path, "last.pth.tar")
    (tmp_path / "map.txt").write_text("b\na\nc\n")
    for args, expected in (
        ({"bn_eps": 0.1}, {"settings": {"bn_eps": 0.1}, "natural": True}),
        ({"class_map": "map.txt"}, {"class_names": ("b", "a", "c"), "natural": False}),
        ({"class_map": "gone.txt"}, {"class_names": (), "natural": False, "note": "gone.txt"}),
        ({"split_bn": True}, {"natural": True, "note": "split_bn"}),
        ({"dataset": "torch/cifar10"}, {"natural": False}),
        ({"dataset": "", "model_kwargs": None}, {"natural": True}),
    ):
        (tmp_path / "args.yaml").write_text(yaml.safe_dump({"model": "test_resnet", **args}))
        found = find(tmp_path)
        assert found.settings.get("model_arg", {}) == expected.pop("settings", {})
        assert expected.pop("note", "") in " ".join(found.notes)
        assert {key: getattr(found, key) for key in expected} == expected


def test_shards_are_one_network_and_adapters_none(tmp_path: Path) -> None:
    whole = timm.create_model("test_resnet", num_classes=2).state_dict()
    names = list(whole)
    parts = {f"model-0000{i}-of-00002.safetensors": names[i - 1 :: 2] for i in (1, 2)}
    for file, own in parts.items():
        save_file({name: whole[name].contiguous() for name in own}, tmp_path / file)
    with pytest.raises(UsageError, match="holds shards"):
        find(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {n: f for f, own in parts.items() for n in own}}))
    found = find(tmp_path)
    tensors, _ = read_file(found.weights, "x")
    assert tensors.keys() == whole.keys()
    assert all(torch.equal(tensors[name], whole[name]) for name in whole)
    before = digest_of_weights(found.weights)
    save_file({names[0]: torch.zeros(2)}, tmp_path / next(iter(parts)))
    assert digest_of_weights(found.weights) != before
    (tmp_path / next(iter(parts))).unlink()
    with pytest.raises(UsageError, match=r"shard model-00001-of-00002\.safetensors is not there"):
        read_file(found.weights, "x")
    (tmp_path / "peft").mkdir()
    save_file({"lora": torch.zeros(2)}, tmp_path / "peft" / "adapter_model.safetensors")
    with pytest.raises(UsageError, match="adapter"):
        find(tmp_path / "peft")


def test_several_files_of_weights_are_told_of(tmp_path: Path) -> None:
    for name in ("a.pth", "b.pth", "optimizer.pth"):
        weights(tmp_path, name)
    assert any("of 2 files of weights" in note for note in find(tmp_path).notes)


@pytest.mark.fault(
    "Checkpoints and code",
    "a pointer of Git LFS, an empty file, a web page",
    "one line that says so",
)
@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "web page"),
    ],
)
@pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
def test_what_stands_for_a_file_is_named(
    tmp_path: Path, content: bytes, part: str, name: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=part):
        read_file(tmp_path / name, name)


STATE = {f"layer{i}.weight": torch.full((2, 2), float(i)) for i in range(4)}
OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}


@SOME
@given(
    where=st.lists(
        st.sampled_from(["model_state_dict", "net", "state_dict", "model", "weights", "x"]),
        max_size=2,
        unique=True,
    ),
    beside=st.dictionaries(
        st.sampled_from(["epoch", "loss", "best_acc", "optimizer_state_dict", "args", "history"]),
        st.sampled_from(
            [3, torch.tensor(0.3), np.float64(0.5), np.int64(3), np.arange(3.0), np.bool_(True),
             OPTIMIZER, argparse.Namespace(lr=0.1, out=PosixPath("/x")), None, [1, "a"]]
        ),
    ),
)  # fmt: skip
def test_the_table_of_a_network_is_found_wherever_it_stands(
    tmp_path: Path, where: list[str], beside: dict[str, object]
) -> None:
    beside = {k: v for k, v in beside.items() if v is not OPTIMIZER or k.startswith("optim")}
    content: dict[str, object] = dict(STATE)
    for key in reversed(where):
        content = {key: content, **beside}
    torch.save(content, tmp_path / "x.pt")
    tensors, about = read_file(tmp_path / "x.pt", "x.pt")
    assert tensors.keys() == STATE.keys()
    assert about["nested"] == ".".join(where)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"net_g": STATE, "net_d": STATE}, r"several tables of tensors, net_g \(4\), net_d \(4\)"),
        ({"epoch": 3, "name": "x"}, "its keys are epoch, name"),
        ([1, 2], "it holds a list"),
        ({"model": STATE, "f": argparse.ArgumentParser}, "an object of argparse.ArgumentParser"),
    ],
)
def test_what_a_file_holds_instead_is_named(tmp_path: Path, content: object, part: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UsageError, match=part):
        read_file(tmp_path / "x.pt", "x.pt")


class Windowed(nn.Module):
    """A network with a buffer that its state leaves out, as timm's of today."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Linear(3, 3)
        self.attention.register_buffer("relative_position_index", torch.arange(3), persistent=False)


@pytest.mark.fault(
    "Checkpoints and code", "quantized or complex tensors", "one line that names one"
)
def test_tensors_that_are_no_weights_are_refused_and_old_buffers_left_out() -> None:
    model = Windowed()
    state = {key: torch.ones_like(value) for key, value in model.state_dict().items()}
    old = state | {"attention.relative_position_index": torch.arange(9)}
    assert InitCheckpoint(Path("x"), "", old, "x").load_into(model, "net", new_head=False) == ""
    assert torch.equal(model.attention.weight, torch.ones(3, 3))
    for kind in (torch.int8, torch.uint8, torch.bool, torch.int64, torch.complex64):
        other = state | {"attention.weight": torch.zeros(3, 3).to(kind)}
        with pytest.raises(UsageError, match=rf"attention.weight is of {kind}"):
            InitCheckpoint(Path("x"), "", other, "x").load_into(model, "net", new_head=False)
    halves = {key: value.to(torch.bfloat16) for key, value in state.items()}
    InitCheckpoint(Path("x"), "", halves, "x").load_into(model, "net", new_head=False)
    empty = state | {"attention.weight": torch.zeros(3, 3, device="meta")}
    with pytest.raises(UsageError, match="without values"):
        InitCheckpoint(Path("x"), "", empty, "x").load_into(model, "net", new_head=False)
