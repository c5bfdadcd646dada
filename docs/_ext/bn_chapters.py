"""Chapters of a book, made from finished pages: what needs a script or a mouse gives way to a sentence.

This module needs no Sphinx, so that the tests of the library can try it, too.
"""

from __future__ import annotations

import copy
import dataclasses
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, Tag

from bn_tutorial.figures.style import INK

#: What pages have for eyes on screens, mice and keyboards alone, or twice.
UNREAD = (
    ".headerlink, script, style, .offer, .downloads, .figure-data, .made-with, .lab-images,"
    " .sd-summary-state-marker, .sphx-glr-thumbnail-title, .sphx-glr-footer, .said, .reason,"
    " summary > .expanded,"
    " section section .sphx-glr-thumbnails"  # cards once more, below a list that leads there
)
#: What needs a script, and the sentence that a book has in its place, once on each page.
ALIVE = {
    "form.ask": "Here a box says whether your answer is right: on the site, with JavaScript.",
    "#lab": "Here stands a lab in which two networks train before your eyes: on the site, with "
    "JavaScript. The text says what it shows.",
    "div.interactive": "Here stands a figure that you can move: on the site, with JavaScript.",
    "#what-i-predicted": "Here stand the predictions that you made: on the site, with JavaScript.",
}
#: Attributes that serve scripts and the keyboard, or point to what is not in the book.
_IDLE = ("tabindex", "download", "target", "aria-labelledby", "aria-describedby", "hidden")
_ARTICLE = re.compile(r'<article class="bd-article">.*?</article>', re.DOTALL)
_MATH = re.compile(r"\s*\\(?:\((?P<inline>.*)\\\)|\[(?P<display>.*)\\\])\s*", re.DOTALL)
_DARK = re.compile(r"<style>svg\{--ink:.*?</style>|<metadata.*?</metadata>", re.DOTALL)


@dataclasses.dataclass
class Chapter:
    """A page of the site as a part of a book.

    Parameters
    ----------
    page : str
        Its name on the site, without an ending.
    depth : int
        How many chapters it stands below.
    title : str
        Its title, as text.
    body : bs4.Tag
        What it says.
    """

    page: str
    depth: int
    title: str
    body: Tag

    @property
    def name(self) -> str:
        """Its name in the book, which is a name in XML, too."""
        return slug(self.page)


def slug(*parts: str) -> str:
    """Return a name that XML allows as an identifier, and every system as a file's name."""
    return "--".join(re.sub(r"[^\w.-]|[^\x00-\x7f]", "-", part) for part in parts)


def light(svg: str) -> str:
    """Return a figure as it is on light paper, without the numbers that it carries."""
    return _DARK.sub("", svg).replace("var(--ink)", INK)


def read(html: str, page: str, depth: int, site: str) -> Chapter:
    """Return a finished page as a chapter, whose links still are those of the page.

    Parameters
    ----------
    html : str
        The page.
    page : str
        Its name on the site, without an ending.
    depth : int
        How many chapters it stands below; its headings stand lower accordingly.
    site : str
        The address of the site; empty if it is not known.
    """
    found = _ARTICLE.search(html)
    if not found:
        raise ValueError(f"{page} has no article: the site is built with another theme.")
    body = BeautifulSoup(found[0], "html.parser").article
    assert body is not None
    for form in body.select("form.ask"):  # what is asked can be read
        form.insert_before(*form.select(":scope > :is(.question, ul)"))
    for selector, sentence in ALIVE.items():
        for number, element in enumerate(body.select(selector)):
            if number:
                element.decompose()
            else:
                element.replace_with(_note(sentence, f"{site}{page}.html" if site else ""))
    for element in body.select(UNREAD):
        element.decompose()
    for shown in body.select("summary > p.collapsed"):  # of hidden code
        shown.unwrap()
    for link in body.select(".sd-card > a.sd-stretched-link"):  # the title is the link
        title = link.find_previous_sibling("div")
        words = title.select_one(".sd-card-title") if isinstance(title, Tag) else None
        if words is not None:
            words.clear()
            words.append(link.extract())
    for heading in body.find_all(re.compile(r"h[1-6]")):
        heading["class"] = f"level-{heading.name[1]}"  # on its page: it looks the same in any depth
        heading.name = f"h{min(6, int(heading.name[1]) + depth)}"
    first = body.find(re.compile(r"h[1-6]"))
    for element in body.find_all(True):
        _mend(element, page)
    body.name, body["class"], body["id"] = "section", "chapter", slug(page)
    return Chapter(page, depth, first.get_text().strip() if first else page, body)


