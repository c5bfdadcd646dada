"""Tables of coloured cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.patches import Rectangle

from bn_tutorial.figures import INK, STYLE, heatmap, heatmaps
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.runs import Runs

from .histories import made_up

VALUES = np.array([[0.1, 0.254, 0.5], [0.35, 0.1, 0.45]])
FAILED = np.array([[0, 0, 3], [1, 0, 0]])


@pytest.fixture
def axes() -> Iterator[Axes]:
    mpl.use("agg")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots()
        yield axes
    plt.close(figure)


def cells(axes: Axes) -> dict[tuple[int, int], Any]:
    """Return the colours of the cells by row and column."""
    (found,) = axes.collections
    axes.figure.canvas.draw()  # from here on, cells have colours
    places = [path.get_extents().get_points().mean(axis=0).round() for path in found.get_paths()]
    return {
        (int(row), int(column)): color
        for (column, row), color in zip(places, found.get_facecolor(), strict=True)
    }


def hatched(axes: Axes) -> set[tuple[int, int]]:
    centres = [patch.get_center() for patch in axes.patches if isinstance(patch, Rectangle)]
    return {(round(float(row)), round(float(column))) for column, row in centres}


def texts(axes: Axes) -> dict[tuple[int, int], str]:
    return {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}  # fmt: skip


def luminance(color: object) -> float:
    channels = to_rgb(color)  # type: ignore[arg-type]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_heat_map_has_a_cell_for_each_value_with_the_value_in_it(axes: Axes) -> None:
    heatmap(axes, VALUES, ["none", "batch"], [0.01, 0.1, 1])
    assert texts(axes) == {
        (0, 0): "10%", (0, 1): "25%", (0, 2): "50%",
        (1, 0): "35%", (1, 1): "10%", (1, 2): "45%",
    }  # fmt: skip
    assert cells(axes).keys() == texts(axes).keys()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.01", "0.1", "1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["none", "batch"]
    assert axes.yaxis_inverted()  # the first row is above
    axes.figure.canvas.draw()


def test_cells_are_hatched_where_a_seed_failed_and_say_how_many(axes: Axes) -> None:
    heatmap(axes, VALUES, "ab", "xyz", FAILED, seeds=3)
    assert hatched(axes) == {(0, 2), (1, 0)}
    assert all(patch.get_hatch() for patch in axes.patches)
    assert texts(axes)[0, 2] == "50%\n3/3 failed"
    assert texts(axes)[1, 0] == "35%\n1/3 failed"
    assert not any(
        "failed" in text for place, text in texts(axes).items() if place not in hatched(axes)
    )


def test_cells_of_other_seeds_are_counted_by_themselves(axes: Axes) -> None:
    heatmap(axes, VALUES, "ab", "xyz", FAILED, seeds=[[3, 3, 3], [5, 5, 5]])
    assert texts(axes)[0, 2] == "50%\n3/3 failed"
    assert texts(axes)[1, 0] == "35%\n1/5 failed"


def test_brighter_means_higher_on_a_scale_that_panels_can_share(axes: Axes) -> None:
    heatmap(axes, VALUES, "ab", "xyz")
    own = {place: luminance(color) for place, color in cells(axes).items()}
    assert sorted(own, key=own.__getitem__) == sorted(own, key=lambda place: VALUES[place])
    figure, other = plt.subplots()
    heatmap(other, VALUES, "ab", "xyz", limits=(0.0, 1.0))
    shared = {place: luminance(color) for place, color in cells(other).items()}
    assert shared[0, 0] > own[0, 0]
    assert shared[0, 2] < own[0, 2]
    plt.close(figure)


def test_equal_values_can_be_drawn(axes: Axes) -> None:
    heatmap(axes, [[0.1, 0.1]], "a", "xy")
    axes.figure.canvas.draw()


def test_values_can_be_read_on_any_cell_on_a_bright_and_on_a_dark_page(axes: Axes) -> None:
    values = np.linspace(0, 1, 101)[None]
    heatmap(axes, values, "a", range(101), np.ones((1, 101)), seeds=1)
    for color, text in zip(cells(axes).values(), axes.texts, strict=True):
        low, high = sorted((luminance(color), luminance(text.get_color())))
        assert (high + 0.05) / (low + 0.05) >= 4.5
        # the site replaces the ink in dark mode, but a cell keeps its colour
        assert text.get_color() != INK
        assert to_rgba(color)[3] == 1
        box = text.get_bbox_patch()
        assert box is not None
        assert box.get_facecolor() == pytest.approx(tuple(color))  # no hatching behind the figures


@pytest.mark.parametrize("failed", [None, np.zeros((3, 2))])
def test_a_table_of_another_shape_is_refused(axes: Axes, failed: object) -> None:
    values = VALUES if failed is not None else VALUES.T
    with pytest.raises(ValueError, match=r"shape of the table, \(2, 3\)"):
        heatmap(axes, values, "ab", "xyz", failed)  # type: ignore[arg-type]


def test_a_value_that_is_not_finite_is_refused(axes: Axes) -> None:
    with pytest.raises(ValueError, match="finite"):
        heatmap(axes, [[np.nan]], "a", "x")


def test_heat_maps_of_runs_say_what_was_best_and_what_failed() -> None:
    mpl.use("agg")
    plain = Recipe(epochs=2, validation=10)
    rates = (0.01, 0.1, 1.0)
    nets = {
        norm: {rate: plain.but(norm=norm, learning_rate=rate) for rate in rates}
        for norm in (None, "batch")
    }
    runs = Runs(
        made_up(
            net,
            seed,
            test_accuracy=[0.2 + seed / 10],
            fit_loss=[2.0, 2.4 if rate == 1 and seed else 1.0],
        )
        for grid in nets.values()
        for rate, net in grid.items()
        for seed in (0, 1)
    )
    figure = heatmaps(
        runs,
        {"SGD": {"without": nets[None], "batch": nets["batch"]}},
        "test_accuracy",
        stars={("SGD", "batch"): 0.1},
        ticks={("SGD", "without"): [0.03]},
        alt="A table.",
    )
    data = figure.data
    assert set(data.panel) == {"SGD"}
    means = data[data.series == "test_accuracy, mean"]
    assert means.value.to_list() == pytest.approx([0.25] * 6)
    assert means.y.to_list() == ["without"] * 3 + ["batch"] * 3
    assert means.x.to_list() == ["0.01", "0.1", "1"] * 2
    assert data[data.series == "seeds that failed"].value.to_list() == [0, 0, 1] * 2
    assert data[data.series == "star"][["x", "y"]].to_numpy().tolist() == [["0.1", "batch"]]
    assert data[data.series == "tick"][["x", "y"]].to_numpy().tolist() == [[0.03, "without"]]
    (axes,) = figure.axes
    assert axes.get_xlabel() == "learning rate"
    assert texts(axes)[0, 2] == "25%\n1/2 failed"
    plt.close(figure)
