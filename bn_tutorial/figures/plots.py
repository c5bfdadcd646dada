"""The house style, and the plots that several scripts share.

The same thing looks the same in every figure: one colour per normaliser; a solid line for
training and for population statistics, a dashed one for moving statistics; thin lines for
seeds, a bold one for their mean, a band for its 95 % interval.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal
from xml.sax.saxutils import escape, unescape

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from bn_tutorial.evidence.verdicts import Interval, interval
from bn_tutorial.figures.table import table
from bn_tutorial.recipe import NORMALISERS, Recipe
from bn_tutorial.training.runs import Runs

#: The colour of everything that is neither data nor line: the site replaces it in dark mode.
INK = "#1f2328"
INK_DARK = "#e6edf3"

#: One colour per normaliser; None is the network without.
COLORS: dict[str | None, str] = {
    None: "#8a8f98",
    **{name: row.color for name, row in NORMALISERS.items()},
}

#: Settings for matplotlib; the site's build starts every script with them.
STYLE: dict[Any, Any] = {
    "figure.figsize": (7.2, 4.2),
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#8a8f98",
    "grid.alpha": 0.25,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "savefig.transparent": True,
    "svg.hashsalt": "bn_tutorial",
    **dict.fromkeys(
        (
            "text.color",
            "axes.labelcolor",
            "axes.titlecolor",
            "axes.edgecolor",
            "xtick.color",
            "ytick.color",
        ),
        INK,
    ),
}

#: With ``#figure`` at the end of its address, an SVG is shown by itself: large, on its own paper.
_INK_BY_SCHEME = (
    f"<style>svg{{--ink:{INK}}}svg:target{{background:#fff;width:max(100%,60rem);height:auto}}"
    f"@media (prefers-color-scheme:dark){{svg{{--ink:{INK_DARK}}}svg:target{{background:{INK}}}}}"
    "</style>"
)

_DATA = '<metadata id="data">', "</metadata>"

#: The normalisers that use moving statistics at inference.
MOVING = tuple(name for name, row in NORMALISERS.items() if row.moving)

#: What the metrics of a run are called on an axis, if nothing is held out for validation.
NAMES = {
    "accuracy": "training accuracy",
    "loss": "training loss",
    "val_accuracy": "test accuracy",
    "val_loss": "test loss",
    "val_accuracy_population": "test accuracy",
    "val_loss_population": "test loss",
    "fit_accuracy": "training accuracy",
    "fit_loss": "training loss",
}


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG whose ink follows the colour scheme, light or dark, of its page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        A figure in the house style.

    Returns
    -------
    str
        The text of an SVG file, without a date, so that equal figures are equal files. It carries
        the numbers that the figure shows; `read_data` returns them.
    """
    with io.StringIO() as buffer:
        about = {"Date": None, "Title": str(figure.get_label())}
        figure.savefig(buffer, format="svg", metadata=about)
        drawing = buffer.getvalue().replace("<svg ", '<svg id="figure" ', 1)
    head, mark, tail = drawing.replace(INK, "var(--ink)").partition("<defs>")
    colors = {INK: "in black"} | {color: _normalizer(norm) for norm, color in COLORS.items()}
    data = escape(table(figure, colors).to_csv(index=False))
    return f"{head}{_INK_BY_SCHEME}{_DATA[0]}{data}{_DATA[1]}{mark}{tail}"


def read_data(svg: str) -> str:
    """Return the numbers that a figure shows, as CSV: `bn_tutorial.figures.table.table` of it.

    Parameters
    ----------
    svg : str
        What `to_svg` returned.

    Raises
    ------
    ValueError
        If the file carries no numbers.
    """
    _, mark, rest = svg.partition(_DATA[0])
    if not mark:
        raise ValueError("this SVG carries no data: it was not written by bn_tutorial.")
    return unescape(rest.partition(_DATA[1])[0])


def inline() -> None:
    """Draw the figures of a notebook in the house style, as SVG for light and dark pages.

    It must run in a Jupyter kernel, before the first figure.

    Raises
    ------
    RuntimeError
        If there is no kernel.
    """
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        raise RuntimeError("figures.inline() works in a Jupyter notebook only.")
    shell.enable_matplotlib("inline")
    plt.rcParams.update(STYLE)
    shell.run_line_magic("config", "InlineBackend.figure_formats = ['svg']")
    shell.display_formatter.formatters["image/svg+xml"].for_type(Figure, to_svg)


