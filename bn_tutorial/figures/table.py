"""What a figure shows, as a table: as its panels noted it, or read from what was drawn by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import Collection, PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter

#: The columns of the table; ``line`` counts what is drawn in a panel, from 1.
COLUMNS = (
    *("panel", "line", "kind", "series", "x_axis", "y_axis"),
    *("x", "y", "low", "high", "value"),
)


def frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a table with `COLUMNS`, without those that have no value.

    Parameters
    ----------
    rows : iterable of mapping
        Values by the name of a column.
    """
    found = pd.DataFrame(list(rows), columns=pd.Index(COLUMNS))
    return found.dropna(axis="columns", how="all")


def table(figure: Figure) -> pd.DataFrame:
    """Return the numbers that a figure shows, if it was drawn by hand.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure. What only guides the eye (grids, lines across a whole panel, text) is left out.

    Returns
    -------
    pandas.DataFrame
        A row for each point, with `COLUMNS`: the title or the axis of its panel; the number, the
        kind (line, band, points, bars or cells) and the name of what it belongs to; the labels of
        the axes; where it lies, in the units of the axes, or by the label of a tick that has one.
        A band has a ``low`` and a ``high`` in place of ``y``, a coloured cell a ``value`` besides.
        A name is that of a label or of the legend; where neither says what a thing is, it is
        called by its kind and number, as a colour is no name.
    """
    names = _legend(figure)
    rows: list[dict[str, Any]] = []
    for index, axes in enumerate(figure.axes):
        panel, line = panel_name(axes) or f"panel {index + 1}", 0
        latest: dict[str, str] = {}  # what was drawn last in a colour: a band belongs to it
        for artist in axes.get_children():
            kind, points = _points(axes, artist)
            if not points:
                continue
            line += 1
            look = _look(artist)
            name = "" if kind == "cells" else _name(artist, names.get(look, ""))
            if kind == "band" and not name:
                name = latest.get(look[0], "")
            name = latest[look[0]] = name or f"{kind} {line}"
            head = {"panel": panel, "line": line, "kind": kind, "series": name}
            head |= axis_labels(axes)
            rows += [head | point | readable(axes, point) for point in points]
    return frame(rows)


def readable(axes: Axes, point: Mapping[str, Any]) -> dict[str, float | str]:
    """Return a point by the labels of the ticks that it lies at, with six digits elsewhere."""
    labels = {"x": _tick_labels(axes.xaxis), "y": _tick_labels(axes.yaxis)}
    return {
        name: labels.get(name, {}).get(value, float(f"{value:.6g}"))
        for name, value in point.items()
        if isinstance(value, (int, float)) and name in COLUMNS[-5:]
    }


def _tick_labels(axis: Axis) -> dict[float, str]:
    """Return the names of an axis's ticks, if they were named one by one."""
    formatter, ticks = axis.get_major_formatter(), axis.get_ticklocs()
    fixed = isinstance(axis.get_major_locator(), FixedLocator)
    if not fixed or not isinstance(formatter, (FixedFormatter, FuncFormatter)):
        return {}
    texts = (" ".join(str(text).split()) for text in formatter.format_ticks([*ticks]))
    pairs = zip(map(float, ticks), texts, strict=True)
    return {tick: text for tick, text in pairs if not text.endswith("%")}  # which is a number


def axis_labels(axes: Axes) -> dict[str, str | None]:
    """Return what is measured along the axes; panels that share an axis share its label."""
    found = {}
    for name, get, together in (
        ("x_axis", Axes.get_xlabel, axes.get_shared_x_axes()),
        ("y_axis", Axes.get_ylabel, axes.get_shared_y_axes()),
    ):
        labels = (get(one) for one in (axes, *together.get_siblings(axes)))
        found[name] = next((" ".join(label.split()) for label in labels if label), None)
    return found


def panel_name(axes: Axes) -> str:
    """Return the title of a panel, or what it is measured by."""
    titles = (axes.get_title("left"), axes.get_title(), axes.get_title("right"))
    title = " ".join(filter(None, titles))
    return " ".join((title or axes.get_ylabel() or axes.get_xlabel()).split())


_Look = tuple[str, str]


def _look(artist: Any) -> _Look:
    """Return colour and line style, by which a legend tells things apart."""
    if isinstance(artist, Line2D):
        marks = artist.get_linestyle() in ("None", "")
        color = artist.get_markeredgecolor() if marks else artist.get_color()
        return to_hex(color), "-" if marks else str(artist.get_linestyle())
    colors = np.atleast_2d(artist.get_facecolor())
    return (to_hex(colors[0]) if colors.size else ""), "-"


def _legend(figure: Figure) -> dict[_Look, str]:
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    names: dict[_Look, str] = {}
    for legend in filter(None, legends):
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            names.setdefault(_look(handle), text.get_text())
    return names


def _name(artist: Any, looks_like: str) -> str:
    label = str(artist.get_label())
    return looks_like if label.startswith("_") or not label else label


_Point = dict[str, float]


def _points(axes: Axes, artist: Any) -> tuple[str, list[_Point]]:
    """Return the kind of an artist and its points; there are none if it shows no data."""
    if isinstance(artist, Collection):
        if isinstance(artist, PathCollection):
            return "points", [{"x": x, "y": y} for x, y in np.asarray(artist.get_offsets(), float)]
        if isinstance(artist, ContourSet):
            return "", []
        if artist.get_array() is not None:
            return "cells", _cells(artist)
        if isinstance(artist, PolyCollection):
            paths = artist.get_paths()
            return "band", [point for path in paths for point in _band(path.vertices)]
    elif isinstance(artist, Line2D):
        if not all(artist.get_transform().contains_branch_seperately(axes.transData)):
            return "", []  # a line across the panel
        kind = "points" if artist.get_linestyle() in ("None", "") else "line"
        return kind, [{"x": x, "y": y} for x, y in np.asarray(artist.get_xydata(), float)]
    elif isinstance(artist, Rectangle) and any(artist in bars for bars in axes.containers):
        left, bottom, width, height = artist.get_bbox().bounds
        return "bars", [{"x": left + width / 2, "low": bottom, "high": bottom + height}]
    return "", []


def _band(vertices: Any) -> list[_Point]:
    points = pd.DataFrame(np.asarray(vertices), columns=pd.Index(["x", "y"]))
    ends = points.groupby("x")["y"].agg(["min", "max"])
    return [{"x": float(x), "low": low, "high": high} for x, low, high in ends.itertuples()]


def _cells(collection: Collection) -> list[_Point]:
    values = np.asarray(collection.get_array(), float).ravel()
    boxes = [path.get_extents() for path in collection.get_paths()]
    return [
        {"x": (box.x0 + box.x1) / 2, "y": (box.y0 + box.y1) / 2, "value": value}
        for box, value in zip(boxes, values, strict=True)
    ]
