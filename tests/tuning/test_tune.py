"""``wash-bench tune``: the choice, the way beyond an edge, and the command from end to end."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from wash_bench.cli.main import run_command
from wash_bench.errors import UsageError
from wash_bench.plugins.registry import MethodEntry, find_method
from wash_bench.report.tables.tuning import Selection, Trial
from wash_bench.study.grid import read_grid, widened
from wash_bench.study.resolve import resolve


def tried(options: dict, *values: float, sent: float = 1.0) -> Trial:
    return Trial(options, dict(enumerate(values)), {"sent_values_per_step": sent})


def settings_beyond(tuned: Selection, entry: MethodEntry) -> list[dict]:
    assert tuned.best is not None
    return widened(tuned.best.options, tuned.ends(), entry)


def test_the_highest_mean_is_chosen_and_of_equals_what_sends_less() -> None:
    dear, cheap = tried({"p": 0.2}, 80, 82, sent=9), tried({"p": 0.1}, 81, 81, sent=5)
    assert Selection("wash", (tried({"p": 0.3}, 70, 71), dear, cheap)).best is cheap
    assert Selection("wash", (dear, tried({"p": 0.1}, 80, 81))).best is dear


def test_a_setting_that_failed_at_a_seed_is_no_choice() -> None:
    whole, half = tried({"p": 0.1}, 50, 50), tried({"p": 0.2}, 90)
    assert Selection("wash", (whole, half)).best is whole
    assert Selection("wash", (tried({"p": 0.1}),)).best is None
    assert math.isnan(tried({"p": 0.1}).score.mean)


def test_settings_are_compared_with_seeds_as_blocks() -> None:
    best, close = tried({"p": 0.1}, 60, 90, 75.2), tried({"p": 0.2}, 59.7, 90.2, 75)
    below = tried({"p": 0.3}, 56, 86.1, 71.1)  # always four points less, whatever the seed
    assert Selection("wash", (best, close, below)).level() == [close]
    assert Selection("wash", (best, close, below)).letters() == ["a", "a", "b"]
    assert Selection("wash", (tried({"p": 0.1}, 60, 90), tried({"p": 0.2}, 5, 9))).level() is None


@pytest.mark.parametrize(
    ("best", "edge", "beyond"),
    [(0.1, "least", 0.0333), (0.3, None, None), (0.9, "greatest", 0.986)],
)
def test_edges_and_the_next_value(best: float, edge: str | None, beyond: float | None) -> None:
    values = (0.1, 0.3, 0.9)
    tuned = Selection("wash", tuple(tried({"p": p}, 9.0 if p == best else 1.0) for p in values))
    assert tuned.edges() == ({"p": edge} if edge else {})
    found = settings_beyond(tuned, find_method("wash"))
    assert found == ([{"p": beyond}] if beyond else [])


def test_whole_numbers_stay_whole_and_bounds_hold() -> None:
    dart = find_method("dart")
    tuned = Selection("dart", tuple(tried({"every": e}, float(e)) for e in (5, 15)))
    assert settings_beyond(tuned, dart) == [{"every": 45}]
    tuned = Selection("dart", tuple(tried({"every": e}, -float(e)) for e in (2, 5)))
    assert settings_beyond(tuned, dart) == [{"every": 1}]
    tuned = Selection("dart", tuple(tried({"every": e}, -float(e)) for e in (1, 5)))
    assert tuned.edges() == {"every": "least"} and settings_beyond(tuned, dart) == []


def test_a_grid_of_several_options_widens_beside_the_best_of_the_others() -> None:
    grid = [tried({"every": e, "alpha": a}, a + e) for e in (1, 10) for a in (0.5, 0.9)]
    tuned = Selection("papa", tuple(grid))
    found = settings_beyond(tuned, find_method("papa"))
    assert found == [{"every": 100, "alpha": 0.9}, {"every": 10, "alpha": 0.98}]


def test_beside_a_wrapper_the_options_keep_their_places() -> None:
    settings = [{"p": p, "ema.decay": 0.9} for p in (0.01, 0.1)]
    tuned = Selection("wash+ema", tuple(tried(own, own["p"]) for own in settings))
    found = settings_beyond(tuned, find_method("wash+ema"))
    assert found == [{"p": 0.182, "ema": {"decay": 0.9}}]  # p beyond 0.1 by the factor ends at 1


def test_grids_from_files_and_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text("wash.p = [0.1, 0.2]\n[[papa]]\nalpha = [0.9]\n[[papa]]\nalpha = 0.0\n")
    grid = read_grid([str(path), "dart.every=1,5"])
    assert grid["dart"] == [{"every": "1,5"}]
    assert grid["papa"] == [{"alpha": [0.9]}, {"alpha": 0.0}]
    for items, said in (
        ([], "nothing to tune"),
        ([str(path), "papa.every=1"], "papa has its grid already"),
        ([str(tmp_path / "none.toml")], "cannot read --grid"),
        (["wash.p"], "cannot read --grid wash.p"),
    ):
        with pytest.raises(UsageError, match=said):
            read_grid(items)


PRESET = """
dataset = "digits"
train-limit = 100
model = "test_resnet"
stem = "keep"
population = 2
val-share = 0.2
batch-size = 32
epochs = 1
barrier-points = 3
barrier-images = 20
bn-images = 32
barrier-bn-images = 32
device = "cpu"
methods = "naive-ensemble,wash,papa"
seeds = [0, 1]
[set.papa]
every = 2
"""


@pytest.mark.slow
def test_the_command_tunes_writes_goes_on_and_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(PRESET)
    out = tmp_path / "out"
    command = ["tune", "--preset-file", str(preset), "--out", str(out), "--threads", "1"]
    command += ["--grid", "wash.p=0.1,0.9", "--grid", "papa.alpha=0.5"]
    assert run_command([*command, "--seeds", "1,100"]) == 2
    assert "the preset's own results use 1" in capsys.readouterr().err
    assert not out.exists()
    assert run_command(command) == 0
    told = capsys.readouterr().out
    assert "papa: every = 2, alpha = 0.5\n" in told  # two seeds: nothing is compared
    table = pd.read_csv(out / "tuning" / "tuning.csv")
    assert len(table) == 6 and set(table["seed"]) == {100, 101}
    means = table[table["method"] == "wash"].groupby("options")["method_val_acc"].mean()
    chosen = table[table["chosen"] & (table["method"] == "wash")]["options"].unique()
    assert means[chosen[0]] == means.max()
    records = [json.loads(path.read_text()) for path in out.glob("cells/*.json")]
    assert {r["seed"] for r in records} == {100, 101} and len(records) == 6
    tuned = tomllib.loads((out / "tuning" / "tuned.toml").read_text())
    assert tuned["set"]["wash"] == json.loads(chosen[0])
    assert tuned["set"]["papa"] == {"every": 2, "alpha": 0.5}
    again = resolve(None, out / "tuning" / "tuned.toml", {}).config
    own = resolve(None, preset, {}).config
    assert (again.training, again.seeds, again.methods) == (own.training, own.seeds, own.methods)
    cells = {path: path.stat().st_mtime_ns for path in out.glob("cells/*.json")}
    assert run_command([*command, "--grid", "naive-ensemble.x=1"]) == 2
    assert run_command(command) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("cells/*.json")} == cells