def interactive(name: str, data: Mapping[str, object]) -> None:
    """Give an interactive figure its place on a page of the site, and its numbers.

    The script of the page draws the figure there; without it, nothing but a note appears.
    It must run in a Jupyter kernel.

    Parameters
    ----------
    name : str
        The identifier by which the script finds the place.
    data : mapping of str to object
        What the script shows, ready for JSON.
    """
    from IPython.display import display

    numbers = json.dumps(data).replace("</", r"<\/")
    note = "Here stands a figure that you can move: on the site, with JavaScript."
    html = (
        f'<div class="interactive" id="{name}">'
        f'<script type="application/json">{numbers}</script>'
        f"<noscript><p>{note}</p></noscript></div>"
    )
    display({"text/html": html, "text/plain": note}, raw=True)


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
    _label_epochs(axes, recipe, metric)


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


def learning_curves(runs: Runs, metrics: Sequence[str] = ("accuracy", "loss")) -> Figure:
    """Draw training (above) and test (below) curves of some recipes, one column per metric.

    Parameters
    ----------
    runs : Runs
        Runs of recipes that differ in their normaliser.
    metrics : sequence of {"accuracy", "loss"}
        The columns.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, with a legend below the panels.
    """
    with _house_style():
        figure, panels = plt.subplots(
            2, len(metrics), figsize=(3.8 * len(metrics), 5.6), sharex=True, squeeze=False
        )
        for column, metric in zip(panels.T, metrics, strict=True):
            for recipe in runs.recipes:
                curve(column[0], runs.of(recipe), metric)
                curve(column[1], runs.of(recipe), f"val_{metric}")
                if recipe.norm in MOVING:
                    curve(column[1], runs.of(recipe), f"val_{metric}_population")
            column[0].set_xlabel("")
        legend(figure, runs)
        mark_sample(figure, runs)
    return figure


def batch_size_grid(runs: Runs, metric: str = "accuracy") -> Figure:
    """Draw the training and test curves of up to four batch sizes, a panel for each.

    Parameters
    ----------
    runs : Runs
        Runs of recipes that differ in their batch size.
    metric : {"accuracy", "loss"}
        What to draw.

    Returns
    -------
    matplotlib.figure.Figure
        The figure. Training is drawn in the ink's colour, the test curves in that of the
        normaliser.
    """
    with _house_style():
        figure, panels = plt.subplots(2, 2, figsize=(7.6, 5.8), sharex=True, sharey=True)
        recipes = sorted(runs.recipes, key=lambda recipe: recipe.batch_size)
        for axes, recipe in zip(panels.flat, recipes, strict=False):
            curve(axes, runs.of(recipe), metric, color=INK)
            curve(axes, runs.of(recipe), f"val_{metric}")
            curve(axes, runs.of(recipe), f"val_{metric}_population")
            axes.set_title(f"batch size {recipe.batch_size}")
            axes.set_ylabel(metric)
            axes.label_outer()
        handles = [_line(INK, "-", "training"), *_readings("batch")]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        mark_sample(figure, runs)
    return figure


