"""One panel of a figure, which notes every number that is drawn on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from bn_tutorial.evidence.intervals import Interval, interval
from bn_tutorial.evidence.measures import Measure, courses
from bn_tutorial.figures import table
from bn_tutorial.figures.style import INK, percent
from bn_tutorial.training.runs import Runs

Mean = Literal["arithmetic", "geometric"]


class Panel:
    """One panel of a figure. Whatever is drawn by its methods is noted with its name.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        For all that carries no numbers: limits, ticks, texts.
    """

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.handles: dict[str, Line2D] = {}
        self.marks: dict[str, None] = {}
        self.ends: dict[str, tuple[float, float]] = {}  # where lines end on the right
        self.aside: list[Line2D] = []  # what the axes may cut off
        self._rows: list[dict[str, Any]] = []
        self._drawn = 0

    def line(
        self, series: str, x: ArrayLike, y: ArrayLike, *, legend: bool = True, **style: Any
    ) -> None:
        """Draw a line.

        Parameters
        ----------
        series : str
            What it is: its name in the legend and among the numbers.
        x, y : array_like, shape (points,)
            Where it runs.
        legend : bool
            Whether the legend names it.
        **style
            The line's properties, as matplotlib calls them.
        """
        style = {"linewidth": 2.2} | normalize_kwargs(style, Line2D)
        (drawn,) = self.axes.plot(x, y, **style)
        kind = "points" if drawn.get_linestyle() in ("None", "") else "line"
        self.note(kind, series, x=np.asarray(x, float), y=np.asarray(y, float))
        self.ends[series] = float(np.asarray(x)[-1]), float(np.asarray(y)[-1])
        if legend:
            self.name(series, **style)

    def seeds(
        self,
        series: str,
        x: ArrayLike,
        values: ArrayLike,
        *,
        color: str,
        names: Iterable[object] | None = None,
        mean: Mean = "arithmetic",
        band: bool | None = None,
        legend: bool = True,
        **style: Any,
    ) -> None:
        """Draw every seed as a thin line, their mean as a bold one, and its 95 % interval.

        Parameters
        ----------
        series : str
            What it is.
        x : array_like, shape (points,) or (seeds, points)
            The horizontal axis. If it differs from seed to seed, the mean is drawn at its
            geometric mean, without a band.
        values : array_like, shape (seeds, points)
            What was measured; masked where a seed was not trained.
        color : str
            The colour of all of it.
        names : iterable, optional
            What the seeds are called; from 0 if nothing is said.
        mean : {"arithmetic", "geometric"}
            How the seeds are averaged.
        band : bool, optional
            Whether the interval is drawn; of an arithmetic mean of six seeds or more it is if
            nothing is said. Of fewer it is wide, and the seeds themselves say more.
        legend : bool
            Whether the legend names the series.
        **style
            More properties of the lines; ``marker``, ``markersize`` and ``linewidth`` are those of
            the mean.
        """
        x, values = np.asarray(x, float), np.ma.asarray(values, float)
        thin, paths = (
            {k: style[k] for k in style.keys() & {"linestyle"}},
            np.broadcast_to(x, values.shape),
        )
        if np.isfinite(values.filled(np.nan)).any(axis=0).sum() == 1:  # no line joins one point
            whole = {"clip_on": False}  # it may stand at the edge
            thin, style = thin | {"marker": "."} | whole, {"marker": "o"} | whole | style
        for seed, path, course in zip(names or range(len(values)), paths, values, strict=True):
            self.axes.plot(path, course, color=color, linewidth=0.7, alpha=0.55, **thin)
            self.note("line", f"{series}, seed {seed}", x=path, y=course.filled(np.nan))
        middle = values.mean(axis=0).filled(np.nan) if mean == "arithmetic" else geometric(values)
        where = x if x.ndim == 1 else geometric(x)
        self.line(series, where, middle, color=color, legend=legend, **style)
        self.marks["a thin line for each seed"] = self.marks["a bold one for their mean"] = None
        if x.ndim == 1 and (len(values) > 5 and mean == "arithmetic" if band is None else band):
            bands = [interval(column.compressed()) for column in values.T]
            lows, highs = [b.low for b in bands], [b.high for b in bands]
            self.band(series, x, lows, highs, color=color, aside=True)
            self.marks["a band for its 95 % interval"] = None

    def course(
        self,
        series: str,
        runs: Runs,
        measure: Measure,
        *,
        color: str,
        over: str = "epoch",
        **style: Any,
    ) -> npt.NDArray[Any]:
        """Draw the course of what runs of one recipe measured, as `seeds` draws it.

        Parameters
        ----------
        series : str
            What it is.
        runs : Runs
            The runs of one recipe.
        measure : str or callable
            A name in a run's history, or what computes shape (seeds, epochs) from the runs; with
            one value more it begins before the first epoch.
        color : str
            The colour of all of it.
        over : str
            What it is drawn over: ``epoch``, or the name of what a run's history counts.
        **style
            As for `seeds`.

        Returns
        -------
        numpy.ndarray, shape (points,)
            The horizontal axis.
        """
        values = courses(runs, measure)
        start = 0 if values.shape[1] == runs.recipes[0].epochs + 1 and over == "epoch" else 1
        x = np.arange(start, start + values.shape[1])
        if over in next(iter(runs)).history:
            x = np.array(next(iter(runs)).history[over])
        names = [run.seed for run in runs]
        self.seeds(series, x, values[:, : len(x)], color=color, names=names, **style)
        if over == "epoch":
            self.epochs(int(x[-1]), start)
        else:
            self.axes.set_xlabel(over)
        return x[: values.shape[1]]

    def band(
        self,
        series: str,
        x: ArrayLike,
        low: ArrayLike,
        high: ArrayLike,
        *,
        color: str,
        alpha: float = 0.15,
        aside: bool = False,
    ) -> None:
        """Fill the area between two lines.

        Parameters
        ----------
        series : str
            What it is.
        x, low, high : array_like, shape (points,)
            Where it lies.
        color : str
            Its colour.
        alpha : float
            How opaque it is.
        aside : bool
            Whether the axes may cut it off: a wide interval must not squeeze the rest.
        """
        with self._aside() if aside else contextlib.nullcontext():
            self.axes.fill_between(x, low, high, color=color, alpha=alpha, linewidth=0)
        self.note("band", series, x=np.asarray(x, float), low=low, high=high)

    def dot(
        self,
        series: str,
        at: tuple[float, str],
        found: Interval,
        *,
        color: str,
        hollow: bool = False,
        across: bool = False,
        whole: bool = False,
        scale: float = 1,
        seeds: Iterable[object] | None = None,
        counted: str = "seed",
    ) -> None:
        """Draw a mean as a dot, its 95 % interval as a bar, and every seed as a tick.

        Parameters
        ----------
        series : str
            What it is.
        at : tuple of float and str
            Where, on the axis of names, and at which name.
        found : Interval
            The mean, its interval and its values.
        color : str
            The colour of all of it.
        hollow : bool
            Whether the dot is hollow: the sign of moving statistics.
        across : bool
            Whether values run along the horizontal axis.
        whole : bool
            Whether the axes show the whole bar, however wide, and may not cut it off.
        scale : float
            A factor on all values, for instance 100 for percentage points.
        seeds : iterable, optional
            What the seeds are called; from 0 if nothing is said.
        counted : str
            What a tick stands for, if it is no seed.
        """
        place, name = at[0], " ".join(at[1].split())
        values = scale * np.asarray(found.values)
        mean, low, high = (scale * value for value in (found.mean, found.low, found.high))

        def draw(across_axis: float, along: ArrayLike, **style: Any) -> None:
            along = np.atleast_1d(along)
            pair = [np.full(len(along), across_axis), along]
            self.axes.plot(*(pair[::-1] if across else pair), color=color, **style)

        aside = 0.0 if across else 0.05  # ticks beside a standing bar, and on a lying one
        faint = 0.5 if found.n >= 10 else 1  # so that the dot is seen among many ticks
        tick = {"marker": "|" if across else "_", "markersize": 9 if across else 8, "alpha": faint}
        draw(place - aside, values, linestyle="", **tick)
        with contextlib.nullcontext() if whole else self._aside():
            draw(place + aside, [low, high], linewidth=3, alpha=0.45, solid_capstyle="butt")
        fill = {"markerfacecolor": "none"} if hollow else {}
        draw(place + aside, mean, marker="o", markersize=7 if across else 6, linestyle="", **fill)
        x, y = ("y", "x") if across else ("x", "y")
        for seed, value in zip(seeds or range(found.n), values, strict=True):
            self.note("points", f"{series}, {counted} {seed}", **{x: [name], y: [value]})
        self.note("points", series, **{x: [name], y: [mean]}, low=[low], high=[high])
        marks = f"a tick for each {counted}", "a dot for their mean", "a bar for its 95 % interval"
        self.marks |= dict.fromkeys((*marks, *["hollow for moving statistics"] * hollow))

    def bar(self, series: str, x: float, low: float, high: float, *, color: str) -> None:
        """Draw an interval as a standing bar, which the axes may cut off."""
        with self._aside():
            self.axes.plot([x, x], [low, high], color=color, linewidth=6, alpha=0.6)
        self.note("band", series, x=[x], low=[low], high=[high])
        self.marks["a bar for the 95 % interval of their mean"] = None

    def span(self, series: str, low: float, high: float, *, color: str) -> None:
        """Fill the area between two values across the panel; the axes may cut it off."""
        with self._aside():
            self.axes.axhspan(low, high, color=color, alpha=0.2, linewidth=0)
        self.note("band", series, low=[low], high=[high])

    def level(self, value: float, *, series: str = "", **style: Any) -> None:
        """Draw a horizontal line across the panel; with a name it is among the numbers."""
        looks: dict[str, Any] = {"color": INK, "linewidth": 0.8} | style
        self.axes.axhline(value, **looks)
        if series:
            self.note("line", series, y=[value])
            self.ends[series] = np.inf, value

    def note(self, kind: str, series: str, **points: Any) -> None:
        """Take numbers down: columns of equal length, by name."""
        self._drawn += 1
        head = {"line": self._drawn, "kind": kind, "series": series}
        columns = [np.asarray(column).tolist() for column in points.values()]
        for values in zip(*columns, strict=True):
            self._rows.append(head | dict(zip(points, values, strict=True)))

    def name(self, series: str, **style: Any) -> None:
        """Let the legend name something that is drawn in this style."""
        style = normalize_kwargs(style, Line2D)
        usual = {"linewidth": 2.2} if style.get("linestyle", "-") else {}
        self.handles.setdefault(series, Line2D([], [], **usual | style, label=series))

    def ticks(self, axis: Literal["x", "y"], at: Iterable[float], log: float = 0) -> None:
        """Put ticks at these values of an axis and nowhere else, ``log`` being its base if any."""
        at, one = list(at), getattr(self.axes, f"{axis}axis")
        if log:
            getattr(self.axes, f"set_{axis}scale")("log", base=log)
        one.set_major_locator(FixedLocator(at))
        one.set_minor_locator(NullLocator())
        one.set_major_formatter("{x:g}")

    def epochs(self, count: int, start: int = 1) -> None:
        """Let the horizontal axis count so many epochs, from the first or from 0."""
        self.axes.set_xlabel("epoch")
        self.axes.set_xlim(start, max(count, 2))
        self.axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    def names(self, axis: Literal["x", "y"], names: Sequence[str]) -> None:
        """Let an axis carry names, at 0, 1 and so on; on the vertical one from above."""
        limits = (-0.5, len(names) - 0.5) if axis == "x" else (len(names) - 0.5, -0.5)
        getattr(self.axes, f"set_{axis}ticks")(range(len(names)), list(names))
        getattr(self.axes, f"set_{axis}lim")(*limits)
        self.axes.grid(axis=axis, visible=False)

    def shares(self, axis: Literal["x", "y"]) -> None:
        """Write the shares along an axis in percent."""
        getattr(self.axes, f"{axis}axis").set_major_formatter(percent)

    def numbers(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of the figure's table; ``name`` is this panel's if it has no title."""
        head = {"panel": table.panel_name(self.axes) or name, **table.axis_labels(self.axes)}
        return [head | row | table.readable(self.axes, row) for row in self._rows]

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Draw without making the axes larger."""
        limits, before = self.axes.dataLim.frozen(), len(self.axes.lines)
        yield
        self.aside += [*self.axes.lines][before:]
        self.axes.dataLim.set(limits)
        self.axes.autoscale_view()


def geometric(values: Any) -> Any:
    """Return the geometric mean over seeds, shape (points,)."""
    return np.exp(np.log(values).mean(axis=0))
