"""Figures: for light and dark pages, with their data, and small ones for the gallery's cards."""

from __future__ import annotations

import re
import shutil
import textwrap
from html import unescape
from pathlib import Path
from typing import Any

from bn_ledger import badge, experiment
from docutils import nodes
from sphinx.application import Sphinx

from bn_tutorial import evidence, figures
from bn_tutorial.evidence import registry

#: The figure that stands for the site where a link to it is shared.
HERO = "sphx_glr_plot_02_batch_norm_003"
_CARD = re.compile(r"/thumb/sphx_glr_(plot_\w+)_thumb\.svg$")
_ALT = re.compile(r"<title>(.*?)</title>", re.DOTALL)


def reset(gallery_conf: dict[str, Any], fname: str, when: str = "before") -> None:
    """Give every script the house style to start from."""
    import matplotlib.pyplot as plt

    plt.rcdefaults()
    plt.rcParams.update(figures.STYLE)


def scraper(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save each figure as one SVG whose ink follows the page's colour scheme."""
    import matplotlib.pyplot as plt

    rst = ""
    for number, path in zip(plt.get_fignums(), block_vars["image_path_iterator"], strict=False):
        figure, file = plt.figure(number), Path(path).with_suffix(".svg")
        alt = " ".join(str(figure.get_label()).split())
        if not alt:
            raise ValueError(
                f"{block_vars['src_file']}: figure {number} has no label to serve as its alt text"
            )
        file.write_text(figures.to_svg(figure))
        name = file.relative_to(gallery_conf["src_dir"]).as_posix()
        rst += f"\n.. image:: /{name}\n   :alt: {alt}\n   :class: sphx-glr-single-img\n"
        if file.stem == HERO:
            figure.set_size_inches(8, 4.2)
            figure.savefig(_hero(gallery_conf["src_dir"]), dpi=150, transparent=False)
        if int(file.stem[-3:]) == block_vars["file_conf"].get("thumbnail_number", 1):
            _small(file).write_text(_first_panel(figure))
    plt.close("all")
    return rst


def _hero(srcdir: str | Path) -> Path:
    return Path(srcdir, "auto_examples", "hero.png")


def _small(figure: Path) -> Path:
    """Return where the small drawing of a script's figure is kept until the gallery is made."""
    folder = figure.parent / "small"
    folder.mkdir(exist_ok=True)
    return folder / f"{figure.stem[:-4]}_thumb.svg"


def _first_panel(figure: Any) -> str:
    """Draw the first panel of a figure so small that its text is legible on a card."""
    first, *others = figure.axes
    for other in others:
        other.remove()
    for legend in (*figure.legends, first.get_legend()):
        if legend:
            legend.remove()
    figure.suptitle("")
    for text in (*figure.texts, *first.texts):
        text.remove()
    title = first.get_ylabel() or first.get_title("left")
    first.set_title("\n".join(textwrap.wrap(title, 34)))
    first.set_ylabel("")
    figure.set_size_inches(2.9, 2.1)
    first.set_subplotspec(figure.add_gridspec(1, 1)[0])
    return figures.to_svg(figure)


def use_small_drawings(app: Sphinx) -> None:
    """Put the small drawings on the cards, where sphinx-gallery has put whole figures."""
    output = app.srcdir / app.config.sphinx_gallery_conf["gallery_dirs"]
    for small in output.rglob("images/small/*.svg"):
        shutil.copy(small, small.parents[1] / "thumb" / small.name)


def finish_images(app: Sphinx, doctree: nodes.document) -> None:
    """Give each figure a link to its data, and each card its verdicts."""
    figures_so_far, tally = 0, ""
    for node in list(doctree.findall(lambda node: isinstance(node, (nodes.image, nodes.raw)))):
        if isinstance(node, nodes.raw):
            _finish_raw(node, tally)
        elif card := _CARD.search(node["uri"]):
            file = Path(app.srcdir, node["uri"])
            node["alt"] = unescape(_ALT.search(file.read_text("utf-8"))[1])
            tally = _tally(app, experiment(card[1]))
        elif node["uri"].endswith(".svg"):
            figures_so_far += _link_data(app, node, figures_so_far + 1)


def _link_data(app: Sphinx, image: nodes.image, number: int) -> bool:
    """Put the numbers of a figure beside the pages; below it, a link to them and to itself."""
    try:
        data = figures.read_data(Path(app.srcdir, image["uri"]).read_text("utf-8"))
    except ValueError:
        return False
    page = app.env.docname
    root, picture = "../" * page.count("/"), app.env.images[image["uri"]][1]
    links = [
        f'<a href="{root}_images/{picture}#figure" aria-label="larger, figure {number} by itself">larger</a>'
    ]
    if data.strip():  # a drawing may show no numbers
        file = Path(app.outdir, "_data", f"{page.replace('/', '-')}-{number}.csv")
        file.parent.mkdir(exist_ok=True)
        file.write_text(data, "utf-8")
        links.append(
            f'<a href="{root}_data/{file.name}" download aria-label="data (CSV) of figure {number}">'
            "data (CSV)</a>"
        )
    below = nodes.raw("", f'<p class="figure-data">{" ".join(links)}</p>', format="html")
    frame = image
    while isinstance(frame.parent, (nodes.figure, nodes.reference)):
        frame = frame.parent
    frame.parent.insert(frame.parent.index(frame) + 1, below)
    return True


def _finish_raw(raw: nodes.raw, tally: str) -> None:
    """Complete what sphinx-gallery writes as HTML, and mend what is not valid in it."""
    html = raw.astext()
    if "sphx-glr-thumbcontainer" in html:
        html = re.sub(r' tooltip="[^"]*"', "", html)
    elif "sphx-glr-thumbnail-title" in html:
        html = html.replace("</div>", f"</div>{tally}", 1)  # after the title
    elif "sg-tag-list" in html:  # an empty list for tags, which nothing here has
        html = ""
    raw.children = [nodes.Text(html)]


def _tally(app: Sphinx, group: str) -> str:
    """Return what came out of an experiment: on its primary hypotheses, or on what it has."""
    app.env.note_dependency(str(evidence.evidence_path(group)))
    known, recorded = registry.hypotheses(), evidence.recall(group).values()
    verdicts = [value for value in recorded if isinstance(value, dict) and "word" in value]
    primary = [value for value in verdicts if known[value["hypothesis"]].primary]
    words = [value["word"] for value in primary or verdicts]
    marks = (
        badge(word) + (f" × {words.count(word)}" if words.count(word) > 1 else "")
        for word in dict.fromkeys(words)
    )
    return f'<div class="card-verdicts">{"<br>".join(marks)}</div>'


def copy_hero(app: Sphinx, exception: Exception | None) -> None:
    """Serve the picture that stands for the site."""
    hero = _hero(app.srcdir)
    if exception is None and app.builder.format == "html" and hero.is_file():
        shutil.copy(hero, Path(app.outdir, "_static", hero.name))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", use_small_drawings, priority=900)  # after sphinx-gallery
    app.connect("doctree-read", finish_images, priority=900)  # after their paths were resolved
    app.connect("build-finished", copy_hero)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
