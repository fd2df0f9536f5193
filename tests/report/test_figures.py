"""Figures: what they show equals an independent computation, and they are the same each time."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.records import write_cell
from tests.support.simplex_records import with_triangle
from wash_bench.cli.main import run_command
from wash_bench.errors import UsageError
from wash_bench.report import style
from wash_bench.report.figures import (
    ablation_plot,
    accuracy_plot,
    consensus_plot,
    pareto_plot,
    training_plot,
)
from wash_bench.report.figures.catalogue import ALL, figures, parse_names, write_figures
from wash_bench.report.numbers import pareto
from wash_bench.report.numbers.stats import estimate
from wash_bench.report.read import frames
from wash_bench.report.read.summary import curves
from wash_bench.report.write import write_report

# Consensus ------------------------------------------------------------------------------------


def test_distances_of_layers_are_means_over_seeds(tmp_path):
    for seed in range(2):
        write_cell(tmp_path, "wash", seed)
        write_cell(tmp_path, "naive-ensemble", seed)
    records = frames.load([tmp_path])
    table = consensus_plot.layers(records.events, curves(records.summary))
    assert set(table["layer"]) == {"conv1.weight"}
    # As the records were written: half the relative distance, growing with the epochs.
    for name, final in (("wash", 0.25 / 2), ("naive-ensemble", 0.71 / 2)):
        own = table[table["curve"] == name].set_index("epoch")
        assert own["value"].to_dict() == pytest.approx({e: final * e / 8 for e in range(1, 9)})
        assert own["share"].to_dict() == pytest.approx(
            {e: final / (0.71 / 2) * e / 8 for e in range(1, 9)}
        )


# Pareto ---------------------------------------------------------------------------------------


POINT = st.tuples(st.integers(0, 5), st.one_of(st.integers(0, 5), st.just(math.nan)))


@given(st.lists(POINT, max_size=12))
def test_the_front_is_what_brute_force_finds(points):
    def beaten(point):
        cost, value = point
        return math.isnan(value) or any(
            c <= cost and v >= value and (c < cost or v > value) for c, v in points
        )

    kept = pareto.front(points)
    assert sorted(kept) == [i for i, point in enumerate(points) if not beaten(point)]
    assert [points[i][0] for i in kept] == sorted(points[i][0] for i in kept)


def finished(out):
    summary = frames.load([out]).summary
    return summary[summary["status"] == "finished"]


def test_offers_are_the_records_numbers(tmp_path):
    for seed in range(2):
        write_cell(tmp_path, "papa", seed)
        write_cell(tmp_path, "greedy-soup", seed, summary={
            "method_networks": 1, "method_acc": 87.0 + seed, "method_bn_acc": 88.0})  # fmt: skip
        write_cell(tmp_path, "naive-ensemble", seed, summary={
            "method_networks": 3, "method_acc": 88.7, "method_bn_acc": math.nan})  # fmt: skip
    cells = finished(tmp_path)
    noise = np.mean([np.random.default_rng(seed).normal(0, 0.3) for seed in range(2)])
    sent = {(o.variant, o.model): (o.cost, o.accuracy.mean) for o in pareto.sent(cells)}
    # What the method merges to where that is one network, else the average.
    assert sent["papa", "one network"] == pytest.approx(
        (0.1 * 373_434 * 1496 * 4 / 1e6, 89.1 + noise)
    )
    assert sent["greedy-soup", "one network"] == pytest.approx((0, 87.5))
    assert sent["greedy-soup", "re-estimated"] == pytest.approx((0, 88.0))
    assert sent["naive-ensemble", "one network"] == pytest.approx((0, 10.0 + noise))
    used = {(o.variant, o.model): (o.cost, o.accuracy.mean) for o in pareto.inference(cells)}
    assert used["papa", "one network"] == pytest.approx((1, 89.1 + noise))
    assert used["papa", "members"] == pytest.approx((1, 89.1 + noise))
    assert used["naive-ensemble", "ensemble"] == pytest.approx((3, 88.7 + noise + 0.025))


ACCURACIES = st.floats(0, 100) | st.sampled_from([10.0, 88.0, 90.0])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(ACCURACIES, ACCURACIES), min_size=1, max_size=6))
def test_every_method_lies_inside_its_own_figures(pairs):
    with TemporaryDirectory() as folder:
        for place, (member, average) in enumerate(pairs):
            summary = {"member_acc_mean": member, "average_acc": average, "average_bn_acc": average}
            write_cell(Path(folder), "wash", 0, options={"p": place / 10}, summary=summary)
        cells = finished(Path(folder))
    best = max(average for _, average in pairs)
    for draw, axis in ((pareto_plot.draw_bytes, 1), (accuracy_plot.draw, 0)):
        figure = draw(cells)
        figure.draw_without_rendering()
        (axes,) = figure.axes
        low, high = axes.get_ylim() if axis else axes.get_xlim()
        drawn = [
            (line.get_xdata(), line.get_ydata())[axis][0]
            for line in axes.lines
            if line.get_marker() not in ("None", "s", "_", "|")
        ]
        edge = [text.get_text()[2 - axis :] for text in axes.texts if text.get_text()[0] in "↓◂"]
        for _, average in pairs:
            if average >= best / 2:
                assert low < average < high
                assert any(abs(value - average) < 1e-9 for value in drawn)
            else:
                assert f"{average:.1f}" in edge


def test_methods_that_send_nothing_are_on_the_axis(tmp_path):
    for method in ("wash", "papa", "greedy-soup", "naive-ensemble"):
        write_cell(tmp_path, method, 0)
    figure = pareto_plot.draw_bytes(finished(tmp_path))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels[0] == "0"
    low, _ = axes.get_xlim()
    drawn = [line.get_xdata()[0] for line in axes.lines if line.get_marker() in ("P", "X")]
    assert len(drawn) >= 2 and all(low < x < axes.get_xticks()[1] for x in drawn)
    # The naive average, far below, is told in words.
    assert any(text.get_text().startswith("↓10") for text in axes.texts)
    silent = finished(tmp_path)
    silent = silent[silent["sent_bytes_total"] == 0]
    pareto_plot.draw_bytes(silent).draw_without_rendering()


@given(st.lists(st.lists(st.floats(0, 100), min_size=1, max_size=4), min_size=1, max_size=8))
def test_no_accuracy_and_no_bar_lies_outside_its_axis(values):
    shown = [estimate(seeds) for seeds in values]
    low, high = style.accuracy_limits(shown)
    for value in shown:
        below, above = value.bar((0, 100))
        assert low < value.mean - below and value.mean + above < high
        assert value.mean - below >= -1e-9 and value.mean + above <= 100 + 1e-9


# Ablations ------------------------------------------------------------------------------------


def test_sweeps_hold_all_else_equal(tmp_path):
    for p, every, seed in itertools.product((0.2, 0.01, 0.05), (1, 4), (0, 1)):
        write_cell(tmp_path, "wash", seed, options={"p": p, "every": every, "layer_rule": "linear"},
                   summary={"average_acc": 100 * p + every + seed})  # fmt: skip
    write_cell(tmp_path, "wash", 0, options={"p": 0.01, "every": 1, "layer_rule": "constant"})
    sweeps = ablation_plot.option_sweeps(finished(tmp_path))
    told = {(s.name, s.fixed): s for s in sweeps}
    assert set(told) == {
        ("every", "p=0.01"), ("every", "p=0.05"), ("every", "p=0.2"),
        ("layer_rule", ""), ("p", "every=1"), ("p", "every=4"),
    }  # fmt: skip
    sweep = told["p", "every=4"]
    assert sweep.values == [0.01, 0.05, 0.2] and sweep.numeric
    means = sweep.rows.groupby("at")["average_acc"].mean()
    assert means.tolist() == pytest.approx([5.5, 9.5, 24.5])
    assert not told["layer_rule", ""].numeric
    figure = ablation_plot.draw([sweep])
    figure.draw_without_rendering()
    (axes,) = figure.axes
    line = next(c for c in axes.containers if c.lines[0].get_color() == "#0072B2").lines[0]
    assert line.get_ydata().tolist() == pytest.approx([5.5, 9.5, 24.5])
    assert axes.get_xlabel() == "p (log)"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.01", "0.05", "0.2"]


def test_sweeps_over_settings_go_across_experiments(tmp_path):
    for n, init in ((2, "shared"), (3, "shared"), (5, "shared"), (3, "independent")):
        write_cell(tmp_path, "papa", 0, population=n, init=init)
    write_cell(tmp_path, "papa", 0, population=8, epochs=2)  # differs in two things from each
    told = {s.name: s.values for s in ablation_plot.setting_sweeps(finished(tmp_path))}
    assert told == {"population": [2, 3, 5], "init": ["independent", "shared"]}
    assert "settings" in dict(figures(frames.load([tmp_path]), ("settings",)))


@pytest.mark.parametrize(
    ("values", "places", "log"),
    [
        ([0.001, 0.01, 0.1], [-3, -2, -1], True),
        ([0, 0.01, 0.1, 1], [-3, -2, -1, 0], True),  # zero one step before the least
        ([1, 2, 4], [1, 2, 4], False),
        ([False, True], [0, 1], False),
        (["a", "b", None], [0, 1, 2], False),
    ],
)
def test_positions(values, places, log):
    found = ablation_plot.positions(values)
    assert found[0] == pytest.approx(places) and found[1] is log


# Files ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_figure_is_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.setitem(style._RC, "savefig.dpi", 50)  # faster
    run, several = tmp_path / "run", tmp_path / "several"
    with_triangle(run, corrupted=True)
    for alpha, population in ((0.5, 3), (0.9, 5)):
        write_cell(run, "papa", 0, options={"alpha": alpha})
        write_cell(several, "papa", 0, population=population)
    of_many = {"pairs", "settings"}
    names = set(ALL) - {"barrier", "training"}  # tests/report/test_report_figures.py has them
    first, second = (
        {
            path.name: path.read_bytes()
            for folder, own in ((run, names - of_many), (several, of_many))
            for path in write_figures(frames.load([folder]), out, own, ("png", "svg", "pdf"))
        }
        for out in (tmp_path, run)
    )
    assert first == second
    assert {name.split("-")[0].split(".")[0] for name in first} == names
    assert {name.split(".")[-1] for name in first} == {"png", "svg", "pdf"}


@pytest.mark.slow
def test_figures_are_chosen_by_name(tmp_path, capsys):
    write_cell(tmp_path / "run", "wash", 0)
    out = tmp_path / "report"
    with_triangle(tmp_path / "run")
    write_report([tmp_path / "run"], out, figures=("bytes", "training"))
    assert len(pd.read_csv(out / "simplex.csv")) == 2 * 10
    assert {p.stem for p in out.glob("*.svg")} == {"bytes", "training"}
    write_report([tmp_path / "run"], out, figures=parse_names("none"))
    assert not list(out.glob("*.svg"))  # those of the older report are gone
    assert parse_names("training, barrier") == ("barrier", "training")
    assert parse_names("all") == ALL
    for text in ("barier", ""):
        with pytest.raises(UsageError, match="--figures"):
            parse_names(text)
    arguments = ["report", str(tmp_path / "run"), "--figures", "barier", "--out", str(out)]
    assert run_command(arguments) == 2
    assert "did you mean 'barrier'?" in capsys.readouterr().err


def test_sent_bytes_are_read_where_they_were_recorded():
    """Half precision, two bytes a value, beside epochs of a version that recorded values alone."""
    columns = ["training_id", "step", "epoch", "member", "metric", "value"]
    rows = [("a", 1, 1.0, None, "sent_values", 1e6), ("a", 2, 2.0, None, "sent_values", 2e6),
            ("a", 2, 2.0, None, "sent_bytes", 4e6), ("b", 1, 1.0, None, "sent_values", 3e6),
            ("b", 1, 1.0, None, "val_acc", 50.0)]  # fmt: skip
    sent = training_plot.megabytes(pd.DataFrame(rows, columns=columns))
    found = {(row.training_id, row.step): row.value for row in sent.itertuples()}
    assert found == {("a", 1): 4.0, ("a", 2): 4.0, ("b", 1): 12.0}
    assert set(sent["metric"]) == {"sent_mb"}
