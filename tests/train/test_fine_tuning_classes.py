"""Fine-tuning on chosen classes: the images, the identity, the command line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from tests.support.fine_tuning import saved
from wash_bench.cli.main import run_command
from wash_bench.config import TrainingConfig
from wash_bench.data.load import folders_of_classes
from wash_bench.data.scan import Folders
from wash_bench.errors import UsageError
from wash_bench.plugins.registry import find_method
from wash_bench.runner.experiment import tasks_of
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.study import cells
from wash_bench.study.cells import cells_of
from wash_bench.study.resolve import resolve
from wash_bench.train.member_hparams import member_hyperparameters

# Classes and identity ------------------------------------------------------------------------


def test_chosen_classes_are_the_data_sets_own_images_relabelled(tiny) -> None:
    training = tiny.training.model_copy(update={"train_limit": 0})
    full = TrainingSetup.of(training).data
    part = TrainingSetup.of(training.model_copy(update={"classes": "2,5,7"})).data
    assert part.classes == 3

    def images(data, wanted) -> list[tuple[int, bytes]]:
        found = [
            (wanted.index(label), image.numpy().tobytes())
            for batch, labels in data.eval_batches("test")
            for image, label in zip(batch, labels.tolist(), strict=True)
            if label in wanted
        ]
        return sorted(found)

    assert images(part, [0, 1, 2]) == images(full, [2, 5, 7])
    assert part.train_size + part.val_size == sum(
        int(np.isin(full.split_labels[split], [2, 5, 7]).sum()) for split in ("train", "val")
    )


def test_chosen_class_folders() -> None:
    files = (["a1", "b1", "c1", "c2"], np.array([0, 1, 2, 2]))
    part = folders_of_classes(Folders(("a", "b", "c"), files, files), (0, 2))
    assert part.classes == ("a", "c")
    for paths, labels in (part.train, part.test):
        assert paths == ["a1", "c1", "c2"]
        assert labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("0-4", "0,1,2,3,4"),
        ("7, 2,5", "2,5,7"),
        ([1, 0], "0,1"),
        ("0-1,8-9", "0,1,8,9"),
        ("all", "all"),
    ],
)
def test_classes_are_kept_in_one_spelling(given, meant) -> None:
    assert TrainingConfig(classes=given).classes == meant


def test_the_identity_is_that_of_the_content(tiny, tmp_path, monkeypatch) -> None:
    def ids(**more) -> tuple[str, str]:
        training = tiny.training.model_copy(update=more)
        (task,) = tasks_of(
            cells_of(tiny.model_copy(update={"training": training}), [find_method("papa")])
        )
        return task.training_id, task.cells[0].cell_id

    (tmp_path / "elsewhere").mkdir()
    first = saved(tmp_path / "a.safetensors", 5)
    same = saved(tmp_path / "elsewhere" / "b.safetensors", 5)
    before = ids(init=f"checkpoint:{first}")
    assert before == ids(init=f"checkpoint:{same}")
    monkeypatch.chdir(tmp_path)
    assert before == ids(init="checkpoint:a.safetensors")
    saved(first, 5, seed=2)  # other weights under the old name, of the same length
    after = ids(init=f"checkpoint:{first}")
    assert after[0] != before[0] and after[1] != before[1]

    others = [ids(), ids(vary={"lr": (0.1,)}), ids(linear_probe=1), ids(classes="0,1"), after]
    assert len(set(others)) == 5
    orders = [
        TrainingConfig(vary=v).vary for v in (["lr=1,2", "mixup=0,1"], ["mixup=0,1", "lr=1,2"])
    ]
    assert list(orders[0]) == list(orders[1])  # one product, hence one draw

    hashed = []
    monkeypatch.setattr(cells, "fingerprint", lambda data: hashed.append(data) or "0" * 8)
    ids()
    assert hashed
    assert not any({"vary", "linear_probe", "classes"} & data.keys() for data in hashed)


# The command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"init": "shard"}, ["--init shard", "independent, shared, pretrained or checkpoint:PATH"]),
        ({"init": "checkpoint:"}, ["--init checkpoint:", "checkpoint:PATH"]),
        ({"vary": ["lr"]}, ["--member-grid lr", "above 0"]),
        ({"vary": ["lr=0.1,0"]}, ["lr=0", "above 0"]),
        ({"vary": ["lr=nan"]}, ["lr=nan", "above 0"]),
        ({"vary": ["lr=0.1,0.1"]}, ["different values"]),
        ({"vary": ["lr=0.1", "lr=0.2"]}, ["lr is given twice"]),
        ({"vary": ["epochs=1,2"]}, ["'epochs' cannot vary", "weight_decay"]),
        ({"vary": ["label-smoothing=0,2"]}, ["label_smoothing=2", "from 0 to 1"]),
        ({"linear_probe": "1"}, ["--linear-probe 1 needs --init checkpoint:PATH"]),
        ({"linear_probe": "2", "epochs": "2", "init": "checkpoint:x"}, ["not below --epochs 2"]),
        ({"classes": "4"}, ["--classes 4", "at least two"]),
        ({"classes": "4-1"}, ["--classes 4-1", "at least two"]),
        ({"classes": "0-3,2"}, ["names a class twice"]),
        ({"classes": "half"}, ["--classes half", "0-4"]),
    ],
)
def test_mistakes_are_one_line(options, parts) -> None:
    with pytest.raises(UsageError) as error:
        resolve("digits", None, options)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_a_missing_file_or_class_is_told_before_anything_is_made(tmp_path, capsys) -> None:
    out = f"--out={tmp_path / 'runs'}"
    assert run_command(["run", "--init", f"checkpoint:{tmp_path}/x.pth", out]) == 2
    line = capsys.readouterr().err
    assert line.startswith("wash-bench: error: --init checkpoint:") and line.count("\n") == 1
    assert "the file is not there" in line
    assert run_command(["run", "--classes", "5-10", out]) == 2
    assert "digits has no class 10; its 10 are 0 to 9" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_presets_belong_together() -> None:
    first, second = (resolve(n, None, {}).config for n in ("fine-tuning-checkpoint", "fine-tuning"))
    assert (first.training.model, first.training.stem) == (
        second.training.model,
        second.training.stem,
    )
    assert first.training.dataset == second.training.dataset
    assert second.training.population == 5
    assert set(second.training.vary) == {"lr", "weight_decay", "label_smoothing"}


@pytest.mark.slow
def test_from_half_of_the_classes_to_all_of_them(tmp_path, capsys) -> None:
    """The whole way on the command line: a checkpoint from an average, soups of it, the report."""
    small = "--train-limit 100 --image-size 16 --val-share 0.1 --barrier-points 3 --stem keep"
    small += " --barrier-images 20 --barrier-bn-images 32 --bn-images 32 --batch-size 25"
    runs = tmp_path / "runs"
    code = run_command(
        ["run", "fine-tuning-checkpoint", "--methods", "papa", "--dataset", "digits", "--epochs",
         "1", *small.split(), "--no-report", "--out", str(runs / "base")]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    (average,) = runs.glob("base/trainings/*/average.safetensors")
    assert len(load_file(average)["fc.bias"]) == 5
    capsys.readouterr()
    command = ["run", "fine-tuning", "--dataset", "digits", "--epochs", "2", "--seeds", "0",
               *small.split(), "--init", f"checkpoint:{average}", "--augment", "per-member",
               "--member-grid", "lr=0.05,0.01", "--member-grid", "weight-decay=0,0.001",
               "--population", "3",
               "--methods", "greedy-soup,naive-ensemble", "--out", str(runs / "tuned")]  # fmt: skip
    assert run_command(command) == 0
    assert "note: average.safetensors: a new head for 10 classes" in capsys.readouterr().err
    (path,) = runs.glob("tuned/trainings/*/training.json")
    about = json.loads(path.read_text())
    grid = {"lr": (0.05, 0.01), "weight_decay": (0.0, 0.001)}
    assert about["hyperparameters"] == [member_hyperparameters(grid, 0, i) for i in range(3)]
    assert about["config"]["training"]["vary"] == {key: list(v) for key, v in grid.items()}
    assert about["start"].startswith("average.safetensors: a new head for 10 classes")

    table = (runs / "tuned/report/table.md").read_text()
    start = "initial weights of checkpoint average.safetensors, its classifier alone trained"
    assert f"{start} for 1 epoch first" in table
    assert "combination of lr=0.05,0.01 weight_decay=0,0.001" in table
    summary = pd.read_csv(runs / "tuned/report/summary.csv")
    assert set(summary["linear_probe"]) == {1} and "classes" not in summary
    environment = pd.read_csv(runs / "tuned/report/environment.csv")
    told = environment["hyperparameters"][0].split("; ")
    assert told[0] == " ".join(f"{k}={v:g}" for k, v in about["hyperparameters"][0].items())
