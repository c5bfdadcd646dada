"""Plots of how training goes: metrics over the epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bn_tutorial.evidence.measures import Drawn, Measure, Trained, runs_of
from bn_tutorial.figures.canvas import NumberedFigure, finished, panels
from bn_tutorial.figures.panel import Mean, Panel, geometric
from bn_tutorial.figures.shown import (
    Shown,
    Styles,
    labelled,
    panels_of,
    readings_of,
    series_name,
)
from bn_tutorial.figures.style import (
    COLORS,
    INK,
    is_moving,
    metric_name,
    normaliser_name,
    statistics_name,
)
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.runs import Runs


def curves(
    trial: Trained,
    shown: Shown,
    metrics: str | Sequence[str],
    *,
    population: bool = False,
    styles: Styles | None = None,
    levels: Mapping[str, float] | None = None,
    size: tuple[float, float] | None = None,
    alt: str,
) -> NumberedFigure:
    """Draw the course of metrics over the epochs, side by side.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    shown : recipes, or mapping of str to recipes
        What to draw: recipes (or runs of one), in a list or by their labels. A mapping from
        titles to such groups is drawn with a panel for each.
    metrics : str or sequence of str
        A name in a run's history; several get a panel each.
    population : bool
        Whether a metric that was measured with moving statistics (dashed) is drawn with
        population statistics (solid), too.
    styles : mapping of str to mapping, optional
        Properties of the lines of a label; the normalisers' colours where nothing is said.
    levels : mapping of str to float, optional
        Dotted lines across all panels, by what they are.
    size : tuple of float, optional
        Width and height in inches.
    alt : str
        The alternative text: what is drawn, without what lines and bands mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    groups, names = panels_of(shown), [metrics] if isinstance(metrics, str) else list(metrics)
    cells = [(title, group, name) for title, group in groups.items() for name in names]
    shared = len(names) == 1
    readings = any(
        is_moving(recipe, name)
        for _, group, name in cells
        for _, recipe, _ in labelled(trial, group)
    )
    with panels(trial, (1, len(cells)), alt=alt, size=size or (7.6, 3.8), sharey=shared) as drawn:
        for panel, (title, group, metric) in zip(drawn, cells, strict=True):
            for label, recipe, runs in labelled(trial, group):
                look = {"color": COLORS[recipe.norm], **(styles or {}).get(label, {})}
                _readings(panel, label, runs, metric, look, population, readings)
            for series, value in (levels or {}).items():
                panel.level(value, series=series, linestyle=":", linewidth=1.5)
            panel.axes.set_title(title)
            if not shared or panel is drawn[0]:
                panel.axes.set_ylabel(metric_name(metric, recipe))
            if "accuracy" in metric:
                panel.shares("y")
    return finished()


def learning_curves(
    trial: Trained,
    recipes: Iterable[Recipe] | None = None,
    metrics: Sequence[str] = ("accuracy", "loss"),
    *,
    alt: str,
) -> NumberedFigure:
    """Draw training (above) and test (below) curves of some recipes, one column per metric.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    recipes : iterable of Recipe, optional
        Recipes that differ in their normaliser; all that were trained where nothing is said.
    metrics : sequence of {"accuracy", "loss"}
        The columns.
    alt : str
        The alternative text: what is drawn, without what lines and bands mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    recipes, columns = list(recipes or trial.recipes), len(metrics)
    with panels(trial, (2, columns), alt=alt, size=(3.8 * columns, 5.6), sharex=True) as drawn:
        for column, metric in enumerate(metrics):
            for panel, name in (
                (drawn[column], metric),
                (drawn[column + columns], f"val_{metric}"),
            ):
                for recipe in recipes:
                    look = {"color": COLORS[recipe.norm]}
                    _readings(panel, "", trial.of(recipe), name, look, True, True)
                panel.axes.set_ylabel(metric_name(name, recipe))
                if metric == "accuracy":
                    panel.shares("y")
            drawn[column].axes.set_xlabel("")
    return finished()


def batch_size_grid(
    trial: Trained, recipes: Iterable[Recipe], metric: str = "accuracy", *, alt: str
) -> NumberedFigure:
    """Draw the training and test curves of up to four batch sizes, a panel for each.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    recipes : iterable of Recipe
        Recipes that differ in their batch size.
    metric : {"accuracy", "loss"}
        What to draw: in training in the ink's colour, on test images in the normaliser's.
    alt : str
        The alternative text: what is drawn, without what lines and bands mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    with panels(trial, (2, 2), alt=alt, size=(7.6, 5.8), sharex=True, sharey=True) as drawn:
        recipes = sorted(recipes, key=lambda recipe: recipe.batch_size)
        for panel, recipe in zip(drawn, recipes, strict=False):
            runs, look = trial.of(recipe), {"color": COLORS[recipe.norm]}
            panel.course("training", runs, metric, color=INK)
            _readings(panel, "", runs, f"val_{metric}", look, True, True)
            panel.axes.set(title=f"batch size {recipe.batch_size}", ylabel=metric)
            panel.axes.label_outer()
            if metric == "accuracy":
                panel.shares("y")
    return finished()


