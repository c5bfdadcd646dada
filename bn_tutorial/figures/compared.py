"""Plots of what came out in the end: dots side by side, and effects against what matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bn_tutorial.evidence.intervals import Interval, exponential, interval
from bn_tutorial.evidence.measures import Drawn, Trained, final, runs_of
from bn_tutorial.evidence.registry import SMALLEST
from bn_tutorial.figures.canvas import NumberedFigure, finished, panels
from bn_tutorial.figures.shown import Reading, series_name
from bn_tutorial.figures.style import (
    COLORS,
    INK,
    is_moving,
    metric_name,
    normaliser_name,
    statistics_name,
)
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training.runs import Runs


def dots(
    trial: Trained,
    shown: Mapping[str, Mapping[str, Drawn | Sequence[Reading]]],
    metrics: Sequence[str] = (),
    *,
    names: Sequence[str] = (),
    across: bool = False,
    shared: bool = True,
    colors: Mapping[str, str] | None = None,
    size: tuple[float, float] | None = None,
    alt: str,
) -> NumberedFigure:
    """Draw final values as dots with their 95 % intervals and a tick for every seed.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    shown : mapping
        ``shown[title][name]`` is a list of what stands side by side at that name: pairs of a
        recipe (or its runs) and a metric. Where the metric was measured with moving statistics
        the dot is hollow.
    metrics : sequence of str
        What is read of each ``shown[title][name]``, which is then a recipe (or its runs).
    names : sequence of str
        What the names are names of, panel by panel.
    across : bool
        Whether each name has a row, and values run along the horizontal axis. Then a panel may
        lack some of the names.
    shared : bool
        Whether the values of all panels are drawn to the same scale.
    colors : mapping of str to str, optional
        The colour of all at a name; those of the normalisers where nothing is said.
    size : tuple of float, optional
        Width and height in inches.
    alt : str
        The alternative text: what is drawn, without what dots, bars and ticks mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    rows = list(dict.fromkeys(name for group in shown.values() for name in group))
    named = {title: _readings(group, metrics) for title, group in shown.items()}
    places = [readings for group in named.values() for readings in group.values()]
    everything = [(_recipe(trial, one), metric) for place in places for one, metric in place]
    mixed = any(len({_recipe(trial, one).norm for one, _ in place}) > 1 for place in places)
    filled = "population statistics"
    if any(not statistics_name(recipe, metric) for recipe, metric in everything):
        filled += ", or none needed"
    apart, size = (
        (0.34, size or (7.6, 1.5 + 0.5 * len(rows))) if across else (0.3, size or (7.6, 3.9))
    )
    layout: dict[str, Any] = (
        {} if across else {"width_ratios": [len(group) for group in named.values()]}
    )
    with panels(
        trial, (1, len(shown)), alt=alt, size=size,
        sharex=across and shared, sharey=across or shared, **layout,
    ) as drawn:  # fmt: skip
        for panel, (title, group) in zip(drawn, named.items(), strict=True):
            here = rows if across else list(group)
            for name, readings in group.items():
                middle = here.index(name) - apart * (len(readings) - 1) / 2
                for index, (one, metric) in enumerate(readings):
                    runs, recipe = runs_of(trial, one), _recipe(trial, one)
                    hollow, series = (
                        is_moving(recipe, metric),
                        series_name("", recipe, metric, True),
                    )
                    color = (colors or {}).get(name, COLORS[recipe.norm])
                    panel.dot(
                        series, (middle + apart * index, name), interval(final(runs, metric)),
                        color=color, hollow=hollow, across=across, seeds=[run.seed for run in runs],
                    )  # fmt: skip
                    look: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 7}
                    look |= {"markerfacecolor": "none"} if hollow else {}
                    if mixed:
                        panel.name(series, color=color, **look)
                    else:
                        panel.name("moving statistics" if hollow else filled, color=INK, **look)
            panel.axes.set_title(title)
            panel.names("y" if across else "x", here)
            panel.shares("x" if across else "y")
        value = metric_name(*everything[0][::-1])
        for panel, label in zip(drawn, names, strict=False):
            (panel.axes.set_ylabel if across else panel.axes.set_xlabel)(label)
        if across:
            for panel in drawn:
                panel.axes.set_xlabel(value)
        else:
            drawn[0].axes.set_ylabel(value)
    return finished()


def _readings(
    group: Mapping[str, Drawn | Sequence[Reading]], metrics: Sequence[str]
) -> dict[str, list[Reading]]:
    """Return what stands side by side at each name."""
    return {
        name: [(one, metric) for metric in metrics] if isinstance(one, (Recipe, Runs)) else [*one]
        for name, one in group.items()
    }


