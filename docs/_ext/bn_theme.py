"""Where the theme falls short: mathematics from the site itself, a page's own script, roles, 404."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.application import Sphinx


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
    """Load ``_static/<page>.js``, and what such scripts share, on the one page that has it.

    And make the entries of a list of references its items, as far as screen readers are concerned.
    """
    if (app.srcdir / "_static" / f"{page}.js").exists():
        app.add_css_file("interactive.css")
        for script in ("interactive.js", f"{page}.js"):
            app.add_js_file(script, loading_method="defer")
    body = context.get("body", "")
    context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')


def root_links(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Let the links of the page for unknown addresses start at the root: it is shown anywhere."""
    if page == "404":
        for link in doctree.findall(nodes.reference):
            link["refuri"] = urlsplit(app.config.html_baseurl).path + link["refuri"]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", finish_page)
    app.connect("doctree-resolved", root_links)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
