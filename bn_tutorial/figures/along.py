"""Plots of how something depends on what was varied: a size, a layer, the fit reached so far."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bn_tutorial.evidence import measures
from bn_tutorial.evidence.intervals import interval
from bn_tutorial.evidence.measures import (
    Drawn,
    Measure,
    Trained,
    at_equal_fit,
    final,
    misfit,
    runs_of,
)
from bn_tutorial.figures.canvas import NumberedFigure, finished, panels
from bn_tutorial.figures.panel import Panel
from bn_tutorial.figures.shown import (
    Lines,
    Shown,
    Styles,
    lines_of,
    look_of,
    named,
    panels_of,
    readings_of,
    series_name,
)
from bn_tutorial.figures.style import (
    COLORS,
    DASHES,
    INK,
    NAMES,
    field_name,
    is_moving,
    metric_name,
)
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training.runs import Runs

LOSSES = 24  #: at which `trajectories` interpolates


def against(
    trial: Trained,
    shown: Lines,
    metrics: str | Sequence[str],
    x: str | Callable[[Recipe], float],
    *,
    xlabel: str = "",
    ylabel: str = "",
    population: bool = True,
    styles: Styles | None = None,
    reference: Mapping[str, Drawn] | None = None,
    levels: Mapping[str, float] | None = None,
    theory: Mapping[str, Callable[[Any], Any]] | None = None,
    dots: bool = False,
    diverged: float = np.nan,
    size: tuple[float, float] | None = None,
    alt: str,
) -> NumberedFigure:
    """Draw a metric after the last epoch against what was varied, over a logarithmic axis.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    shown : recipes, or mapping of str to recipes
        Recipes in a list make a line for each normaliser. A mapping from titles has a panel for
        each: with such a list, or with lists by the labels of their lines.
    metrics : str or sequence of str
        A name in a run's history; several get a row each.
    x : str or callable
        What was varied: a field of the recipes, or what computes it from a recipe.
    xlabel, ylabel : str
        What was varied and what is measured, in words, where their names will not do.
    population : bool
        As for `curves`; both readings are drawn if nothing is said.
    styles : mapping of str to mapping, optional
        Properties of the lines of a label.
    reference : mapping of str to Recipe or Runs, optional
        What `x` does not apply to: drawn across the panel.
    levels : mapping of str to float, optional
        Lines across all panels, by what they are.
    theory : mapping of str to callable, optional
        What is predicted as a function of what was varied, by its name.
    dots : bool
        Whether labels stand side by side, without lines between what was varied: for few values
        beside a theory. The vertical axis begins at 0 then.
    diverged : float
        What counts where a run diverged.
    size : tuple of float, optional
        Width and height in inches.
    alt : str
        The alternative text: what is drawn, without what lines and bands mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    place: Callable[[Recipe], float] = operator.attrgetter(x) if isinstance(x, str) else x
    xlabel = xlabel or (field_name(x) if isinstance(x, str) else "")
    groups = lines_of(shown)
    rows, columns = len(names), len(groups)
    layout = {"sharex": rows > 1, "sharey": "row" if columns > 1 else False}
    with panels(trial, (rows, columns), alt=alt, size=size, **layout) as drawn:
        for index, panel in enumerate(drawn):
            metric, (title, lines) = names[index // columns], list(groups.items())[index % columns]
            ticks: set[float] = set()
            for label, ones in lines.items():
                runs = [runs_of(trial, one) for one in ones]
                at = [place(found.recipes[0]) for found in runs]
                ticks.update(at)
                recipe = runs[0].recipes[0]
                look = look_of(recipe, label, styles)
                aside = 1.15 ** ([*lines].index(label) - (len(lines) - 1) / 2)
                for name in readings_of(recipe, metric, population):
                    ends = [final(found, name).fillna(diverged) for found in runs]
                    values = pd.DataFrame(ends).T
                    moving = is_moving(recipe, name)
                    dashed = {"linestyle": "--"} if moving else {}
                    series = series_name(label, recipe, name, population)
                    if dots:
                        _dots(panel, series, aside * np.array(at), values, look)
                        continue
                    seeds, drawn_as = [*values.index], look | dashed
                    untrained = [[seed not in one.index for one in ends] for seed in seeds]
                    known = np.ma.array(values, mask=untrained)
                    panel.seeds(
                        series, at, known, names=seeds, marker="o", legend=False, **drawn_as
                    )
                    # without the marker, which would hide the dashes of so short a line
                    panel.name(series if rows == 1 else label, **drawn_as)
                    panel.marks |= {DASHES: None} if moving else {}
            for label, other in (reference or {}).items():
                _across(panel, label, runs_of(trial, other), metric)
            for series, value in (levels or {}).items():
                panel.level(value, series=series)
            finely = np.geomspace(0.9 * min(ticks), 1.1 * max(ticks), 100)
            for series, predict in (theory or {}).items():
                look = {"color": INK, "linestyle": "--", "linewidth": 1.2, "zorder": 1}
                panel.line(series, finely, predict(finely), **look)
            panel.axes.set_title(title)
            panel.ticks("x", sorted(ticks), log=2)
            if index >= len(drawn) - columns:
                panel.axes.set_xlabel(xlabel)
            if index % columns == 0:
                # a low panel has no room for it
                when = " after the last epoch" if rows == 1 else ""
                panel.axes.set_ylabel(ylabel or metric_name(metric, recipe) + when)
            if dots:
                panel.axes.set_ylim(bottom=0)
            if "accuracy" in metric:
                panel.shares("y")
    return finished()


def by_layer(
    trial: Trained,
    shown: Shown,
    name: str | Mapping[str, str],
    *,
    ylabel: str = "",
    xlabel: str = "layer",
    names: Sequence[object] | None = None,
    relative: bool = False,
    styles: Styles | None = None,
    growth: Mapping[str, tuple[str, str, float]] | None = None,
    alt: str,
) -> NumberedFigure:
    """Draw a measure of each layer, averaged over the epochs.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    shown : recipes, or mapping of str to recipes
        As for `curves`.
    name : str or mapping of str to str
        The histories have ``name/0``, ``name/1`` and so on; or a name for each panel's title, each
        with the same recipes.
    ylabel, xlabel : str
        What the axes show, where the name will not do.
    names : sequence, optional
        What the layers are called; from 1 where nothing is said.
    relative : bool
        Whether to divide by the last layer's value, and to average seeds on the logarithmic axis.
    styles : mapping of str to mapping, optional
        Properties of the lines of a label.
    growth : mapping of str to tuple, optional
        What a theory predicts: by its name, the title and the label that it is about, and the
        factor per layer on the way down. The line goes through the middle layer.
    alt : str
        The alternative text: what is drawn, without what lines mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    groups = panels_of(shown)
    if isinstance(name, Mapping):
        groups = dict.fromkeys(name, *groups.values())
    names_of = name if isinstance(name, Mapping) else dict.fromkeys(groups, name)
    with panels(trial, (1, len(groups)), alt=alt, size=(7.6, 4), sharey=not relative) as drawn:
        for panel, (title, group) in zip(drawn, groups.items(), strict=True):
            middles = {}
            for series, recipe, runs in named(trial, group):
                found = measures.by_layer(runs, names_of[title])
                if relative:
                    found = found.div(found.iloc[:, -1], axis="index")
                layers = np.arange(1, found.shape[1] + 1)
                look, seeds = look_of(recipe, series, styles), [*found.index]
                kind = "geometric" if relative else "arithmetic"
                panel.seeds(series, layers, found, names=seeds, mean=kind, band=False, **look)  # type: ignore[arg-type]
                middles[title, series] = float(np.exp(np.log(found).mean()).iloc[len(layers) // 2])
            for theory, (*where, factor) in (growth or {}).items():
                if (anchor := middles.get((where[0], where[1]))) is not None:
                    line = anchor * factor ** (layers[len(layers) // 2] - layers)
                    panel.line(theory, layers, line, color=INK, linestyle="--", linewidth=1.4)
            panel.axes.set(title=title, xlabel=xlabel, xlim=(0.5, len(layers) + 0.5))
            panel.axes.set_yscale("log")
            if names:
                panel.axes.set_xticks(layers, [str(one) for one in names])
        one = next(iter(names_of.values())).partition(" ")[0]
        drawn[0].axes.set_ylabel(ylabel or NAMES.get(one, one))
    return finished()


def trajectories(
    trial: Trained,
    shown: Shown,
    rows: Mapping[str, Measure],
    *,
    along: str = "fit_loss",
    compare: Sequence[float] = (),
    styles: Styles | None = None,
    alt: str,
) -> NumberedFigure:
    """Draw measures along the training loss, which falls from left to right.

    They are interpolated between epochs, at losses that all seeds reach.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    shown : recipes, or mapping of str to recipes
        As for `curves`.
    rows : mapping of str to str or callable
        What is drawn, by its name: a name in a run's history, or what computes it from runs.
    along : str
        The training loss.
    compare : sequence of float
        Losses to mark, with each network's 95 % interval there, as
        `bn_tutorial.evidence.measures.at_equal_fit` finds it.
    styles : mapping of str to mapping, optional
        Properties of the lines of a label; the normalisers' colours where nothing is said.
    alt : str
        The alternative text: what is drawn, without what lines mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    groups = panels_of(shown)
    columns = len(groups)
    size = (7.6, 0.6 + 2.8 * len(rows)) if columns > 1 else (7.2, 1.0 + 3.2 * len(rows))
    with panels(
        trial, (len(rows), columns), alt=alt, size=size, sharex=True, sharey="row"
    ) as drawn:
        for index, panel in enumerate(drawn):
            title, group = list(groups.items())[index % columns]
            name, measure = list(rows.items())[index // columns]
            networks = named(trial, group)
            shades = {label: look_of(recipe, label, styles) for label, recipe, _ in networks}
            for label, _, runs in networks:
                fits = misfit(runs, along)
                x = np.geomspace(fits[:, 0].min(), fits.min(axis=1).max(), LOSSES)
                y = [at_equal_fit(trial, {label: runs}, measure, [at], along)[label] for at in x]
                panel.seeds(
                    label, x, np.transpose(y), **shades[label],
                    names=[run.seed for run in runs], band=False,
                )  # fmt: skip
            found = {label: runs for label, _, runs in networks}
            for loss in compare:
                _compare(panel, trial, found, shades, measure, along, loss)
            panel.shares("y")
            panel.axes.set_title(title, visible=index < columns)
            if index % columns == 0:
                panel.axes.set_ylabel(name)
            if index >= len(drawn) - columns:
                panel.axes.set_xlabel("training loss, log scale (better fit: right)")
        drawn[0].ticks("x", [2, 1, 0.5, 0.2, 0.1, 0.05], log=10)
        drawn[0].axes.invert_xaxis()
    return finished()


def _compare(
    panel: Panel,
    trial: Trained,
    networks: Mapping[str, Runs],
    styles: Styles,
    measure: Measure,
    along: str,
    where: float,
) -> None:
    """Mark where networks are compared, and what is found there."""
    found = at_equal_fit(trial, networks, measure, [where], along)
    shifts = np.geomspace(1.05, 0.95, len(networks))
    for (label, values), shift in zip(found.items(), shifts, strict=True):
        there = interval(values)
        panel.bar(
            f"{label}, compared", where * shift, there.low, there.high, color=styles[label]["color"]
        )
    panel.axes.axvline(where, color=INK, linewidth=0.8, linestyle=":")
    panel.name("compared here", color=INK, linestyle=":", linewidth=1.5)


def _across(panel: Panel, label: str, runs: Runs, metric: str) -> None:
    """Draw what does not depend on the horizontal axis."""
    found, color = interval(final(runs, metric)), COLORS[runs.recipes[0].norm]
    for run, value in zip(runs, found.values, strict=True):
        panel.level(
            value, series=f"{label}, seed {run.seed}", color=color, linewidth=0.7, alpha=0.55
        )
    panel.level(found.mean, series=label, color=color, linewidth=2.2)
    panel.name(label, color=color)
    panel.span(label, found.low, found.high, color=color)


def _dots(panel: Panel, series: str, x: Any, values: pd.DataFrame, look: Mapping[str, Any]) -> None:
    """Draw a tick for every seed, of which places may have different ones, and their mean."""
    mark = {"marker": "o", "markersize": 7, **look, "linestyle": ""}
    for seed, row in values.iterrows():
        there = row.notna().to_numpy()
        tick = mark | {"marker": "_", "markersize": 9}
        panel.line(f"{series}, seed {seed}", x[there], row[there], legend=False, **tick)
    panel.line(series, x, values.mean(), **mark)
    panel.marks["a tick for each seed"] = panel.marks["a larger mark for their mean"] = None
