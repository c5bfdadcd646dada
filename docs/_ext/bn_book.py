"""The site as a book: an EPUB and a PDF beside its pages, which its home page offers.

Both are made from the finished pages, so they quote what the pages quote. Chromium turns formulas into
MathML, by the MathJax that the site carries, and prints. Sphinx's own EPUB builder would write all
pages anew through every extension, of XHTML that its raw HTML is not, and names no MathML in the package.
"""

from __future__ import annotations

import datetime
import importlib.util
import logging
import os
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bn_chapters
from bn_chapters import Chapter
from bn_evidence import render
from docutils import nodes
from pygments.formatters import HtmlFormatter
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ConfigError, ExtensionError
from sphinx.util.docutils import SphinxDirective

VARIABLE, FOLDER, NAME = "BN_TUTORIAL_BOOK", "book", "bn_tutorial"
KINDS = ("epub", "pdf")
#: Pages that are not in it, with all below them.
LEFT_OUT = ("reference", "contributing/index", "learn/slides")
UNKNOWN = "https://example.org/"  # where a site stands whose address nobody has said
COVER = "cover.png"
NEEDED = ("playwright", "pikepdf")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: Writes into the contents on which pages chapters begin.
_NUMBER = """numbers => {
  for (const link of document.querySelectorAll("#contents a"))
    link.nextElementSibling.textContent = numbers[link.getAttribute("href")] ?? "";
}"""


class Book(SphinxDirective):
    """``{book}``: the offer of the book, on a site that is built with it; else nothing."""

    def run(self) -> list[nodes.Node]:
        self.env.metadata[self.env.docname]["book"] = self.config.book
        if not self.config.book:
            return []
        links = (f'<a href="{FOLDER}/{NAME}.{kind}" download>{kind.upper()}</a>' for kind in KINDS)
        offer = f'<p class="offer"><strong>To take with you</strong>, the site as a book: {" or ".join(links)}.</p>'
        return [nodes.raw("", offer, format="html")]


def changed(app: Sphinx, env: BuildEnvironment, *_: set[str]) -> list[str]:
    """Return the pages that offer the book and should not, or the other way round."""
    said = {page: one["book"] for page, one in env.metadata.items() if "book" in one}
    return [page for page, offered in said.items() if offered != app.config.book]


def write_book(app: Sphinx, exception: Exception | None) -> None:
    """Make the book, or remove that of another build, which nothing offers any more."""
    if exception is not None or app.builder.name != "html":
        return
    if not app.config.book:
        shutil.rmtree(Path(app.outdir, FOLDER), ignore_errors=True)
    else:
        base = app.config.html_baseurl
        about = {
            "name": app.env.titles[app.config.root_doc].astext(),
            "author": app.config.author,
            "version": app.config.release,
            "made": app.config.html_context["provenance"],
            "computed": app.config.html_context["computed"],
            "sample": "announcement" in app.config.html_theme_options,
        }
        make(Path(app.outdir), pages(app.env), "" if base.startswith(UNKNOWN) else base, about)


def pages(env: BuildEnvironment) -> list[tuple[str, int]]:
    """Return the pages of the book in their order, each with its depth; the home page comes first."""
    root = env.config.root_doc
    includes = {
        page: [] if page in LEFT_OUT else below for page, below in env.toctree_includes.items()
    }
    found = [(root, 0)]
    for part in includes[root]:
        found += bn_chapters.below(part, lambda page: includes.get(page, []))
    return [(page, depth) for page, depth in found if page not in LEFT_OUT]


