"""Which image folders are one data set to records, of this version and of 0.1.0."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.images import class_folders
from wash_bench.config import RunConfig, TrainingConfig
from wash_bench.data.paths import content_of, earlier_content_of, near
from wash_bench.plugins.registry import find_method
from wash_bench.record.store import Store, write_manifest
from wash_bench.runner.experiment import manifest_of, side_by_side
from wash_bench.study.cells import Cell, CellIds, MethodSpec, cells_of, identify

WASH = find_method("wash")


def config_of(folder: Path | str) -> RunConfig:
    training = TrainingConfig(dataset=f"folder:{folder}", device="cpu")
    return RunConfig(training=training, seeds=(3,))


def ids_on(path: Path | str, content: str) -> CellIds:
    about = {"device": "cpu", "schema": 1, "dataset": f"folder:{path}", "content": content}
    return identify(config_of("anywhere"), MethodSpec(WASH), 3, about)


def ids(folder: Path | str, out: Path | None = None) -> list[CellIds]:
    return [cell.ids for cell in cells_of(config_of(folder), [WASH], out)]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "pets", 3, 8, 8, names=("cat", "dog"), test_count=2)


def test_the_ids_of_earlier_records_do_not_move() -> None:
    assert ids_on("/data/pets", "abcdef01") == CellIds(
        "wash-test_resnet-folder_pets-n3-s3-806d1cde",
        "wash-test_resnet-folder_pets-n3-s3-ce83ebff",
        "f5fd671d",
        "test_resnet-folder_pets-n3-1ff10fb5",
    )


def test_the_same_images_elsewhere_are_the_same_cells(pets: Path, tmp_path: Path) -> None:
    copy = tmp_path / "job 2" / "animals"
    shutil.copytree(pets, copy)
    assert ids(copy) == ids(pets) == [ids_on("", content_of(pets))]
    next(copy.glob("train/cat/*")).unlink()
    assert ids(copy) != ids(pets)


@pytest.mark.fault(
    "Images and data sets", "records of 0.1.0 on an image folder", "found under their ids"
)
@pytest.mark.parametrize("left", ["a cell", "a training", "run.json"])
def test_an_experiment_keeps_the_ids_under_which_it_was_begun(
    pets: Path, tmp_path: Path, left: str
) -> None:
    store = Store(tmp_path / "out")
    old = ids_on(pets, earlier_content_of(pets))
    assert ids(pets, store.root) == ids(pets)

    def leave(these: CellIds) -> None:
        if left == "a cell":
            (store.root / "cells" / f"{these.cell}.json").touch()
        elif left == "a training":
            store.training(these.training).path.mkdir()
        else:
            (cell,) = cells_of(config_of(pets), [WASH])
            known = replace(cell, known=these)
            write_manifest(store.root, manifest_of(side_by_side([known])))

    leave(old)
    assert ids(pets, store.root) == [old]
    entries = [WASH, find_method("papa")]  # a further method belongs to the same experiment
    cells: tuple[Cell, ...] = cells_of(config_of(pets), entries, store.root)
    assert {cell.experiment_id for cell in cells} == {old.experiment}
    leave(ids(pets)[0])
    assert ids(pets, store.root) == ids(pets)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        *(("folder:", ""), ("tar:", ""), ("wds:", ""), ("hfds/./", ""), ("transformers:", "")),
        *(("", ".py:build"), ("./", ".py:make")),
    ],
)
def test_a_relative_path_is_found_from_elsewhere(
    before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = tmp_path / "sub" / "runs" / "cells" / "x.json"
    path = tmp_path / f"pets{after.partition(':')[0]}"
    path.touch()
    named = f"{before}pets{after}"
    monkeypatch.chdir(tmp_path)
    assert near(named, cell) == named
    monkeypatch.chdir("/")
    assert near(named, cell) == f"{before.removesuffix('./')}{tmp_path}/pets{after}"
    path.unlink()
    assert near(named, cell) == named


@pytest.mark.parametrize("name", ["digits", "hfds/org/name", "torch/cifar10", "resnet18.a1_in1k"])
def test_a_name_without_a_path_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / "org").mkdir()
    assert near(name, tmp_path / "cells" / "x.json") == name