def _note(sentence: str, address: str) -> Tag:
    """Return a sentence that says what stands on the site, with a link if its address is known."""
    if address:
        sentence = sentence.replace("on the site", f'<a href="{address}">on the site</a>')
    note = BeautifulSoup(f'<p class="on-site">{sentence}</p>', "html.parser").p
    assert note is not None
    return note


def _mend(element: Tag, page: str) -> None:
    """Leave of an element's attributes what a book can use; identifiers are unique in all of it."""
    for name in list(element.attrs):
        if name in _IDLE or name.startswith("data-"):
            del element[name]
    if "id" in element.attrs:
        element["id"] = slug(page, str(element["id"]))
    if element.name == "svg":
        element["xmlns"] = "http://www.w3.org/2000/svg"
        if "viewbox" in element.attrs:  # HTML does not care, XML does
            element["viewBox"] = element.attrs.pop("viewbox")
    if element.name == "img":
        element["src"] = f"images/{posixpath.basename(str(element['src']))}"


def connect(chapters: Sequence[Chapter], site: str) -> None:
    """Let links between pages lead from chapter to chapter, and all others to the site, if known."""
    known = {one.page for one in chapters}
    names = {str(element["id"]) for one in chapters for element in one.body.select("[id]")}
    for chapter in chapters:
        for link in chapter.body.select("a[href]"):
            target = _target(str(link["href"]), chapter.page, known, names, site)
            if target:
                link["href"] = target
            else:
                link.unwrap()


def _target(href: str, page: str, known: set[str], names: set[str], site: str) -> str:
    """Return where a link of a page leads in the book; nothing if there is no such place."""
    to = urlsplit(href)
    if to.scheme or to.netloc:
        return href
    folder = posixpath.dirname(page)
    path = posixpath.normpath(posixpath.join(folder, to.path)) if to.path else f"{page}.html"
    place = path.removesuffix(".html")
    if path.endswith(".html") and place in known:
        anchor = slug(place, to.fragment)
        return f"{slug(place)}.xhtml#{anchor if anchor in names else slug(place)}"
    return f"{site}{path}{'#' * bool(to.fragment)}{to.fragment}" if site else ""


def formulas(chapters: Sequence[Chapter]) -> Iterator[tuple[Tag, str, bool]]:
    """Yield each formula: its element, its TeX, and whether it stands on lines of its own."""
    for chapter in chapters:
        for element in chapter.body.select(".math"):
            *_, last = element.strings  # a number may stand before it
            found = _MATH.fullmatch(last)
            inline = found["inline"] if found else None
            tex = inline if inline is not None else found["display"] if found else last
            yield element, tex.strip(), inline is None


def printed(chapter: Chapter) -> str:
    """Return a chapter for paper, as a part of one HTML document.

    What the site folds is open, but for mere code and the meaning of marks, which one page has open.
    """
    body = copy.copy(chapter.body)
    for link in body.select("a[href]"):
        link["href"] = re.sub(r"^[\w.-]+\.xhtml#", "#", str(link["href"]))
    for folded in body.find_all("details"):
        code = folded.select_one("pre") and not folded.select_one("p, .highlight-none")
        marks = "open" not in folded.attrs and folded.select_one("dl:has(.verdict)")
        if code or marks:
            folded.decompose()
        else:
            folded["open"] = ""
    return body.decode(formatter="minimal")


def xhtml(chapter: Chapter, mathml: Mapping[tuple[str, bool], str]) -> str:
    """Return a chapter for an EPUB, as XML; its formulas are MathML."""
    for element, tex, display in list(formulas([chapter])):
        *_, last = element.strings
        formula = BeautifulSoup(mathml[tex, display], "html.parser")
        for part in formula.find_all(True):
            _mend(part, chapter.page)
        last.replace_with(formula)
    return chapter.body.decode(formatter="minimal")


def below(
    page: str, includes: Callable[[str], Sequence[str]], depth: int = 0
) -> Iterator[tuple[str, int]]:
    """Yield a page and all pages below it, in the order of the site, each with its depth."""
    yield page, depth
    for one in includes(page):
        yield from below(one, includes, depth + 1)
