"""Parts of plots for figures that are drawn by hand; they go when no script needs them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from bn_tutorial.evidence.intervals import interval
from bn_tutorial.figures.style import COLORS, MOVING, metric_name, normaliser_name, percent
from bn_tutorial.training.runs import Runs


def curve(axes: Axes, runs: Runs, metric: str, *, color: str | None = None) -> None:
    """Draw the course of one metric of one recipe: every seed, the mean, its 95 % interval.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    runs : Runs
        The runs of one recipe.
    metric : str
        A name in a run's history. With the moving statistics of a batch-normalised network
        (``val_…`` without ``population``) the line is dashed.
    color : str or None
        None means the colour of the recipe's normaliser.
    """
    (recipe,) = runs.recipes
    dashed = recipe.norm in MOVING and metric in ("val_accuracy", "val_loss")
    spread(
        axes, np.arange(1, recipe.epochs + 1), runs.curves(metric),
        color=color or COLORS[recipe.norm], linestyle="--" if dashed else "-",
    )  # fmt: skip
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric_name(metric, recipe))
    axes.set_xlim(1, max(recipe.epochs, 2))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if "accuracy" in metric:
        axes.yaxis.set_major_formatter(percent)


def spread(axes: Axes, x: ArrayLike, values: ArrayLike, *, color: str, **style: Any) -> None:
    """Draw every seed as a thin line, their mean as a bold one, its 95 % interval as a band.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    x : array_like, shape (points,)
        The horizontal axis.
    values : array_like, shape (seeds, points)
        What was measured.
    color : str
        The colour of all of it.
    **style
        More properties of the lines; ``label`` and ``marker`` are those of the mean.
    """
    values = np.asarray(values, float)
    seeds = {name: style[name] for name in style.keys() - {"label", "marker"}}
    for seed, course in enumerate(values):
        axes.plot(x, course, color=color, linewidth=0.7, alpha=0.55, label=f"_seed {seed}", **seeds)
    bands = [interval(column) for column in values.T]
    axes.plot(x, [b.mean for b in bands], color=color, linewidth=2.2, **style)
    limits = axes.dataLim.frozen()  # a wide interval must not squeeze the curves
    lows, highs = [b.low for b in bands], [b.high for b in bands]
    axes.fill_between(x, lows, highs, color=color, alpha=0.15, linewidth=0)
    axes.dataLim.set(limits)


def legend(figure: Figure, runs: Runs) -> None:
    """Put below the panels which line belongs to which normaliser and which statistics."""
    handles = []
    for norm in dict.fromkeys(recipe.norm for recipe in runs.recipes):
        name, color = normaliser_name(norm), COLORS[norm]
        if norm in MOVING:
            moving = Line2D([], [], color=color, linestyle="--", label=f"{name}, moving statistics")
            handles.append(moving)
            name += ", population statistics"
        handles.append(Line2D([], [], color=color, label=name))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
