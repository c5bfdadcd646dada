"""The site's own glue: evidence in prose, nothing stale, mathematics from the site itself."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

import bn_tutorial
from bn_tutorial import evidence
from bn_tutorial.evidence.registry import WORDS
from bn_tutorial.training import progress

#: Words that one reads in a minute, where formulas and code stand between them.
READING_SPEED = 160


def digest(*parts: str) -> str:
    """Return a digest of what executed pages depend on: the library, versions, `parts`."""
    text = repr([parts, *(metadata.version(name) for name in ("numpy", "keras", "tensorflow"))])
    total = hashlib.sha256(text.encode())
    for file in sorted(Path(bn_tutorial.__file__).parent.rglob("*")):
        if file.suffix in (".py", ".toml"):
            total.update(file.read_bytes())
    return total.hexdigest()[:16]


class Evidence(SphinxRole):
    """``{evidence}`group.name:.1pp```: a recorded value in prose."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        name, _, spec = self.text.partition(":")
        self.env.note_dependency(str(evidence.evidence_path(name.partition(".")[0])))
        try:
            text = evidence.quote(name, spec)
        except (KeyError, ValueError, TypeError) as error:
            message = self.inliner.reporter.error(
                f"no evidence {self.text!r}: {error}", line=self.lineno
            )
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]
        classes = ["evidence"]
        if text in WORDS:
            classes += ["verdict", f"verdict-{text.replace(' ', '-')}"]
        return [nodes.inline(self.rawtext, text, classes=classes)], []


class Minutes(SphinxRole):
    """``{minutes}`this page```: how long it takes to read the page."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        words = len(Path(self.env.doc2path(self.env.docname)).read_text("utf-8").split())
        return [nodes.Text(str(max(1, round(words / READING_SPEED))))], []


def prune(app: Sphinx) -> None:
    """Delete what a removed or renamed script left in the output folder."""
    conf = app.config.sphinx_gallery_conf
    source, output = app.srcdir / conf["examples_dirs"], app.srcdir / conf["gallery_dirs"]
    for copy in output.rglob("*.py"):
        if not (source / copy.relative_to(output)).exists():
            for file in (
                *copy.parent.glob(f"{copy.stem}.*"),
                *(copy.parent / "images").rglob(f"sphx_glr_{copy.stem}_*"),
            ):
                file.unlink()


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Serve MathJax from the site itself; it comes from the package sphinx-mathjax-offline."""
    if exception is None and app.builder.format == "html":
        spec = importlib.util.find_spec("sphinx-mathjax-offline")
        source = Path(str(spec.origin)).parent / "static" / "mathjax"
        target = Path(app.outdir, "_static", "mathjax")
        fonts = "output/chtml/fonts/woff-v2"
        shutil.copytree(source / fonts, target / fonts, dirs_exist_ok=True)
        shutil.copy2(source / "tex-chtml.js", target)


def add_own_script(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Load ``_static/<page>.js``, and what such scripts share, on the one page that has it."""
    if (app.srcdir / "_static" / f"{pagename}.js").exists():
        app.add_css_file("interactive.css")
        for script in ("interactive.js", f"{pagename}.js"):
            app.add_js_file(script, loading_method="defer")


def mend_roles(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Make the entries of a list of references its items, as far as screen readers are concerned."""
    body = context.get("body", "")
    context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')


def root_links(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Let the links of the page for unknown addresses start at the root: it is shown anywhere."""
    if page == "404":
        for link in doctree.findall(nodes.reference):
            link["refuri"] = urlsplit(app.config.html_baseurl).path + link["refuri"]


# what a page prints must not depend on what was trained by this build
progress.REPORT_TO = sys.__stderr__


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role("evidence", Evidence())
    app.add_role("minutes", Minutes())
    app.connect("builder-inited", prune, priority=400)
    app.connect("html-page-context", add_own_script)
    app.connect("doctree-resolved", root_links)
    app.connect("html-page-context", mend_roles)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