def make(html: Path, order: Sequence[tuple[str, int]], site: str, about: Mapping[str, Any]) -> None:
    """Write the book into a folder of the built site.

    Parameters
    ----------
    html : Path
        The root of the site.
    order : sequence of (str, int)
        The pages, each with its depth.
    site : str
        The address of the site; empty if it is not known.
    about : mapping
        What the title page says.

    Raises
    ------
    sphinx.errors.ExtensionError
        If there is no browser, or a formula is wrong.
    """
    chapters = [
        bn_chapters.read(Path(html, f"{page}.html").read_text("utf-8"), page, depth, site)
        for page, depth in order
    ]
    bn_chapters.connect(chapters, site)
    now = datetime.datetime.now(datetime.UTC)
    about = {**about, "site": site, "built": now.strftime("%Y-%m-%d %H:%M UTC")}
    with tempfile.TemporaryDirectory(dir=html.parent) as work:
        folder = Path(work)
        images = _illustrate(folder, html / "_images", chapters)
        style = Path(__file__).parents[1] / "_templates" / "book" / "book.css"
        code = HtmlFormatter(style="a11y-high-contrast-light").get_style_defs(".highlight")
        (folder / "book.css").write_text(f"{code}\n{style.read_text('utf-8')}", "utf-8")
        told = [
            {"name": one.name, "title": one.title, "body": bn_chapters.printed(one)}
            for one in chapters
        ]
        page = render(
            "book/print.html",
            **about,
            title=render("book/title.html", **about),
            chapters=told,
            nodes=_tree(chapters, "#{0}"),
            mathjax=(html / "_static" / "mathjax" / "tex-chtml.js").as_uri(),
        )
        (folder / "print.html").write_text(page, "utf-8")
        hero = (html / "_static" / "hero.png").resolve(strict=True).as_uri()
        (folder / "cover.html").write_text(render("book/cover.html", **about, hero=hero), "utf-8")
        with _browser() as browser:
            mathml = _print(browser, folder, chapters)
            _cover(browser, folder)
        _finish(folder / f"{NAME}.pdf", about["author"])
        _bind(folder, chapters, images, mathml, about, now)
        (html / FOLDER).mkdir(exist_ok=True)
        for kind in KINDS:
            (folder / f"{NAME}.{kind}").replace(html / FOLDER / f"{NAME}.{kind}")


def _illustrate(folder: Path, source: Path, chapters: Sequence[Chapter]) -> list[str]:
    """Put the figures that chapters show into a folder; return their names."""
    (folder / "images").mkdir()
    names = sorted({str(one["src"])[7:] for part in chapters for one in part.body.select("img")})
    for name in names:
        if not name.endswith(".svg"):
            raise ExtensionError(f"the book has vectors only: {name} is none.")
        figure = bn_chapters.light(Path(source, name).read_text("utf-8"))
        Path(folder, "images", name).write_text(figure, "utf-8")
    return names


def _tree(chapters: Sequence[Chapter], href: str) -> list[dict[str, Any]]:
    """Return the table of contents: each chapter with those below it."""
    top: list[dict[str, Any]] = []
    path = [top]
    for one in chapters:
        below: list[dict[str, Any]] = []
        del path[one.depth + 1 :]
        path[-1].append({"href": href.format(one.name), "title": one.title, "below": below})
        path.append(below)
    return top


@contextmanager
def _browser() -> Iterator[Any]:
    """Start the machine's own Chromium, or the one that playwright has installed."""
    from playwright.sync_api import Error, sync_playwright

    own = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=own, args=["--no-sandbox", "--disable-gpu"]
            )
        except Error as error:
            raise ExtensionError(
                f"Chromium, which makes the book, did not start: run `playwright install chromium`. ({error.message})"
            ) from None
        yield browser
        browser.close()


def _print(browser: Any, folder: Path, chapters: Sequence[Chapter]) -> dict[tuple[str, bool], str]:
    """Print the PDF; return the MathML of each formula, by its TeX and whether it is displayed."""
    keys = list(dict.fromkeys((tex, display) for _, tex, display in bn_chapters.formulas(chapters)))
    pdf = folder / f"{NAME}.pdf"
    page = browser.new_page()
    page.set_default_timeout(600_000)
    page.goto((folder / "print.html").as_uri())
    page.wait_for_function("window.MathJax?.startup?.promise")
    page.evaluate("MathJax.startup.promise")
    found = page.evaluate(
        "all => all.map(([tex, display]) => MathJax.tex2mml(tex, {display}))", keys
    )
    for (tex, _), one in zip(keys, found, strict=True):
        if "<merror" in one:
            raise ExtensionError(f"MathJax does not understand this formula: {tex}")
    kinds = {"prefer_css_page_size": True, "outline": True, "tagged": True}
    page.pdf(path=pdf, print_background=True, **kinds)
    page.evaluate(_NUMBER, _numbers(pdf))
    page.pdf(path=pdf, print_background=True, **kinds)  # now the contents know the pages
    return dict(zip(keys, found, strict=True))


