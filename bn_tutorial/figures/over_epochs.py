"""Plots of how training goes: metrics over the epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bn_tutorial.evidence.measures import Trained, courses
from bn_tutorial.figures.canvas import NumberedFigure, finished, panels
from bn_tutorial.figures.panel import Panel
from bn_tutorial.figures.shown import (
    Shown,
    Styles,
    labelled,
    look_of,
    panels_of,
    readings_of,
    series_name,
)
from bn_tutorial.figures.style import (
    COLORS,
    DASHES,
    INK,
    is_moving,
    metric_name,
    statistics_name,
)
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training.runs import Runs


def curves(
    trial: Trained,
    shown: Shown | None = None,
    metrics: str | Sequence[str] = "val_accuracy",
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
    shown : recipes, or mapping of str to recipes, optional
        What to draw: recipes (or runs of one), in a list or by their labels. A mapping from
        titles to such groups is drawn with a panel for each. All that was trained where nothing is
        said.
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
    groups = panels_of(trial.recipes if shown is None else shown)
    names = [metrics] if isinstance(metrics, str) else list(metrics)
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
                look = look_of(recipe, label, styles)
                _readings(panel, label, runs, metric, look, population, readings)
            for series, value in (levels or {}).items():
                dotted = {"color": INK, "linestyle": ":", "linewidth": 1.5}
                panel.level(value, series=series, **dotted)
                panel.name(series, **dotted)
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

    Those of a single recipe share a panel.

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
    if len(recipes) == 1:
        with panels(trial, (1, columns), alt=alt, size=(3.8 * columns, 3.8)) as drawn:
            for panel, metric in zip(drawn, metrics, strict=True):
                _fit(panel, trial.of(recipes[0]), metric)
        return finished()
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


def two_scores(
    trial: Trained,
    plain: Recipe,
    normalized: Recipe,
    *,
    epochs: int = 8,
    size: tuple[float, float] | None = None,
    alt: str,
) -> NumberedFigure:
    """Draw one normalised network read in two ways, beside a plain one, with labels at the lines.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    plain, normalized : Recipe
        What was trained without a normaliser, and with one that has moving statistics.
    epochs : int
        Over so many epochs, the last ones, the distance between its two scores is averaged.
    size : tuple of float, optional
        Width and height in inches.
    alt : str
        The alternative text: what is drawn, without what thin and bold lines mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    metric = "val_accuracy"
    lines: dict[str, tuple[Recipe, str, dict[str, Any]]] = {
        "statistics recomputed": (normalized, f"{metric}_population", {}),
        "as Keras reads it": (normalized, metric, {"linestyle": "--"}),
        "without batch norm": (plain, metric, {}),
    }
    with panels(trial, alt=alt, size=size or (7.2, 4.0)) as (panel,):
        middles = []
        for series, (recipe, name, look) in lines.items():
            runs, color = trial.of(recipe), COLORS[recipe.norm]
            panel.course(series, runs, name, color=color, linewidth=2.8, **look)
            middles.append(float(courses(runs, name)[:, -epochs:].mean()))
        panel.axes.set(title="One network, two scores", ylabel=metric_name(metric, plain))
        panel.shares("y")
        _distance(
            panel, (middles[0], middles[1]), min(epochs, normalized.epochs), COLORS[normalized.norm]
        )
    return finished()


def _distance(panel: Panel, ends: tuple[float, float], epochs: int, color: str) -> None:
    """Draw a double arrow between two means over the last epochs, and say how far they are apart."""
    above, below = ends
    at = panel.axes.get_xlim()[1] - (epochs - 1) / 2
    panel.axes.annotate(
        "", (at, above), (at, below), arrowprops={"arrowstyle": "<->", "color": color}
    )
    panel.axes.annotate(
        f"the same weights:\n{100 * abs(above - below):.1f} points apart\n(last {epochs} epochs)",
        (at, (above + below) / 2), (-6, 0), textcoords="offset points", ha="right", va="center",
        color=color,
    )  # fmt: skip


def batch_size_grid(
    trial: Trained,
    recipes: Iterable[Recipe],
    metrics: Sequence[str] = ("accuracy", "loss"),
    *,
    alt: str,
) -> NumberedFigure:
    """Draw the training and test curves of a few batch sizes, a column for each.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    recipes : iterable of Recipe
        Recipes that differ in their batch size.
    metrics : sequence of {"accuracy", "loss"}
        The rows: in training in the ink's colour, on test images in the normaliser's.
    alt : str
        The alternative text: what is drawn, without what lines and bands mean.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    recipes = sorted(recipes, key=lambda recipe: recipe.batch_size)
    cells = [(metric, recipe) for metric in metrics for recipe in recipes]
    shape = len(metrics), len(recipes)
    with panels(trial, shape, alt=alt, size=(7.6, 5.4), sharex=True, sharey="row") as drawn:
        for index, (panel, (metric, recipe)) in enumerate(zip(drawn, cells, strict=True)):
            _fit(panel, trial.of(recipe), metric)
            title = f"batch size {recipe.batch_size}"
            panel.axes.set_title(title, visible=index < len(recipes))
            panel.axes.label_outer()
    return finished()


def _fit(panel: Panel, runs: Runs, metric: str) -> None:
    """Draw a metric in training and on test images, the latter in both readings."""
    panel.course("training", runs, metric, color=INK)
    look = {"color": COLORS[runs.recipes[0].norm]}
    _readings(panel, "test", runs, f"val_{metric}", look, True, True)
    panel.axes.set_ylabel(metric)
    if metric == "accuracy":
        panel.shares("y")


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
        panel.marks |= {DASHES: None} if moving else {}


def _has_readings(recipe: Recipe) -> bool:
    return is_moving(recipe, "val_accuracy")
