"""The figures of the barrier and of the training."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from tests.support.records import write_cell
from wash_bench.report import write
from wash_bench.report.figures.catalogue import figures, write_figures
from wash_bench.report.read import frames
from wash_bench.report.style import blank, styled


@pytest.mark.slow
def test_figures_are_drawn_and_the_same_each_time(recorded, reported, tmp_path):
    from PIL import Image

    written = write.write_report([recorded], tmp_path, figures=("barrier", "training"))
    names = {path.name for path in written}
    assert names == {path.name for path in tmp_path.iterdir() if path.name[0] != "."}
    assert names >= {"barrier.png", "barrier.svg", "training.png", "training.svg"}
    for name in ("barrier", "training"):
        assert (tmp_path / f"{name}.svg").read_bytes() == (reported / f"{name}.svg").read_bytes()
        with Image.open(tmp_path / f"{name}.png") as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert image.width > 1000
        # Every method's colour is really on the paper.
        for colour in ((0, 114, 178), (213, 94, 0), (0, 158, 115), (51, 51, 51)):
            assert (pixels == colour).all(axis=1).sum() > 50


def test_a_diverged_network_is_drawn_and_named(tmp_path):
    write_cell(tmp_path / "run", "wash", 0, summary={"barrier_loss_max": math.nan})
    (path,) = (tmp_path / "run" / "trainings").glob("*/barrier-*.csv")
    table = pd.read_csv(path)
    table.loc[table["alpha"] == 0.5, "loss"] = [math.inf, math.nan] * 6
    table.to_csv(path, index=False)
    records = frames.load([tmp_path / "run"])
    assert len(records.barrier) == 6 * 2 * 11 and not records.warnings
    figure = dict(figures(records, ("barrier",)))["barrier"]
    figure.draw_without_rendering()
    assert figure.axes[0].texts[0].get_text() == "barrier not finite"


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_legend_speaks_of_batchnorm_only_where_there_is_some(tmp_path, batch_norm):
    write_cell(tmp_path, "wash", 0)
    if not batch_norm:
        (path,) = (tmp_path / "trainings").glob("*/barrier-*.csv")
        table = pd.read_csv(path)
        table[table["bn"] == "averaged"].to_csv(path, index=False)
    (legend,) = dict(figures(frames.load([tmp_path]), ("barrier",)))["barrier"].legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert ("mean, BN averaged" in labels) == batch_norm
    assert ("mean" in labels) != batch_norm


def test_one_epoch_is_drawn_on_a_whole_axis(tmp_path):
    write_cell(tmp_path, "wash", 0, epochs=1)
    (path,) = (tmp_path / "trainings").glob("*/events.jsonl")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    events = [event for event in events if event["epoch"] == events[-1]["epoch"]]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    low, high = dict(figures(frames.load([tmp_path]), ("training",)))["training"].axes[2].get_xlim()
    assert low == 0 and high == 2 * events[0]["epoch"]


def test_powers_of_ten_are_formulas() -> None:
    with styled():
        figure = blank(2.0)
        figure.add_subplot().set(yscale="log", ylim=(1e-3, 10.0))
        figure.draw_without_rendering()
    shown = [text for text in figure.findobj(Text) if "mathdefault" in text.get_text()]
    assert shown and all(text.get_parse_math() for text in shown)


def test_a_dollar_in_a_name_is_drawn_as_it_stands(tmp_path) -> None:
    for tag in ("b", "$_$"):
        write_cell(tmp_path, "wash", 0, options={"tag": tag})
    shown = ""
    for path in write_figures(
        frames.load([tmp_path]), tmp_path, ("bytes", "ablation"), ("svg", "png")
    ):
        if path.suffix == ".svg":
            shown += path.read_text()
    assert shown.count("$_$") and r"\$" not in shown


@pytest.mark.fault("The machine", "MPLBACKEND of a notebook, not installed here", "figures as ever")
def test_figures_are_drawn_whatever_backend_the_environment_names(tmp_path: Path) -> None:
    code = (
        "import os, pathlib; from wash_bench.report.style import blank, save, styled\n"
        "with styled(): save(blank(1.0), pathlib.Path('x.png'))\n"
        "assert os.environ['MPLBACKEND'] == 'module://none.at_all'"
    )
    environment = os.environ | {"MPLBACKEND": "module://none.at_all"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0 and (tmp_path / "x.png").stat().st_size > 500