def _cover(browser: Any, folder: Path) -> None:
    """Draw what a reader's shelf shows."""
    page = browser.new_page(viewport={"width": 1200, "height": 1600})
    page.goto((folder / "cover.html").as_uri())
    page.screenshot(path=folder / COVER)


def _pikepdf() -> Any:
    logging.getLogger("pikepdf").setLevel(logging.WARNING)  # it has a greeting
    return importlib.import_module("pikepdf")


def _numbers(pdf: Path) -> dict[str, int]:
    """Return the number of the sheet on which each anchor stands."""
    with _pikepdf().open(pdf) as book:
        numbers = {sheet.obj.objgen: number for number, sheet in enumerate(book.pages, 1)}
        return {f"#{name[1:]}": numbers[to[0].objgen] for name, to in book.Root.Dests.items()}


def _finish(pdf: Path, author: str) -> None:
    """Say in a PDF whose it is, and pack it."""
    pikepdf = _pikepdf()
    with pikepdf.open(pdf, allow_overwriting_input=True) as book:
        with book.open_metadata() as about:
            about["dc:creator"] = [author]
            about["xmp:CreatorTool"] = NAME
        book.save(pdf, object_stream_mode=pikepdf.ObjectStreamMode.generate)


def _bind(
    folder: Path,
    chapters: Sequence[Chapter],
    images: Sequence[str],
    mathml: Mapping[tuple[str, bool], str],
    about: Mapping[str, Any],
    now: datetime.datetime,
) -> None:
    """Write the EPUB."""
    bodies = {"title-page": ("Title page", render("book/title.html", **about))}
    for one in chapters:
        bodies[one.name] = (one.title, bn_chapters.xhtml(one, mathml))
    marks = {"mathml": "<math", "svg": "<svg"}
    package = render(
        "book/package.xml",
        **about,
        pages={
            name: " ".join(word for word, mark in marks.items() if mark in body)
            for name, (_, body) in bodies.items()
        },
        images=images,
        cover=COVER,
        identifier=uuid.uuid5(
            uuid.NAMESPACE_URL, f"bn_tutorial {about['version']} {about['made'].profile}"
        ),
        description="A tutorial in which every figure, number and verdict was computed when it was built.",
        modified=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    bodies["nav"] = ("Contents", render("book/nav.html", nodes=_tree(chapters, "{0}.xhtml")))
    container = (
        '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
        '<rootfiles><rootfile full-path="EPUB/package.opf" media-type="application/oebps-package+xml"/>'
        "</rootfiles></container>"
    )
    with zipfile.ZipFile(folder / f"{NAME}.epub", "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        book.writestr("META-INF/container.xml", container)
        book.writestr("EPUB/package.opf", package)
        for name, (title, body) in bodies.items():
            book.writestr(f"EPUB/{name}.xhtml", render("book/page.html", title=title, body=body))
        for name in ("book.css", COVER, *(f"images/{image}" for image in images)):
            book.write(folder / name, f"EPUB/{name}")


def asked() -> bool:
    """Return whether the environment asks for the book.

    Raises
    ------
    ConfigError
        If it does, and what makes it is not installed: better now than after an hour of training.
    """
    book = os.environ.get(VARIABLE, "") not in ("", "0")
    if book and not all(map(importlib.util.find_spec, NEEDED)):
        raise ConfigError(
            f"{VARIABLE} asks for a book, and {' or '.join(NEEDED)} is not installed: run `nox -s book`."
        )
    return book


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("book", asked(), "", bool)
    app.add_directive("book", Book)
    app.connect("env-get-outdated", changed)
    app.connect("build-finished", write_book, priority=950)  # once a whole build was noted
    return {"parallel_read_safe": True, "parallel_write_safe": True}
