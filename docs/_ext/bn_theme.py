"""Where the theme falls short: mathematics from the site itself, scripts of single pages, roles, 404."""

from __future__ import annotations

import importlib.util
import re
import shutil
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.application import Sphinx

#: Styles and scripts of all that a reader can move, fill in or press.
SHARED = ("interactive.css", "interactive.js")
_PREDICTED = ("exercises.css", "predicting.js", "predictions.js")
_LAB = ("lab.css", "network.js", "worker.js", "images.js", "charts.js", "lab.js")
#: What a page may have, and what is loaded for it besides those.
LOADED = {
    '<form class="ask"': ("exercises.css", "exercises.js"),
    "data-predict=": _PREDICTED,
    'id="what-i-predicted"': _PREDICTED,
    'class="interactive" id="lab"': tuple(f"lab/{name}" for name in _LAB),
    '<div class="deck"': ("slides/slides.css", "slides/slides.js"),
}
#: What runs before anything is painted.
EARLY = ("predicting.js",)
_HASHED = re.compile(r"\[R[0-9a-f]{12}-(\d+)\]")
_VIEWPORT = re.compile(r'<meta name="viewport"[^>]*>\s*')


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Serve MathJax from the site itself; it comes from the package sphinx-mathjax-offline."""
    if exception is None and app.builder.format == "html":
        spec = importlib.util.find_spec("sphinx-mathjax-offline")
        source = Path(str(spec and spec.origin)).parent / "static" / "mathjax"
        target = Path(app.outdir, "_static", "mathjax")
        fonts = "output/chtml/fonts/woff-v2"
        shutil.copytree(source / fonts, target / fonts, dirs_exist_ok=True)
        shutil.copy2(source / "tex-chtml.js", target)


def finish_page(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Load the styles and scripts of what a page has, and mend three things in its HTML.

    It says once how wide it is, though docutils and the theme both say so; the entries of a list of
    references are its items, as far as screen readers are concerned; and numpydoc's marks of references
    are numbers in the text above them, too.
    """
    body = context.get("body", "")
    asked = [files for mark, files in LOADED.items() if mark in body]
    if (app.srcdir / "_static" / f"{page}.js").exists():
        asked.append((f"{page}.js",))
    for file in (*SHARED, *chain(*asked)) if asked else ():
        if file.endswith(".css"):
            app.add_css_file(file)
        else:
            app.add_js_file(file, loading_method="" if file in EARLY else "defer")
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    context["body"] = _HASHED.sub(r"[\1]", body)
    context["metatags"] = _HASHED.sub(r"[\1]", _VIEWPORT.sub("", context.get("metatags", "")))


def root_links(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Let the links of the page for unknown addresses start at the root: it is shown anywhere."""
    if page == "404":
        inside = [one for one in doctree.findall(nodes.reference) if one.get("internal")]
        for link in inside:
            link["refuri"] = urlsplit(app.config.html_baseurl).path + link["refuri"]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", finish_page)
    app.connect("doctree-resolved", root_links)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
