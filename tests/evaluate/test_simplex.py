"""The map of a triangle of members: its measurement and its figure."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.simplex_records import with_triangle
from wash_bench.cli.main import run_command
from wash_bench.config import EvaluationConfig, RunConfig, fingerprint
from wash_bench.evaluate.barrier import barrier_points
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.simplex import barycentric, simplex_points
from wash_bench.report.figures.catalogue import figures
from wash_bench.report.numbers import segments as simplex_map
from wash_bench.report.read import frames
from wash_bench.report.read.summary import curves
from wash_bench.runner.training_setup import TrainingSetup

# The simplex measurement ----------------------------------------------------------------------


@given(st.integers(2, 12), st.floats(0, 1))
def test_the_grid_covers_the_triangle_evenly(points, margin):
    grid = barycentric(points, margin)
    steps, beyond = points - 1, round(margin * (points - 1))
    whole = {
        (i, j, steps - i - j)
        for i in range(-beyond, steps + 2 * beyond + 1)
        for j in range(-beyond, steps + 2 * beyond + 1)
        if steps - i - j >= -beyond
    }
    counted = [tuple(round(w * steps, 9) for w in weights) for weights in grid]
    third = steps / 3
    assert set(counted) == whole | {(round(third, 9),) * 3}
    assert len(counted) == len(set(counted))
    assert all(math.isclose(sum(weights), 1, abs_tol=1e-12) for weights in grid)


@pytest.fixture(scope="module")
def measured(tiny_module: RunConfig):
    """The barrier and the triangle of one population of three different networks."""
    training = tiny_module.training.model_copy(update={"init": "independent"})
    setting = TrainingSetup.of(training)
    evaluator = Evaluator(setting.population(0), setting.data, "off", 0, setting.recipes(0))
    config = EvaluationConfig(
        barrier_points=3, barrier_images=40, barrier_bn_images=64, simplex_points=3
    )
    members = evaluator.population.states()
    return barrier_points(evaluator, members, config), simplex_points(evaluator, members, config)


def test_corners_edges_and_centre_are_the_networks_of_the_barrier(measured):
    segments, triangle = measured
    assert len(triangle) == 2 * (6 + 1)
    values = {(p.weight_a, p.weight_b, p.weight_c, p.bn): (p.loss, p.accuracy) for p in triangle}
    ends = {(p.a, p.alpha, p.bn): p for p in segments if p.kind == "average"}
    for bn in ("averaged", "reestimated"):
        for member in range(3):
            corner = tuple(float(member == other) for other in range(3))
            end = ends[str(member), 0.0, bn]
            assert values[(*corner, bn)] == (end.loss, end.accuracy)
        average = ends["0", 1.0, bn]
        loss, accuracy = values[(1 / 3, 1 / 3, 1 / 3, bn)]
        assert loss == pytest.approx(average.loss, rel=1e-4)
        assert accuracy == pytest.approx(average.accuracy, abs=2.6)  # one image of 40
    for p in segments:
        if p.kind == "pair" and p.alpha == 0.5:
            weights = tuple(0.5 * (str(member) in (p.a, p.b)) for member in range(3))
            assert values[(*weights, p.bn)][0] == pytest.approx(p.loss, rel=1e-5)


def test_maps_that_are_off_leave_identities_as_they_were():
    assert "simplex_points" not in EvaluationConfig().identity()
    assert "simplex_margin" not in EvaluationConfig(simplex_margin=0.5).identity()
    # As this hash was before there were maps.
    assert fingerprint(EvaluationConfig().identity()) == fingerprint(
        {
            "barrier_points": 21,
            "barrier_split": "test",
            "barrier_images": 1000,
            "bn_images": 0,
            "barrier_bn_images": 1280,
            "ece_bins": 15,
        }
    )
    on = EvaluationConfig(simplex_points=11, simplex_margin=0.2)
    assert EvaluationConfig.model_validate(on.identity()) == on
    assert RunConfig(evaluation=on).evaluation.identity()["simplex_points"] == 11


def test_a_triangle_needs_three_members(capsys, tmp_path):
    arguments = ["run", "digits", "--population=2", "--simplex-points=5", f"--out={tmp_path / 'r'}"]
    assert run_command(arguments) == 2
    error = capsys.readouterr().err
    assert "--simplex-points 5 needs three members, not --population 2" in error
    assert error.count("\n") == 1


# The simplex figure ---------------------------------------------------------------------------


def test_the_maps_show_the_lowest_seeds_members_and_their_average(tmp_path):
    for seed in (1, 0):
        with_triangle(tmp_path, seed=seed)
    records = frames.load([tmp_path])
    assert not records.warnings and len(records.simplex) == 2 * 2 * 10
    first, second = simplex_map.maps(records.simplex, curves(records.summary))
    assert (first.bn, second.bn) == ("averaged", "reestimated")
    assert first.seed == 0 and len(first.points) == 10
    # Corners: members 0, 1, 2; the height of an equilateral triangle.
    assert first.members["loss"].tolist() == [1, 1, 3]
    assert first.members["accuracy"].tolist() == [90, 80, 90]
    assert first.members[["x", "y"]].to_numpy() == pytest.approx(
        np.array([(0, 0), (1, 0), (0.5, math.sqrt(0.75))])
    )
    assert first.average["loss"] == pytest.approx(1 + 2 / 9 + 2 / 3)
    assert (first.average["x"], first.average["y"]) == pytest.approx((0.5, math.sqrt(0.75) / 3))
    assert first.summary_text("accuracy") == "86.7 → 86.7"
    figure = dict(figures(records, ("simplex",)))["simplex"]
    figure.draw_without_rendering()
    labels = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert labels == ["1.67 → 1.89"] * 2 + ["86.7 → 86.7"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("points", [2, 3, 4])
def test_a_map_with_a_hole_is_drawn(tmp_path, points):
    with_triangle(tmp_path, points, hole=True)
    records = frames.load([tmp_path])
    figure = dict(figures(records, ("simplex",)))["simplex"]
    figure.draw_without_rendering()
    assert "not finite" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_map_without_its_corners_is_left_out(tmp_path):
    with_triangle(tmp_path)
    (path,) = (tmp_path / "trainings").glob("*/simplex-*.csv")
    table = pd.read_csv(path)
    table[table["weight_a"] < 1].to_csv(path, index=False)
    assert list(figures(frames.load([tmp_path]), ("simplex",))) == []
