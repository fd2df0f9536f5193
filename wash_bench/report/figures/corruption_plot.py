"""Accuracy on corrupted test images over the severity of the corruption: a line a method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.metrics import METRICS, heading_of
from wash_bench.report import style
from wash_bench.report.figures.curve_styles import styles_in
from wash_bench.report.figures.training_plot import draw_legend

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NETWORKS = {"member": METRICS["member_acc_mean"].drawn}
NETWORKS |= {network: heading_of(network) for network in ("ensemble", "average", "average_bn")}


def draw(points: pd.DataFrame, curves: pd.DataFrame) -> Figure | None:
    """The figure of an experiment's corruption rows; None if there are none.

    Args:
        points: rows of ``Records.corruption``.
        curves: from ``summary.curves``.

    Returns:
        A panel a network: means over the corruptions, a band for the range over seeds.
    """
    if points.empty or curves.empty:
        return None
    rows = points.merge(curves[["training_id", "curve", "method"]], on="training_id")
    if rows.empty:
        return None
    keys = ["network", "curve", "training_id", "severity"]
    means = rows.groupby(keys, as_index=False)["accuracy"].mean()
    measured = set(means["network"])
    styles = styles_in(curves, set(rows["curve"]))
    visible = [network for network in NETWORKS if network in measured]
    kinds = rows["corruption"].nunique()
    with style.styled():
        lines = (len(visible) + 1) // 2
        figure, axes = style.new_figure(0.6 + 2.2 * lines, lines, 2, sharex=True)
        panels = [panel for line in axes for panel in line]
        for panel in panels[len(visible) :]:
            panel.set_axis_off()
        for network, panel in zip(visible, panels, strict=False):
            for name, look in styles.items():
                own = means[(means["network"] == network) & (means["curve"] == name)]
                grouped = own.groupby("severity")["accuracy"]
                mean, low, high = grouped.mean(), grouped.min(), grouped.max()
                panel.fill_between(
                    mean.index, low, high, color=look.colour, alpha=0.18, linewidth=0
                )
                panel.plot(mean.index, mean, linestyle=look.line, **look.points)
            note = f"mean over {kinds} corruptions" if kinds > 1 else rows["corruption"].iloc[0]
            style.headline(panel, f"{NETWORKS[network]}, accuracy (%)", note)
            panel.set_xticks(sorted(means["severity"].unique()))
        for panel in axes[-1]:
            panel.set_xlabel("severity")
        draw_legend(figure, styles, curves)
    return figure
