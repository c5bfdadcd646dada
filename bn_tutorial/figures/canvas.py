"""Figures that know their numbers, their legend, and whether they show the bundled sample."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogFormatter, LogLocator, NullLocator

from bn_tutorial.evidence.measures import Trained
from bn_tutorial.figures import table
from bn_tutorial.figures.ends import label_ends
from bn_tutorial.figures.panel import Panel
from bn_tutorial.figures.style import INK, house_style
from bn_tutorial.training.runs import Run

#: What is named of a decade where there are few of them.
DECADE = (1, 1.5, 2, 3, 5, 7)


class NumberedFigure(Figure):
    """A figure that knows its numbers.

    Attributes
    ----------
    data : pandas.DataFrame
        What is drawn, with `bn_tutorial.figures.table.COLUMNS`.
    meaning : str
        What lines, bands, ticks and dots mean, in a sentence.
    """

    data = pd.DataFrame()
    meaning = ""


@contextlib.contextmanager
def panels(
    trial: Trained,
    shape: tuple[int, int] = (1, 1),
    *,
    alt: str,
    size: tuple[float, float] | None = None,
    legend: bool | str = True,
    **layout: Any,
) -> Iterator[list[Panel]]:
    """Give a ``with`` statement the panels of a new figure, and finish the figure at its end.

    Then the lines of a single row are named where they end, or there is a legend below the panels;
    and there is the mark of the bundled sample if any of the runs used it, and the table of all
    numbers as ``data`` of the figure.

    Parameters
    ----------
    trial : Experiment or Runs
        Whose figure it is.
    shape : tuple of int
        In how many rows and columns the panels stand.
    alt : str
        The alternative text: what is drawn. What thin lines, bands, ticks and dots mean is
        added by itself.
    size : tuple of float, optional
        Width and height in inches.
    legend : bool or str
        Whether lines are named, at their ends or in a legend; a text is the legend's title.
    **layout
        More for `matplotlib.pyplot.subplots`, for instance ``sharey=True``.

    Raises
    ------
    ValueError
        If there is no alternative text.
    """
    if not alt.strip():
        raise ValueError("a figure needs an alternative text: say in alt= what it shows.")
    with house_style():
        rows, columns = shape
        size = size or (7.6 if columns > 1 else 7.2, 0.6 + (3.2 if rows == 1 else 2.6) * rows)
        figure, axes = plt.subplots(
            rows, columns, figsize=size, squeeze=False, FigureClass=NumberedFigure, **layout
        )
        drawn = [Panel(one) for one in axes.flat]
        yield drawn
        for panel in drawn:
            _name_decades(panel.axes)
            _mark_cut(panel)
        if legend and (isinstance(legend, str) or rows > 1 or not label_ends(drawn, size[1])):
            _legend_below(figure, drawn, legend if isinstance(legend, str) else None)
        mark_sample(figure, trial)
        assert isinstance(figure, NumberedFigure)
        figure.meaning = _meaning(drawn)
        figure.set_label(" ".join(f"{alt} {figure.meaning}".split()))
        figure.data = table.frame(
            row for n, panel in enumerate(drawn, 1) for row in panel.numbers(f"panel {n}")
        )


def finished() -> NumberedFigure:
    """Return the figure that was drawn last."""
    figure = plt.gcf()
    assert isinstance(figure, NumberedFigure)
    return figure


def mark_sample(figure: Figure, runs: Iterable[Run]) -> None:
    """Stamp a figure as “bundled sample” if any run used it."""
    if any(run.provenance.is_sample for run in runs):
        figure.text(
            0.5, 0.5, "bundled sample – not a result", rotation=20, fontsize=22, alpha=0.18,
            color=INK, ha="center", va="center",
        )  # fmt: skip


def _name_decades(axes: Axes) -> None:
    """Give a short logarithmic axis more ticks than its one or two powers of ten."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        plain = isinstance(axis.get_major_locator(), LogLocator) and axis.get_scale() == "log"
        if plain and 0 < high < 100 * low:
            powers = 10.0 ** np.arange(math.floor(math.log10(low)), math.log10(high) + 1)
            axis.set_major_locator(FixedLocator(np.outer(powers, DECADE).ravel().tolist()))
            axis.set_minor_locator(NullLocator())
            if isinstance(axis.get_major_formatter(), LogFormatter):
                axis.set_major_formatter("{x:g}")


def _mark_cut(panel: Panel) -> None:
    """Put an arrow head where the axes cut off a bar."""
    axes = panel.axes
    sides = {"left": "<", "right": ">", "bottom": "v", "top": "^"}
    (left, right), (bottom, top) = map(sorted, (axes.get_xlim(), axes.get_ylim()))
    for line in panel.aside:
        for x, y in np.asarray(line.get_xydata(), float):
            beyond = {"left": x < left, "right": x > right, "bottom": y < bottom, "top": y > top}
            for side in (side for side, out in beyond.items() if out):
                place = np.clip(x, left, right), np.clip(y, bottom, top)
                axes.plot(
                    *place, marker=sides[side], color=line.get_color(), markersize=6,
                    clip_on=False, scalex=False, scaley=False,
                )  # fmt: skip
                panel.marks["an arrow head where a bar goes on"] = None


def _legend_below(figure: Figure, panels: list[Panel], title: str | None) -> None:
    handles: dict[str, Line2D] = {}
    for panel in panels:
        handles |= {name: one for name, one in panel.handles.items() if name not in handles}
    if handles:
        columns = _columns([*handles], 0.95 * figure.get_figwidth())
        figure.legend(
            handles=[*handles.values()], loc="outside lower center", ncols=columns, title=title
        )


def _columns(labels: list[str], width: float) -> int:
    """Return in how many columns labels fit side by side, in inches: few rows, equally long."""
    for count in range(len(labels), 1, -1):
        parts = np.array_split(np.array([0.6 + 0.075 * len(label) for label in labels]), count)
        if sum(part.max() for part in parts) <= width:
            return math.ceil(len(labels) / math.ceil(len(labels) / count))
    return 1


def _meaning(panels: list[Panel]) -> str:
    marks = dict.fromkeys(mark for panel in panels for mark in panel.marks)
    text = ", ".join(marks)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
