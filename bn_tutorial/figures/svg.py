"""Figures in files and on pages: SVG that follows the colour scheme and carries its numbers."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from xml.sax.saxutils import escape, unescape

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from bn_tutorial.figures.canvas import NumberedFigure
from bn_tutorial.figures.style import INK, INK_DARK, STYLE
from bn_tutorial.figures.table import table

#: With ``#figure`` at the end of its address, an SVG is shown by itself: large, on its own paper.
_INK_BY_SCHEME = (
    f"<style>svg{{--ink:{INK}}}svg:target{{background:#fff;width:max(100%,60rem);height:auto}}"
    f"@media (prefers-color-scheme:dark){{svg{{--ink:{INK_DARK}}}svg:target{{background:{INK}}}}}"
    "</style>"
)

_DATA = '<metadata id="data">', "</metadata>"


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
        with plt.rc_context({"svg.hashsalt": STYLE["svg.hashsalt"]}):  # else its names are drawn
            figure.savefig(buffer, format="svg", metadata=about)
        drawing = buffer.getvalue().replace("<svg ", '<svg id="figure" ', 1)
    head, mark, tail = drawing.replace(INK, "var(--ink)").partition("<defs>")
    numbers = figure.data if isinstance(figure, NumberedFigure) else table(figure)
    data = escape(numbers.to_csv(index=False))
    return f"{head}{_INK_BY_SCHEME}{_DATA[0]}{data}{_DATA[1]}{mark}{tail}"


def read_data(svg: str) -> str:
    """Return the numbers that a figure shows, as CSV.

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


def without_data(svg: str) -> str:
    """Return a figure without the numbers that it carries, if it carries any.

    Parameters
    ----------
    svg : str
        What `to_svg` returned, or another SVG.
    """
    head, mark, rest = svg.partition(_DATA[0])
    return head + rest.partition(_DATA[1])[2] if mark else svg


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