def histories(
    trial: Trained,
    shown: Mapping[str, Mapping[str, tuple[Drawn, Measure]]],
    *,
    ylabel: str | Mapping[str, str],
    over: str = "epoch",
    log: str = "",
    mean: Mean = "arithmetic",
    styles: Styles | None = None,
    theory: Mapping[str, Callable[[Any], Any]] | None = None,
    levels: Mapping[str, float] | None = None,
    ylim: tuple[float | None, float | None] | None = None,
    legend: bool | str = True,
    size: tuple[float, float] | None = None,
    alt: str,
) -> NumberedFigure:
    """Draw what engines noted on the way: a measure for each label, side by side.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    shown : mapping
        ``shown[title][label]`` is a pair: a recipe (or runs of one), and a name in its history or
        a measure of the runs.
    ylabel : str or mapping of str to str
        What is measured. A mapping makes rows of panels and says how their names in the history
        begin: in a row with ``"kl/"`` what is called ``"0.9"`` is ``kl/0.9``, if there is one.
    over : str
        What it is drawn over: ``epoch``, or what the history counts under that name.
    log : str
        Which axes are logarithmic: ``x``, ``y`` or ``xy``.
    mean : {"arithmetic", "geometric"}
        How seeds are averaged; the second is drawn without an interval.
    styles : mapping of str to mapping, optional
        Properties of the lines of a label; the normalisers' colours where nothing is said.
    theory : mapping of str to callable, optional
        What is predicted as a function of what is along the horizontal axis, by its name. The
        legend shows the name up to a comma, once.
    levels : mapping of str to float, optional
        Dotted lines across all panels, by what they are.
    ylim : tuple of float, optional
        The ends of the vertical axis, in the last row.
    legend : bool or str
        Whether there is a legend; a text is its title.
    size : tuple of float, optional
        Width and height in inches.
    alt : str
        The alternative text: what is drawn, without what lines and bands mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    rows = ylabel if isinstance(ylabel, Mapping) else {ylabel: ""}
    cells = [(*row, *column) for row in rows.items() for column in shown.items()]
    layout: dict[str, Any] = {"legend": legend, "sharex": "col", "sharey": "row"}
    size = size or (7.6, 2.8 + 1.4 * len(rows))
    with panels(trial, (len(rows), len(shown)), alt=alt, size=size, **layout) as drawn:
        for panel, (name, begins, title, group) in zip(drawn, cells, strict=True):
            for label, (one, measure) in group.items():
                runs = runs_of(trial, one)
                named = measure if callable(measure) else begins + measure
                if begins and named not in next(iter(runs)).history:
                    continue
                look = {"color": COLORS[runs.recipes[0].norm], **(styles or {}).get(label, {})}
                x = panel.course(label, runs, named, over=over, mean=mean, **look)
            finely = np.geomspace(max(x[0], 1), x[-1], 200)
            dashed = {"color": INK, "linestyle": "--", "linewidth": 1.2}
            for series, predict in (theory or {}).items():
                panel.line(series, finely, predict(finely), legend=False, **dashed)
                panel.name(series.partition(",")[0], **dashed)
            for series, value in (levels or {}).items():
                panel.level(value, series=series, linestyle=":", linewidth=1.2)
            panel.axes.set(ylabel=name, **{f"{axis}scale": "log" for axis in log})
            panel.axes.set_title(title, visible=panel in drawn[: len(shown)])
            if "accuracy" in name:
                panel.shares("y")
            panel.axes.label_outer()
        drawn[-1].axes.set(**({"ylim": ylim} if ylim else {}))
    return finished()


def ranges(
    trial: Trained,
    shown: Shown,
    measure: Callable[[Runs], Sequence[Any]],
    *,
    ylabel: str,
    one_seed: bool = False,
    log: bool = False,
    size: tuple[float, float] | None = None,
    alt: str,
) -> NumberedFigure:
    """Draw between which values something lies, over the epochs, side by side.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    shown : recipes, or mapping of str to recipes
        As for `curves`.
    measure : callable
        Computes from the runs of a recipe the low end, the middle and the high end, each of
        shape (seeds, epochs); the middle may be None.
    ylabel : str
        What is measured.
    one_seed : bool
        Whether to draw the range of the first seed and the middles of all, for what says nothing
        when it is averaged over seeds. Otherwise the ends are drawn for every seed, and
        the range between their geometric means.
    log : bool
        Whether the vertical axis is logarithmic.
    size : tuple of float, optional
        Width and height in inches.
    alt : str
        The alternative text: what is drawn, without what lines mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    groups = panels_of(shown)
    size = size or (7.6, 3.6)
    with panels(trial, (1, len(groups)), alt=alt, size=size, sharey=True) as drawn:
        for panel, (title, group) in zip(drawn, groups.items(), strict=True):
            networks = labelled(trial, group)
            for label, recipe, runs in networks:
                series, color = label or normaliser_name(recipe.norm), COLORS[recipe.norm]
                low, middle, high = measure(runs)
                epochs = np.arange(1, np.shape(low)[1] + 1)
                ends = (low[0], high[0]) if one_seed else (geometric(low), geometric(high))
                panel.band(f"{series}, range", epochs, *ends, color=color, alpha=0.3)
                thin: dict[str, Any] = {
                    "color": color,
                    "linewidth": 0.7,
                    "alpha": 0.6,
                    "legend": False,
                }
                for index, run in enumerate(runs):
                    seed = f"seed {run.seed}"
                    if one_seed:
                        look = thin if index else thin | {"linewidth": 2.2, "alpha": 1}
                        panel.line(f"{series}, {seed}", epochs, middle[index], **look)
                    else:
                        panel.line(f"{series}, low, {seed}", epochs, low[index], **thin)
                        panel.line(f"{series}, high, {seed}", epochs, high[index], **thin)
                if len(networks) > 1:  # otherwise the title says it
                    panel.name(series, color=color, linewidth=6, alpha=0.4)
            panel.epochs(len(epochs))
            panel.axes.set_title(title)
        drawn[0].axes.set(ylabel=ylabel, yscale="log" if log else "linear")
    return finished()


def _readings(
    panel: Panel,
    label: str,
    runs: Runs,
    metric: str,
    look: Mapping[str, Any],
    population: bool,
    others: bool,
) -> None:
    """Draw a metric, in both readings if asked; where `others` are drawn, the legend names these."""
    recipe = runs.recipes[0]
    for name in readings_of(recipe, metric, population):
        moving = is_moving(recipe, name)
        plain = not statistics_name(recipe, name) and _has_readings(recipe)
        panel.course(
            series_name(label, recipe, name, population), runs, name,
            legend=bool(label) or not (others and plain), **({"linestyle": "--"} if moving else {}), **look,
        )  # fmt: skip


def _has_readings(recipe: Recipe) -> bool:
    return is_moving(recipe, "val_accuracy")
