"""Prepared folders: the same images as the class folders, resumable, damage told in one line."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.command import command
from tests.support.images import class_folders
from wash_bench.config import TrainingConfig
from wash_bench.data import prepare as make
from wash_bench.data.folder import FolderSource
from wash_bench.data.load import load_data
from wash_bench.data.paths import check_place, content_of
from wash_bench.data.prepared.encode import resized
from wash_bench.data.prepared.shards import Shards
from wash_bench.errors import UsageError, WashBenchError

CPU = torch.device("cpu")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes, 7 + 3 images each, of uneven size; some grey, with a palette, or of 16 bits."""
    names = ("cat", "dog")
    folder = class_folders(tmp_path / "pets", 7, 50, 40, names=names, test_count=3, uneven=True)
    for name in names:
        values = np.random.default_rng(0).integers(0, 2**16, (50, 44), dtype=np.uint16)
        Image.fromarray(values).save(folder / "train" / name / "3.png")
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(make, "IMAGES", 4)


def prepared(root: Path, side: int = 0, jobs: int = 1) -> Path:
    out = root.with_name(f"prepared{side or ''}")
    options = {"side": side, "interpolation": "bilinear", "jobs": jobs}
    make.prepare(root, out, **options, report=lambda done, total: None)
    return out


def source(root: Path, **options) -> FolderSource:
    given = {"image_size": 24, "val_share": 0.3} | options
    data = load_data(TrainingConfig(dataset=f"folder:{root}", **given), CPU)
    assert isinstance(data, FolderSource)
    return data


def batches(data: FolderSource) -> list[torch.Tensor]:
    """Everything that a source gives, tensor by tensor."""
    found = [part for batch in data.epoch_batches(3, 1, 2, 4, data.recipe) for part in batch]
    for split in ("train", "val", "test"):
        found += [part for batch in data.eval_batches(split) for part in batch]
    return found + list(data.reestimation_batches(3, [data.recipe], 6, 3))


def test_a_prepared_folder_gives_the_bits_of_the_folder(pets):
    out = prepared(pets)
    ours, theirs = batches(source(out)), batches(source(pets))
    assert len(ours) == len(theirs) > 8
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)
    assert source(out).class_names == ("cat", "dog")


def test_chosen_classes_and_worker_processes(pets):
    more = pets / "train" / "eel", pets / "val" / "eel"
    for folder in more:
        folder.mkdir()
        Image.new("RGB", (30, 30), "red").save(folder / "a.png")
        Image.new("RGB", (30, 30), "blue").save(folder / "b.png")
    out = prepared(pets)
    one, other = (source(root, classes="0,2") for root in (out, pets))
    one._workers = 1
    for mine, theirs in zip(batches(one), batches(other), strict=True):
        assert torch.equal(mine, theirs)
    sent = pickle.loads(pickle.dumps(Shards(out)))  # as to a process that is spawned
    assert sent.open(5).tobytes() == Shards(out).open(5).tobytes()


def test_images_at_full_size_are_the_same_data_and_resized_ones_others(pets):
    assert content_of(prepared(pets)) == content_of(pets)
    small = prepared(pets, side=20)
    assert content_of(small) not in (content_of(pets), content_of(prepared(pets, side=21)))
    shards = Shards(small)
    assert shards.shapes.min(axis=1).max() == 20
    check_place("imagenet", str(prepared(pets)))
    with pytest.raises(UsageError, match=f"resized to 20 px.*--dataset folder:{small}"):
        check_place("imagenet", str(small))


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(0, 700))
@settings(max_examples=300, deadline=None)
def test_resized_as_torchvision_rounds(width, height, side):
    from torchvision.transforms.functional import _compute_resized_output_size

    found = resized((width, height), side)
    if not side or min(width, height) <= side:
        assert found == (width, height)
    else:
        expected = _compute_resized_output_size((height, width), [side])
        assert list(found) == expected[::-1]


def test_test_images_of_a_side_need_no_second_resizing(pets):
    """The shorter side that the central crop asks for: the folder itself is resized to the same."""
    shorter = source(pets).shorter_side
    ours, theirs = source(prepared(pets, side=shorter)), source(pets)
    for mine, other in zip(ours.eval_batches("test"), theirs.eval_batches("test"), strict=True):
        assert torch.equal(mine[0], other[0])


def test_a_killed_one_goes_on_with_what_it_lacks(pets, monkeypatch):
    real, made = make._remember, []

    def breaks(target, shard):
        real(target, shard)
        made.append(target.name)
        if len(made) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(make, "_remember", breaks)
    with pytest.raises(KeyboardInterrupt):
        prepared(pets)
    out = pets.with_name("prepared")
    assert not (out / "prepared.json").exists()
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.pixels") if path.name in made}
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(make, "_remember", real)
    make.prepare(
        pets, out, side=0, interpolation="bilinear", jobs=1, report=lambda *of: told.append(of)
    )
    assert told[0][0] >= 3 * 2 and told[-1] == (20, 20)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert sorted(path.suffix for path in out.iterdir()) == [
        ".json",
        *[".npy"] * 2,
        *[".pixels"] * 6,
    ]
    assert torch.equal(batches(source(out))[0], batches(source(pets))[0])


