"""Draw docs/images/idea.svg: where the average of three networks lies, in one basin and in three.

    python scripts/idea_figure.py

The loss is drawn along one direction of weight space. The colours are of middle brightness, so that
the picture is legible on a light and on a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

OUT = Path(__file__).parents[1] / "docs/images/idea.svg"
WIDTH, HEIGHT, PANEL, MARGIN = 760, 265, 340, 27
TOP, BOTTOM = 62, 215  # the height of loss 1, and of loss 0
TEXT, LINE, NETWORK, AVERAGE = "#768390", "#8b949e", "#8250df", "#d4620d"


def one_basin(x: float) -> float:
    """Return the loss at ``x`` in [0, 1]: one wide basin."""
    return 0.94 - 0.84 * math.exp(-(((x - 0.5) / 0.28) ** 2))


def three_basins(x: float) -> float:
    """Return the loss at ``x`` in [0, 1]: basins at 0.1, 0.3 and 0.87, ridges between them."""
    return 0.86 - sum(
        0.76 * math.exp(-(((x - centre) / width) ** 2))
        for centre, width in ((0.1, 0.055), (0.3, 0.055), (0.87, 0.2))
    )


def panel(
    left: float, title: str, loss: Callable[[float], float], networks: Sequence[float], note: str
) -> list[str]:
    """Return one panel: the loss, three networks on it, and their average."""

    def at(x: float) -> tuple[float, float]:
        return left + PANEL * x, BOTTOM - (BOTTOM - TOP) * loss(x)

    points = " ".join("{:.1f},{:.1f}".format(*at(i / 120)) for i in range(121))
    average = sum(networks) / len(networks)
    x, y = at(average)
    parts = [
        f'<text x="{left + PANEL / 2:.0f}" y="26" class="title">{title}</text>',
        f'<polyline points="{points}" class="loss"/>',
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{BOTTOM + 14}" class="drop"/>',
    ]
    parts += ['<circle cx="{:.1f}" cy="{:.1f}" r="7" class="network"/>'.format(*at(n))
              for n in networks]  # fmt: skip
    parts += [
        f'<rect x="{x - 7:.1f}" y="{y - 7:.1f}" width="14" height="14" class="average" '
        f'transform="rotate(45 {x:.1f} {y:.1f})"/>',
        f'<text x="{x:.1f}" y="{y - 16:.1f}" class="note">{note}</text>',
        f'<line x1="{left}" y1="{BOTTOM + 14}" x2="{left + PANEL}" y2="{BOTTOM + 14}" '
        'class="axis"/>',
    ]
    return parts


def figure() -> str:
    """Return the SVG."""
    second = WIDTH - MARGIN - PANEL
    style = (
        "text { font: 14px system-ui, sans-serif; text-anchor: middle; "
        f"fill: {TEXT}; }} .title {{ font-weight: 600; font-size: 16px; }} "
        f".note {{ fill: {AVERAGE}; font-weight: 600; }} .loss, .axis, .drop {{ fill: none; "
        f"stroke: {LINE}; stroke-width: 2; }} .axis, .drop {{ stroke-width: 1; }} "
        f".drop {{ stroke-dasharray: 3 4; }} .network {{ fill: {NETWORK}; }} "
        f".average {{ fill: {AVERAGE}; }} .start {{ text-anchor: start; }}"
    )
    parts = panel(
        MARGIN, "One basin: average the weights", one_basin, (0.22, 0.34, 0.88), "low loss"
    )
    parts += panel(
        second, "Three basins: do not average", three_basins, (0.1, 0.3, 0.87), "high loss"
    )
    legend = HEIGHT - 12
    parts += [
        f'<text x="{MARGIN}" y="{TOP - 12}" class="start">loss</text>',
        f'<text x="{MARGIN + PANEL / 2:.0f}" y="{legend}">weights</text>',
        f'<text x="{second + PANEL / 2:.0f}" y="{legend}">weights</text>',
        f'<circle cx="{WIDTH / 2 - 72}" cy="{legend - 5}" r="7" class="network"/>',
        f'<text x="{WIDTH / 2 - 60}" y="{legend}" class="start">network</text>',
    ]
    diamond = WIDTH / 2 + 24
    parts += [
        f'<rect x="{diamond - 7}" y="{legend - 12}" width="14" height="14" class="average" '
        f'transform="rotate(45 {diamond} {legend - 5})"/>',
        f'<text x="{diamond + 14}" y="{legend}" class="start">average</text>',
    ]
    label = (
        "Two curves of the loss over the weights. Left, three networks lie in one basin and their "
        "average lies in it too, at a low loss. Right, they lie in three basins and the average "
        "lies on a ridge between them, at a high loss."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{label}">\n<style>{style}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(figure(), encoding="utf-8")