def effects(
    intervals: Mapping[str, Interval],
    *,
    smallest: float = 0.01,
    colors: Mapping[str, str] | None = None,
) -> Figure:
    """Draw effects with their 95 % intervals and every seed, beside the smallest that matters.

    Parameters
    ----------
    intervals : mapping of str to Interval
        Effects in shares (0.01 is one percentage point), by what they are.
    smallest : float
        The smallest effect that matters: drawn as a grey band around zero.
    colors : mapping of str to str, optional
        The colour of an effect; batch normalisation's where nothing is said.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    with _house_style():
        figure, axes = plt.subplots(figsize=(7.2, 1.3 + 0.55 * len(intervals)))
        axes.axvspan(-100 * smallest, 100 * smallest, color=COLORS[None], alpha=0.25, linewidth=0)
        axes.axvline(0, color=INK, linewidth=0.8)
        for row, (label, effect) in enumerate(intervals.items()):
            color = (colors or {}).get(label, COLORS["batch"])
            mean, low, high = (100 * value for value in (effect.mean, effect.low, effect.high))
            axes.plot(
                [low, high], [row, row], color=color, linewidth=3, alpha=0.5, solid_capstyle="butt"
            )
            axes.plot(
                100 * np.array(effect.values),
                np.full(effect.n, row),
                "|",
                color=color,
                markersize=11,
            )
            axes.plot(mean, row, "o", color=color, markersize=7)
        axes.set_yticks(range(len(intervals)), list(intervals))
        axes.set_ylim(len(intervals) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("percentage points (grey: too small to matter)", loc="right")
    return figure


def heatmap(
    axes: Axes,
    values: ArrayLike,
    rows: Sequence[object],
    columns: Sequence[object],
    failed: ArrayLike | None = None,
    *,
    seeds: int = 1,
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
    seeds : int
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
    places = list(np.ndindex(values.shape))
    cells = [Rectangle((column - 0.48, row - 0.46), 0.96, 0.92) for row, column in places]
    axes.add_collection(PatchCollection(cells, cmap="cividis", norm=scale, array=values.ravel()))
    for cell, (row, column) in zip(cells, places, strict=True):
        value, count = float(values[row, column]), failures[row, column]
        color = plt.get_cmap("cividis")(scale(value))
        ink = _readable(color)
        if count:
            cell.set(facecolor="none", edgecolor=ink, linewidth=0, hatch="//")
            axes.add_patch(cell)
        axes.text(
            column, row, percent(round(value, 2)) + (f"\n{count}/{seeds} failed" if count else ""),
            color=ink, fontsize="small", ha="center", va="center",
            bbox={"facecolor": color, "edgecolor": "none", "boxstyle": "square,pad=0.15"},
        )  # fmt: skip
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), [str(label) for label in columns])
    axes.set_yticks(range(len(rows)), [str(label) for label in rows])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def legend(figure: Figure, runs: Runs, *, population: bool = True) -> None:
    """Put below the panels which line belongs to which normaliser and which statistics.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Where to put it.
    runs : Runs
        Whose normalisers to name.
    population : bool
        Whether the figure shows population statistics, too.
    """
    handles = []
    for norm in dict.fromkeys(recipe.norm for recipe in runs.recipes):
        if norm in MOVING:
            handles += _readings(norm)[: 2 if population else 1]
        else:
            handles.append(_line(COLORS[norm], "-", _normalizer(norm)))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def mark_sample(figure: Figure, runs: Runs) -> None:
    """Write across a figure that it comes from the bundled sample, if it does."""
    if any(run.provenance["data"]["sample"] for run in runs):
        figure.text(
            0.5, 0.5, "bundled sample – not a result", rotation=20, fontsize=22, alpha=0.18,
            color=INK, ha="center", va="center",
        )  # fmt: skip


def percent(share: float, _: object = None) -> str:
    """Return a share in percent, as a tick label."""
    return f"{100 * share:.3g}%"


@contextlib.contextmanager
def _house_style() -> Iterator[None]:
    # a notebook's backend switches interactive mode on when it is loaded; loaded within the context,
    # it would be switched off again at the end, and no later figure would be shown
    plt.draw_if_interactive()  # type: ignore[no-untyped-call]
    with plt.rc_context(STYLE):
        yield


def _readable(color: tuple[float, ...]) -> str:
    """Return black or white, whichever stands out more on a colour: on a page of any scheme.

    The contrast is that of the Web Content Accessibility Guidelines, of which 4.5 is enough for
    text. One of the two always has 4.58.
    """
    channels = np.array(color[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def _normalizer(norm: str | None) -> str:
    return f"{norm} norm" if norm else "without"


def _readings(norm: str) -> list[Line2D]:
    return [
        _line(COLORS[norm], "--", f"{norm} norm, moving statistics"),
        _line(COLORS[norm], "-", f"{norm} norm, population statistics"),
    ]


def _line(color: str, style: Literal["-", "--"], label: str) -> Line2D:
    return Line2D([], [], color=color, linestyle=style, linewidth=2.2, label=label)


def _label_epochs(axes: Axes, recipe: Recipe, metric: str) -> None:
    name = NAMES.get(metric, metric)
    axes.set_xlabel("epoch")
    axes.set_ylabel(name.replace("test", "validation") if recipe.validation else name)
    axes.set_xlim(1, max(recipe.epochs, 2))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if "accuracy" in metric:
        axes.yaxis.set_major_formatter(percent)
