"""Plots of what engines noted on the way: one measure over the epochs, or a range."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bn_tutorial.evidence.measures import Drawn, Measure, Trained, runs_of
from bn_tutorial.figures.canvas import NumberedFigure, finished, panels
from bn_tutorial.figures.panel import Mean, geometric
from bn_tutorial.figures.shown import Shown, Styles, look_of, named, panels_of
from bn_tutorial.figures.style import COLORS, INK, NAMES
from bn_tutorial.training.runs import Runs

#: What is drawn of a range.
ONE_SEED = "a bold line for one seed", "a band for its range", "a thin line for each other seed"
ALL_SEEDS = "thin lines at both ends for each seed", "a band between their means"


def histories(
    trial: Trained,
    shown: Shown | Mapping[str, Mapping[str, tuple[Drawn, Measure]]],
    measure: Measure | Mapping[str, Measure] | None = None,
    *,
    ylabel: str | Mapping[str, str] = "",
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
    shown : recipes, or mapping of str to recipes
        As for `curves`. Without a `measure`, ``shown[title][label]`` is a pair: a recipe (or runs of
        one) and its measure.
    measure : str, callable, or mapping of str to these, optional
        A name in a run's history, or what computes it from runs; or one for each title.
    ylabel : str or mapping of str to str
        What is measured, where its name will not do. A mapping makes rows of panels and says how
        their names in the history begin: in a row with ``"kl/"`` what is called ``"0.9"`` is
        ``kl/0.9``, if there is one.
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
    pairs: Any = shown if measure is None else _with(trial, shown, measure)  # type: ignore[arg-type]
    rows = ylabel if isinstance(ylabel, Mapping) else {ylabel or _name(measure): ""}
    cells = [(*row, *column) for row in rows.items() for column in pairs.items()]
    layout: dict[str, Any] = {"legend": legend, "sharex": "col", "sharey": "row"}
    size = size or (7.6, 2.8 + 1.4 * len(rows))
    with panels(trial, (len(rows), len(pairs)), alt=alt, size=size, **layout) as drawn:
        for panel, (name, begins, title, group) in zip(drawn, cells, strict=True):
            for label, (one, its) in group.items():
                runs = runs_of(trial, one)
                named = its if callable(its) else begins + its
                if begins and named not in next(iter(runs)).history:
                    continue
                look = look_of(runs.recipes[0], label, styles)
                x = panel.course(label, runs, named, over=over, mean=mean, **look)
            finely = np.geomspace(max(x[0], 1), x[-1], 200)
            dashed = {"color": INK, "linestyle": "--", "linewidth": 1.2}
            for series, predict in (theory or {}).items():
                panel.line(series, finely, predict(finely), legend=False, **dashed)
                panel.name(series.partition(",")[0], **dashed)
            for series, value in (levels or {}).items():
                dotted: dict[str, Any] = {"color": INK, "linestyle": ":", "linewidth": 1.2}
                panel.level(value, series=series, **dotted)
                if legend is True:  # a title is that of the lines
                    panel.name(series, **dotted)
            panel.axes.set(ylabel=name, **{f"{axis}scale": "log" for axis in log})
            panel.axes.set_title(title, visible=panel in drawn[: len(pairs)])
            if "accuracy" in name:
                panel.shares("y")
            panel.axes.label_outer()
        drawn[-1].axes.set(**({"ylim": ylim} if ylim else {}))
    return finished()


def ranges(
    trial: Trained,
    shown: Shown,
    measure: Callable[[Runs], Sequence[Any]] | Mapping[str, Callable[[Runs], Sequence[Any]]],
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
    measure : callable, or mapping of str to callable
        Computes from the runs of a recipe the low end, the middle and the high end, each of
        shape (seeds, epochs); the middle may be None. Or one for each title.
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
            networks = named(trial, group)
            for series, recipe, runs in networks:
                color = COLORS[recipe.norm]
                ends_of = measure[title] if isinstance(measure, Mapping) else measure
                low, middle, high = ends_of(runs)
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
            panel.marks |= dict.fromkeys(ONE_SEED if one_seed else ALL_SEEDS)
        drawn[0].axes.set(ylabel=ylabel, yscale="log" if log else "linear")
    return finished()


def _with(
    trial: Trained, shown: Shown, measure: Measure | Mapping[str, Measure]
) -> dict[str, dict[str, tuple[Drawn, Measure]]]:
    """Return what is shown, each with its measure."""

    def of(title: str) -> Measure:
        return measure[title] if isinstance(measure, Mapping) else measure

    return {
        title: {label: (runs, of(title)) for label, _, runs in named(trial, group)}
        for title, group in panels_of(shown).items()
    }


def _name(measure: object) -> str:
    """Return what a measure is called; of several, what they have in common."""
    one = next(iter(measure.values())) if isinstance(measure, Mapping) else measure
    return NAMES.get(str(one).partition(" ")[0], "")
