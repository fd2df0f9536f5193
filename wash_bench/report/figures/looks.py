"""How each curve looks in all figures: a colour and a marker by its method."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.lines import Line2D
    from matplotlib.typing import LineStyleType

# Okabe & Ito, "Color Universal Design" (2008): told apart under the common colour blindnesses.
COLOURS = {
    "wash": "#0072B2",
    "wash-opt": "#56B4E9",
    "papa": "#D55E00",
    "dart": "#009E73",
    "greedy-soup": "#CC79A7",
    "naive-ensemble": "#333333",
}
OTHERS = ("#E69F00", "#882255", "#999933", "#332288", "#AA4499", "#117733")
MARKERS = {
    "wash": "o",
    "wash-opt": "s",
    "papa": "^",
    "dart": "D",
    "greedy-soup": "P",
    "naive-ensemble": "X",
}
OTHER_MARKERS = ("v", "<", ">", "p", "h", "d", "*")
LINES: tuple[LineStyleType, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)))


@dataclass(frozen=True)
class Look:
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


def looks_of(curves: dict[str, str]) -> dict[str, Look]:
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
        result[curve] = Look(colour, marker, line, fill)
    return result


def _ways(method: str) -> Iterator[tuple[str, str]]:
    """The colours and markers of a method, its own ones first; the last is given without end."""
    digest = hashlib.blake2b(method.encode(), digest_size=2).digest()
    colours = _from(OTHERS, int.from_bytes(digest, "little"))
    markers = _from(OTHER_MARKERS, digest[1])
    if method in COLOURS:
        colours, markers = [COLOURS[method], *colours], [MARKERS[method], *markers]
    every = [*dict.fromkeys((*markers, *OTHER_MARKERS, *MARKERS.values()))]
    yield from itertools.product(dict.fromkeys((*colours, *COLOURS.values())), every)
    for place in itertools.count(2):  # numbers as markers: more curves than anybody can tell apart
        yield colours[0], f"${place}$"


def _from(values: Sequence[str], start: int) -> list[str]:
    """The values in turn, from one of them on."""
    start %= len(values)
    return [*values[start:], *values[:start]]
