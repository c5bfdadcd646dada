"""Figures: for light and dark pages, with their data, and small ones for the gallery's cards."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bn_evidence import experiment, findings, render
from docutils import nodes
from sphinx.application import Sphinx

from bn_tutorial import figures

#: Names of places on the axis of a small figure.
MOST_TICKS = 5
#: The figure that stands for the site where a link to it is shared.
HERO = "sphx_glr_plot_02_batch_norm_002"


def reset(gallery_conf: dict[str, Any], fname: str, when: str = "before") -> None:
    """Give every script the house style to start from, and a page no word about its training."""
    import matplotlib.pyplot as plt

    from bn_tutorial.training import progress

    plt.rcdefaults()
    plt.rcParams.update(figures.STYLE)
    # what a page prints must not depend on what was trained by this build
    progress.REPORT_TO = sys.__stderr__


def read(file: Path) -> tuple[str, str | None]:
    """Return the alternative text of an SVG, and as CSV the numbers that it carries, if any."""
    text = file.read_text("utf-8")
    title = ElementTree.fromstring(text).findtext("{*}title", "")
    try:
        return title, figures.read_data(text)
    except ValueError:
        return title, None


def scraper(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save each figure as one SVG whose ink follows the page's colour scheme."""
    import matplotlib.pyplot as plt

    rst, script = "", block_vars["file_conf"]
    for number, path in zip(plt.get_fignums(), block_vars["image_path_iterator"], strict=False):
        figure, file = plt.figure(number), Path(path).with_suffix(".svg")
        alt = " ".join(str(figure.get_label()).split())
        if not alt:
            raise ValueError(
                f"{block_vars['src_file']}: figure {number} has no label to serve as its alt text"
            )
        file.write_text(figures.to_svg(figure), "utf-8")
        name = file.relative_to(gallery_conf["src_dir"]).as_posix()
        rst += f"\n.. image:: /{name}\n   :alt: {alt}\n   :class: sphx-glr-single-img\n"
        if meaning := getattr(figure, "meaning", ""):
            rst += f"\n.. rst-class:: figure-meaning\n\n{meaning}\n"
        if file.stem == HERO:
            figure.set_size_inches(8, 4.2)
            figure.savefig(_hero(gallery_conf["src_dir"]), dpi=150, transparent=False)
        if int(file.stem[-3:]) == script.get("thumbnail_number", 1):
            small = file.parent / "small" / file.name
            small.parent.mkdir(exist_ok=True)
            small.write_text(_panel(figure, script.pop("thumbnail_panel", 1)), "utf-8")
            script.pop("thumbnail_number", None)  # which would have a say before the path
            script["thumbnail_path"] = small.relative_to(gallery_conf["src_dir"]).as_posix()
    plt.close("all")
    return rst


def _hero(srcdir: str | Path) -> Path:
    return Path(srcdir, "auto_examples", "hero.png")


def _panel(figure: Any, number: int) -> str:
    """Draw one panel of a figure so small that its text is legible on a card."""
    panels = list(figure.axes)
    chosen = panels.pop(number - 1)
    name = next((one.get_ylabel() for one in (chosen, *panels) if one.get_ylabel()), "")
    for other in panels:
        other.remove()
    for legend in (*figure.legends, chosen.get_legend()):
        if legend:
            legend.remove()
    for text in (*figure.texts, *chosen.texts):
        text.remove()
    title = ": ".join(filter(None, (chosen.get_title("left"), name)))
    chosen.set_title("")
    chosen.set_ylabel("")
    chosen.set_xlabel(re.split(r" \(|, ", chosen.get_xlabel())[0])
    chosen.tick_params(labelbottom=True, labelleft=True)
    for axis in (chosen.xaxis, chosen.yaxis):
        labels = [one for one in axis.get_ticklabels() if one.get_text()]
        if axis is chosen.xaxis and len(labels) > MOST_TICKS:  # every other, or they collide
            axis.set_ticks(axis.get_ticklocs()[::2], [one.get_text() for one in labels][::2])
    figure.suptitle("\n".join(textwrap.wrap(title, 38)), x=0.02, ha="left", fontsize="medium")
    figure.set_size_inches(2.9, 2.2)
    chosen.set_subplotspec(figure.add_gridspec(1, 1)[0])
    return figures.to_svg(figure)


