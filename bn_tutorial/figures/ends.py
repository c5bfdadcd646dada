"""Names of lines beside their ends, where there is room for them, in place of a legend."""

from __future__ import annotations

import math
import textwrap

from matplotlib.axes import Axes

from bn_tutorial.figures.panel import Panel

#: So many lines can be named beside a panel, in lines of so many letters.
MOST, LETTERS = 5, 13
#: No name stands farther from its line's end than this share of the panel's height.
FAR = 0.22
#: The height of a line of text, and what lies above and below a panel, in inches.
LINE, MARGIN = 0.17, 0.9


def label_ends(panels: list[Panel], height: float) -> bool:
    """Name what is drawn in a row of panels beside the last of them, each where its line ends.

    Parameters
    ----------
    panels : list of Panel
        The row, from the left.
    height : float
        That of the figure, in inches.

    Returns
    -------
    bool
        Whether that was done. It is not if something named is no line, does not run to the right
        end of the last panel, or finds no room.
    """
    last = panels[-1]
    handles = {name: one for panel in panels for name, one in panel.handles.items()}
    lines = [one.get_linestyle() not in ("None", "") for one in handles.values()]
    if not 2 <= len(handles) <= MOST or not all(lines) or handles.keys() - last.ends.keys():
        return False
    ends = {name: last.ends[name] for name in handles}
    right = max((x for x, _ in ends.values() if math.isfinite(x)), default=math.inf)
    heights = {name: _height(last.axes, y) for name, (_, y) in ends.items()}
    if any(x < right for x, _ in ends.values()) or not all(
        -0.1 < y < 1.1 for y in heights.values()
    ):
        return False
    texts = {name: textwrap.fill(name, LETTERS, break_long_words=False) for name in handles}
    places = _apart(heights, texts, height - MARGIN)
    for name in handles if places else ():
        last.axes.text(
            1.02, places[name], texts[name], color=handles[name].get_color(), fontweight="bold",
            transform=last.axes.transAxes, va="center", linespacing=1.0,
        )  # fmt: skip
    return bool(places)


def _height(axes: Axes, y: float) -> float:
    """Return where a value lies on the vertical axis, from 0 to 1; NaN where it has no place."""
    axes.get_ylim()  # which settles where the axis ends
    place = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    return float(place.transform((x, y))[1]) if math.isfinite(y) else math.nan


def _apart(heights: dict[str, float], texts: dict[str, str], inches: float) -> dict[str, float]:
    """Return heights at which no name covers another; none if there is no room for all of them."""
    order = sorted(heights, key=heights.__getitem__)
    half = {name: (text.count("\n") + 1) * LINE / inches / 2 for name, text in texts.items()}
    places, free = {}, -math.inf
    for name in order:
        places[name] = max(heights[name], free + half[name])
        free = places[name] + half[name]
    free = 1.1
    for name in reversed(order):
        places[name] = min(places[name], free - half[name])
        free = places[name] - half[name]
    far = max(abs(places[name] - heights[name]) for name in order)
    return places if free > -0.2 and far <= FAR else {}
