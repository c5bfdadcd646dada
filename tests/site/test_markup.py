"""No page shows its source: what a directive, a role or a formula was meant to become, it became."""

import copy
import re
from collections.abc import Iterator

import pytest
from bs4 import BeautifulSoup

from .conftest import Site

#: What is typed to make something else of it. Code and what MathJax sets are not looked at.
RAW = re.compile(
    r"""
    \\[a-zA-Z(\[]                   # a command of TeX, or the start of a formula
    | \b(?:frac|sqrt|nabla|hat|bar|tilde|text|math\w+|operatorname|begin|end)\s?\{
    | (?<!\()\bleft[(\[]            # … whose backslashes docutils took
    | \b\w_\{ | \^\{                # an index, an exponent
    | `                             # code, or a role
    | (?<!\w):[a-z][\w+-]*(?::[a-z]+)?:\s?\S  # a role, or an option of a directive
    | \{[a-z][\w:-]*\}              # a role or a directive of MyST
    | \.\.\s[\w-]+:: | :::          # a directive
    | \*\*\w | \w\*\* | \]\( | \]\[ | __\w+__  # emphasis, links
    | \{\{ | \}\} | \{% | \$\S      # a substitution, a template, a formula of Markdown
    | ^\([\w-]+\)=                  # a label
    | &(?:lt|gt|amp|quot|nbsp|\#\d+);
    | \bsphinx_gallery_\w+
    """,
    re.VERBOSE | re.MULTILINE,
)
UNREAD = "script, style, code, pre, kbd, .math, .highlight, math, template, .field-list dt"


def shown(page: BeautifulSoup) -> Iterator[str]:
    """Yield what a page shows, or says to those who do not see it, outside code and formulas."""
    body = copy.copy(page.body)
    assert body is not None
    for element in body.select(UNREAD):
        element.replace_with("…")
    yield body.get_text(" ")
    for element in body.select("[alt], [aria-label], [title]"):
        yield from (str(element[name]) for name in ("alt", "aria-label", "title") if name in element.attrs)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "arrives at alpha W - eta , frac{nabla L(W)}{alpha} = alpha left( W - 1",  # as it once was
        r"by a factor of \alpha",
        r"of \(x\)",
        "the rate :math:`x`",
        ":ref:`a page`",
        ":doc:`a page",
        "see :py:func:`here`",
        "{evidence}`batch-norm.gain:.1pp`",
        "```{note}",
        ".. math::",
        "::: {dropdown}",
        ":alt: a figure",
        "with ``code``",
        "**bold** words",
        "[a link](page.md)",
        "worth $x^2$",
        "x_{ij}",
        "{{ install }}",
        "(learn-why)=\n",
        "a &lt; b",
        "sphinx_gallery_thumbnail_number = 1",
    ],
)
def test_raw_markup_is_recognised(text: str) -> None:
    assert RAW.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "on the left (red) and (right): 2 * 3 ** 2, and 5 * 4",
        "the set {1, 2}, 10:30, a ratio of 1:2; see [1] and [2] (page 3)",
        "bn_tutorial, x_train and __ at #1 for $ and %",
    ],
)
def test_prose_is_no_markup(text: str) -> None:
    assert not RAW.search(text)


def test_no_page_shows_its_source(site: Site) -> None:
    found = [
        f"{name}: …{text[max(match.start() - 40, 0) : match.end() + 40]!r}…"
        for name, page in site.pages.items()
        for text in shown(page)
        for match in RAW.finditer(text)
    ]
    assert not found, "\n".join(found)


def test_no_page_shows_an_error_of_its_source(site: Site) -> None:
    for name, page in site.pages.items():
        assert not page.select(".problematic, .system-message, mjx-merror"), name