def prune(app: Sphinx) -> None:
    """Delete what a removed or renamed script left in the output folder."""
    conf = app.config.sphinx_gallery_conf
    source, output = app.srcdir / conf["examples_dirs"], app.srcdir / conf["gallery_dirs"]
    for copy in output.rglob("*.py"):
        if not (source / copy.relative_to(output)).exists():
            images = (copy.parent / "images").rglob(f"sphx_glr_{copy.stem}_*")
            for file in (*copy.parent.glob(f"{copy.stem}.*"), *images):
                file.unlink()


def finish_images(app: Sphinx, doctree: nodes.document) -> None:
    """Give each figure a link to its data, and each card the answer."""
    number, card = 0, ""
    for node in list(doctree.findall(lambda node: isinstance(node, (nodes.image, nodes.raw)))):
        if isinstance(node, nodes.raw):
            node.children = [nodes.Text(_mended(node.astext(), card))]
        elif isinstance(node, nodes.image) and node["uri"].endswith(".svg"):
            file = Path(app.srcdir, node["uri"])
            alt, data = read(file)
            if file.parent.name == "thumb":
                node["alt"] = alt
                name = file.stem.removeprefix("sphx_glr_").removesuffix("_thumb")
                card = render("card.html", one=findings(app.env, experiment(name))[0])
            elif data is not None:
                number += 1
                _link_data(app, node, number, data)


def _link_data(app: Sphinx, image: nodes.image, number: int, data: str) -> None:
    """Put the numbers of a figure beside the pages; below it, a link to them and to itself."""
    page = app.env.docname
    root, links = "../" * page.count("/"), {"data": ""}
    if data.strip():  # a drawing may show no numbers
        file = Path(app.outdir, "_data", f"{page.replace('/', '-')}-{number}.csv")
        file.parent.mkdir(exist_ok=True)
        file.write_text(data, "utf-8")
        links["data"] = f"{root}_data/{file.name}"
    links["picture"] = f"{root}_images/{app.env.images[image['uri']][1]}"
    below = nodes.raw("", render("figure-links.html", number=number, **links), format="html")
    frame: nodes.Element = image
    while isinstance(frame.parent, (nodes.figure, nodes.reference)):
        frame = frame.parent
    at = frame.parent.index(frame) + 1
    caption = at < len(frame.parent) and "figure-meaning" in classes(frame.parent[at])
    frame.parent.insert(at + caption, below)
    box(frame)


def classes(node: nodes.Node) -> list[str]:
    """Return the classes of a node, of which text has none."""
    return list(node["classes"]) if isinstance(node, nodes.Element) else []


def box(frame: nodes.Element) -> None:
    """Let a figure keep its width on a phone, and slide in a box of its own."""
    begin = '<div class="figure-box">'
    at = frame.parent.index(frame)
    frame.parent.insert(at + 1, nodes.raw("", "</div>", format="html"))
    frame.parent.insert(at, nodes.raw("", begin, format="html"))


def _mended(html: str, card: str) -> str:
    """Complete what sphinx-gallery writes as HTML, and mend what is not valid in it."""
    if "sphx-glr-thumbcontainer" in html:
        return re.sub(r' tooltip="[^"]*"', "", html)
    if "sphx-glr-thumbnail-title" in html:
        return html.replace("</div>", f"</div>{card}", 1)  # after the title
    if "sg-tag-list" in html:  # an empty list for tags, which nothing here has
        return ""
    return html


def copy_hero(app: Sphinx, exception: Exception | None) -> None:
    """Serve the picture that stands for the site."""
    hero = _hero(app.srcdir)
    if exception is None and app.builder.format == "html" and hero.is_file():
        shutil.copy(hero, Path(app.outdir, "_static", hero.name))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", prune, priority=400)  # before sphinx-gallery
    app.connect("doctree-read", finish_images, priority=900)  # after their paths were resolved
    app.connect("build-finished", copy_hero)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