def _recipe(trial: Trained, one: Drawn) -> Recipe:
    return one if isinstance(one, Recipe) else runs_of(trial, one).recipes[0]


def effects(
    trial: Trained,
    found: Mapping[str, Interval],
    *,
    unit: str = "points",
    smallest: Mapping[str, float] | None = None,
    title: str = "",
    colors: Mapping[str, str] | None = None,
    alt: str,
) -> NumberedFigure:
    """Draw effects with their intervals and every seed, beside the smallest that matters.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    found : mapping of str to Interval
        Effects, by what they are: shares (0.01 is one percentage point), or ratios.
    unit : {"points", "ratio"}
        What they are; ratios have a logarithmic axis.
    smallest : mapping of str to float, optional
        The smallest effects that matter, shares or factors; where nothing is said, those of
        `bn_tutorial.evidence.registry.SMALLEST`. Smaller ones lie in a grey band.
    title : str
        What the figure shows.
    colors : mapping of str to str, optional
        The colour of an effect; batch normalisation's where nothing is said.
    alt : str
        The alternative text: what is drawn, without what dots, bars and ticks mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    size, ratio = (7.2, 1.4 + 0.5 * len(found)), unit == "ratio"
    with panels(trial, alt=alt, size=size, legend=False) as (panel,):
        panel.axes.axvline(float(ratio), color=INK, linewidth=0.8)
        panel.axes.set(xscale="log" if ratio else "linear", title=title)
        for row, (label, effect) in enumerate(found.items()):
            color = (colors or {}).get(label, COLORS["batch"])
            scale, reach = 1 if ratio else 100, (smallest or {}).get(label, SMALLEST[unit])
            low, high = (1 / reach, reach) if ratio else (-100 * reach, 100 * reach)
            look: dict[str, Any] = {"color": COLORS[None], "alpha": 0.25, "linewidth": 0}
            panel.axes.barh(row, high - low, height=1, left=low, **look)
            panel.dot(
                label, (row, label), effect, color=color, across=True, whole=True, scale=scale
            )
        if any(effect.level > 0.95 for effect in found.values()):
            usual, wide = "a bar for its 95 % interval", "a bar for its interval, of 95 % or more"
            panel.marks = {wide if mark == usual else mark: None for mark in panel.marks}
        panel.names("y", list(found))
        what = "ratio, with / without" if ratio else "percentage points"
        panel.axes.set_xlabel(f"{what} (grey: too small to matter)", loc="right")
    return finished()


def ratios(
    trial: Trained,
    shown: Mapping[str, Mapping[str, Mapping[str, pd.Series[float]]]],
    *,
    xlabel: str,
    ticks: Sequence[float] = (0.25, 0.5, 1, 1.5, 2, 3, 4, 6),
    colors: Mapping[str, str] | None = None,
    alt: str,
) -> NumberedFigure:
    """Draw ratios with the 95 % intervals of their geometric means, over a logarithmic axis.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    shown : mapping
        ``shown[title][name][series]`` are positive values, one for each round or seed, as their
        index is called.
    xlabel : str
        What the ratios are.
    ticks : sequence of float
        The values that are named on the axis.
    colors : mapping of str to str, optional
        The colour of a series; where nothing is said, that of the normaliser so called, or batch
        normalisation's.
    alt : str
        The alternative text: what is drawn, without what dots, bars and ticks mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    named = {normaliser_name(norm): color for norm, color in COLORS.items()} | {**(colors or {})}
    rows = list(dict.fromkeys(name for group in shown.values() for name in group))
    size = (7.6, 1.6 + 0.45 * len(rows))
    with panels(trial, (1, len(shown)), alt=alt, size=size, sharex=True, sharey=True) as drawn:
        drawn[0].ticks("x", ticks, log=10)
        for panel, (title, group) in zip(drawn, shown.items(), strict=True):
            panel.axes.axvline(1, color=INK, linewidth=1)
            for name, columns in group.items():
                for index, (series, values) in enumerate(columns.items()):
                    color = named.get(series, COLORS["batch"])
                    place = rows.index(name) + 0.32 * (index - (len(columns) - 1) / 2)
                    found = exponential(interval(np.log(values)))
                    panel.dot(
                        series, (place, name), found, color=color, across=True, whole=True,
                        seeds=[*values.index],
                        counted="seed" if values.index.name is None else str(values.index.name),
                    )  # fmt: skip
                    panel.name(series, color=color, marker="o", linewidth=5)
            panel.axes.set_title(title)
            panel.names("y", rows)
        drawn[len(drawn) // 2].axes.set_xlabel(xlabel)
    return finished()
