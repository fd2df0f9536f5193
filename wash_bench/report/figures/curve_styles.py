"""The style of each curve, the same in all figures: a colour and a marker by its method."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wash_bench.known_methods import CURVES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.lines import Line2D
    from matplotlib.typing import LineStyleType

OTHERS = ("#E69F00", "#882255", "#999933", "#332288", "#AA4499", "#117733")
OTHER_MARKERS = ("v", "<", ">", "p", "h", "d", "*")
LINES: tuple[LineStyleType, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)))


@dataclass(frozen=True)
class CurveStyle:
    """How one curve is drawn, the same in every panel."""

    colour: str
    marker: str
    line: LineStyleType
    fill: str

    @property
    def points(self) -> dict[str, Any]:
        """Matplotlib's words for its markers, large enough for a column's width."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": 3.5,
            "markerfacecolor": self.fill,
        }

    def sample(self, label: str, *, line: bool = True) -> Line2D:
        """A legend's entry, with the line or without."""
        from matplotlib.lines import Line2D

        kind = self.line if line else "none"
        return Line2D([], [], linestyle=kind, label=label, **self.points)


def styles_of(curves: dict[str, str]) -> dict[str, CurveStyle]:
    """The look of each curve: a colour by its method, and no colour and marker twice.

    Args:
        curves: by its name, the method that a curve is of. Settings of one method share a colour;
            curves of one colour differ in line style too.

    Returns:
        The looks, in the same order. What a method looks like alone follows from its name; where
        another curve has that already, the next free marker of the colour is taken, then the next
        colour.
    """
    used: dict[str, int] = {}
    taken: set[tuple[str, str]] = set()
    result = {}
    for curve, method in curves.items():
        colour, marker = next(way for way in _ways(method) if way not in taken)
        taken.add((colour, marker))
        place = used[colour] = used.get(colour, -1) + 1
        line, fill = LINES[place % len(LINES)], "white" if place % 2 else colour
        result[curve] = CurveStyle(colour, marker, line, fill)
    return result


def styles_in(curves: pd.DataFrame, drawn: Collection[str]) -> dict[str, CurveStyle]:
    """Return the style of each curve (``summary.curves``) that is among the ``drawn`` ones."""
    methods = dict(zip(curves["curve"], curves["method"], strict=True))
    return styles_of({name: method for name, method in methods.items() if name in drawn})


def _ways(method: str) -> Iterator[tuple[str, str]]:
    """The colours and markers of a method, its own ones first; the last is given without end."""
    digest = hashlib.blake2b(method.encode(), digest_size=2).digest()
    colours = _from(OTHERS, int.from_bytes(digest, "little"))
    markers = _from(OTHER_MARKERS, digest[1])
    if method in CURVES:
        colour, marker = CURVES[method]
        colours, markers = [colour, *colours], [marker, *markers]
    known_colours, known_markers = zip(*CURVES.values(), strict=True)
    every = [*dict.fromkeys((*markers, *OTHER_MARKERS, *known_markers))]
    yield from itertools.product(dict.fromkeys((*colours, *known_colours)), every)
    for place in itertools.count(2):  # numbers as markers: more curves than anybody can tell apart
        yield colours[0], f"${place}$"


def _from(values: Sequence[str], start: int) -> list[str]:
    """The values in turn, from one of them on."""
    start %= len(values)
    return [*values[start:], *values[:start]]
