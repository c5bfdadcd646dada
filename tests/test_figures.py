"""The house style, and figures in files and on pages."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from nbclient import NotebookClient

from bn_tutorial.figures import (
    COLORS,
    INK,
    MOVING,
    STYLE,
    inline,
    interactive,
    read_data,
    to_svg,
    without_data,
)
from bn_tutorial.recipe import NORMALISERS

with np.printoptions():  # which it changes for everybody
    import colour

SCRIPTS = sorted(Path(__file__).parents[1].glob("gallery/*/plot_*.py"))
#: Those of normalisers, of which some share one, and of none.
DISTINCT = [*dict.fromkeys(COLORS.values())]
#: A white page and a dark one, as the site has them.
PAGES = ("#ffffff", "#14181e")


@pytest.fixture
def axes() -> Iterator[Axes]:
    mpl.use("agg")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots()
        yield axes
    plt.close(figure)


def test_every_normaliser_has_a_colour_and_a_say_about_moving_statistics() -> None:
    assert set(COLORS) == {None, *NORMALISERS}
    with_momentum = {norm for norm, row in NORMALISERS.items() if "momentum" in row.options}
    assert set(MOVING) == with_momentum


@pytest.mark.filterwarnings("ignore:.*simulation of tritanomaly is")  # a model of it at all
@pytest.mark.parametrize("kind", ["Deuteranomaly", "Protanomaly", "Tritanomaly"])
def test_colour_blind_readers_can_tell_normalisers_apart(kind: str) -> None:
    light = colour.models.eotf_sRGB([to_rgb(color) for color in DISTINCT])
    seen = np.clip(light @ colour.matrix_cvd_Machado2009(kind, 1).T, 0, 1)
    places = colour.XYZ_to_CAM02UCS(colour.RGB_to_XYZ(seen, "sRGB"))
    # in this space 1 is about the least that one can see side by side
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2)) > 12


def test_colours_are_clear_on_white_and_on_dark_pages() -> None:
    def luminance(color: str) -> float:
        return float(colour.models.eotf_sRGB(to_rgb(color)) @ [0.2126, 0.7152, 0.0722])

    for color, page in itertools.product(DISTINCT, PAGES):
        low, high = sorted((luminance(color), luminance(page)))
        # as WCAG has it; black on white is 21, and 1 is invisible
        assert (high + 0.05) / (low + 0.05) > 2.2, (color, page)


def named(script: str) -> set[str]:
    """Return the normalisers that a script asks for; all that it names if it asks by a variable."""
    tree = ast.parse(script)
    asked = [
        one.value for one in ast.walk(tree) if isinstance(one, ast.keyword) and one.arg == "norm"
    ]
    by_variable = any(isinstance(one, (ast.Name, ast.Subscript)) for one in asked)
    parts: list[ast.AST] = [tree] if by_variable else [*asked]
    texts = [one.value for part in parts for one in ast.walk(part) if isinstance(one, ast.Constant)]
    return {norm for norm in NORMALISERS if norm in texts}


def test_names_of_normalisers_are_found_in_scripts() -> None:
    assert named('"rms"; plain.but(norm="layer"); plain.but(norm=None)') == {"layer"}
    assert named('norms = ("rms", None); plain.but(norm=norms[0])') == {"rms"}
    assert sum(bool(named(one.read_text("utf-8"))) for one in SCRIPTS) > len(SCRIPTS) // 2


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.stem))
def test_no_script_draws_two_normalisers_in_one_colour(script: Path) -> None:
    norms = named(script.read_text("utf-8"))
    assert len({COLORS[norm] for norm in norms}) == len(norms), norms


def test_what_does_without_a_batch_can_be_drawn_beside_what_does_not() -> None:
    together = (None, "batch", "layer", "rms", "dyt", "derf")
    assert len({COLORS[norm] for norm in together}) == len(together)


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
    axes.plot([1, 2], [0.5, 0.25], color=COLORS["batch"], label="batch norm")
    figure = axes.get_figure(root=True)
    assert figure is not None
    header, *rows = read_data(to_svg(figure)).splitlines()
    assert header == "panel,line,kind,series,x,y"  # the axes have no labels
    assert rows == ["panel 1,1,line,batch norm,1.0,0.5", "panel 1,1,line,batch norm,2.0,0.25"]
    with pytest.raises(ValueError, match="carries no data"):
        read_data(without_data(to_svg(figure)))


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
        "from bn_tutorial import Runs, figures\nfrom bn_tutorial.evidence import interval",
        "figure = figures.effects(Runs(), {'gain': interval([0.1, 0.2])}, alt='An effect.')",
        "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120).execute()
    shown = [["image/png" in one.data for one in cell.outputs] for cell in notebook.cells]
    assert shown == [[], [True], [True]]


def test_inline_figures_need_a_kernel() -> None:
    with pytest.raises(RuntimeError, match="in a Jupyter notebook only"):
        inline()
