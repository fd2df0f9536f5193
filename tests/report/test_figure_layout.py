"""Texts of figures lie inside the canvas and on no other text; looks tell curves apart."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tests.support.records import write_cell
from tests.support.simplex_records import with_triangle
from wash_bench.plugins.registry import method_names
from wash_bench.report.figures import accuracy_plot, pairs_plot, pareto_plot
from wash_bench.report.figures.catalogue import ALL, figures
from wash_bench.report.figures.curve_styles import styles_of
from wash_bench.report.read import frames

SIX = ("wash", "wash-opt", "papa", "dart", "greedy-soup", "naive-ensemble")
LONG = {"branches": "auto-augment,cutout,cutmix"}


def wide(out: Path) -> None:
    """All that a figure has to find room for: variants with long names, failed averages, zeros."""
    for seed, method in itertools.product(range(3), (*SIX, "ema", "local-sgd")):
        summary = {"ensemble_acc": 97.0 + 1.4 * seed, "consensus_distance": 0.5}
        write_cell(out, method, seed, population=5, summary=summary)
    for seed in range(3):
        write_cell(out, "dart", seed, population=5, options={"branches": "plain"})
        write_cell(out, "dart", seed, population=5, options=LONG)


def few(out: Path) -> None:
    for seed, method in itertools.product(range(2), SIX):
        write_cell(out, method, seed, summary={"average_acc": 99.0 + seed})
    write_cell(out, "papa", 0, options={"alpha": 0.5})
    with_triangle(out)


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Titles, notes, labels of axes and legends that are seen, with their boxes in pixels."""
    figure.draw_without_rendering()
    ticks = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
    }
    found = []
    for text in figure.findobj(Text):
        seen = text.get_visible() and (text.axes is None or text.axes.get_visible())
        if seen and text.get_text().strip() and id(text) not in ticks:
            found.append((text.get_text(), text.get_window_extent()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("records", [wide, few])
def test_texts_are_inside_and_apart(records, tmp_path):
    records(tmp_path)
    drawn = dict(figures(frames.load([tmp_path])))
    assert len(drawn) >= 6
    for name, figure in drawn.items():
        shown, canvas = texts(figure), figure.bbox
        for text, box in shown:
            assert canvas.x0 - 1 <= box.x0 and box.x1 <= canvas.x1 + 1, (name, text)
            assert canvas.y0 - 1 <= box.y0 and box.y1 <= canvas.y1 + 1, (name, text)
        for (one, a), (other, b) in itertools.combinations(shown, 2):
            over = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(over) <= 1.5, f"{name}: {one!r} touches {other!r} by {over}"


def test_no_label_of_a_silent_method_lies_on_a_line(tmp_path):
    few(tmp_path)
    figure = dict(figures(frames.load([tmp_path]), ("training",)))["training"]
    (panel,) = (a for a in figure.axes if a.get_title(loc="left").startswith("MB sent"))
    (note,) = (text for text in panel.texts if "nothing: " in text.get_text())
    figure.draw_without_rendering()
    assert note.get_window_extent().y0 >= panel.get_window_extent().y1


@pytest.mark.parametrize(
    ("draw", "axis"), [(pareto_plot.draw_bytes, 1), (accuracy_plot.draw, 0)], ids=["y", "x"]
)
@pytest.mark.parametrize("records", [wide, few])
def test_bars_end_at_a_hundred_per_cent_and_inside_the_axes(draw, axis, records, tmp_path):
    records(tmp_path)
    cells = frames.load([tmp_path]).summary
    figure = draw(cells[cells["experiment_id"] == cells["experiment_id"].iloc[0]])
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_ylim() if axis else axes.get_xlim()
    ends = [
        end[axis]
        for container in axes.containers
        if isinstance(container, ErrorbarContainer)
        for bars in container.lines[2]
        for segment in bars.get_segments()
        for end in segment
    ]
    assert ends and low < min(ends) and max(ends) < high
    assert max(ends) <= 100 + 1e-9


def test_no_two_methods_or_variants_look_alike():
    every = {name: name for name in method_names()}
    every |= {f"{name}+overlap": f"{name}+overlap" for name in SIX}
    every |= {f"dart ({place})": "dart" for place in range(5)}
    looks = styles_of(every)
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(every) > 40
    # Of one method, settings share the colour; what it looks like alone is a matter of its name.
    assert {looks[name].colour for name in every if every[name] == "dart"} == {"#009E73"}
    for name in SIX:
        assert looks[name] == styles_of({name: name})[name] or looks[name].line != "-"
    assert styles_of({"a": "swa"})["a"] == styles_of({"b": "swa"})["b"]
    many = styles_of({str(place): "dart" for place in range(300)})
    assert len({(look.colour, look.marker) for look in many.values()}) == 300


def test_settings_of_one_method_have_marks_of_their_own(tmp_path):
    for tag in ("plain", "auto-augment"):
        write_cell(tmp_path, "dart", 0, options={"branches": tag})
    figure = pareto_plot.draw_bytes(frames.load([tmp_path]).summary)
    handles = figure.legends[0].legend_handles
    assert len({handle.get_marker() for handle in handles[:2]}) == 2


# Many members ---------------------------------------------------------------------------------


def test_barriers_of_all_pairs_are_a_map_from_five_members_on(tmp_path):
    write_cell(tmp_path / "four", "wash", 0, population=4)
    assert "pairs" in ALL
    assert not dict(figures(frames.load([tmp_path / "four"]), ("pairs",)))
    for method in ("wash", "naive-ensemble"):
        for seed in range(2):
            write_cell(tmp_path / "five", method, seed, population=5)
    records = frames.load([tmp_path / "five"])
    figure = dict(figures(records, ("pairs",)))["pairs"]
    images = [panel.images[0].get_array() for panel in figure.axes if panel.images]
    assert [image.shape for image in images] == [(5, 5), (5, 5)]
    # Against the records themselves: the greatest rise above the line, mean over seeds.
    rows = records.barrier
    rows = rows[(rows["kind"] == "pair") & (rows["bn"] == "averaged")]
    rows = rows[rows["methods"].str.contains("wash") & (rows["a"] == "1") & (rows["b"] == "3")]
    tops = [
        max(
            row.loss - (1 - row.alpha) * own["loss"].iloc[0] - row.alpha * own["loss"].iloc[-1]
            for row in own.itertuples()
        )
        for _, own in rows.groupby("seed")
    ]
    assert images[0][1, 3] == images[0][3, 1] == pytest.approx(sum(tops) / 2)
    assert pairs_plot.draw(records.barrier.iloc[:0], records.summary) is None
