"""The site for programs that read: each page's twin in Markdown, and llms.txt, which lists them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import bn_chapters
from bn_evidence import experiment, findings
from bs4 import BeautifulSoup, Tag
from markdownify import MarkdownConverter
from sphinx import addnodes
from sphinx.application import Sphinx

#: What pages have for eyes, mice and keyboards alone.
UNREAD = (
    "a.headerlink, script, style, form:not(.ask), .reason, button, input, noscript, .downloads, "
    ".figure-data, nav, details.hide > summary"
)
SUMMARY = (
    "A tutorial on batch normalisation in which every figure, number and verdict was computed when "
    "the site was built. Verdicts follow from rules that were registered before the runs; each has "
    "an effect and an interval."
)
_LANGUAGES = {"ipython3": "python", "default": "", "none": "", "myst-ansi": ""}
_PAGE = re.compile(r"(?!\w+:|//)([^#?]+)\.html((?:#.*)?)")
_MATH = re.compile(r"\s*(?:\(([\d.]+)\)\s*)?\\([(\[])(.*)\\[)\]]\s*", re.DOTALL)


class _Converter(MarkdownConverter):
    """markdownify's own, but for formulas, which stay formulas, and bars within a table."""

    def convert_tex(self, element: Tag, text: str, parent_tags: set[str]) -> str:
        formula = element.get_text()
        return f"\n\n$$\n{formula}\n$$\n\n" if element.get("display") else f"${formula}$"

    def convert_td(self, element: Tag, text: str, parent_tags: set[str]) -> str:
        cell: str = super().convert_td(element, text.replace("|", "\\|"), parent_tags)  # type: ignore[misc]
        return cell


def markdown(html: str) -> str:
    """Return a page's body as Markdown; links to other pages lead to their twins."""
    soup = BeautifulSoup(html, "html.parser")
    for element in soup.select(UNREAD):
        element.decompose()
    for element in soup.select(".math"):
        if found := _MATH.fullmatch(element.get_text()):
            number = rf" \tag{{{found[1]}}}" if found[1] else ""
            element.name, element.string = "tex", found[3].strip() + number
            element["display"] = "yes" if found[2] == "[" else ""
    for link in soup.select("a[href]"):
        if found := _PAGE.fullmatch(str(link["href"])):
            link["href"] = f"{found[1]}.html.md{found[2]}"
    converter = _Converter(
        heading_style="ATX",
        bullets="-",
        escape_underscores=False,
        escape_asterisks=False,
        code_language_callback=_language,
    )
    text = str(converter.convert_soup(soup))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip() + "\n"


def _language(block: Tag) -> str:
    """Return the language of a block of code, which a frame around it tells."""
    for parent in block.parents:
        for name in parent.get("class") or ():
            if name.startswith("highlight-"):
                language = name.removeprefix("highlight-").lower()
                return _LANGUAGES.get(language, language)
    return ""


def write_twin(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Write a page's twin beside it."""
    if app.builder.format == "html" and page in app.env.found_docs and page != "404":
        target = Path(app.outdir, f"{page}.html.md")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(markdown(context["body"]), "utf-8")


def write_list(app: Sphinx, exception: Exception | None) -> None:
    """Write llms.txt: what the site is, and all of its pages with what experiments found."""
    if exception is not None or app.builder.format != "html":
        return
    base = app.config.html_baseurl
    lines = [f"# {app.env.titles[app.config.root_doc].astext()}", "", f"> {SUMMARY}"]
    for section, pages in _sections(app):
        lines += ["", f"## {section}", ""]
        for page in pages:
            lines.append(
                f"- [{app.env.titles[page].astext()}]({base}{page}.html.md){_said(app, page)}"
            )
    data = {
        "ledger.json": "every verdict, with its effect, its interval and its provenance",
        "verdicts.atom": "a feed of verdicts that changed",
        "runs.zip": "all runs that the builder has kept, those behind the pages among them, as JSON",
    }
    lines += ["", "## Data", "", *(f"- [{one}]({base}{one}): {said}" for one, said in data.items())]
    Path(app.outdir, "llms.txt").write_text("\n".join(lines) + "\n", "utf-8")


def _sections(app: Sphinx) -> Iterator[tuple[str, list[str]]]:
    """Yield the captions of the home page's tables of contents, each with all pages below it."""
    root = app.config.root_doc

    def includes(page: str) -> Sequence[str]:
        return app.env.toctree_includes.get(page, ())

    for tree in app.env.get_doctree(root).findall(addnodes.toctree):
        pages = [
            page for one in tree["includefiles"] for page, _ in bn_chapters.below(one, includes)
        ]
        yield tree["caption"], list(dict.fromkeys(pages))


def _said(app: Sphinx, page: str) -> str:
    """Return what an experiment found in answer to its title."""
    if not experiment(page):
        return ""
    return f": {findings(app.env, experiment(page))[0]['sentence']}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", write_twin, priority=800)  # after all that adds to a page
    app.connect("build-finished", write_list)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