@pytest.mark.fault(
    "Images and data sets",
    "a prepared folder with a file missing, cut off, or changed",
    "one line that names it; changed pixels when `prepare` is called again, the rest at the start",
)
@pytest.mark.fault(
    "Kills and stops", "SIGKILL of prepare", "its processes end with it; the same command goes on"
)
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_processes_end_with_a_killed_prepare(tmp_path: Path) -> None:
    class_folders(tmp_path / "pets", 400, 300, 300, test_count=10)
    words = ["prepare", str(tmp_path / "pets"), "--out", str(tmp_path / "out"), "--jobs", "2"]
    own = {"WASH_BENCH_MARK": str(tmp_path)}
    run = subprocess.Popen([sys.executable, "-m", "wash_bench", *words], env=os.environ | own)

    def processes() -> list[int]:
        mark, found = f"WASH_BENCH_MARK={tmp_path}".encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    while not list((tmp_path / "out").rglob("*.part")):  # its processes decode
        assert run.poll() is None
        time.sleep(0.02)
    assert len(processes()) >= 3
    run.kill()
    run.wait()
    until = time.monotonic() + 20
    while processes() and time.monotonic() < until:
        time.sleep(0.05)
    assert not processes()


def test_damage_is_named(pets, capsys):
    out = prepared(pets)
    again = ("prepare", str(pets), "--out", str(out))
    code, told, _ = command(capsys, *again)
    assert code == 0 and "is whole: every byte" in told and "20 images of 2 classes" in told
    shard = out / "train-00001.pixels"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, _, error = command(capsys, *again)
    assert code == 1 and "train-00001.pixels: its bytes" in error and error.count("\n") == 1
    shard.write_bytes(whole[:-1])
    with pytest.raises(WashBenchError, match=r"train-00001.pixels is damaged; remove .*prepare"):
        source(out)
    shard.unlink()
    with pytest.raises(WashBenchError, match=r"train-00001.pixels is missing; remove"):
        source(out)
    shard.write_bytes(whole)
    (out / "val.npy").write_bytes(b"no")
    with pytest.raises(WashBenchError, match=r"cannot read .*val.npy: its bytes"):
        source(out)
    (out / "prepared.json").write_text("{}")
    with pytest.raises(WashBenchError, match=r"cannot read .*prepared.json"):
        source(out)


@pytest.mark.fault(
    "Images and data sets",
    "`prepare` with a folder that holds other files, other images, or too little room",
    "one line; what is there stays",
)
def test_what_is_there_stays(pets, capsys, monkeypatch):
    def refused(*arguments: str) -> str:
        code, _, error = command(capsys, "prepare", *arguments)
        assert code in (1, 2) and error.count("\n") == 1
        return error

    out = prepared(pets)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    Image.new("RGB", (30, 30)).save(pets / "val" / "dog" / "new.png")
    assert "made from other images" in refused(str(pets), "--out", str(out))
    assert "holds other files" in refused(str(pets), "--out", str(pets.parent))
    assert "among the class folders" in refused(str(pets), "--out", str(pets / "train" / "new"))
    assert "is prepared already" in refused(str(out), "--out", str(pets.parent / "x"))
    assert "no folder" in refused(str(pets), "--out", str(out / "prepared.json"))
    assert "there is no folder" in refused(str(pets / "none"), "--out", str(out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    monkeypatch.setattr(make.shutil, "disk_usage", lambda place: type("Use", (), {"free": 10}))
    assert "make them smaller (--side 256)" in refused(str(pets), "--out", str(pets.parent / "y"))


def test_an_image_without_a_header_is_named_by_its_decoding(pets, capsys, monkeypatch):
    (pets / "train" / "dog" / "0.png").write_bytes(b"none")
    monkeypatch.setattr("wash_bench.data.scan.HEADER_CHECK_LIMIT", 0)  # as of a larger folder
    code, _, error = command(capsys, "prepare", str(pets), "--out", str(pets.parent / "out"))
    assert code == 1 and "cannot read image" in error and "dog/0.png" in error


def test_a_broken_image_is_named_and_the_rest_is_kept(pets, capsys):
    (pets / "train" / "dog" / "5.png").write_bytes(
        (pets / "train" / "dog" / "5.png").read_bytes()[:-900]
    )
    out = pets.parent / "out"
    arguments = ("prepare", str(pets), "--out", str(out), "--jobs", "1")
    code, _, error = command(capsys, *arguments)
    assert code == 1 and "dog/5.png" in error and "repair or remove" in error
    assert error.count("\n") == 1 and list(out.glob("*.npz"))


@pytest.mark.slow
def test_a_run_on_it_gives_the_numbers_of_the_folder(pets, capsys, tmp_path):
    out = prepared(pets)
    line = (
        *("run", "--model", "test_vit", "--image-size", "32", "--methods", "wash", "--epochs", "1"),
        *("--population", "2", "--seeds", "0", "--batch-size", "4", "--val-share", "0.3"),
        *("--barrier-points", "3", "--jobs", "1", "--no-report"),
    )
    found = []
    for root in (pets, out):
        runs = tmp_path / f"runs-{root.name}"
        code, _, error = command(capsys, *line, "--dataset", f"folder:{root}", "--out", str(runs))
        assert code == 0, error
        (cell,) = (runs / "cells").glob("*.json")
        summary = json.loads(cell.read_text())["summary"]
        found.append({key: summary[key] for key in summary if "acc" in key})
    assert found[0] == found[1] and len(found[0]) > 3
