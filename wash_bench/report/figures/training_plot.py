"""The training over time: validation accuracy, loss, distance to consensus, megabytes sent."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from wash_bench.metrics import METRICS, heading_of
from wash_bench.report import style
from wash_bench.report.figures.curve_styles import CurveStyle, styles_in

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panel = tuple[str, str, str, str]  # metric, title, note, scale

_MEMBERS = METRICS["member_acc_mean"].drawn
PANELS: tuple[Panel, ...] = (
    ("val_acc", "validation accuracy (%)", _MEMBERS, "linear"),
    ("train_loss", "training loss (nats)", _MEMBERS, "linear"),
    ("consensus_relative", METRICS["consensus_relative"].drawn, "", "log"),
    (
        "sent_mb",
        f"{METRICS['sent_bytes_total'].heading} per member",
        "weights and optimizer state",
        "log",
    ),
)
# Logged with --eval-average-every; without BatchNorm, the ensemble takes the second place.
MERGED: tuple[Panel, ...] = (
    ("average_val_acc", f"{heading_of('average')}, validation accuracy (%)", "", "linear"),
    (
        "average_bn_val_acc",
        f"{METRICS['average_bn_acc'].drawn} (%)",
        "on validation data",
        "linear",
    ),
    ("ensemble_val_acc", f"{heading_of('ensemble')}, validation accuracy (%)", "", "linear"),
)
FLOAT32 = 4  # bytes of a value, in records of values alone


def draw(events: pd.DataFrame, curves: pd.DataFrame, target: float | None = None) -> Figure | None:
    """The training figure; None if none of its metrics was recorded; ``target`` (%) as a line."""
    import pandas as pd

    if events.empty or curves.empty:
        return None
    rows = pd.concat([events, megabytes(events)]).merge(
        curves[["training_id", "curve", "method"]], on="training_id"
    )
    panels = _panels(set(rows["metric"]))
    rows = rows[rows["metric"].isin([metric for metric, *_ in panels])]
    if rows.empty:
        return None
    # Members first, seeds next: every seed counts once.
    means = rows.groupby(["metric", "curve", "training_id", "epoch"], as_index=False)[
        "value"
    ].mean()
    styles = styles_in(curves, set(rows["curve"]))
    with style.styled():
        lines = len(panels) // 2
        figure, axes = style.new_figure(0.5 + 2.2 * lines, lines, 2, sharex=True)
        for place, (metric, label, note, scale) in enumerate(panels):
            panel = axes[place // 2][place % 2]
            own = means[means["metric"] == metric]
            if metric == "consensus_relative" and (own["value"] == 0).any():
                note = "0: lower edge"
            silent = draw_lines(panel, own, styles, scale, metric)
            if target is not None and metric.endswith("val_acc"):
                panel.axhline(target, color="#666666", linewidth=0.8, linestyle=(0, (2, 2)))
                note = f"{note + '; ' if note else ''}dashed: {target:g} %"
            style.headline(panel, label, note, _silent_note(silent))
            if place >= len(panels) - 2:
                panel.set_xlabel("epoch")
                panel.locator_params(axis="x", integer=True)
        if means["epoch"].nunique() == 1:  # or the axis would show hundredths around one point
            axes[-1][-1].set_xlim(0, 2 * float(means["epoch"].max()))
        draw_legend(figure, styles, curves)
    return figure


def _panels(recorded: Collection[str]) -> tuple[Panel, ...]:
    """The average first, and another panel, where the merged network's accuracy was recorded."""
    merged = [panel for panel in MERGED if panel[0] in recorded]
    return (merged[0], PANELS[0], merged[1], *PANELS[1:]) if len(merged) > 1 else PANELS


def megabytes(events: pd.DataFrame) -> pd.DataFrame:
    """What a member sent so far: the bytes; where they were not recorded, those of the values."""
    sent = events[events["metric"].isin(("sent_bytes", "sent_values"))]
    sent = sent.sort_values("metric", kind="stable").drop_duplicates(["training_id", "step"])
    size = sent["metric"].map({"sent_bytes": 1, "sent_values": FLOAT32}).astype(float)
    return sent.assign(metric="sent_mb", value=sent["value"] * size / 1e6)


def draw_lines(
    axes: Axes, means: pd.DataFrame, styles: dict[str, CurveStyle], scale: str, metric: str
) -> list[str]:
    """A line a curve, the mean of its trainings by epoch, in a band of their range.

    Returns:
        The curves that are not drawn, since they sent nothing.
    """
    positive = means.loc[means["value"] > 0, "value"]
    floor = 0.0
    if scale == "log" and len(positive):
        # Zero has no place on a logarithmic axis: it is drawn on the axis' lower edge.
        floor = float(positive.min()) / 2
        axes.set_yscale("log")
        axes.set_ylim(floor, float(positive.max()) * 1.6)
    elif scale == "log":
        axes.set_ylim(0, 1)
    silent = []
    for name, look in styles.items():
        own = means[means["curve"] == name]
        if own.empty:
            continue
        if metric == "sent_mb" and not (own["value"] > 0).any():
            silent.append(name)
            continue
        grouped = own.groupby("epoch")["value"]
        mean, low, high = grouped.mean(), grouped.min(), grouped.max()
        if scale == "log":
            mean, low, high = (line.clip(lower=floor) for line in (mean, low, high))
        every = max(1, len(mean) // 6)
        axes.fill_between(mean.index, low, high, color=look.colour, alpha=0.18, linewidth=0)
        axes.plot(mean.index, mean, linestyle=look.line, markevery=every, **look.points)
    return silent


def _silent_note(silent: Sequence[str]) -> str:
    """Who sent nothing; by number where the names would take more than two lines."""
    if not silent:
        return ""
    text = f"nothing: {', '.join(silent)}"
    return (
        text
        if len(text) <= 2 * style.note_letters() - 10
        else f"nothing: {len(silent)} of the curves"
    )


def draw_legend(figure: Figure, styles: dict[str, CurveStyle], curves: pd.DataFrame) -> None:
    """The curves' names below a figure, and what a band is."""
    from matplotlib.patches import Patch

    handles: list[Artist] = [look.sample(name) for name, look in styles.items()]
    seeds = curves["seed"].nunique()
    if seeds > 1:
        handles.append(Patch(color="#bbbbbb", label=f"range over {seeds} seeds"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(_most(handles), len(handles)),
        handlelength=3,
    )


def _most(handles: Sequence[Artist]) -> int:
    """How many entries of a legend fit side by side."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    return max(1, min(4, 110 // (longest + 10)))
