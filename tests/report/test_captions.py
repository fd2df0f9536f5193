"""What a table says about itself: one seed, mixed machines, jobs, less work, scaled couplings."""

from __future__ import annotations

import json
from pathlib import Path

from tests.report.test_report import write_cell
from wash_bench.report import write
from wash_bench.report.read import frames


def text_of(out: Path) -> str:
    return " ".join(write.markdown(frames.load([out])).split())


def change_environment(out: Path, method: str, **facts: object) -> None:
    (path,) = (out / "trainings").glob(f"{method}-*/environment.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_a_table_of_one_seed_says_so_and_nothing_that_is_not_so(tmp_path: Path) -> None:
    write_cell(tmp_path, "wash", 0)
    text = text_of(tmp_path)
    assert "one seed (0): no interval" in text
    for other in ("Mixed environments", "side by side", "computes less", "Coupling of"):
        assert other not in text


def test_a_table_that_mixes_versions_says_so_above_and_below(tmp_path: Path) -> None:
    for method in ("wash", "papa"):
        write_cell(tmp_path, method, 0)
    change_environment(tmp_path, "papa", torch="2.14.1", jobs=2)
    change_environment(tmp_path, "wash", jobs=1)
    text = text_of(tmp_path)
    above, _, below = text.partition("| method |")
    assert "Mixed environments in this table, so the numbers may not compare; the notes" in above
    assert "torch 2.14.1 and 2.9.0; jobs side by side 1 and 2" in below


def test_jobs_are_told_beside_the_machine(tmp_path: Path) -> None:
    write_cell(tmp_path, "wash", 0)
    change_environment(tmp_path, "wash", jobs=2)
    assert "2 trainings side by side (train s is their wall time)" in text_of(tmp_path)


def test_a_method_that_computes_less_is_told(tmp_path: Path) -> None:
    write_cell(tmp_path, "wash", 0, summary={"member_steps_share": 1.0})
    write_cell(tmp_path, "dart", 0, summary={"member_steps_share": 2 / 3})
    text = text_of(tmp_path)
    assert "dart computes less: its members together took 66.7 % of the optimizer steps" in text
    assert "wash computes less" not in text


def test_a_network_with_settings_of_its_own_is_told_and_is_not_the_runs_length(
    tmp_path: Path,
) -> None:
    write_cell(tmp_path, "wash", 0, summary={"steps": 20, "parameters": 1000})
    own = {"steps": 60, "parameters": 3000, "changed_settings": {"population": 1, "epochs": 60}}
    write_cell(tmp_path, "single", 0, summary=own)
    text = text_of(tmp_path)
    assert "single trains one network with epochs 60." in text
    assert "= 20 steps" in text and "(1,000 parameters)" in text


def test_augmentation_that_the_others_do_not_have_is_told(tmp_path: Path) -> None:
    own = {"own_augmentation_share": 0.5}
    write_cell(tmp_path, "dart", 0, summary=own)
    write_cell(tmp_path, "dart", 1, summary=own)
    assert "equal terms" not in text_of(tmp_path)  # it is compared with nothing
    write_cell(tmp_path, "wash", 0)
    text = text_of(tmp_path)
    assert "dart is not on equal terms: 50 % of its members' steps were under augment" in text
    assert "wash is not" not in text


def test_a_scaled_coupling_is_told_with_the_papers(tmp_path: Path) -> None:
    path = write_cell(tmp_path, "wash", 0)
    write_cell(tmp_path, "papa", 0)
    record = json.loads(path.read_text())
    told = {"paper": {"p": 0.001}, "scaled": {"p": 0.05}, "paper_steps": 50_000, "steps": 1000,
            "reference": "cifar10-resnet18", "limited": ""}  # fmt: skip
    record["config"] |= {"coupling_budget": "paper", "coupling": {"wash": told}}
    path.write_text(json.dumps(record))
    assert (
        "Coupling of wash: p=0.001 over 50,000 steps (cifar10-resnet18), scaled to p=0.05 over"
        " 1,000." in text_of(tmp_path)
    )


def test_pictures_are_told_where_they_are_not_taken_the_data_sets_way(tmp_path: Path) -> None:
    write_cell(tmp_path / "plain", "wash", 0)
    assert "Images as the network takes them" not in text_of(tmp_path / "plain")
    own = {"mean": [0.5, 0.5, 0.25], "std": [0.3, 0.2, 0.1]}
    write_cell(tmp_path / "own", "wash", 0, **own, interpolation="bicubic", crop_pct=0.95)
    assert (
        "Images as the network takes them: mean 0.5, 0.5, 0.25; standard deviation 0.3, 0.2, 0.1; "
        "bicubic interpolation; test images cropped to 95 % of their side."
    ) in text_of(tmp_path / "own")


def test_a_barrier_has_no_more_images_than_there_are(tmp_path: Path) -> None:
    for dataset, images, told in (
        ("digits", 400, "all 397 test images"),
        ("digits", 100, "100 test images"),
        ("folder:pets", 1000, "at most 1,000 test images"),
    ):
        path = write_cell(tmp_path / f"{dataset}{images}", "wash", 0, dataset=dataset)
        record = json.loads(path.read_text())
        record["config"]["evaluation"] |= {"barrier_images": images, "barrier_split": "test"}
        record.pop("checksum", None)
        path.write_text(json.dumps(record))
        assert f"over 11 points and all pairs, {told}" in text_of(tmp_path / f"{dataset}{images}")
