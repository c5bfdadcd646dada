"""What a figure shows, as a table: the numbers behind lines, bands, points and cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import Collection, PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

#: The columns of the table; ``line`` counts what is drawn in a panel, from 1.
COLUMNS = ("panel", "line", "kind", "series", "x", "y", "low", "high", "value")


def table(figure: Figure) -> pd.DataFrame:
    """Return the numbers that a figure shows.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure. What only guides the eye (grids, lines across a whole panel, text) is left out.

    Returns
    -------
    pandas.DataFrame
        A row for each point, with `COLUMNS`: the title or the axis of its panel; the number, the
        kind (line, band, points, bars or cells) and the name of what it belongs to; where it lies,
        in the units of the axes. A band has a ``low`` and a ``high`` in place of ``y``, a coloured
        cell a ``value`` besides. Columns without any value are left out.
    """
    names = _legend(figure)
    rows: list[dict[str, Any]] = []
    for index, axes in enumerate(figure.axes):
        panel, line = _panel(axes) or f"panel {index + 1}", 0
        latest: dict[str, str] = {}  # what was drawn last in a colour: a band belongs to it
        for artist in axes.get_children():
            kind, points = _points(axes, artist)
            if not points:
                continue
            line += 1
            look = _look(artist)
            name = "" if kind == "cells" else _name(artist, names.get(look, look[0]))
            if kind == "band" and name == names.get(look, look[0]):
                name = latest.get(look[0], name)
            latest[look[0]] = name
            head = {"panel": panel, "line": line, "kind": kind, "series": name}
            rows += [
                head | {name: _short(value) for name, value in point.items()} for point in points
            ]
    found = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    return found.dropna(axis="columns", how="all")


def _short(value: float | str) -> float | str:
    """Return a number as a plot can show it, with six digits."""
    return value if isinstance(value, str) else float(f"{value:.6g}")


def _panel(axes: Axes) -> str:
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
    if label.startswith("_seed"):
        return f"{looks_like}, {label[1:]}"
    return looks_like if label.startswith("_") or not label else label


_Point = dict[str, float | str]


def _points(axes: Axes, artist: Any) -> tuple[str, list[_Point]]:
    """Return the kind of an artist and its points; there are none if it shows no data."""
    if isinstance(artist, Collection):
        if isinstance(artist, PathCollection):
            return "points", [{"x": x, "y": y} for x, y in np.asarray(artist.get_offsets(), float)]
        if artist.get_array() is not None:
            return "cells", _cells(axes, artist)
        if isinstance(artist, PolyCollection):
            paths = artist.get_paths()
            return "band", [point for path in paths for point in _band(path.vertices)]
    elif artist.get_transform() == axes.transData and isinstance(artist, Line2D):
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


def _cells(axes: Axes, collection: Collection) -> list[_Point]:
    values = np.asarray(collection.get_array(), float).ravel()
    boxes = [path.get_extents() for path in collection.get_paths()]
    columns, rows = _tick_labels(axes.xaxis), _tick_labels(axes.yaxis)
    found: list[_Point] = []
    for box, value in zip(boxes, values, strict=True):
        x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
        found.append({"x": columns.get(x, x), "y": rows.get(y, y), "value": float(value)})
    return found


def _tick_labels(axis: Axis) -> dict[float, str]:
    ticks, labels = axis.get_ticklocs(), axis.get_ticklabels()
    return {float(tick): label.get_text() for tick, label in zip(ticks, labels, strict=True)}
