from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.patches import Rectangle
from nbclient import NotebookClient

from bn_tutorial.figures import (
    COLORS,
    INK,
    STYLE,
    heatmap,
    inline,
    interactive,
    read_data,
    spread,
    to_svg,
)

with np.printoptions():  # which it changes for everybody
    import colour

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


@pytest.mark.filterwarnings("ignore:.*simulation of tritanomaly is")  # a model of it at all
@pytest.mark.parametrize("kind", ["Deuteranomaly", "Protanomaly", "Tritanomaly"])
def test_colour_blind_readers_can_tell_normalisers_apart(kind: str) -> None:
    light = colour.models.eotf_sRGB([to_rgb(color) for color in COLORS.values()])
    seen = np.clip(light @ colour.matrix_cvd_Machado2009(kind, 1).T, 0, 1)
    places = colour.XYZ_to_CAM02UCS(colour.RGB_to_XYZ(seen, "sRGB"))
    # in this space 1 is about the least that one can see side by side
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2)) > 12


def test_a_figure_s_ink_follows_the_colour_scheme(axes: Axes) -> None:
    axes.plot([0, 1], color=COLORS["batch"])
    figure = axes.get_figure(root=True)
    assert figure is not None
    text = to_svg(figure)
    style, drawing = text.split("</style>", 1)
    assert "prefers-color-scheme:dark" in style
    assert INK in style
    assert INK not in drawing
    assert "var(--ink)" in drawing
    assert COLORS["batch"] in drawing
    assert to_svg(figure) == text


def test_a_figure_carries_its_numbers(axes: Axes) -> None:
    axes.plot([1, 2], [0.5, 0.25], color=COLORS["batch"])
    figure = axes.get_figure(root=True)
    assert figure is not None
    header, *rows = read_data(to_svg(figure)).splitlines()
    assert header == "panel,line,kind,series,x,y"  # the axes have no labels
    assert rows == ["panel 1,1,line,batch norm,1.0,0.5", "panel 1,1,line,batch norm,2.0,0.25"]
    with pytest.raises(ValueError, match="carries no data"):
        read_data("<svg></svg>")


def test_a_wide_interval_does_not_squeeze_the_curves(axes: Axes) -> None:
    spread(axes, [1, 2], [[0.4, 0.1], [0.5, 0.9]], color=COLORS["batch"], label="batch norm")
    band = axes.collections[0].get_paths()[0].get_extents()
    assert band.y0 < 0 < axes.get_ylim()[0]
    seeds, mean = axes.lines[:2], axes.lines[2]
    assert [list(np.asarray(line.get_ydata())) for line in seeds] == [[0.4, 0.1], [0.5, 0.9]]
    assert np.asarray(mean.get_ydata()) == pytest.approx([0.45, 0.5])
    assert axes.get_legend_handles_labels()[1] == ["batch norm"]


def test_an_interactive_figure_hands_its_numbers_to_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    numbers = {"values": [0.1, -2.5], "text": "</script><b>"}
    interactive("some-figure", numbers)
    page = BeautifulSoup(shown[0]["text/html"], "html.parser")
    place = page.select_one("#some-figure")
    assert place is not None
    (script,) = place.select("script")
    assert json.loads(str(script.string)) == numbers
    assert [child.name for child in place.find_all(recursive=False)] == ["script", "noscript"]
    assert shown[0]["text/plain"] in place.get_text()


def test_a_notebook_shows_what_is_drawn_after_a_figure_of_ours() -> None:
    cells = [
        "from bn_tutorial.evidence import interval\nfrom bn_tutorial.figures import effects",
        "figure = effects({'with minus without': interval([0.1, 0.2])})",
        "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120).execute()
    shown = [["image/png" in one.data for one in cell.outputs] for cell in notebook.cells]
    assert shown == [[], [True], [True]]


def test_inline_figures_need_a_kernel() -> None:
    with pytest.raises(RuntimeError, match="in a Jupyter notebook only"):
        inline()
