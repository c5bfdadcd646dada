"""Plots of what was computed on the spot, without runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bn_tutorial.evidence.measures import Trained
from bn_tutorial.figures.canvas import NumberedFigure, finished, panels
from bn_tutorial.figures.shown import Styles
from bn_tutorial.figures.style import INK

#: Which part of what is averaged lies within the band.
WITHIN = (0.05, 0.95)


def lines(
    trial: Trained,
    shown: Mapping[str, Mapping[str, ArrayLike]],
    x: ArrayLike | None = None,
    *,
    xlabel: str,
    ylabel: str,
    log: str = "",
    styles: Styles | None = None,
    theory: Mapping[str, Callable[[Any], Any]] | None = None,
    ylim: tuple[float | None, float | None] | None = None,
    size: tuple[float, float] | None = None,
    alt: str,
) -> NumberedFigure:
    """Draw lines, or means and how far what is averaged is spread, side by side.

    Parameters
    ----------
    trial : Experiment or Runs
        Whose figure it is.
    shown : mapping
        ``shown[title][label]`` are values, shape (points,); or, to be averaged, shape (points,
        values), then a band has 90 % of them.
    x : array_like, shape (points,), optional
        The horizontal axis; from 1 if nothing is said.
    xlabel, ylabel : str
        What the axes show.
    log : str
        Which axes are logarithmic: ``x``, ``y`` or ``xy``.
    styles : mapping of str to mapping, optional
        Properties of the lines of a label; the ink's colour where nothing is said.
    theory : mapping of str to callable, optional
        What is predicted as a function of `x`, by its name.
    ylim : tuple of float, optional
        The ends of the vertical axis.
    size : tuple of float, optional
        Width and height in inches.
    alt : str
        The alternative text: what is drawn, without what bands mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    with panels(trial, (1, len(shown)), alt=alt, size=size, sharey=True) as drawn:
        for panel, (title, group) in zip(drawn, shown.items(), strict=True):
            for label, values in group.items():
                many = np.asarray(values, float)
                where = np.arange(1, len(many) + 1) if x is None else np.asarray(x, float)
                look = {"color": INK, **(styles or {}).get(label, {})}
                panel.line(label, where, many if many.ndim == 1 else many.mean(axis=1), **look)
                if many.ndim > 1:
                    low, high = np.quantile(many, WITHIN, axis=1)
                    panel.band(label, where, low, high, color=look["color"], alpha=0.2)
                    panel.marks["a line for a mean"] = panel.marks["a band for the middle 90 %"] = (
                        None
                    )
            for series, predict in (theory or {}).items():
                dashed: dict[str, Any] = {"color": INK, "linestyle": "--", "linewidth": 1.2}
                panel.line(series, where, predict(where), **dashed)
            scales = {f"{axis}scale": "log" for axis in log}
            panel.axes.set(title=title, xlabel=xlabel, **scales)
        drawn[0].axes.set(ylabel=ylabel, **({"ylim": ylim} if ylim else {}))
    return finished()
