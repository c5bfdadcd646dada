"""Tables of coloured cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from bn_tutorial.evidence.measures import Drawn, Trained, fails, last, runs_of
from bn_tutorial.figures.canvas import NumberedFigure, finished, panels
from bn_tutorial.figures.style import MARK, field_name, percent
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training.runs import Runs


def heatmaps(
    trial: Trained,
    tables: Mapping[str, Mapping[str, Mapping[float, Drawn]]],
    metric: str,
    *,
    xlabel: str = "",
    ylabel: str = "normaliser",
    title: str = "",
    stars: Mapping[tuple[str, str], float] | None = None,
    ticks: Mapping[tuple[str, str], Sequence[float]] | None = None,
    guessing: float = 0.1,
    size: tuple[float, float] | None = None,
    alt: str,
) -> NumberedFigure:
    """Draw the mean of an accuracy in each cell of some tables, hatched where training failed.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    tables : mapping
        ``tables[title][row][column]`` is a recipe, or its runs; a column is a number.
    metric : str
        The accuracy, by its name in a run's history. Failed runs count with what they have.
    xlabel, ylabel : str
        What columns and rows are; what the recipes of a row differ in if nothing is said.
    title : str
        A title above all tables.
    stars : mapping of (str, str) to float, optional
        The column, or the value between columns, at which the row of a table gets a star.
    ticks : mapping of (str, str) to sequence of float, optional
        Values between the columns that are marked in the row of a table.
    guessing : float
        What counts where a run diverged before the accuracy was measured.
    size : tuple of float, optional
        Width and height in inches.
    alt : str
        The alternative text.

    Returns
    -------
    NumberedFigure
        The figure, with its numbers in ``data``.
    """
    found = {
        name: {row: [runs_of(trial, one) for one in cells.values()] for row, cells in table.items()}
        for name, table in tables.items()
    }
    values = {
        name: [[last(runs, metric, guessing).mean() for runs in row] for row in table.values()]
        for name, table in found.items()
    }
    limits = (
        guessing if stars else np.min([*map(np.min, values.values())]),
        np.max([*map(np.max, values.values())]),
    )
    size = size or (7.6, 2.5 * len(tables) if len(tables) > 1 else 3.2)
    with panels(trial, (len(tables), 1), alt=alt, size=size) as drawn:
        for panel, (name, table) in zip(drawn, tables.items(), strict=True):
            rows, columns = list(table), [*next(iter(table.values()))]
            failed = [[sum(map(fails, runs)) for runs in row] for row in found[name].values()]
            seeds = [[len(runs) for runs in row] for row in found[name].values()]
            heatmap(panel.axes, values[name], rows, columns, failed, seeds=seeds, limits=limits)
            for row, label in enumerate(rows):
                at = [f"{column:g}" for column in columns]
                panel.note(
                    "cells", f"{metric}, mean", x=at, y=[label] * len(at), value=values[name][row]
                )
                panel.note(
                    "cells", "seeds that failed", x=at, y=[label] * len(at), value=failed[row]
                )
                if stars and (name, label) in stars:
                    star = stars[name, label]
                    panel.axes.plot(_places(star, columns), row - 0.3, "*k", ms=11, mec="white")
                    panel.note("points", "star", x=[f"{star:g}"], y=[label])
                held = (ticks or {}).get((name, label), ())
                places = _places(held, columns)
                panel.axes.plot(places, 0 * places + row + 0.34, "|", color=MARK, ms=9, mew=2)
                for value in held:
                    panel.note("points", "tick", x=[value], y=[label])
            panel.axes.set(title=name, ylabel=ylabel)
        drawn[-1].axes.set_xlabel(xlabel or _varied(next(iter(found[name].values()))))
        if title:
            plt.gcf().suptitle(title)
    return finished()


def _places(values: ArrayLike, columns: Sequence[float]) -> NDArray[np.float64]:
    """Return where values lie among the columns of a map, by their logarithm."""
    return np.interp(np.log(values), np.log(columns), range(len(columns)))


def _varied(row: Sequence[Runs]) -> str:
    """Return what the recipes of a row differ in, in words."""
    recipes = [runs.recipes[0] for runs in row]
    names = (field.name for field in dataclasses.fields(Recipe))
    several = [
        name
        for name in names
        if any(getattr(one, name) != getattr(recipes[0], name) for one in recipes)
    ]
    return ", ".join(map(field_name, several))


def heatmap(
    axes: Axes,
    values: ArrayLike,
    rows: Sequence[object],
    columns: Sequence[object],
    failed: ArrayLike | None = None,
    *,
    seeds: ArrayLike = 1,
    limits: tuple[float, float] | None = None,
) -> None:
    """Draw a table of accuracies as coloured cells, hatched where training failed.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    values : array_like, shape (rows, columns)
        Accuracies, as finite shares; each is written in its cell in percent.
    rows, columns : sequence
        What the rows (from the top) and the columns are called.
    failed : array_like of int, shape (rows, columns), optional
        With how many seeds training failed. Where it is not 0, that is written, too.
    seeds : array_like, shape (rows, columns)
        Of how many seeds.
    limits : tuple of float, optional
        The values that get the darkest and the brightest colour; None means the extremes of
        `values`. Give the same ones to panels that are to be compared.

    Raises
    ------
    ValueError
        If `values` or `failed` has another shape than the table, or a value is not finite.
    """
    values = np.asarray(values, float)
    failures = np.zeros(values.shape, int) if failed is None else np.asarray(failed, int)
    if not values.shape == failures.shape == (len(rows), len(columns)):
        raise ValueError(
            f"values {values.shape} and failed {failures.shape} must have the shape of the table, "
            f"({len(rows)}, {len(columns)})."
        )
    if not np.isfinite(values).all():
        raise ValueError("a heat map's values must be finite: give a failed run its accuracy.")
    low, high = limits or (values.min(), values.max())
    scale = Normalize(low, high, clip=True)
    places, every = list(np.ndindex(values.shape)), np.broadcast_to(seeds, values.shape)
    cells = [Rectangle((column - 0.48, row - 0.46), 0.96, 0.92) for row, column in places]
    axes.add_collection(PatchCollection(cells, cmap="cividis", norm=scale, array=values.ravel()))
    for cell, (row, column) in zip(cells, places, strict=True):
        value, count = float(values[row, column]), failures[row, column]
        share = f"\n{count}/{every[row, column]} failed" if count else ""
        color = plt.get_cmap("cividis")(scale(value))
        ink = _readable(color)
        if count:
            cell.set(facecolor="none", edgecolor=ink, linewidth=0, hatch="//")
            axes.add_patch(cell)
        axes.text(
            column, row, percent(round(value, 2)) + share, color=ink,
            fontsize="small", ha="center", va="center",
            bbox={"facecolor": color, "edgecolor": "none", "boxstyle": "square,pad=0.15"},
        )  # fmt: skip
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), [str(label) for label in columns])
    axes.set_yticks(range(len(rows)), [str(label) for label in rows])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _readable(color: tuple[float, ...]) -> str:
    """Return black or white, whichever stands out more on a colour: on a page of any scheme.

    The contrast is that of the Web Content Accessibility Guidelines, of which 4.5 is enough for
    text. One of the two always has 4.58.
    """
    channels = np.array(color[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"
