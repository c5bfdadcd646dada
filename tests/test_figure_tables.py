"""What a figure shows, as a table."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bn_tutorial.figures import COLORS, INK, heatmap
from bn_tutorial.figures.table import table


@pytest.fixture
def axes() -> Iterator[Axes]:
    mpl.use("agg")
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def shown(axes: Axes) -> pd.DataFrame:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return table(figure)


def test_lines_and_their_band_have_the_name_that_the_legend_gives_them(axes: Axes) -> None:
    axes.plot([1, 2], [0.45, 0.5], color="#0b84d8", linestyle="--")
    axes.fill_between([1, 2], [0.4, 0.1], [0.5, 0.9], color="#0b84d8", alpha=0.2)
    line = Line2D([], [], color="#0b84d8", linestyle="--")
    axes.legend([line], ["batch norm, moving statistics"])
    rows = shown(axes)
    assert set(rows.series) == {"batch norm, moving statistics"}
    assert list(rows.kind) == 2 * ["line"] + 2 * ["band"]
    assert rows[rows.kind == "band"][["low", "high"]].to_numpy().tolist() == [
        [0.4, 0.5],
        [0.1, 0.9],
    ]


def test_a_colour_is_no_name(axes: Axes) -> None:
    for color in (INK, *COLORS.values()):
        axes.plot([0, 1], [0, 1], color=color)
    axes.plot([0], [0], "o", color="white")
    names = set(shown(axes).series)
    assert names == {*(f"line {n}" for n in range(1, len(COLORS) + 2)), f"points {len(COLORS) + 2}"}


def test_what_only_guides_the_eye_is_left_out(axes: Axes) -> None:
    axes.axhline(0.5)
    axes.axvline(0.5)
    axes.axvspan(0, 1)
    axes.text(0, 0, "text")
    axes.plot([], [], label="for the legend")
    axes.legend()
    assert shown(axes).empty


def test_points_bars_and_panels(axes: Axes) -> None:
    axes.set_title("left panel", loc="left")
    axes.plot([1], [2], "o", color="#009e73", label="group norm")
    axes.scatter([3], [4], color="#d55e00")
    axes.bar([5], [6], width=2, color="#123456")
    rows = shown(axes)
    assert set(rows.panel) == {"left panel"}
    assert sorted(rows.kind) == ["bars", "points", "points"]
    assert rows[rows.series == "group norm"][["x", "y"]].to_numpy().tolist() == [[1, 2]]
    assert rows[rows.series == "points 2"][["x", "y"]].to_numpy().tolist() == [[3, 4]]
    assert rows[rows.kind == "bars"][["x", "low", "high"]].to_numpy().tolist() == [[5, 0, 6]]


def test_cells_have_their_values_and_the_names_of_rows_and_columns(axes: Axes) -> None:
    heatmap(axes, [[0.123456789, 0.2]], ["none"], ["rate 1", "rate 2"])
    rows = shown(axes)
    assert rows[["x", "y", "value"]].to_numpy().tolist() == [
        ["rate 1", "none", 0.123457],
        ["rate 2", "none", 0.2],
    ]


def test_numbers_stay_numbers_where_ticks_have_no_names(axes: Axes) -> None:
    axes.plot([0, 1], [0.25, 0.5])
    assert shown(axes)[["x", "y"]].to_numpy().tolist() == [[0, 0.25], [1, 0.5]]
